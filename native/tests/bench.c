/* Speed of a level: bench BUNDLE LEVEL [THREADS [RUNS]] prints the times of whole runs and of the
 * parts. */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "dynofa.h"

enum { MAX_PARTS = 4096 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static const char *const kinds[] = {"stem",    "expand+dw", "squeeze",  "excite",
                                        "project", "head",      "features", "classifier"};
    static dynofa_layer_time times[MAX_PARTS];
    double part_ns[8] = {0}, part_macs[8] = {0};
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    dynofa_config config;
    dynofa_config_init(&config);
    if (argc < 3)
        return 2;
    config.threads = argc > 3 ? (uint32_t)atoi(argv[3]) : 1;
    int runs = argc > 4 ? atoi(argv[4]) : 100;
    if (dynofa_model_open(argv[1], &config, &m) != DYNOFA_OK ||
        dynofa_session_new(m, &config, &s) != DYNOFA_OK) {
        fprintf(stderr, "%s\n", dynofa_error());
        return 1;
    }
    if (dynofa_session_select(s, (uint32_t)atoi(argv[2])) != DYNOFA_OK) {
        fprintf(stderr, "%s\n", dynofa_session_error(s));
        return 1;
    }
    dynofa_model_info model = {.struct_size = sizeof model};
    dynofa_session_info info = {.struct_size = sizeof info};
    dynofa_model_describe(m, &model);
    dynofa_session_describe(s, &info);
    float *image = calloc(info.image_floats, sizeof *image);
    float *logits = calloc(model.classes, sizeof *logits);
    double *ms = calloc((size_t)runs, sizeof *ms);
    size_t parts = 0;
    for (size_t i = 0; i < info.image_floats; i++)
        image[i] = (float)(i % 37) / 18 - 1;
    for (int i = 0; i < runs; i++) {
        double from = now_ms();
        dynofa_session_run(s, image, info.image_floats, logits, model.classes);
        ms[i] = now_ms() - from;
    }
    for (int i = 0; i < runs; i++) {
        dynofa_session_run_timed(s, image, info.image_floats, logits, model.classes, times,
                                 MAX_PARTS, &parts);
        for (size_t p = 0; p < parts && p < MAX_PARTS; p++) {
            part_ns[times[p].kind] += (double)times[p].nanoseconds / runs;
            part_macs[times[p].kind] += (double)times[p].macs / runs;
            if (i == runs - 1 && argc > 5)
                printf("%-10s block %3d  %8.1f us  %6.1f GFLOP/s\n", kinds[times[p].kind],
                       times[p].block, (double)times[p].nanoseconds / 1e3,
                       2 * (double)times[p].macs / (double)times[p].nanoseconds);
        }
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    printf("%s level %s, %s, %u threads: median %.3f ms, min %.3f, %.1f GFLOP/s; session %.1f MB\n",
           argv[1], argv[2], info.isa, (unsigned)info.threads, ms[runs / 2], ms[0],
           2 * (double)info.macs / ms[runs / 2] / 1e6, (double)info.bytes / 1e6);
    for (int k = 0; k < 8; k++)
        printf("  %-10s %8.1f us  %6.1f GFLOP/s\n", kinds[k], part_ns[k] / 1e3,
               part_ns[k] > 0 ? 2 * part_macs[k] / part_ns[k] : 0);
    dynofa_session_free(&s);
    dynofa_model_free(&m);
    return 0;
}
