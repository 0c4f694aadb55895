/* The words of dync_kernel.h for a GPU: clang without any of CUDA's headers. */
#ifndef DEVICE_H
#define DEVICE_H

typedef float float4 __attribute__((vector_size(16), may_alias));

#define DYNC_ENTRY(threads)                                                                        \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads)))
#define DYNC_INLINE inline __attribute__((device, always_inline))
#define DYNC_UNROLL _Pragma("unroll")
#define DYNC_ROLL   _Pragma("nounroll")

static DYNC_INLINE uint32_t thread_x(void) {
    return __nvvm_read_ptx_sreg_tid_x();
}
static DYNC_INLINE uint32_t block_x(void) {
    return __nvvm_read_ptx_sreg_ctaid_x();
}
static DYNC_INLINE uint32_t block_y(void) {
    return __nvvm_read_ptx_sreg_ctaid_y();
}
static DYNC_INLINE uint32_t block_z(void) {
    return __nvvm_read_ptx_sreg_ctaid_z();
}

extern __attribute__((shared)) __attribute__((aligned(16))) float dync_shared[];

#define dync_barrier() __syncthreads()

static DYNC_INLINE float dync_load(const float *p) {
    return __nvvm_ldg_f(p);
}
static DYNC_INLINE float4 dync_load4(const float *p) {
    return __nvvm_ldg_f4((const float4 *)p);
}

#endif
