/* SPDX-License-Identifier: MIT
 *
 * A library to load and unload, in two versions (LOADED_NAME) that are laid out alike, so that the second
 * comes to lie where the first was.
 */
int LOADED_NAME(int (*callback)(void *context), void *context);

int LOADED_NAME(int (*callback)(void *context), void *context)
{
    return callback(context) + LOADED_NUMBER;
}
