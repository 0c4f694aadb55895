/* The FMA peak of this machine, by kernels/tests/peak.c: "peak N" is answered by the sum of N
 * threads that measure at the same time, in FLOP/s. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdio.h>

#include "check.h"

enum { MAX_THREADS = 256 };

static const char *best_isa(void) {
#if defined(__aarch64__)
    return "neon";
#elif defined(__x86_64__)
    return __builtin_cpu_supports("avx512f") ? "avx512" : "avx2";
#else
    return "";
#endif
}

static pthread_barrier_t start;

static void *measure(void *flops) {
    pthread_barrier_wait(&start);
    *(double *)flops = peak_flops(best_isa());
    return NULL;
}

int main(void) {
    pthread_t thread[MAX_THREADS];
    double flops[MAX_THREADS], sum;
    char line[64];
    int n;
    while (fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "peak %d", &n) != 1 || n < 1 || n > MAX_THREADS)
            return 1;
        pthread_barrier_init(&start, NULL, (unsigned)n);
        for (int i = 0; i < n; i++)
            if (pthread_create(&thread[i], NULL, measure, &flops[i]) != 0)
                return 1;
        sum = 0;
        for (int i = 0; i < n; i++) {
            pthread_join(thread[i], NULL);
            sum += flops[i];
        }
        pthread_barrier_destroy(&start);
        printf("{\"flops\":%.6g}\n", sum);
        fflush(stdout);
    }
    return 0;
}
