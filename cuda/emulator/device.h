/* The words of dync_kernel.h for the host: a C compiler and the emulator. */
#ifndef DEVICE_H
#define DEVICE_H

#include "emulator.h"

/* Kernels read arrays of float as these. */
typedef float float4 __attribute__((vector_size(16), may_alias));

#define DYNC_ENTRY(threads)
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

#endif
