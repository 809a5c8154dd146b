/* SPDX-License-Identifier: MIT
 *
 * See resolve.h.
 */
#include "core/resolve.h"

#include "base/alloc.h"
#include "base/error.h"
#include "core/vm.h"
#include "core/vmcode.h"
#include "cprof.h"

void cprof__places_fini(cprof__places *places)
{
    cprof__free(places->list);
    *places = (cprof__places){0};
}

static cprof__place *append(cprof__places *places)
{
    if (places->count == places->room) {
        size_t room = places->room ? places->room * 2 : 64;
        cprof__place *list = cprof__realloc(places->list, room * sizeof *list);
        if (!list)
            return NULL;
        places->list = list;
        places->room = room;
    }
    return &places->list[places->count++];
}

static int append_vm(cprof__places *places, uint64_t address)
{
    cprof__place *place = append(places);
    if (!place)
        return cprof__fail_memory();
    *place = (cprof__place){.address = address, .line_count = 1, .own = {"?", "", 0, 0}};
    (void)cprof__vmcode_find(address, &place->own, &place->function_start);
    return 0;
}

static int append_native(cprof__places *places, uint64_t address, const cprof__symbol *symbol)
{
    cprof__place *place = append(places);
    if (!place)
        return cprof__fail_memory();
    *place = (cprof__place){.address = address,
                            .function_start = symbol->function_start,
                            .mapping = symbol->mapping,
                            .symbol = symbol,
                            .shown = symbol->lines,
                            .line_count = symbol->line_count};
    return 0;
}

/* Where the call at SYMBOL's address went to a function that then left by a tail call, that function's frame
 * is no longer in the stack: it is put back, at its first address. A VM's API function did not leave: it and
 * the VM's own frames behind it were left out on purpose. */
static int append_tail_called(cprof__places *places, const cprof__symbol *outer, uint32_t era)
{
    const cprof__place *inner = places->count ? &places->list[places->count - 1] : NULL;
    if (!inner || !inner->symbol)
        return 0;
    uint64_t start = cprof__symbols_tail_called(outer, inner->symbol);
    if (!start || cprof__vm_kind_of_api(start))
        return 0;
    const cprof__symbol *hidden;
    int code = cprof__symbols_find(start, era, &hidden);
    return code ? code : append_native(places, start, hidden);
}

/* What stands for a stack of which `skip` leaves nothing: readers show no sample without a frame. */
static int append_skipped(cprof__places *places)
{
    uint64_t address = cprof__vmcode_special("[skipped]");
    return address ? append_vm(places, address) : cprof__fail_memory();
}

/* Leaves out the first SKIP logical frames. */
static void leave_out(cprof__places *places, uint32_t skip)
{
    size_t gone = 0;
    while (gone < places->count && skip >= places->list[gone].line_count)
        skip -= places->list[gone++].line_count;
    places->count -= gone;
    for (size_t i = 0; i < places->count; i++)
        places->list[i] = places->list[i + gone];
    if (skip && places->count) {
        places->list[0].shown += skip;
        places->list[0].line_count -= skip;
    }
}

int cprof__resolve(cprof__places *places, const cprof__stack *stack)
{
    places->count = 0;
    for (uint32_t i = 0; i < stack->depth; i++) {
        uint64_t address = stack->frames[i];
        int code;
        if (cprof__vmcode_is(address)) {
            code = append_vm(places, address);
        } else {
            const cprof__symbol *symbol;
            code = cprof__symbols_find(address, stack->era, &symbol);
            if (!code)
                code = append_tail_called(places, symbol, stack->era);
            if (!code)
                code = append_native(places, address, symbol);
        }
        if (code)
            return code;
    }
    leave_out(places, stack->skip);
    return places->count ? 0 : append_skipped(places);
}

int cprof__resolve_address(cprof__places *places, uint64_t address)
{
    cprof__stack stack = {&address, 1, 0, cprof__code_era()};
    return cprof__resolve(places, &stack);
}
