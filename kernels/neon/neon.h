/* NEON as the vector that ../simd is written in. See simd/vector.h for the contract. */
#ifndef DYNK_NEON_H
#define DYNK_NEON_H

#include <arm_neon.h>
#include <stddef.h>

#include "compiler.h"

#define DYNK_TARGET
#define DYNK_INLINE static inline DYNK_FLATTEN

typedef float32x4_t vf;
enum { VF_LANES = 4, VF_REGISTERS = 32 };

DYNK_INLINE vf vf_zero(void) {
    return vdupq_n_f32(0);
}
DYNK_INLINE vf vf_set1(float v) {
    return vdupq_n_f32(v);
}
DYNK_INLINE vf vf_load(const float *p) {
    return vld1q_f32(p);
}
DYNK_INLINE void vf_store(float *p, vf v) {
    vst1q_f32(p, v);
}
DYNK_INLINE vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
DYNK_INLINE vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
DYNK_INLINE vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
DYNK_INLINE vf vf_max(vf a, vf b) {
    return vmaxq_f32(a, b);
}
DYNK_INLINE vf vf_min(vf a, vf b) {
    return vminq_f32(a, b);
}

/* Reads use the over-read that the contracts allow. Stores of a tail go lane by lane: OFA's
 * channels are multiples of 8, so they are rare. */
typedef size_t vtail;

DYNK_INLINE vtail vtail_of(size_t lanes) {
    return lanes < VF_LANES ? lanes : VF_LANES;
}
DYNK_INLINE vf vf_load_tail(const float *p, vtail t) {
    (void)t;
    return vf_load(p);
}
DYNK_INLINE void vf_store_tail(float *p, vf v, vtail t) {
    if (t == VF_LANES) {
        vf_store(p, v);
        return;
    }
    float lanes[VF_LANES];
    vf_store(lanes, v);
    for (size_t i = 0; i < t; i++)
        p[i] = lanes[i];
}

#endif
