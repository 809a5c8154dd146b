/* SPDX-License-Identifier: MIT
 *
 * What unit tests share: cmocka with what it needs before it, and a way to make every allocation fail once.
 */
#ifndef CPROF_TESTS_TEST_H
#define CPROF_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/alloc.h"

/* Runs CALL (an expression that is 0 for success) with the first allocation failing, then the second, and so
 * on, until it succeeds; each failure must be CPROF_ENOMEM. Leaves the number of failures in *TRIES. */
#define SWEEP(CALL, TRIES)                                                                                   \
    do {                                                                                                     \
        for (long nth_ = 0;; nth_++) {                                                                       \
            cprof__alloc_fail_after(nth_);                                                                   \
            int code_ = (CALL);                                                                              \
            cprof__alloc_fail_after(-1);                                                                     \
            *(TRIES) = nth_;                                                                                 \
            if (code_ == 0)                                                                                  \
                break;                                                                                       \
            assert_int_equal(code_, CPROF_ENOMEM);                                                           \
            assert_true(nth_ < 10000);                                                                       \
        }                                                                                                    \
    } while (0)

#endif
