/* What the engine promises about time and memory: limits_test BUNDLE. It prints what it measures.
 * Opening and running are timed by the CPU time of this thread, which does all of it: on an idle
 * machine that is the time on the wall, and on a shared one it still says the same. */
#define _GNU_SOURCE

#include <dirent.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dynofa.h"
#include "test.h"

enum { SWITCHES = 10000, MANY_SWITCHES = 1000000, UNSEEN = 1000, FIRST_RUNS = 15, SESSIONS = 3 };

typedef struct subject {
    dynofa_model *model;
    dynofa_session *session;
    dynofa_model_info info;
    float *image, *logits;
    size_t resident_before; /* KiB */
    uint64_t seed;
} subject;

static uint32_t next(subject *t, uint32_t below) {
    t->seed = t->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(t->seed >> 33) % below;
}

static double clock_us(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double now_us(void) {
    return clock_us(CLOCK_MONOTONIC);
}

static double cpu_us(void) {
    return clock_us(CLOCK_THREAD_CPUTIME_ID);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *v, size_t n, double q) {
    qsort(v, n, sizeof *v, by_value);
    return v[(size_t)(q * (double)(n - 1))];
}

/* Resident memory in KiB. */
static size_t resident(void) {
    char line[256];
    size_t kib = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Rss: %zu kB", &kib) == 1)
            break;
    if (f != NULL)
        fclose(f);
    return kib;
}

static void run(subject *t) {
    dynofa_session_info now = {.struct_size = sizeof now};
    CHECK_OK(dynofa_session_describe(t->session, &now));
    CHECK_OK(
        dynofa_session_run(t->session, t->image, now.image_floats, t->logits, t->info.classes));
}

/* Bytes of the supernet's tensors: those of the file without header and levels. */
static size_t supernet_bytes(const subject *t, const char *path) {
    uint64_t header = 0;
    FILE *f = fopen(path, "rb");
    if (f == NULL || fread(&header, sizeof header, 1, f) != 1)
        exit(2);
    fseek(f, 0, SEEK_END);
    size_t bytes = (size_t)ftell(f) - sizeof header - header;
    fclose(f);
    for (uint32_t i = 0; i < t->info.levels; i++) {
        dynofa_subnet n = {.struct_size = sizeof n};
        size_t floats = 0;
        CHECK_OK(dynofa_model_level(t->model, i, &n));
        CHECK_OK(dynofa_model_norm_floats(t->model, &n, &floats));
        bytes -= floats * sizeof(float);
    }
    return bytes;
}

static void test_memory(subject *t, const char *path) {
    enum { SLACK = 512 << 10 }; /* stacks and the like of a session */
    size_t weights = supernet_bytes(t, path);
    for (uint32_t i = 0; i < t->info.levels; i++) {
        CHECK_OK(dynofa_session_select(t->session, i));
        run(t);
    }
    size_t with_one = resident() - t->resident_before, session = 0;
    CHECK_OK(dynofa_session_bytes(t->model, NULL, &session));
    printf("resident: %.1f MB for %.1f MB of float32 weights (%.3f), %u levels (%.2f %% each), one "
           "session of %.1f MB\n",
           (double)with_one * 1024 / 1e6, (double)weights / 1e6,
           (double)with_one * 1024 / (double)weights, (unsigned)t->info.levels,
           100 * (double)t->info.library_bytes / t->info.levels / (double)weights,
           (double)session / 1e6);
    if (weights >= 8u << 20) { /* else the session outweighs it */
        CHECK((double)with_one * 1024 <= 1.25 * (double)weights);
        CHECK((double)t->info.library_bytes / t->info.levels < 0.01 * (double)weights);
    }

    dynofa_session *more[SESSIONS];
    dynofa_session *first = t->session;
    for (int i = 0; i < SESSIONS; i++) {
        CHECK_OK(dynofa_session_new(t->model, NULL, &more[i]));
        t->session = more[i];
        run(t);
    }
    t->session = first;
    size_t grown = resident() - t->resident_before - with_one;
    printf("%d more sessions: %.2f MB, %.2f MB of arenas\n", SESSIONS, (double)grown * 1024 / 1e6,
           (double)session * SESSIONS / 1e6);
    CHECK(grown * 1024 <= (session + SLACK) * SESSIONS);
    for (int i = 0; i < SESSIONS; i++)
        dynofa_session_free(&more[i]);
}

static void test_select(subject *t) {
    static double us[SWITCHES];
    for (int i = 0; i < SWITCHES; i++) {
        uint32_t level = next(t, t->info.levels);
        double from = now_us();
        dynofa_status status = dynofa_session_select(t->session, level);
        us[i] = now_us() - from;
        CHECK_OK(status);
    }
    double p50 = quantile(us, SWITCHES, 0.5), p99 = quantile(us, SWITCHES, 0.99);
    printf("select: median %.3f us, p99 %.3f us\n", p50, p99);
    CHECK(p99 <= 10);
}

/* A sub-network that mixes the choices of all levels, slot by slot. */
static dynofa_subnet mixed(subject *t, uint32_t *kernels, uint32_t *expands, uint32_t *depths) {
    dynofa_subnet n = {.struct_size = sizeof n};
    for (uint32_t i = 0; i < t->info.slots; i++) {
        CHECK_OK(dynofa_model_level(t->model, next(t, t->info.levels), &n));
        kernels[i] = n.kernels[i];
        expands[i] = n.expands[i];
    }
    for (uint32_t i = 0; i < t->info.stages; i++) {
        CHECK_OK(dynofa_model_level(t->model, next(t, t->info.levels), &n));
        depths[i] = n.depths[i];
    }
    n.kernels = kernels;
    n.expands = expands;
    n.depths = depths;
    return n;
}

static void test_configure(subject *t) {
    static double us[UNSEEN];
    uint32_t kernels[1024], expands[1024], depths[32];
    for (int i = 0; i < UNSEEN; i++) {
        dynofa_subnet n = mixed(t, kernels, expands, depths);
        double from = now_us();
        dynofa_status status = dynofa_session_configure(t->session, &n, NULL, 0);
        us[i] = now_us() - from;
        CHECK_OK(status);
    }
    double p50 = quantile(us, UNSEEN, 0.5), p99 = quantile(us, UNSEEN, 0.99);
    printf("configure: median %.1f us, p99 %.1f us\n", p50, p99);
    CHECK(p99 <= 1000);
}

/* The first run after a switch against the third. The bound is loose, as neighbours share caches.
 */
static void test_first_run(subject *t) {
    double first[FIRST_RUNS], steady[FIRST_RUNS];
    uint32_t at = t->info.levels / 2;
    for (int i = 0; i < FIRST_RUNS; i++) {
        CHECK_OK(dynofa_session_select(t->session, t->info.levels - 1));
        run(t);
        CHECK_OK(dynofa_session_select(t->session, at));
        double from = cpu_us();
        run(t);
        first[i] = cpu_us() - from;
        run(t);
        from = cpu_us();
        run(t);
        steady[i] = cpu_us() - from;
    }
    double a = quantile(first, FIRST_RUNS, 0.5), b = quantile(steady, FIRST_RUNS, 0.5);
    printf("first run after a switch: %.3f ms, steady %.3f ms: %.3f\n", a / 1e3, b / 1e3, a / b);
    CHECK(a <= 1.5 * b);
}

static void test_many_switches(subject *t) {
    uint32_t kernels[1024], expands[1024], depths[32];
    dynofa_subnet n = mixed(t, kernels, expands, depths);
    size_t before = resident();
    for (int i = 0; i < MANY_SWITCHES; i++) {
        dynofa_status status = i % 100 == 0
                                   ? dynofa_session_configure(t->session, &n, NULL, 0)
                                   : dynofa_session_select(t->session, next(t, t->info.levels));
        if (status != DYNOFA_OK)
            CHECK_OK(status);
        if (i % 50000 == 0)
            run(t);
    }
    size_t after = resident();
    printf("%d switches: resident %zu KiB before, %zu after\n", MANY_SWITCHES, before, after);
    CHECK(after <= before + 256);
}

/* Allocations of a model and a session in its life. */
static size_t allocations;

static void *counted(void *context, size_t size, size_t align) {
    (void)context;
    allocations++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void released(void *context, void *memory, size_t size) {
    (void)context, (void)size;
    free(memory);
}

static void test_no_allocation(const char *path) {
    subject t = {.info = {.struct_size = sizeof t.info}, .seed = 3};
    dynofa_config config;
    dynofa_config_init(&config);
    config.allocator = (dynofa_allocator){counted, released, NULL};
    CHECK_OK(dynofa_model_open(path, &config, &t.model));
    CHECK_OK(dynofa_session_new(t.model, &config, &t.session));
    CHECK_OK(dynofa_model_describe(t.model, &t.info));
    size_t before = allocations;
    for (int i = 0; i < SWITCHES; i++)
        CHECK_OK(dynofa_session_select(t.session, next(&t, t.info.levels)));
    CHECK(before > 0 && allocations == before);
    dynofa_session_free(&t.session);
    dynofa_model_free(&t.model);
}

/* Every thread but the caller's on one CPU of the mask, in turn. */
static void test_affinity(subject *t) {
    cpu_set_t mine, own;
    uint64_t mask = 0;
    uint32_t cpus = 0;
    CHECK(sched_getaffinity(0, sizeof mine, &mine) == 0);
    for (unsigned i = 0; i < 64; i++)
        if (CPU_ISSET(i, &mine)) {
            mask |= UINT64_C(1) << i;
            cpus++;
        }
    dynofa_session *s = NULL;
    dynofa_config config;
    dynofa_config_init(&config);
    config.threads = 1 + 2 * cpus;
    config.affinity = mask;
    CHECK_OK(dynofa_session_new(t->model, &config, &s));
    int on[64] = {0}, pinned = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *d; tasks != NULL && (d = readdir(tasks)) != NULL;) {
        int id = atoi(d->d_name);
        if (id == 0 || id == getpid())
            continue;
        CHECK(sched_getaffinity(id, sizeof own, &own) == 0 && CPU_COUNT(&own) == 1);
        for (unsigned i = 0; i < 64; i++)
            if (CPU_ISSET(i, &own))
                on[i]++;
        pinned++;
    }
    if (tasks != NULL)
        closedir(tasks);
    CHECK(pinned == (int)(2 * cpus));
    for (unsigned i = 0; i < 64; i++)
        CHECK(on[i] == (mask >> i & 1 ? 2 : 0));
    CHECK(sched_getaffinity(0, sizeof own, &own) == 0 && CPU_EQUAL(&own, &mine));
    printf("affinity: %d threads pinned to %u CPUs\n", pinned, (unsigned)cpus);
    dynofa_session_free(&s);
}

/* The page cache is warm: another open has read the file. */
static void test_open(const char *path) {
    double us[7];
    for (size_t i = 0; i < 7; i++) {
        dynofa_model *m = NULL;
        double from = cpu_us();
        CHECK_OK(dynofa_model_open(path, NULL, &m));
        us[i] = cpu_us() - from;
        dynofa_model_free(&m);
    }
    double median = quantile(us, 7, 0.5);
    printf("open: median %.1f ms, best %.1f\n", median / 1e3, us[0] / 1e3);
    CHECK(us[0] <= 60e3);
}

int main(int argc, char **argv) {
    subject t = {.info = {.struct_size = sizeof t.info}, .seed = 7};
    if (argc != 2) {
        fprintf(stderr, "usage: limits_test BUNDLE\n");
        return 2;
    }
    t.resident_before = resident();
    if (t.resident_before == 0) {
        printf("SKIPPED: no /proc/self/smaps_rollup\n");
        return 0;
    }
    CHECK_OK(dynofa_model_open(argv[1], NULL, &t.model));
    CHECK_OK(dynofa_session_new(t.model, NULL, &t.session));
    CHECK_OK(dynofa_model_describe(t.model, &t.info));
    if (t.session == NULL)
        return test_result();
    t.image = calloc((size_t)t.info.max_resolution * t.info.max_resolution * 3, sizeof *t.image);
    t.logits = calloc(t.info.classes, sizeof *t.logits);
    test_memory(&t, argv[1]);
    test_select(&t);
    test_configure(&t);
    test_first_run(&t);
    test_many_switches(&t);
    test_affinity(&t);
    free(t.image);
    free(t.logits);
    dynofa_session_free(&t.session);
    dynofa_model_free(&t.model);
    test_open(argv[1]);
    test_no_allocation(argv[1]);
    return test_result();
}
