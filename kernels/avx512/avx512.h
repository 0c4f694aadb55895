/* AVX-512 as the vector that ../simd is written in. See simd/vector.h for the contract. */
#ifndef DYNK_AVX512_H
#define DYNK_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "compiler.h"

#define DYNK_TARGET __attribute__((target("avx512f")))
#define DYNK_INLINE static inline DYNK_FLATTEN DYNK_TARGET

typedef __m512 vf;
enum { VF_LANES = 16, VF_REGISTERS = 32 };

DYNK_INLINE vf vf_zero(void) {
    return _mm512_setzero_ps();
}
DYNK_INLINE vf vf_set1(float v) {
    return _mm512_set1_ps(v);
}
DYNK_INLINE vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
DYNK_INLINE void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
DYNK_INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
DYNK_INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
DYNK_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
DYNK_INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
DYNK_INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}

/* Reads use the over-read that the contracts allow: a masked load also takes a slot of the
 * arithmetic units on Zen 4. Plain loads left depthwise kernels between 0 and 14 % faster. */
typedef __mmask16 vtail;

DYNK_INLINE vtail vtail_of(size_t lanes) {
    return (vtail)(lanes >= VF_LANES ? 0xffffU : (1U << lanes) - 1U);
}
DYNK_INLINE vf vf_load_tail(const float *p, vtail t) {
    (void)t;
    return vf_load(p);
}
/* A masked store takes longer even if its mask is full: 2 to 4 % of a pointwise kernel on Zen 4. */
DYNK_INLINE void vf_store_tail(float *p, vf v, vtail t) {
    if (t == 0xffff)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, t, v);
}

#endif
