/* SPDX-License-Identifier: MIT
 *
 * See current.h.
 */
#include "sigsafe/current.h"

__thread cprof__current_thread cprof__current __attribute__((tls_model("initial-exec")));
