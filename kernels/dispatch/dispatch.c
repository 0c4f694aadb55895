/* Starts every slot of a table with the reference and overwrites it, in ascending rank of the
 * instruction sets, with what this CPU has: a partial port is a working port. */
#include "dynk_isa.h"

#include <stdlib.h>
#include <string.h>

int dynk_isa_at(size_t i, dynk_isa *out) {
    static dynk_isa (*const all[])(void) = {
#define DYNK_ISA(name) dynk_isa_##name,
#include "isa.inc"
#undef DYNK_ISA
    };
    if (i >= DYNK_COUNT(all))
        return 0;
    *out = all[i]();
    return 1;
}

const char *dynk_op_name(dynk_op op) {
    switch (op) {
    case DYNK_OP_STEM:
        return "stem";
    case DYNK_OP_POINTWISE:
        return "pointwise";
    case DYNK_OP_DWCONV:
        return "dwconv";
    case DYNK_OP_DENSE:
        return "dense";
    case DYNK_OP_AVERAGE:
        return "average";
    case DYNK_OPS:
        break;
    }
    return "";
}

/* k and stride that a kernel leaves at 0 fit every slot. */
static void put(dynk_table *t, const dynk_kernel *kernel) {
    switch (kernel->op) {
    case DYNK_OP_STEM:
        for (unsigned s = 1; s <= 2; s++)
            if (kernel->stride == 0 || kernel->stride == s)
                t->stem[s - 1] = *kernel;
        break;
    case DYNK_OP_POINTWISE:
        t->pointwise = *kernel;
        break;
    case DYNK_OP_DWCONV:
        for (unsigned k = 3; k <= 7; k += 2)
            for (unsigned s = 1; s <= 2; s++)
                if ((kernel->k == 0 || kernel->k == k) &&
                    (kernel->stride == 0 || kernel->stride == s))
                    t->dwconv[k / 2 - 1][s - 1] = *kernel;
        break;
    case DYNK_OP_DENSE:
        t->dense = *kernel;
        break;
    case DYNK_OP_AVERAGE:
        t->average = *kernel;
        break;
    case DYNK_OPS:
        break;
    }
}

static int known(const char *name) {
    dynk_isa isa;
    for (size_t i = 0; dynk_isa_at(i, &isa); i++)
        if (strcmp(isa.name, name) == 0)
            return 1;
    return 0;
}

int dynk_table_fill(dynk_table *table, const char *cap) {
    if (cap == NULL)
        cap = getenv("DYNOFA_ISA");
    int wanted = cap != NULL && cap[0] != '\0';
    int capped = wanted && known(cap);
    dynk_isa isa;
    for (size_t i = 0; dynk_isa_at(i, &isa); i++) {
        if (isa.present) {
            for (size_t k = 0; k < isa.count; k++)
                put(table, &isa.kernels[k]);
            table->isa = isa.name;
        }
        if (capped && strcmp(isa.name, cap) == 0)
            break;
    }
    return capped || !wanted;
}
