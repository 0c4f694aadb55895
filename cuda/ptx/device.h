/* The words of dync_kernel.h for a GPU: clang without any of CUDA's headers. */
#ifndef DEVICE_H
#define DEVICE_H

typedef float float4 __attribute__((vector_size(16), may_alias));
typedef uint32_t word4 __attribute__((vector_size(16), may_alias));
typedef float float2 __attribute__((vector_size(8), may_alias));
typedef uint32_t word2 __attribute__((vector_size(8), may_alias));

#define DYNC_ENTRY(threads)                                                                        \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads)))
#define DYNC_ENTRY_BLOCKS(threads, blocks)                                                         \
    extern "C" __attribute__((global)) __attribute__((launch_bounds(threads, blocks)))
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

/* Tensor cores: of the kernels for sm_80 alone. */
static DYNC_INLINE uint32_t dync_tf32(float v) {
    uint32_t word;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(word) : "f"(v));
    return word;
}
static DYNC_INLINE uint32_t dync_fp16(float v, float w) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(w), "f"(v));
    return word;
}

#define DYNC_MMA(name, instruction)                                                                \
    static DYNC_INLINE float4 name(float4 sum, word4 a, uint32_t b0, uint32_t b1) {                \
        float s0 = sum[0], s1 = sum[1], s2 = sum[2], s3 = sum[3];                                  \
        asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "                 \
                                 "{%0, %1, %2, %3};"                                               \
                     : "+f"(s0), "+f"(s1), "+f"(s2), "+f"(s3)                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));              \
        const float4 v = {s0, s1, s2, s3};                                                         \
        return v;                                                                                  \
    }
DYNC_MMA(dync_mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
DYNC_MMA(dync_mma_fp16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
#undef DYNC_MMA

#endif
