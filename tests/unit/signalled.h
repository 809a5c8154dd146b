/* SPDX-License-Identifier: MIT
 *
 * A signal of which nothing is known but its registers (cprof_vm_signal), for tests that look at a VM from the inside.
 */
#ifndef CPROF_TESTS_SIGNALLED_H
#define CPROF_TESTS_SIGNALLED_H

#include "cprof_vm.h"

static uint64_t no_function(uint64_t pc)
{
    (void)pc;
    return 0;
}

static uint64_t no_frame(const cprof_vm_signal *signal, size_t frame)
{
    (void)signal;
    (void)frame;
    return 0;
}

#endif
