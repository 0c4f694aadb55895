/* How an instruction set presents its kernels: <isa>/<isa>.c expands <isa>.inc twice, once into
 * declarations and once into the list that dynk_isa_<isa>() hands to the dispatcher. Internal. */
#ifndef DYNK_ISA_H
#define DYNK_ISA_H

#include "dynk.h"

#define DYNK_DECLARE(op, type, function, ...) void function(const dynk_##op##_args *);

#define DYNK_ENTRY(op, type, function, ...)                                                        \
    {#function, (dynk_op)dynk_op_##op, __VA_ARGS__, .fn.op = function},

/* Operators as the lists spell them. */
enum {
    dynk_op_stem = DYNK_OP_STEM,
    dynk_op_pointwise = DYNK_OP_POINTWISE,
    dynk_op_dwconv = DYNK_OP_DWCONV,
    dynk_op_dense = DYNK_OP_DENSE,
    dynk_op_average = DYNK_OP_AVERAGE
};

#define DYNK_COUNT(list) (sizeof(list) / sizeof((list)[0]))

#define DYNK_ISA(name) dynk_isa dynk_isa_##name(void);
#include "../dispatch/isa.inc"
#undef DYNK_ISA

#endif
