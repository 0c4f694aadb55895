/* The words of dync_kernel.h for the host: a C compiler and the emulator. */
#ifndef DEVICE_H
#define DEVICE_H

#include "emulator.h"

/* Kernels read arrays of float as these. */
typedef float float4 __attribute__((vector_size(16), may_alias));
typedef uint32_t word4 __attribute__((vector_size(16), may_alias));
typedef float float2 __attribute__((vector_size(8), may_alias));
typedef uint32_t word2 __attribute__((vector_size(8), may_alias));

#define DYNC_ENTRY(threads)
#define DYNC_ENTRY_BLOCKS(threads, blocks)
#define DYNC_INLINE inline
#define DYNC_UNROLL
#define DYNC_ROLL

static inline uint32_t thread_x(void) {
    return emulator_now.thread;
}
static inline uint32_t block_x(void) {
    return emulator_now.block[0];
}
static inline uint32_t block_y(void) {
    return emulator_now.block[1];
}
static inline uint32_t block_z(void) {
    return emulator_now.block[2];
}

#define dync_shared    (emulator_now.shared)
#define dync_barrier() emulator_barrier(__LINE__)

static inline float dync_load(const float *p) {
    return *p;
}
static inline float4 dync_load4(const float *p) {
    return *(const float4 *)p;
}

#define dync_tf32(v)    emulator_tf32(v)
#define dync_fp16(v, w) (emulator_fp16(v) | emulator_fp16(w) << 16)

static inline float4 emulated_mma(int line, int halves, float4 sum, word4 a, uint32_t b0,
                                  uint32_t b1) {
    emulator_fragments f = {
        halves, {sum[0], sum[1], sum[2], sum[3]}, {a[0], a[1], a[2], a[3]}, {b0, b1}};
    emulator_mma(line, &f);
    const float4 v = {f.sum[0], f.sum[1], f.sum[2], f.sum[3]};
    return v;
}
#define dync_mma_tf32(sum, a, b0, b1) emulated_mma(__LINE__, 0, sum, a, b0, b1)
#define dync_mma_fp16(sum, a, b0, b1) emulated_mma(__LINE__, 1, sum, a, b0, b1)

#endif
