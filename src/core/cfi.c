/* SPDX-License-Identifier: MIT
 *
 * See cfi.h.
 */
#include "core/cfi.h"

#include <dwarf.h>

/* x86_64's numbers for registers. */
enum { REGISTER_FP = 6, REGISTER_SP = 7, REGISTER_RA = 16 };

#define REMEMBERED_MAX 16

/* Where a register of the caller is. */
typedef enum place {
    PLACE_SAME,      /* still in the register */
    PLACE_UNDEFINED, /* lost; of the return address: there is no caller */
    PLACE_CFA,       /* at CFA + offset */
    PLACE_FP,        /* at fp + offset */
    PLACE_OTHER
} place;

typedef struct saved {
    place place;
    int64_t offset;
} saved;

typedef struct state {
    enum cprof__rule_kind cfa; /* SP, FP, or what an expression came to */
    int64_t cfa_offset;        /* in bytes; the PLT's as rules have it */
    saved fp, ra;
} state;

typedef struct machine {
    const cprof__cfi_common *common;
    state now, initial, remembered[REMEMBERED_MAX];
    unsigned depth;
    uint64_t address;
    bool bad;
    cprof__cfi_row_fn row;
    void *context;
} machine;

static cprof__rule rule_of(const machine *m)
{
    const state *s = &m->now;
    bool deref = s->cfa == CPROF__RULE_FP_DEREF;
    uint64_t fp_words = 0;
    if (m->common->is_signal)
        return CPROF__RULE_SIGNAL;
    if (s->ra.place == PLACE_UNDEFINED)
        return CPROF__RULE_END;
    if (s->cfa == CPROF__RULE_UNSUPPORTED || s->ra.place != PLACE_CFA || s->ra.offset != -8)
        return CPROF__RULE_UNSUPPORTED;
    if (s->cfa == CPROF__RULE_PLT)
        return cprof__rule_make(s->cfa, s->cfa_offset, 0);
    if (s->fp.place == PLACE_CFA && s->fp.offset < 0 && s->fp.offset % 8 == 0 && !deref)
        fp_words = (0 - (uint64_t)s->fp.offset) / 8;
    else if (s->fp.place == PLACE_FP && s->fp.offset == 0 && deref)
        fp_words = 1;
    else if (s->fp.place == PLACE_CFA || s->fp.place == PLACE_FP || s->fp.place == PLACE_OTHER)
        return CPROF__RULE_UNSUPPORTED;
    if (s->cfa_offset % 8)
        return CPROF__RULE_UNSUPPORTED;
    return cprof__rule_make(s->cfa, s->cfa_offset / 8, fp_words);
}

static bool tell(machine *m)
{
    return m->row(m->context, m->address, m->bad ? (cprof__rule)CPROF__RULE_UNSUPPORTED : rule_of(m));
}

static void define_cfa_register(machine *m, uint64_t number)
{
    m->now.cfa = number == REGISTER_SP   ? CPROF__RULE_SP
                 : number == REGISTER_FP ? CPROF__RULE_FP
                                         : CPROF__RULE_UNSUPPORTED;
}

/* `breg7 8; breg16 0; lit15; and; litN; ge; lit3; shl; plus`: what every x86_64 linker writes for the PLT. */
static bool plt_expression(const uint8_t *bytes, size_t size, int64_t *threshold)
{
    static const uint8_t head[] = {DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and};
    static const uint8_t tail[] = {DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus};
    if (size != sizeof head + 1 + sizeof tail || memcmp(bytes, head, sizeof head) != 0 ||
        memcmp(bytes + sizeof head + 1, tail, sizeof tail) != 0)
        return false;
    *threshold = bytes[sizeof head] - DW_OP_lit0;
    return *threshold >= 0 && *threshold <= 15;
}

/* The forms of CFA expression that are met in practice; see rows.h. */
static void define_cfa_expression(machine *m, cprof__cursor e)
{
    int64_t threshold;
    m->now.cfa = CPROF__RULE_UNSUPPORTED;
    m->now.cfa_offset = 0;
    if (plt_expression(e.at, cprof__cursor_left(&e), &threshold)) {
        m->now.cfa = CPROF__RULE_PLT;
        m->now.cfa_offset = threshold;
        return;
    }
    uint64_t base = cprof__cursor_uint(&e, 1);
    int64_t offset = cprof__cursor_sleb(&e);
    if ((base != DW_OP_breg6 && base != DW_OP_breg7) || cprof__cursor_uint(&e, 1) != DW_OP_deref || e.bad)
        return;
    bool plus_8 = false;
    if (cprof__cursor_left(&e)) {
        plus_8 = cprof__cursor_uint(&e, 1) == DW_OP_plus_uconst && cprof__cursor_uleb(&e) == 8;
        if (!plus_8 || e.bad || cprof__cursor_left(&e))
            return;
    }
    if (plus_8 == (base == DW_OP_breg7)) {
        m->now.cfa = plus_8 ? CPROF__RULE_SP_DEREF : CPROF__RULE_FP_DEREF;
        m->now.cfa_offset = offset;
    }
}

static void save(machine *m, uint64_t number, saved where)
{
    if (number == REGISTER_FP)
        m->now.fp = where;
    else if (number == REGISTER_RA)
        m->now.ra = where;
}

static void restore(machine *m, uint64_t number)
{
    save(m, number, number == REGISTER_FP ? m->initial.fp : m->initial.ra);
}

/* Of expressions only `breg6 N`, GCC's for the fp of a realigned frame. */
static saved expression_place(cprof__cursor e)
{
    bool of_fp = cprof__cursor_uint(&e, 1) == DW_OP_breg6;
    int64_t offset = cprof__cursor_sleb(&e);
    return of_fp && !e.bad && !cprof__cursor_left(&e) ? (saved){PLACE_FP, offset} : (saved){PLACE_OTHER, 0};
}

/* A block of bytes that begins with its length. */
static cprof__cursor block(cprof__cursor *c)
{
    uint64_t size = cprof__cursor_uleb(c);
    cprof__cursor inside = {c->at, c->at, c->bad};
    cprof__cursor_skip(c, size);
    inside.end = c->bad ? inside.at : c->at;
    return inside;
}

/* The row up to here is told when the address moves on. Function entries are small, so wild advances end it.
 */
static bool advance(machine *m, uint64_t delta)
{
    bool going = tell(m);
    delta *= m->common->code_align;
    if (delta > UINT32_MAX)
        m->bad = true;
    else
        m->address += delta;
    return going;
}

static saved factored(const machine *m, int64_t offset)
{
    int64_t bytes;
    if (__builtin_mul_overflow(offset, m->common->data_align, &bytes))
        return (saved){PLACE_OTHER, 0};
    return (saved){PLACE_CFA, bytes};
}

static int64_t factored_cfa(machine *m, int64_t offset)
{
    saved s = factored(m, offset);
    m->bad |= s.place != PLACE_CFA;
    return s.offset;
}

/* The instructions that say where a register is. Returns false where OPCODE is none of them. */
static bool register_instruction(machine *m, cprof__cursor *c, uint64_t opcode)
{
    uint64_t number = 0;
    if (opcode >= DW_CFA_offset_extended && opcode <= DW_CFA_register)
        number = cprof__cursor_uleb(c);
    else if ((opcode >= DW_CFA_expression && opcode <= DW_CFA_offset_extended_sf) ||
             (opcode >= DW_CFA_val_offset && opcode <= DW_CFA_val_expression) ||
             opcode == DW_CFA_GNU_negative_offset_extended)
        number = cprof__cursor_uleb(c);
    switch (opcode) {
    case DW_CFA_offset_extended:
        save(m, number, factored(m, (int64_t)cprof__cursor_uleb(c)));
        return true;
    case DW_CFA_offset_extended_sf:
        save(m, number, factored(m, cprof__cursor_sleb(c)));
        return true;
    case DW_CFA_GNU_negative_offset_extended:
        save(m, number, factored(m, (int64_t)(0 - cprof__cursor_uleb(c))));
        return true;
    case DW_CFA_restore_extended:
        restore(m, number);
        return true;
    case DW_CFA_undefined:
        save(m, number, (saved){PLACE_UNDEFINED, 0});
        return true;
    case DW_CFA_same_value:
        save(m, number, (saved){PLACE_SAME, 0});
        return true;
    case DW_CFA_register:
    case DW_CFA_val_offset:
        cprof__cursor_uleb(c);
        save(m, number, (saved){PLACE_OTHER, 0});
        return true;
    case DW_CFA_val_offset_sf:
        cprof__cursor_sleb(c);
        save(m, number, (saved){PLACE_OTHER, 0});
        return true;
    case DW_CFA_expression:
        save(m, number, expression_place(block(c)));
        return true;
    case DW_CFA_val_expression:
        block(c);
        save(m, number, (saved){PLACE_OTHER, 0});
        return true;
    default:
        return false;
    }
}

/* The instructions that say what the CFA is. Returns false where OPCODE is none of them. */
static bool cfa_instruction(machine *m, cprof__cursor *c, uint64_t opcode)
{
    switch (opcode) {
    case DW_CFA_def_cfa:
        define_cfa_register(m, cprof__cursor_uleb(c));
        m->now.cfa_offset = (int64_t)cprof__cursor_uleb(c);
        return true;
    case DW_CFA_def_cfa_sf:
        define_cfa_register(m, cprof__cursor_uleb(c));
        m->now.cfa_offset = factored_cfa(m, cprof__cursor_sleb(c));
        return true;
    case DW_CFA_def_cfa_register:
        define_cfa_register(m, cprof__cursor_uleb(c));
        return true;
    case DW_CFA_def_cfa_offset:
        m->now.cfa_offset = (int64_t)cprof__cursor_uleb(c);
        return true;
    case DW_CFA_def_cfa_offset_sf:
        m->now.cfa_offset = factored_cfa(m, cprof__cursor_sleb(c));
        return true;
    case DW_CFA_def_cfa_expression:
        define_cfa_expression(m, block(c));
        return true;
    default:
        return false;
    }
}

static bool instruction(machine *m, cprof__cursor *c)
{
    uint64_t opcode = cprof__cursor_uint(c, 1), low = opcode & 0x3f;
    switch (opcode & 0xc0) {
    case DW_CFA_advance_loc:
        return advance(m, low);
    case DW_CFA_offset:
        save(m, low, factored(m, (int64_t)cprof__cursor_uleb(c)));
        return true;
    case DW_CFA_restore:
        restore(m, low);
        return true;
    }
    switch (opcode) {
    case DW_CFA_nop:
        return true;
    case DW_CFA_advance_loc1:
        return advance(m, cprof__cursor_uint(c, 1));
    case DW_CFA_advance_loc2:
        return advance(m, cprof__cursor_uint(c, 2));
    case DW_CFA_advance_loc4:
        return advance(m, cprof__cursor_uint(c, 4));
    case DW_CFA_remember_state:
        if (m->depth < REMEMBERED_MAX)
            m->remembered[m->depth++] = m->now;
        else
            m->bad = true;
        return true;
    case DW_CFA_restore_state:
        if (m->depth)
            m->now = m->remembered[--m->depth];
        else
            m->bad = true;
        return true;
    case DW_CFA_GNU_args_size:
        cprof__cursor_uleb(c);
        return true;
    default:
        if (!register_instruction(m, c, opcode) && !cfa_instruction(m, c, opcode))
            m->bad = true;
        return true;
    }
}

/* Returns false where the rows' receiver stopped it. */
static bool run(machine *m, cprof__cursor c)
{
    while (cprof__cursor_left(&c) && !m->bad) {
        if (!instruction(m, &c))
            return false;
        m->bad |= c.bad;
    }
    return true;
}

bool cprof__cfi_run(const cprof__cfi_common *common, cprof__cursor own, uint64_t start, cprof__cfi_row_fn row,
                    void *context)
{
    machine m = {.common = common, .address = start, .row = row, .context = context};
    m.now.cfa = CPROF__RULE_UNSUPPORTED;
    if (!run(&m, common->initial))
        return false;
    m.initial = m.now;
    return run(&m, own) && tell(&m);
}
