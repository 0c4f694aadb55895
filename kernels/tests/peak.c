/* The roof of each instruction set: its FMA peak, and what it reads a second of memory that is of one size.
 *
 * Peak: twelve independent sums, more than latency x pipes of any
 * core known to us. Each sum is opaque to the compiler, which would otherwise merge equal chains
 * and report twice the peak; and its loop is unrolled, or it would live in memory. */
#define _POSIX_C_SOURCE 199309L
#include "check.h"

#include <stdlib.h>
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

/* Eight loads a turn, each into a register that nothing needs: two or three a cycle are the most of any core. */
#define READ(name, target, vector, lanes, load, reg)                                               \
    target static double name(const float *from, size_t floats, int times) {                       \
        double start = now_seconds();                                                              \
        for (int t = 0; t < times; t++)                                                            \
            for (size_t i = 0; i + 8 * (lanes) <= floats; i += 8 * (lanes)) {                      \
                UNROLL                                                                             \
                for (int k = 0; k < 8; k++) {                                                      \
                    vector v = load(from + i + k * (lanes));                                       \
                    __asm__ volatile("" : : reg(v));                                               \
                }                                                                                  \
            }                                                                                      \
        return (double)(floats / (8 * (lanes)) * (8 * (lanes)) * sizeof(float)) * times /          \
               (now_seconds() - start);                                                            \
    }

#if defined(__x86_64__)
#include <immintrin.h>
READ(read_avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_loadu_ps, "x")
READ(read_avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_loadu_ps, "v")
PEAK(peak_avx2, __attribute__((target("avx2,fma"))), __m256, 8, _mm256_set1_ps,
     _mm256_fmadd_ps(sum[i], x, y), "x")
PEAK(peak_avx512, __attribute__((target("avx512f"))), __m512, 16, _mm512_set1_ps,
     _mm512_fmadd_ps(sum[i], x, y), "v")
#elif defined(__aarch64__)
#include <arm_neon.h>
READ(read_neon, , float32x4_t, 4, vld1q_f32, "w")
PEAK(peak_neon, , float32x4_t, 4, vdupq_n_f32, vfmaq_f32(y, sum[i], x), "w")
#endif

static const struct roof {
    const char *isa;
    double (*flops)(void);
    double (*read)(const float *from, size_t floats, int times);
} roofs[] = {
#if defined(__x86_64__)
    {"avx2", peak_avx2, read_avx2},
    {"avx512", peak_avx512, read_avx512},
#elif defined(__aarch64__)
    {"neon", peak_neon, read_neon},
#endif
    {NULL, NULL, NULL},
};

static const struct roof *roof_of(const char *isa) {
    const struct roof *r = roofs;
    while (r->isa != NULL && strcmp(r->isa, isa) != 0)
        r++;
    return r->isa == NULL ? NULL : r;
}

double peak_flops(const char *isa) {
    const struct roof *r = roof_of(isa);
    double best = 0;
    for (int n = 0; r != NULL && n < 200; n++) {
        double flops = r->flops();
        best = flops > best ? flops : best;
    }
    return best;
}

double peak_read(const char *isa, size_t bytes) {
    enum { AT_ONCE = 64 << 20, REPEATS = 40 };
    const struct roof *r = roof_of(isa);
    float *from = r == NULL ? NULL : malloc(bytes);
    double best = 0;
    if (from == NULL)
        return 0;
    memset(from, 1, bytes); /* pages that were never written are all one page of zeros */
    for (int n = 0; n < REPEATS; n++) {
        double rate =
            r->read(from, bytes / sizeof *from, bytes < AT_ONCE ? AT_ONCE / (int)bytes : 1);
        best = rate > best ? rate : best;
    }
    free(from);
    return best;
}
