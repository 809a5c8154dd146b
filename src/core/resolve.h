/* SPDX-License-Identifier: MIT
 *
 * From a stack of addresses to what people read: logical frames, with inlined functions, with those that a
 * tail call hid, and without those that `skip` leaves out. Takes CPROF__RANK_SYMBOLS and FUNCTIONS. Threads:
 * any. Signals: unsafe.
 */
#ifndef CPROF_CORE_RESOLVE_H
#define CPROF_CORE_RESOLVE_H

#include "core/stacks.h"
#include "core/symbols.h"

/* One address of a stack, with the logical frames there that are shown. */
typedef struct cprof__place {
    uint64_t address;
    uint64_t function_start;       /* of the outermost line; 0 where unknown */
    const cprof__mapping *mapping; /* NULL: of a VM, or in no file */
    const cprof__symbol *symbol;   /* NULL: of a VM */
    const cprof__line *shown;      /* SYMBOL's lines from the first that is shown; NULL: OWN */
    uint32_t line_count;           /* innermost first; at least 1 */
    cprof__line own;               /* of a VM's function */
} cprof__place;

/* The lines of PLACE, innermost first. */
static inline const cprof__line *cprof__place_lines(const cprof__place *place)
{
    return place->shown ? place->shown : &place->own;
}

/* The places of a stack, leaf first. A value of zeros is ready for use, and for use again. */
typedef struct cprof__places {
    cprof__place *list;
    size_t count, room;
} cprof__places;

void cprof__places_fini(cprof__places *places);

/* Fills PLACES with those of STACK. Returns: 0 or CPROF_ENOMEM. */
int cprof__resolve(cprof__places *places, const cprof__stack *stack);

/* The places of one ADDRESS. */
int cprof__resolve_address(cprof__places *places, uint64_t address);

#endif
