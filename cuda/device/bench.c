/* Times of a bundle on a device: bench BUNDLE BACKEND [RUNS], one JSON object a line. For each
 * level and, by turns, the same sub-network issued kernel by kernel: wall clock of run; the parts
 * as the device's events tell them, and what of the wall clock lies between; select, and the first
 * run after one. Then each level in batches, one launch a batch, and what it takes to prepare a
 * configured sub-network.
 *
 * bench ceilings BACKEND: what the device can do, measured: a copy within its memory, chains of
 * float32 fused multiply-adds, and, where there are tensor cores for them, of products of tf32 and
 * of halves. */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec; /* us */
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts v. */
static double quantile(double *v, int n, double q) {
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[(int)(q * (n - 1) + 0.5)];
}

static void must(dynofa_status status, const dynofa_session *s) {
    if (status == DYNOFA_OK)
        return;
    fprintf(stderr, "bench: %s: %s\n", dynofa_status_name(status),
            s != NULL ? dynofa_session_error(s) : dynofa_error());
    exit(1);
}

/* ---- Networks ---------------------------------------------------------------------------------*/

enum { MOST_PARTS = 5000, BLOCK = 10, WARM_UP = 5, MOST_IMAGES = 64 };

typedef struct work {
    dynofa_session *level, *plain; /* of which only the first switches */
    dynofa_session_info now;
    float *image, *logits;
    size_t classes;
    int runs;
    double *levels, *plains, *firsts, *selects; /* us, [runs] */
    dynofa_layer_time *parts;
    double *best; /* us of each part */
} work;

static double timed_run(work *w, dynofa_session *s) {
    must(dynofa_session_describe(s, &w->now), s);
    double start = now();
    must(dynofa_session_run(s, w->image, w->now.image_floats, w->logits, w->classes), s);
    return now() - start;
}

static void time_runs(work *w) {
    for (int round = -WARM_UP; round < w->runs / BLOCK; round++) {
        int at = (round < 0 ? 0 : round) * BLOCK;
        for (int i = at; i < at + BLOCK; i++)
            w->levels[i] = timed_run(w, w->level);
        for (int i = at; i < at + BLOCK; i++)
            w->plains[i] = timed_run(w, w->plain);
    }
}

/* The best time of each part; returns their number. */
static size_t time_parts(work *w) {
    size_t count = 0;
    for (int i = 0; i < w->runs / BLOCK; i++) {
        must(dynofa_session_run_timed(w->plain, w->image, w->now.image_floats, w->logits,
                                      w->classes, w->parts, MOST_PARTS, &count),
             w->plain);
        for (size_t p = 0; p < count; p++) {
            double us = 1e-3 * (double)w->parts[p].nanoseconds;
            if (i == 0 || us < w->best[p])
                w->best[p] = us;
        }
    }
    return count;
}

static void time_switches(work *w, uint32_t level, uint32_t other) {
    for (int i = 0; i < w->runs; i++) {
        must(dynofa_session_select(w->level, other), w->level);
        timed_run(w, w->level);
        double start = now();
        must(dynofa_session_select(w->level, level), w->level);
        w->selects[i] = now() - start;
        w->firsts[i] = timed_run(w, w->level);
    }
}

static void time_level(work *w, uint32_t level, uint32_t other) {
    dynofa_subnet n = {.struct_size = sizeof n};
    must(dynofa_session_select(w->level, level), w->level);
    must(dynofa_session_subnet(w->level, &n), w->level);
    must(dynofa_session_configure(w->plain, &n, NULL, 0), w->plain);
    time_runs(w);
    size_t count = time_parts(w);
    time_switches(w, level, other);
    double median = quantile(w->levels, w->runs, 0.5), device = 0;
    for (size_t p = 0; p < count; p++)
        device += w->best[p];
    printf("{\"level\":%u,\"resolution\":%u,\"macs\":%llu,\"runs\":%d,", (unsigned)level,
           (unsigned)w->now.resolution, (unsigned long long)w->now.macs, w->runs);
    printf("\"p50_us\":%.2f,\"p99_us\":%.2f,\"plain_p50_us\":%.2f,\"plain_p99_us\":%.2f,", median,
           quantile(w->levels, w->runs, 0.99), quantile(w->plains, w->runs, 0.5),
           quantile(w->plains, w->runs, 0.99));
    printf("\"parts\":%zu,\"parts_us\":%.2f,\"between_us\":%.2f,", count, device, median - device);
    printf("\"select_p50_us\":%.3f,\"select_p99_us\":%.3f,\"first_after_switch_p50_us\":%.2f,",
           quantile(w->selects, w->runs, 0.5), quantile(w->selects, w->runs, 0.99),
           quantile(w->firsts, w->runs, 0.5));
    printf("\"gflops\":%.1f}\n", 2e-3 * (double)w->now.macs / median);
    for (size_t p = 0; p < count; p++)
        printf("{\"level\":%u,\"part\":%zu,\"kind\":%u,\"block\":%d,\"macs\":%llu,\"us\":%.2f}\n",
               (unsigned)level, p, (unsigned)w->parts[p].kind, (int)w->parts[p].block,
               (unsigned long long)w->parts[p].macs, w->best[p]);
    fflush(stdout);
}

/* Batches of a size that the device has memory for; images [batch], logits [batch]. */
static void time_batches(dynofa_model *m, dynofa_config config, uint32_t batch, work *w) {
    dynofa_session *s = NULL;
    dynofa_model_info info = {.struct_size = sizeof info};
    config.batch = batch;
    dynofa_status status = dynofa_session_new(m, &config, &s);
    if (status == DYNOFA_E_MEMORY) {
        fprintf(stderr, "SKIPPED: batches of %u: %s\n", (unsigned)batch, dynofa_error());
        return;
    }
    must(status, NULL);
    must(dynofa_model_describe(m, &info), NULL);
    for (uint32_t level = 0; level < info.levels; level++) {
        dynofa_subnet n = {.struct_size = sizeof n};
        must(dynofa_session_select(s, level), s);
        must(dynofa_session_describe(s, &w->now), s);
        for (int i = -WARM_UP; i < w->runs; i++) {
            double start = now();
            must(dynofa_session_run_batch(s, batch, w->image, batch * w->now.image_floats,
                                          w->logits, batch * w->classes),
                 s);
            w->levels[i < 0 ? 0 : i] = now() - start;
        }
        must(dynofa_session_subnet(s, &n), s);
        must(dynofa_session_configure(s, &n, NULL, 0), s);
        double start = now();
        must(dynofa_session_prepare(s, batch), s);
        double prepared = now() - start, median = quantile(w->levels, w->runs, 0.5);
        printf("{\"level\":%u,\"batch\":%u,\"runs\":%d,\"p50_us\":%.2f,\"p99_us\":%.2f,"
               "\"image_us\":%.2f,\"gflops\":%.1f,\"prepare_us\":%.1f}\n",
               (unsigned)level, (unsigned)batch, w->runs, median,
               quantile(w->levels, w->runs, 0.99), median / batch,
               2e-3 * (double)w->now.macs * batch / median, prepared);
        fflush(stdout);
    }
    dynofa_session_free(&s);
}

static void time_bundle(const char *path, const char *backend, int runs) {
    dynofa_model *m = NULL;
    dynofa_config config;
    dynofa_model_info info = {.struct_size = sizeof info};
    work w = {.now = {.struct_size = sizeof w.now}, .runs = runs};
    dynofa_config_init(&config);
    config.backend = backend;
    double start = now();
    must(dynofa_model_open(path, &config, &m), NULL);
    double opened = now();
    must(dynofa_session_new(m, &config, &w.level), NULL);
    double made = now();
    must(dynofa_session_new(m, &config, &w.plain), NULL);
    must(dynofa_model_describe(m, &info), NULL);
    printf("{\"backend\":\"%s\",\"levels\":%u,\"weight_bytes\":%llu,\"open_ms\":%.1f,\"session_"
           "ms\":%.1f}\n",
           info.isa, (unsigned)info.levels, (unsigned long long)info.supernet_bytes,
           1e-3 * (opened - start), 1e-3 * (made - opened));
    size_t image = (size_t)info.max_resolution * info.max_resolution * 3, n = (size_t)runs;
    w.classes = info.classes;
    w.image = malloc(MOST_IMAGES * image * sizeof(float));
    for (size_t i = 0; i < MOST_IMAGES * image; i++)
        w.image[i] = (float)(i % 17) / 8 - 1;
    w.logits = malloc(MOST_IMAGES * info.classes * sizeof(float));
    w.levels = malloc(4 * n * sizeof(double));
    w.plains = w.levels + n;
    w.firsts = w.plains + n;
    w.selects = w.firsts + n;
    w.parts = malloc(MOST_PARTS * sizeof *w.parts);
    w.best = malloc(MOST_PARTS * sizeof *w.best);
    for (uint32_t i = 0; i < info.levels; i++)
        time_level(&w, i, (i + 1) % info.levels);
    for (uint32_t batch = 2; batch <= MOST_IMAGES; batch *= 2)
        time_batches(m, config, batch, &w);
    free(w.best);
    free(w.parts);
    free(w.levels);
    free(w.logits);
    free(w.image);
    dynofa_session_free(&w.plain);
    dynofa_session_free(&w.level);
    dynofa_model_free(&m);
}

/* ---- Ceilings ---------------------------------------------------------------------------------*/

/* Eight chains a thread. Their sum is stored if it has a value that it never takes, so that no
 * compiler leaves the loop out. */
enum { CHAINS = 8, TIMES = 4096, THREADS = 256, BLOCKS = 8 };
#define EACH(X)  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define BEGIN(n) "add.f32 %f" #n ", %f9, %f8;\n"
#define STEP(n)  "fma.rn.f32 %f" #n ", %f" #n ", %f10, %f8;\n"
#define SUM(n)   "add.f32 %f9, %f9, %f" #n ";\n"
static const char peak[] =
    ".version 6.0\n.target sm_53\n.address_size 64\n"
    ".visible .entry peak(.param .u64 out, .param .f32 seed) {\n"
    ".reg .f32 %f<16>;\n.reg .u32 %r<4>;\n.reg .u64 %d<2>;\n"
    ".reg .pred %p<3>;\n"
    "ld.param.u64 %d0, [out];\nld.param.f32 %f8, [seed];\n"
    "mov.u32 %r1, %tid.x;\ncvt.rn.f32.u32 %f9, %r1;\n"
    "mov.f32 %f10, 0f3F7FFFFF;\n" EACH(BEGIN) "mov.u32 %r0, 0;\nloop:\n" EACH(STEP) EACH(STEP)
        EACH(STEP) EACH(STEP) "add.u32 %r0, %r0, 4;\n"
                              "setp.lt.u32 %p0, %r0, 4096;\n@%p0 bra loop;\n" EACH(
                                  SUM) "setp.eq.f32 %p1, %f9, 0fC9742400;\n"
                                       "@%p1 st.global.f32 [%d0], %f9;\nret;\n}\n";

/* The same on tensor cores, with eight products of a warp: an instruction mma.sync, and one that
 * makes a word of its factors of the seed. */
typedef struct tensor_peak {
    const char *multiply, *convert;
    double inputs; /* that a product sums over */
} tensor_peak;

static const tensor_peak tf32_peak = {"m16n8k8.row.col.f32.tf32.tf32.f32",
                                      "cvt.rna.tf32.f32 %b, %f8;", 8};
static const tensor_peak fp16_peak = {"m16n8k16.row.col.f32.f16.f16.f32",
                                      "cvt.rn.f16x2.f32 %b, %f8, %f8;", 16};

static void write_peak(FILE *to, const tensor_peak *p) {
    fputs(".version 7.0\n.target sm_80\n.address_size 64\n"
          ".visible .entry peak(.param .u64 out, .param .f32 seed) {\n"
          ".reg .f32 %f<16>;\n.reg .f32 %s<32>;\n.reg .b32 %b;\n.reg .u32 %r<4>;\n"
          ".reg .u64 %d<2>;\n.reg .pred %p<3>;\n"
          "ld.param.u64 %d0, [out];\nld.param.f32 %f8, [seed];\nmov.f32 %f9, %f8;\n",
          to);
    fprintf(to, "%s\n", p->convert);
    for (int i = 0; i < 4 * CHAINS; i++) /* each begins with another number, or they were one */
        fprintf(to, "cvt.rn.f32.u32 %%s%d, %d;\n", i, i);
    fputs("mov.u32 %r0, 0;\nloop:\n", to);
    for (int i = 0; i < 4 * CHAINS; i += 4)
        fprintf(to,
                "mma.sync.aligned.%s {%%s%d, %%s%d, %%s%d, %%s%d}, {%%b, %%b, %%b, %%b}, "
                "{%%b, %%b}, {%%s%d, %%s%d, %%s%d, %%s%d};\n",
                p->multiply, i, i + 1, i + 2, i + 3, i, i + 1, i + 2, i + 3);
    fprintf(to, "add.u32 %%r0, %%r0, 1;\nsetp.lt.u32 %%p0, %%r0, %d;\n@%%p0 bra loop;\n", TIMES);
    for (int i = 0; i < 4 * CHAINS; i++)
        fprintf(to, "add.f32 %%f9, %%f9, %%s%d;\n", i);
    fputs("setp.eq.f32 %p1, %f9, 0fC9742400;\n@%p1 st.global.f32 [%d0], %f9;\nret;\n}\n", to);
}

static const cuda_driver *driver;

static void must_cuda(cu_result r, const char *what) {
    failure f;
    if (r == 0)
        return;
    cuda_failed(driver, &f, what, r);
    fprintf(stderr, "bench: %s\n", f.text);
    exit(1);
}

typedef cu_result (*copy_call)(cu_pointer to, cu_pointer from, size_t bytes, cu_handle stream);

/* Milliseconds between two events, at best. */
typedef struct clock_pair {
    cu_handle stream, from, to;
    float best;
} clock_pair;

static void start(const clock_pair *c) {
    must_cuda(driver->event_record(c->from, c->stream), "timing");
}

static void stop(clock_pair *c) {
    float ms = 0;
    must_cuda(driver->event_record(c->to, c->stream), "timing");
    must_cuda(driver->stream_wait(c->stream), "waiting");
    must_cuda(driver->event_elapsed(&ms, c->from, c->to), "timing");
    if (c->best <= 0 || ms < c->best)
        c->best = ms;
}

enum { REPEAT = 20 };

/* The best rate of a kernel that does so many operations a thread, in GFLOP/s. */
static double rate(const char *text, double operations, unsigned blocks, cu_pointer memory,
                   clock_pair clock) {
    const cuda_driver *d = driver;
    cu_handle module, function;
    must_cuda(d->module_load(&module, text, 0, NULL, NULL), "compiling a peak");
    must_cuda(d->module_function(&function, module, "peak"), "a peak");
    for (int i = 0; i < REPEAT; i++) {
        float seed = 0.5F;
        void *args[] = {&memory, &seed};
        start(&clock);
        must_cuda(d->launch(function, blocks, 1, 1, THREADS, 1, 1, 0, clock.stream, args, NULL),
                  "a peak");
        stop(&clock);
    }
    d->module_unload(module);
    return operations * THREADS * blocks / clock.best * 1e-6;
}

static double tensor_rate(const tensor_peak *p, unsigned blocks, cu_pointer memory,
                          clock_pair clock) {
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL) {
        perror("bench");
        exit(1);
    }
    write_peak(to, p);
    fclose(to);
    /* 16 x 8 sums of a warp, of 32 threads. */
    double found =
        rate(text, 2.0 * CHAINS * TIMES * 16 * 8 / 32 * p->inputs, blocks, memory, clock);
    free(text);
    return found;
}

static void ceilings(uint32_t number) {
    enum { PROCESSORS = 16, L2_BYTES = 38, TENSOR_CORES = 8 };
    const size_t half = (size_t)128 << 20;
    failure f;
    cu_device device;
    cu_handle context;
    cu_pointer memory = 0;
    copy_call copy = NULL;
    int processors = 0, l2 = 0, capability = 0;
    driver = cuda_driver_get(&f);
    if (driver == NULL) {
        fprintf(stderr, "bench: %s\n", f.text);
        exit(1);
    }
    const cuda_driver *d = driver;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (library != NULL)
        *(void **)&copy = dlsym(library, "cuMemcpyDtoDAsync_v2");
    if (copy == NULL) {
        fprintf(stderr, "bench: the driver has no cuMemcpyDtoDAsync_v2\n");
        exit(1);
    }
    must_cuda(d->device_get(&device, (int)number), "the device");
    must_cuda(d->device_attribute(&processors, PROCESSORS, device), "its multiprocessors");
    must_cuda(d->device_attribute(&l2, L2_BYTES, device), "its second-level cache");
    must_cuda(d->device_attribute(&capability, CU_ATTRIBUTE_CAPABILITY_MAJOR, device),
              "its compute capability");
    must_cuda(d->context_retain(&context, device), "its context");
    must_cuda(d->context_push(context), "its context");
    clock_pair clock = {0};
    must_cuda(d->stream_create(&clock.stream, CU_STREAM_NON_BLOCKING, 0), "a stream");
    must_cuda(d->event_create(&clock.from, 0), "an event");
    must_cuda(d->event_create(&clock.to, 0), "an event");
    must_cuda(d->memory_alloc(&memory, 2 * half), "memory");
    const unsigned blocks = BLOCKS * (unsigned)processors;
    const double fma = rate(peak, 2.0 * CHAINS * TIMES, blocks, memory, clock);
    double tf32 = 0, fp16 = 0;
    if (capability >= TENSOR_CORES) {
        tf32 = tensor_rate(&tf32_peak, blocks, memory, clock);
        fp16 = tensor_rate(&fp16_peak, blocks, memory, clock);
    }
    for (int i = 0; i < REPEAT; i++) {
        start(&clock);
        must_cuda(copy(memory + half, memory, half, clock.stream), "copying");
        stop(&clock);
    }
    printf("{\"multiprocessors\":%d,\"l2_bytes\":%d,\"copy_gb_s\":%.1f,\"fma_gflops\":%.0f,",
           processors, l2, 2 * (double)half / clock.best * 1e-6, fma);
    printf("\"tf32_gflops\":%.0f,\"fp16_gflops\":%.0f}\n", tf32, fp16);
    d->memory_free(memory);
    d->event_destroy(clock.from);
    d->event_destroy(clock.to);
    d->stream_destroy(clock.stream);
    cuda_leave(d);
    d->context_release(device);
}

int main(int argc, char **argv) {
    int runs = argc > 3 ? atoi(argv[3]) / BLOCK * BLOCK : 1000;
    if (argc < 3 || runs < BLOCK) {
        fprintf(stderr, "usage: bench BUNDLE|ceilings BACKEND [RUNS]\n");
        return 2;
    }
    const char *colon = strchr(argv[2], ':');
    if (strcmp(argv[1], "ceilings") == 0)
        ceilings(colon == NULL ? 0 : (uint32_t)atoi(colon + 1));
    else
        time_bundle(argv[1], argv[2], runs);
    return 0;
}
