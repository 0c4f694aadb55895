/* AVX2 with FMA as the vector that ../simd is written in. See simd/vector.h for the contract. */
#ifndef DYNK_AVX2_H
#define DYNK_AVX2_H

#include <immintrin.h>
#include <stddef.h>

#include "compiler.h"

#define DYNK_TARGET __attribute__((target("avx2,fma")))
#define DYNK_INLINE static inline DYNK_FLATTEN DYNK_TARGET

typedef __m256 vf;
enum { VF_LANES = 8, VF_REGISTERS = 16 };

DYNK_INLINE vf vf_zero(void) {
    return _mm256_setzero_ps();
}
DYNK_INLINE vf vf_set1(float v) {
    return _mm256_set1_ps(v);
}
DYNK_INLINE vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
DYNK_INLINE void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
DYNK_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
DYNK_INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
DYNK_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
DYNK_INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
DYNK_INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}

/* Reads use the over-read that the contracts allow. Stores of a tail go lane by lane: OFA's
 * channels are multiples of 8, so they are rare, and a masked AVX2 store is slow on AMD. */
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
