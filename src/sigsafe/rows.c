/* SPDX-License-Identifier: MIT
 *
 * See rows.h.
 */
#include "sigsafe/rows.h"

#include <stddef.h>

cprof__rule cprof__rows_rule(const cprof__rows *rows, uint64_t offset)
{
    uint32_t low = 0, high = rows->row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rows->rows[middle].start <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? rows->rows[low - 1].rule : (cprof__rule)CPROF__RULE_FRAME;
}

const cprof__row_function *cprof__rows_function(const cprof__rows *rows, uint64_t offset)
{
    uint32_t low = 0, high = rows->function_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (rows->functions[middle].start <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low && offset < rows->functions[low - 1].limit ? &rows->functions[low - 1] : NULL;
}
