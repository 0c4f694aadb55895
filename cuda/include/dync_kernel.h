/* What the kernels are written in: the common part of C and C++, over float4 and a few words that
 * device.h defines, in cuda/ptx for clang and a GPU, in cuda/emulator for a C compiler and the
 * host.
 *
 * What device.h defines
 *   DYNC_ENTRY(threads)      before `void dync_<name>(const dync_<op>_args a)`
 *   DYNC_ENTRY_BLOCKS(threads, blocks)   the same, with registers for so many blocks at a time
 *   DYNC_INLINE              before every other function
 *   DYNC_UNROLL              before a loop that has to be unrolled: one that indexes registers
 *   DYNC_ROLL                before a loop that should not be
 *   thread_x() block_x() block_y() block_z()
 *   dync_shared              float *, the dynamic shared memory of the block
 *   dync_barrier()           of all threads of the block, so never in divergent code
 *   dync_load(p), dync_load4(p)  what no thread writes while the kernel runs
 *   dync_tf32(v), dync_fp16(v, w)    a number rounded to tf32, two to halves, the first in the low
 *                            bits: a word of a fragment. Nearest; halfway tf32 goes away from zero,
 *                            fp16 to even
 *   dync_mma_tf32(sum, a, b0, b1), dync_mma_fp16(...)   sum plus a product of the warp's fragments,
 *                            on tensor cores: mma.sync m16n8k8 and m16n8k16 of PTX, which says what
 *                            of the matrices a lane holds. Of all threads of the warp, so never in
 *                            divergent code either
 *
 * Kernels have no libdevice and no exp or division by a constant that would need one. fmaf is
 * written where it is meant; nothing else is fused. */
#ifndef DYNC_KERNEL_H
#define DYNC_KERNEL_H

#include "dync.h"

#include "device.h"

/* Of shared memory, and of what the kernel itself writes. */
static DYNC_INLINE float4 get4(const float *p) {
    return *(const float4 *)p;
}
static DYNC_INLINE void put4(float *p, float4 v) {
    *(float4 *)p = v;
}

static DYNC_INLINE float4 zero4(void) {
    const float4 v = {0, 0, 0, 0};
    return v;
}

static DYNC_INLINE float4 fma4(float4 a, float4 b, float4 c) {
    const float4 v = {__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]),
                      __builtin_fmaf(a[2], b[2], c[2]), __builtin_fmaf(a[3], b[3], c[3])};
    return v;
}

static DYNC_INLINE float4 scale4(float a, float4 b, float4 c) {
    const float4 v = {__builtin_fmaf(a, b[0], c[0]), __builtin_fmaf(a, b[1], c[1]),
                      __builtin_fmaf(a, b[2], c[2]), __builtin_fmaf(a, b[3], c[3])};
    return v;
}

/* The first `count` lanes, zeros behind them: what lies behind an array's end may be NaN. */
static DYNC_INLINE float4 first4(float4 v, uint32_t count) {
    const float4 w = {count > 0 ? v[0] : 0, count > 1 ? v[1] : 0, count > 2 ? v[2] : 0,
                      count > 3 ? v[3] : 0};
    return w;
}

/* Stores the first `count` lanes. */
static DYNC_INLINE void store4(float *p, float4 v, uint32_t count) {
    if (count >= 4) {
        put4(p, v);
        return;
    }
    if (count > 0)
        p[0] = v[0];
    if (count > 1)
        p[1] = v[1];
    if (count > 2)
        p[2] = v[2];
}

/* Comparisons let NaN fall through, as in kernels/ref; max and min of the GPU would drop it. */
static DYNC_INLINE float clamp(float v, float low, float high) {
    v = v < low ? low : v;
    return v > high ? high : v;
}

/* The first three are a clamp, and decided once a vector. */
static DYNC_INLINE float4 activate4(float4 v, uint32_t act) {
    const float low = act == DYNK_ACT_NONE ? -__builtin_inff() : 0.0f;
    const float high = act == DYNK_ACT_RELU6 ? 6.0f : __builtin_inff();
    float4 w = zero4();
    if (act <= DYNK_ACT_RELU6) {
        DYNC_UNROLL
        for (int i = 0; i < 4; i++)
            w[i] = clamp(v[i], low, high);
        return w;
    }
    DYNC_UNROLL
    for (int i = 0; i < 4; i++)
        w[i] = clamp(v[i] + 3.0f, 0.0f, 6.0f) * (1.0f / 6.0f);
    if (act == DYNK_ACT_HSWISH)
        w *= v;
    return w;
}

static DYNC_INLINE uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* ---- What both kinds of pointwise kernels end with --------------------------------------------*/

/* What outputs o to o+3 of pixel p need besides their sums, or, if they are not there, the last: to
 * be asked for before the sums of groups are added, so that it is on its way meanwhile. */
typedef struct ending {
    float4 scale, shift, residual;
} ending;

static DYNC_INLINE float4 residual_of(const dync_pointwise_args *a, uint32_t p, uint32_t o) {
    if (a->residual == NULL)
        return zero4();
    return dync_load4(a->residual + (size_t)least(p, a->pixels - 1) * a->r_pix +
                      least(o, (a->out - 1) / 4 * 4));
}

static DYNC_INLINE ending ending_of(const dync_pointwise_args *a, uint32_t p, uint32_t o) {
    const uint32_t at = least(o, (a->out - 1) / 4 * 4);
    const ending e = {dync_load4(a->scale + at), dync_load4(a->shift + at), residual_of(a, p, o)};
    return e;
}

/* Outputs o to o+3 of pixel p, if they are there. */
static DYNC_INLINE void finish(const dync_pointwise_args *a, uint32_t p, uint32_t o, float4 sum,
                               const ending *e) {
    if (p >= a->pixels || o >= a->out)
        return;
    float4 y = activate4(fma4(e->scale, sum, e->shift), a->act);
    if (a->residual != NULL)
        y += e->residual;
    store4(a->y + (size_t)p * a->y_pix + o, y, a->out - o);
}

#endif
