/* SPDX-License-Identifier: MIT
 *
 * A library that imports a function, by a slot that the loader makes read-only (hooks_test.c).
 */
#include <pthread.h>

int hooked_create(pthread_t *thread, void *(*start)(void *), void *argument);

int hooked_create(pthread_t *thread, void *(*start)(void *), void *argument)
{
    return pthread_create(thread, NULL, start, argument);
}
