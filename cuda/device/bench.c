/* Times of a bundle on a device: bench BUNDLE BACKEND [RUNS], one JSON object a line. For each
 * level and, by turns, the same sub-network issued kernel by kernel: wall clock of run, and of that
 * what the device's events see between the beginning and the end of the launch; the parts; select,
 * and the first run after one. Then each kernel of it, launched again and again: its time, the
 * bytes that it cannot help but move once and its operations; a pointwise convolution with each
 * tile. Then each level in batches, one launch a batch, and what it takes to prepare a configured
 * sub-network. RUNS is the most of each: what is slow is measured for PATIENCE. Logits are those of
 * the image (i % 17) / 8 - 1.
 *
 * bench ceilings BACKEND: what the device can do, measured: a copy within its memory, chains of
 * float32 fused multiply-adds, and, where there are tensor cores for them, of products of tf32 and
 * of halves; what it takes to launch a kernel that does nothing and to wait for it, and what one
 * more of them takes. */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

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

/* ---- The device -------------------------------------------------------------------------------*/

static const cuda_driver *driver;

static void must_cuda(cu_result r, const char *what) {
    failure f;
    if (r == 0)
        return;
    cuda_failed(driver, &f, what, r);
    fprintf(stderr, "bench: %s\n", f.text);
    exit(1);
}

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

/* The device's own context and a stream of ours. */
typedef struct gpu {
    cu_device number;
    cu_handle context;
    clock_pair clock;
} gpu;

static gpu device;

static void device_begin(gpu *g, const char *backend) {
    const char *colon = strchr(backend, ':');
    must_cuda(driver->device_get(&g->number, colon == NULL ? 0 : atoi(colon + 1)), "the device");
    must_cuda(driver->context_retain(&g->context, g->number), "its context");
    must_cuda(driver->context_push(g->context), "its context");
    must_cuda(driver->stream_create(&g->clock.stream, CU_STREAM_NON_BLOCKING, 0), "a stream");
    must_cuda(driver->event_create(&g->clock.from, 0), "an event");
    must_cuda(driver->event_create(&g->clock.to, 0), "an event");
}

static void device_end(const gpu *g) {
    driver->event_destroy(g->clock.from);
    driver->event_destroy(g->clock.to);
    driver->stream_destroy(g->clock.stream);
    cuda_leave(driver);
    driver->context_release(g->number);
}

/* The driver, or the end. */
static void driver_begin(void) {
    failure f;
    driver = cuda_driver_get(&f);
    if (driver == NULL) {
        fprintf(stderr, "bench: %s\n", f.text);
        exit(1);
    }
}

enum { REPEAT = 20 };

/* `count` launches of a kernel in a graph: microseconds of each, at best. */
static double repeated(gpu *g, cu_handle function, const dync_launch *l, void *args, int count) {
    const cuda_driver *d = driver;
    cu_handle graph, executable;
    clock_pair clock = g->clock;
    must_cuda(d->capture_begin(clock.stream, CU_CAPTURE_RELAXED), "recording");
    for (int i = 0; i < count; i++)
        must_cuda(d->launch(function, l->grid[0], l->grid[1], l->grid[2], l->threads, 1, 1,
                            l->shared, clock.stream, &args, NULL),
                  "recording");
    must_cuda(d->capture_end(clock.stream, &graph), "recording");
    must_cuda(d->graph_instantiate(&executable, graph, 0), "recording");
    d->graph_destroy(graph);
    double since = now();
    for (int i = 0; i < REPEAT && (i < 1 || now() - since < 1e4); i++) {
        start(&clock);
        must_cuda(d->graph_launch(executable, clock.stream), "launching");
        stop(&clock);
    }
    d->graph_exec_destroy(executable);
    return 1e3 * clock.best / count;
}

/* ---- What a run gives to the driver -----------------------------------------------------------*/

/* A kernel on its way to the device. */
typedef struct launched {
    dync_launch l;
    union {
        dync_stem_args stem;
        dync_pointwise_args pointwise;
        dync_depthwise_args depthwise;
        dync_average_args average;
        dync_dense_args dense;
    } args;
} launched;

static const size_t args_bytes[] = {
#define DYNC_KERNEL(op, name, precision) sizeof(dync_##op##_args),
#include "cuda.inc"
#undef DYNC_KERNEL
};

/* The driver's calls, with ours in the place of three. */
enum { MOST_LAUNCHES = 1000 };
static struct {
    cuda_driver real;
    cu_handle function[DYNC_ENTRIES];
    bool kernels, graphs; /* are kept, timed */
    launched launch[MOST_LAUNCHES];
    int launches;
} watch;

static cu_result watch_function(cu_handle *function, cu_handle module, const char *name) {
    const cu_result r = watch.real.module_function(function, module, name);
    for (int i = 0; i < DYNC_ENTRIES; i++)
        if (strcmp(cuda_entry((dync_entry)i), name) == 0)
            watch.function[i] = *function;
    return r;
}

static cu_result watch_launch(cu_handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                              unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared,
                              cu_handle stream, void **args, void **extra) {
    int entry = 0;
    while (watch.function[entry] != function)
        entry++;
    if (watch.kernels && watch.launches < MOST_LAUNCHES) {
        launched *k = &watch.launch[watch.launches++];
        k->l = (dync_launch){(dync_entry)entry, {grid_x, grid_y, grid_z}, block_x, shared};
        memcpy(&k->args, args[0], args_bytes[entry]);
    }
    return watch.real.launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared,
                             stream, args, extra);
}

static cu_result watch_graph(cu_handle executable, cu_handle stream) {
    if (!watch.graphs)
        return watch.real.graph_launch(executable, stream);
    cu_result r = driver->event_record(device.clock.from, stream);
    if (r == 0)
        r = watch.real.graph_launch(executable, stream);
    return r == 0 ? driver->event_record(device.clock.to, stream) : r;
}

/* Microseconds of the graph that was launched last, on the device. */
static double watch_time(void) {
    float ms = 0;
    must_cuda(driver->event_elapsed(&ms, device.clock.from, device.clock.to), "timing");
    return 1e3 * (double)ms;
}

/* Before a model is opened. The driver is the library's own; nothing else runs. */
static void watch_driver(void) {
    driver_begin();
    cuda_driver *calls = (cuda_driver *)(uintptr_t)driver;
    watch.real = *driver;
    calls->module_function = watch_function;
    calls->launch = watch_launch;
    calls->graph_launch = watch_graph;
}

/* The floats that a kernel has to read and write, each once, and its operations. */
static void work_of(const launched *k, double *floats, double *operations) {
    if (k->l.entry == DYNC_ENTRY_stem) {
        const dync_stem_args *a = &k->args.stem;
        const double out = dync_ceil_div(a->side, a->stride), pixels = a->n * out * out;
        *floats = 3.0 * a->n * a->side * a->side + pixels * a->channels + 29.0 * a->channels;
        *operations = 2 * 27 * pixels * a->channels;
    } else if (k->l.entry <= DYNC_ENTRY_fp16_16x16) {
        const dync_pointwise_args *a = &k->args.pointwise;
        const double pixels = a->pixels, maps = a->residual != NULL ? 2 : 1;
        *floats = pixels * (a->in + maps * a->out) + (a->in + 2.0) * a->out +
                  (a->gate != NULL ? pixels / a->area * a->in : 0);
        *operations = 2 * pixels * a->in * a->out;
    } else if (k->l.entry <= DYNC_ENTRY_depthwise_k7s2) {
        const dync_depthwise_args *a = &k->args.depthwise;
        const double out = dync_ceil_div(a->side, a->stride), taps = a->k * a->k;
        const double sums = a->sums != NULL ? dync_depthwise_parts(a->side, a->stride) : 0;
        *floats = a->channels * (a->n * (1.0 * a->side * a->side + out * out + sums) + taps + 2);
        *operations = 2 * taps * out * out * a->n * a->channels;
    } else if (k->l.entry == DYNC_ENTRY_average) {
        const dync_average_args *a = &k->args.average;
        *floats = (a->area + 1.0) * a->n * a->channels;
        *operations = 1.0 * a->area * a->n * a->channels;
    } else {
        const dync_dense_args *a = &k->args.dense;
        *floats = a->n * (1.0 * a->rows * a->in + a->out) + (a->in + 1.0) * a->out;
        *operations = a->n * (2.0 * a->in * a->out + 1.0 * a->rows * a->in);
    }
}

/* One line: shape, work and time; a pointwise convolution with the tiles of its precision. */
static void print_kernel(uint32_t level, int number, launched *k) {
    enum { LAUNCHES = 50, TILES = 3 };
    double floats = 0, operations = 0;
    work_of(k, &floats, &operations);
    printf("{\"level\":%u,\"kernel\":%d,\"entry\":\"%s\",\"grid\":[%u,%u,%u],", (unsigned)level,
           number, cuda_entry(k->l.entry), (unsigned)k->l.grid[0], (unsigned)k->l.grid[1],
           (unsigned)k->l.grid[2]);
    printf("\"bytes\":%.0f,\"flops\":%.0f,\"us\":%.2f", 4 * floats, operations,
           repeated(&device, watch.function[k->l.entry], &k->l, &k->args, LAUNCHES));
    if (k->l.entry > DYNC_ENTRY_stem && k->l.entry <= DYNC_ENTRY_fp16_16x16) {
        const dync_pointwise_args *a = &k->args.pointwise;
        const int first = k->l.entry - (k->l.entry - DYNC_ENTRY_pointwise_128x32) % TILES;
        printf(",\"pixels\":%u,\"in\":%u,\"out\":%u,\"tiles_us\":[", (unsigned)a->pixels,
               (unsigned)a->in, (unsigned)a->out);
        for (int i = 0; i < TILES; i++) {
            const dync_launch l = dync_pointwise_tiled(a, (dync_entry)(first + i));
            printf(i > 0 ? ",%.2f" : "%.2f",
                   repeated(&device, watch.function[l.entry], &l, &k->args, LAUNCHES));
        }
        printf("]");
    }
    printf("}\n");
}

/* ---- Networks ---------------------------------------------------------------------------------*/

enum { MOST_PARTS = 5000, BLOCK = 10, WARM_UP = 100, MOST_IMAGES = 64, BATCH_SHARE = 5 };
static const double PATIENCE = 2e6, WARM_UP_PATIENCE = 3e5; /* us */

typedef struct work {
    dynofa_session *level, *plain; /* of which only the first switches */
    dynofa_session_info now;
    float *image, *logits;
    size_t classes;
    int runs;
    double *times[5]; /* us, [runs] */
    dynofa_layer_time *parts;
    double *best; /* us of each part */
} work;

/* Is there to be another, after `done` of them? A block is measured in any case. */
static bool more(int done, int most, double since) {
    return done < most && (done < BLOCK || now() - since < PATIENCE);
}

static double timed_run(work *w, dynofa_session *s) {
    must(dynofa_session_describe(s, &w->now), s);
    double start = now();
    must(dynofa_session_run(s, w->image, w->now.image_floats, w->logits, w->classes), s);
    return now() - start;
}

static void warm_up(work *w, dynofa_session *s) {
    double since = now();
    for (int i = 0; i < WARM_UP && (i < 2 || now() - since < WARM_UP_PATIENCE); i++)
        timed_run(w, s);
}

/* Blocks of runs by turns, into levels and plains; returns how many of each. */
static int time_runs(work *w, double *levels, double *plains) {
    int done = 0;
    warm_up(w, w->plain);
    warm_up(w, w->level);
    for (double since = now(); more(done, w->runs, since); done += BLOCK) {
        for (int i = done; i < done + BLOCK; i++)
            levels[i] = timed_run(w, w->level);
        for (int i = done; i < done + BLOCK; i++)
            plains[i] = timed_run(w, w->plain);
    }
    return done;
}

/* The best time of each part; returns their number. */
static size_t time_parts(work *w) {
    size_t count = 0;
    double since = now();
    for (int i = 0; more(i, w->runs / BLOCK, since); i++) {
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

static int time_switches(work *w, uint32_t level, uint32_t other, double *selects, double *firsts) {
    int done = 0;
    for (double since = now(); more(done, w->runs, since); done++) {
        must(dynofa_session_select(w->level, other), w->level);
        timed_run(w, w->level);
        double start = now();
        must(dynofa_session_select(w->level, level), w->level);
        selects[done] = now() - start;
        firsts[done] = timed_run(w, w->level);
    }
    return done;
}

static int time_graphs(work *w, double *devices) {
    int done = 0;
    watch.graphs = true;
    for (double since = now(); more(done, w->runs, since); done++) {
        timed_run(w, w->level);
        devices[done] = watch_time();
    }
    watch.graphs = false;
    return done;
}

static void time_level(work *w, uint32_t level, uint32_t other) {
    double *levels = w->times[0], *plains = w->times[1], *selects = w->times[2];
    double *firsts = w->times[3], *devices = w->times[4], parts_us = 0;
    dynofa_subnet n = {.struct_size = sizeof n};
    must(dynofa_session_select(w->level, level), w->level);
    must(dynofa_session_subnet(w->level, &n), w->level);
    must(dynofa_session_configure(w->plain, &n, NULL, 0), w->plain);
    const int runs = time_runs(w, levels, plains);
    const size_t count = time_parts(w);
    const int graphs = time_graphs(w, devices);
    const int switches = time_switches(w, level, other, selects, firsts);
    for (size_t p = 0; p < count; p++)
        parts_us += w->best[p];
    const double median = quantile(levels, runs, 0.5);
    printf("{\"level\":%u,\"resolution\":%u,\"macs\":%llu,\"runs\":%d,\"switches\":%d,",
           (unsigned)level, (unsigned)w->now.resolution, (unsigned long long)w->now.macs, runs,
           switches);
    printf("\"p50_us\":%.2f,\"p99_us\":%.2f,\"plain_p50_us\":%.2f,\"plain_p99_us\":%.2f,", median,
           quantile(levels, runs, 0.99), quantile(plains, runs, 0.5), quantile(plains, runs, 0.99));
    printf("\"device_p50_us\":%.2f,\"parts\":%zu,\"parts_us\":%.2f,",
           quantile(devices, graphs, 0.5), count, parts_us);
    printf("\"select_p50_us\":%.3f,\"select_p99_us\":%.3f,\"first_after_switch_p50_us\":%.2f,",
           quantile(selects, switches, 0.5), quantile(selects, switches, 0.99),
           quantile(firsts, switches, 0.5));
    printf("\"gflops\":%.1f}\n", 2e-3 * (double)w->now.macs / median);
    for (size_t p = 0; p < count; p++)
        printf("{\"level\":%u,\"part\":%zu,\"kind\":%u,\"block\":%d,\"macs\":%llu,\"us\":%.2f}\n",
               (unsigned)level, p, (unsigned)w->parts[p].kind, (int)w->parts[p].block,
               (unsigned long long)w->parts[p].macs, w->best[p]);
    watch.launches = 0;
    watch.kernels = true;
    timed_run(w, w->plain);
    watch.kernels = false;
    timed_run(w, w->level);
    printf("{\"level\":%u,\"logits\":[", (unsigned)level);
    for (size_t i = 0; i < w->classes; i++)
        printf(i > 0 ? ",%.9g" : "%.9g", (double)w->logits[i]);
    printf("]}\n");
    for (int i = 0; i < watch.launches; i++)
        print_kernel(level, i, &watch.launch[i]);
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
        int done = -2; /* that are not counted */
        for (double since = now(); more(done, w->runs / BATCH_SHARE, since); done++) {
            double start = now();
            must(dynofa_session_run_batch(s, batch, w->image, batch * w->now.image_floats,
                                          w->logits, batch * w->classes),
                 s);
            w->times[0][done < 0 ? 0 : done] = now() - start;
        }
        must(dynofa_session_subnet(s, &n), s);
        must(dynofa_session_configure(s, &n, NULL, 0), s);
        double start = now();
        must(dynofa_session_prepare(s, batch), s);
        double prepared = now() - start, median = quantile(w->times[0], done, 0.5);
        printf("{\"level\":%u,\"batch\":%u,\"runs\":%d,\"p50_us\":%.2f,\"p99_us\":%.2f,"
               "\"image_us\":%.2f,\"gflops\":%.1f,\"prepare_us\":%.1f}\n",
               (unsigned)level, (unsigned)batch, done, median, quantile(w->times[0], done, 0.99),
               median / batch, 2e-3 * (double)w->now.macs * batch / median, prepared);
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
    watch_driver();
    double start = now();
    must(dynofa_model_open(path, &config, &m), NULL);
    double opened = now();
    must(dynofa_session_new(m, &config, &w.level), NULL);
    double made = now();
    must(dynofa_session_new(m, &config, &w.plain), NULL);
    device_begin(&device, backend);
    must(dynofa_model_describe(m, &info), NULL);
    printf("{\"backend\":\"%s\",\"levels\":%u,\"weight_bytes\":%llu,\"open_ms\":%.1f,\"session_"
           "ms\":%.1f}\n",
           info.isa, (unsigned)info.levels, (unsigned long long)info.supernet_bytes,
           1e-3 * (opened - start), 1e-3 * (made - opened));
    fflush(stdout);
    size_t image = (size_t)info.max_resolution * info.max_resolution * 3, n = (size_t)runs;
    w.classes = info.classes;
    w.image = malloc(MOST_IMAGES * image * sizeof(float));
    for (size_t i = 0; i < MOST_IMAGES * image; i++)
        w.image[i] = (float)(i % 17) / 8 - 1;
    w.logits = malloc(MOST_IMAGES * info.classes * sizeof(float));
    for (int i = 0; i < 5; i++)
        w.times[i] = malloc(n * sizeof *w.times[i]);
    w.parts = malloc(MOST_PARTS * sizeof *w.parts);
    w.best = malloc(MOST_PARTS * sizeof *w.best);
    for (uint32_t i = 0; i < info.levels; i++)
        time_level(&w, i, (i + 1) % info.levels);
    for (uint32_t batch = 2; batch <= MOST_IMAGES; batch *= 2)
        time_batches(m, config, batch, &w);
    free(w.best);
    free(w.parts);
    for (int i = 0; i < 5; i++)
        free(w.times[i]);
    free(w.logits);
    free(w.image);
    device_end(&device);
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

/* Microseconds from launching a graph of one kernel that does nothing to the end of the wait. */
static double launch_time(gpu *g, cu_handle function) {
    enum { RUNS = 500 };
    static double times[RUNS];
    const cuda_driver *d = driver;
    cu_handle graph, executable;
    void *none = NULL;
    must_cuda(d->capture_begin(g->clock.stream, CU_CAPTURE_RELAXED), "recording");
    must_cuda(d->launch(function, 1, 1, 1, 32, 1, 1, 0, g->clock.stream, &none, NULL), "recording");
    must_cuda(d->capture_end(g->clock.stream, &graph), "recording");
    must_cuda(d->graph_instantiate(&executable, graph, 0), "recording");
    d->graph_destroy(graph);
    for (int i = -BLOCK; i < RUNS; i++) {
        const double since = now();
        must_cuda(d->graph_launch(executable, g->clock.stream), "launching");
        must_cuda(d->stream_wait(g->clock.stream), "waiting");
        times[i < 0 ? 0 : i] = now() - since;
    }
    d->graph_exec_destroy(executable);
    return quantile(times, RUNS, 0.5);
}

static void ceilings(const char *backend) {
    enum { PROCESSORS = 16, L2_BYTES = 38, TENSOR_CORES = 8, MANY = 100 };
    static const char nothing[] = ".version 6.0\n.target sm_53\n.address_size 64\n"
                                  ".visible .entry nothing() {\nret;\n}\n";
    const size_t half = (size_t)128 << 20;
    cu_pointer memory = 0;
    cu_handle module, function;
    cu_result (*copy)(cu_pointer to, cu_pointer from, size_t bytes, cu_handle stream) = NULL;
    int processors = 0, l2 = 0, capability = 0;
    driver_begin();
    const cuda_driver *d = driver;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (library != NULL)
        *(void **)&copy = dlsym(library, "cuMemcpyDtoDAsync_v2");
    if (copy == NULL) {
        fprintf(stderr, "bench: the driver has no cuMemcpyDtoDAsync_v2\n");
        exit(1);
    }
    device_begin(&device, backend);
    must_cuda(d->device_attribute(&processors, PROCESSORS, device.number), "its multiprocessors");
    must_cuda(d->device_attribute(&l2, L2_BYTES, device.number), "its second-level cache");
    must_cuda(d->device_attribute(&capability, CU_ATTRIBUTE_CAPABILITY_MAJOR, device.number),
              "its compute capability");
    must_cuda(d->memory_alloc(&memory, 2 * half), "memory");
    const unsigned blocks = BLOCKS * (unsigned)processors;
    /* Two operations of each step of each chain. */
    double fma = rate(peak, 2.0 * CHAINS * TIMES, blocks, memory, device.clock), tf32 = 0, fp16 = 0;
    if (capability >= TENSOR_CORES) {
        tf32 = tensor_rate(&tf32_peak, blocks, memory, device.clock);
        fp16 = tensor_rate(&fp16_peak, blocks, memory, device.clock);
    }
    clock_pair clock = device.clock;
    for (int i = 0; i < REPEAT; i++) {
        start(&clock);
        must_cuda(copy(memory + half, memory, half, clock.stream), "copying");
        stop(&clock);
    }
    printf("{\"multiprocessors\":%d,\"l2_bytes\":%d,\"copy_gb_s\":%.1f,\"fma_gflops\":%.0f,",
           processors, l2, 2 * (double)half / clock.best * 1e-6, fma);
    must_cuda(d->module_load(&module, nothing, 0, NULL, NULL), "compiling nothing");
    must_cuda(d->module_function(&function, module, "nothing"), "nothing");
    const dync_launch one = {.grid = {1, 1, 1}, .threads = 32};
    printf("\"tf32_gflops\":%.0f,\"fp16_gflops\":%.0f,\"launch_us\":%.2f,\"kernel_us\":%.2f}\n",
           tf32, fp16, launch_time(&device, function),
           repeated(&device, function, &one, NULL, MANY));
    d->module_unload(module);
    d->memory_free(memory);
    device_end(&device);
}

int main(int argc, char **argv) {
    int runs = argc > 3 ? atoi(argv[3]) / BLOCK * BLOCK : 1000;
    if (argc < 3 || runs < BATCH_SHARE * BLOCK) {
        fprintf(stderr, "usage: bench BUNDLE|ceilings BACKEND [RUNS]\n");
        return 2;
    }
    if (strcmp(argv[1], "ceilings") == 0)
        ceilings(argv[2]);
    else
        time_bundle(argv[1], argv[2], runs);
    return 0;
}
