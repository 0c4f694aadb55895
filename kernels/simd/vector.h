/* The kernels of all instruction sets are the same algorithms around different registers. They are
 * written here as inline functions over a small vector, which <isa>/<isa>.h defines in intrinsics;
 * each kernel's own file includes that header, then the algorithm, and fixes kernel size, stride
 * and register tile as constants, so that nothing of this is left at run time.
 *
 * What <isa>.h defines
 *   vf, VF_LANES                 a vector of floats; VF_LANES divides DYNK_PANEL
 *   VF_REGISTERS                 how many of them the CPU has names for
 *   vf_zero vf_set1 vf_load vf_store vf_add vf_mul vf_max vf_min
 *   vf_fma(a, b, c)              a * b + c, rounded once
 *   vf_max(a, b), vf_min(a, b)   give b if b is NaN
 *   vtail, vtail_of(lanes)       how many first lanes count; more than VF_LANES means all
 *   vf_load_tail(p, t)           the first t lanes; others are arbitrary and may be read from
 *                                memory within DYNK_OVERREAD
 *   vf_store_tail(p, v, t)       writes the first t lanes only
 *   DYNK_TARGET, DYNK_INLINE     attributes of a kernel, and of every function here */
#ifndef DYNK_VECTOR_H
#define DYNK_VECTOR_H

#include "dynk.h"

enum { VF_PER_PANEL = DYNK_PANEL / VF_LANES };

/* Activations. The first three are a clamp. Kernels decide once a tile which of the two forms they
 * need, not once a vector: `clamped` is a constant where it is used. Note for all of them: a vector
 * store may alias any memory, so what is needed after one is kept in local variables. */
typedef struct vact {
    vf low, high;
    int clamped;
} vact;

DYNK_INLINE vact vact_of(dynk_act act) {
    const float inf = __builtin_inff();
    vact a = {vf_set1(act == DYNK_ACT_NONE ? -inf : 0.0f),
              vf_set1(act == DYNK_ACT_RELU6 ? 6.0f : inf), act < DYNK_ACT_HSWISH};
    return a;
}

DYNK_INLINE vf vact_hsigmoid(vf v) {
    vf shifted = vf_max(vf_zero(), vf_add(v, vf_set1(3.0f)));
    return vf_mul(vf_min(vf_set1(6.0f), shifted), vf_set1(1.0f / 6.0f));
}

/* h_swish in two products instead of three, fused scale and shift included: with q = v / sqrt(6),
 *
 *   v * min(max(v + 3, 0), 6) / 6 = q * min(max(q + 3 / sqrt(6), 0), sqrt(6))
 *
 * so vact_apply takes q, and scale and shift go through vact_prepare once a tile. */
DYNK_INLINE vf vact_prepare(vf v, int clamped) {
    return clamped ? v : vf_mul(v, vf_set1(0.40824829f));
}

DYNK_INLINE vf vact_apply(const vact *a, vf v, int clamped) {
    if (clamped)
        return vf_min(a->high, vf_max(a->low, v));
    vf shifted = vf_max(vf_zero(), vf_add(v, vf_set1(1.22474487f)));
    return vf_mul(v, vf_min(vf_set1(2.44948974f), shifted));
}

#endif
