/* The protocol of ../README.md around an engine in C: WORKER MODEL LEVEL IMAGE CLASSES THREADS. */
#define _POSIX_C_SOURCE 200809L
#include "worker.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MAX_RUNS = 10000, MAX_SIDE = 4096 };

static FILE *answers; /* the orchestrator's end; libraries' own prints go to stderr */

void worker_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

static long long now(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void print_times(const char *name, const long long *ns, int n) {
    fprintf(answers, "\"%s\":[", name);
    for (int i = 0; i < n; i++)
        fprintf(answers, "%s%lld", i > 0 ? "," : "", ns[i]);
    fputc(']', answers);
}

/* Wall clock closest around the call, the process's processor time outside of it. */
static void run(int n) {
    static long long wall[MAX_RUNS], cpu[MAX_RUNS];
    if (n < 1 || n > MAX_RUNS)
        worker_fail("run %d: expected 1 to %d", n, MAX_RUNS);
    for (int i = 0; i < n; i++) {
        long long cpu_from = now(CLOCK_PROCESS_CPUTIME_ID), from = now(CLOCK_MONOTONIC);
        engine_run();
        wall[i] = now(CLOCK_MONOTONIC) - from;
        cpu[i] = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_from;
    }
    fputc('{', answers);
    print_times("wall", wall, n);
    fputc(',', answers);
    print_times("cpu", cpu, n);
    fputs("}\n", answers);
}

/* JSON has no words for what is not finite. */
static void print_logits(const struct worker_job *job) {
    fputs("{\"logits\":[", answers);
    for (size_t i = 0; i < job->classes; i++) {
        if (!isfinite(job->logits[i]))
            worker_fail("logit %zu is %g", i, (double)job->logits[i]);
        fprintf(answers, "%s%.9g", i > 0 ? "," : "", (double)job->logits[i]);
    }
    fputs("]}\n", answers);
}

static float *read_image(const char *path, struct worker_job *job) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0)
        worker_fail("%s: cannot be read", path);
    long bytes = ftell(file);
    rewind(file);
    while (job->side < MAX_SIDE && 12L * job->side * job->side < bytes)
        job->side++;
    if (12L * job->side * job->side != bytes)
        worker_fail("%s: %ld bytes, expected a square image of 3 floats a pixel", path, bytes);
    job->image_floats = (size_t)bytes / sizeof(float);
    /* Some engines read the image where it lies: give it the alignment of a vector. */
    void *image = NULL;
    if (posix_memalign(&image, 64, (size_t)bytes) != 0 ||
        fread(image, 1, (size_t)bytes, file) != (size_t)bytes)
        worker_fail("%s: cannot be read", path);
    fclose(file);
    return image;
}

int main(int argc, char **argv) {
    struct worker_job job = {0};
    char line[64];
    int n, own = dup(STDOUT_FILENO);
    answers = own < 0 ? NULL : fdopen(own, "w");
    if (!answers || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        worker_fail("no standard output");
    if (argc != 6)
        worker_fail("usage: %s MODEL LEVEL IMAGE CLASSES THREADS", argv[0]);
    job.model = argv[1];
    job.level = atoi(argv[2]);
    job.image = read_image(argv[3], &job);
    job.classes = (size_t)atoi(argv[4]);
    job.threads = atoi(argv[5]);
    job.logits = calloc(job.classes, sizeof *job.logits);
    if (!job.logits || job.classes == 0 || job.threads < 1)
        worker_fail("%s classes, %s threads: expected 1 or more", argv[4], argv[5]);
    engine_load(&job);
    engine_run();
    fprintf(answers, "{\"version\":\"%s\"}\n", engine_version());
    while (fflush(answers) == 0 && fgets(line, sizeof line, stdin)) {
        if (sscanf(line, "run %d", &n) == 1)
            run(n);
        else if (strcmp(line, "logits\n") == 0)
            print_logits(&job);
        else
            worker_fail("%.20s: expected run N or logits", line);
    }
    return 0;
}
