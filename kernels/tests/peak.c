/* The FMA peak of each instruction set: twelve independent sums, more than latency x pipes of any
 * core known to us. Each sum is opaque to the compiler, which would otherwise merge equal chains
 * and report twice the peak; and its loop is unrolled, or it would live in memory. */
#define _POSIX_C_SOURCE 199309L
#include "check.h"

#include <string.h>
#include <time.h>

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { ROUNDS = 20000, SUMS = 12 };

#define PEAK(name, target, vector, lanes, set1, fma, reg)                                          \
    target static double name(void) {                                                              \
        vector sum[SUMS], x = set1(0.5f), y = set1(0.25f);                                         \
        UNROLL                                                                                     \
        for (int i = 0; i < SUMS; i++)                                                             \
            sum[i] = set1((float)i);                                                               \
        double start = now_seconds();                                                              \
        for (int r = 0; r < ROUNDS; r++) {                                                         \
            UNROLL                                                                                 \
            for (int i = 0; i < SUMS; i++) {                                                       \
                sum[i] = fma;                                                                      \
                __asm__ volatile("" : "+" reg(sum[i]));                                            \
            }                                                                                      \
        }                                                                                          \
        return 2.0 * (lanes) * ROUNDS * SUMS / (now_seconds() - start);                            \
    }

#if defined(__x86_64__)
#include <immintrin.h>
PEAK(peak_avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_set1_ps,
     _mm256_fmadd_ps(sum[i], x, y), "x")
PEAK(peak_avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_set1_ps,
     _mm512_fmadd_ps(sum[i], x, y), "v")
#elif defined(__aarch64__)
#include <arm_neon.h>
PEAK(peak_neon, , float32x4_t, 4, vdupq_n_f32, vfmaq_f32(y, sum[i], x), "w")
#endif

double peak_flops(const char *isa) {
    static const struct {
        const char *isa;
        double (*measure)(void);
    } loops[] = {
#if defined(__x86_64__)
        {"avx2", peak_avx2},
        {"avx512", peak_avx512},
#elif defined(__aarch64__)
        {"neon", peak_neon},
#endif
    };
    double best = 0;
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++)
        if (strcmp(loops[i].isa, isa) == 0)
            for (int n = 0; n < 200; n++) {
                double flops = loops[i].measure();
                best = flops > best ? flops : best;
            }
    return best;
}
