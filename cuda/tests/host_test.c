/* The host half against a driver that fails: host_test BUNDLE, with the emulated driver in the
 * library path. Every n-th call of every entry point fails once; the sentence says so, nothing
 * stays behind, and what can go on does. */
#define _GNU_SOURCE /* RTLD_NOLOAD, setenv */

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../native/tests/test.h"
#include "driver.h"

/* What the emulated driver keeps when it refuses to take it back is no leak of ours: live() counts.
 */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libcuda.so.1";
}

static long (*live)(void); /* objects of the driver that nobody has destroyed */

/* ---- What is counted and made to fail ---------------------------------------------------------*/

static long blocks, block_calls;

static void *count_alloc(void *context, size_t size, size_t align) {
    (void)context;
    blocks++;
    block_calls++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void count_release(void *context, void *memory, size_t size) {
    (void)context;
    (void)size;
    blocks--;
    free(memory);
}

/* Images of a pass, and of the longest run: two passes and a part of one. */
enum { BATCH = 3, IMAGES = 2 * BATCH + 2 };
static const char *backend = "cuda";

static dynofa_config counted(void) {
    dynofa_config c;
    dynofa_config_init(&c);
    c.backend = backend;
    c.batch = BATCH;
    c.allocator = (dynofa_allocator){count_alloc, count_release, NULL};
    return c;
}

/* Makes calls fail as the emulated driver reads it: NAME:N,... Its counts begin anew. */
static void fail_next(const char *calls) {
    setenv("DYNOFA_FAKE_CUDA_FAIL", "", 1);
    (void)dynofa_backend_check("cuda");
    setenv("DYNOFA_FAKE_CUDA_FAIL", calls, 1);
}

static bool expected_failure(dynofa_status status, const char *sentence) {
    return (status == DYNOFA_E_DEVICE || status == DYNOFA_E_MEMORY) &&
           (strstr(sentence, "CUDA") != NULL || strstr(sentence, "memory for ") != NULL);
}

/* ---- One life of a model ----------------------------------------------------------------------*/

typedef struct life {
    const char *path;
    dynofa_model *m;
    dynofa_session *s;
    float *image, *logits, *norms;
    size_t classes, norm_floats;
    dynofa_model_info info;
    dynofa_session_info now;
} life;

static dynofa_status run_batch(life *l, size_t count) {
    return dynofa_session_run_batch(l->s, count, l->image, count * l->now.image_floats, l->logits,
                                    count * l->classes);
}

static dynofa_status run(life *l) {
    return run_batch(l, 1);
}

/* Every call that reaches the driver, until one fails. *sentence is then its sentence. */
static dynofa_status live_through(life *l, const char **sentence) {
    dynofa_config config = counted();
    dynofa_subnet n = {.struct_size = sizeof n};
    dynofa_layer_time times[8];
    size_t parts;
    *sentence = dynofa_error();
    dynofa_status status = dynofa_model_open(l->path, &config, &l->m);
    if (status == DYNOFA_OK)
        status = dynofa_session_new(l->m, &config, &l->s);
    if (status != DYNOFA_OK)
        return status;
    *sentence = dynofa_session_error(l->s);
    CHECK_OK(dynofa_session_select(l->s, 0));
    CHECK_OK(dynofa_session_describe(l->s, &l->now));
    status = run_batch(l, IMAGES);
    if (status == DYNOFA_OK)
        status = dynofa_session_run_timed(l->s, l->image, l->now.image_floats, l->logits,
                                          l->classes, times, 8, &parts);
    if (status == DYNOFA_OK) {
        CHECK_OK(dynofa_session_subnet(l->s, &n));
        status = dynofa_session_configure(l->s, &n, l->norms, l->norm_floats);
    }
    if (status == DYNOFA_OK)
        status = dynofa_session_prepare(l->s, BATCH);
    return status == DYNOFA_OK ? run_batch(l, IMAGES) : status;
}

static void end(life *l) {
    dynofa_session_free(&l->s);
    dynofa_model_free(&l->m);
}

static life prepare(const char *path) {
    life l = {.path = path};
    dynofa_subnet n = {.struct_size = sizeof n};
    l.info.struct_size = sizeof l.info;
    l.now.struct_size = sizeof l.now;
    CHECK_OK(dynofa_model_open(path, NULL, &l.m));
    CHECK_OK(dynofa_model_describe(l.m, &l.info));
    CHECK(l.info.device == NULL && l.info.device_driver == 0 && l.info.device_capability == 0);
    CHECK_OK(dynofa_model_level(l.m, 0, &n));
    CHECK_OK(dynofa_model_norm_floats(l.m, &n, &l.norm_floats));
    l.classes = l.info.classes;
    l.image =
        calloc(IMAGES * (size_t)l.info.max_resolution * l.info.max_resolution * 3, sizeof(float));
    l.logits = calloc(IMAGES * l.classes, sizeof(float));
    l.norms = calloc(l.norm_floats, sizeof(float));
    dynofa_model_free(&l.m);
    return l;
}

/* ---- Tests ------------------------------------------------------------------------------------*/

/* Before the driver is loaded for good. */
static void test_loading(void) {
    static const char *const first[] = {"cuDriverGetVersion:1", "cuInit:1", "cuDeviceGetCount:1"};
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        setenv("DYNOFA_FAKE_CUDA_FAIL", first[i], 1);
        CHECK_IS(dynofa_backend_check("cuda"), DYNOFA_E_DEVICE);
        CHECK(strstr(dynofa_error(), "CUDA: ") == dynofa_error());
    }
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    setenv("DYNOFA_FAKE_CUDA_VERSION", "11020", 1);
    CHECK_IS(dynofa_backend_check("cuda"), DYNOFA_E_DEVICE);
    CHECK(strcmp(dynofa_error(), "CUDA driver 11.2 is too old, need 11.4 or newer") == 0);
    unsetenv("DYNOFA_FAKE_CUDA_VERSION");
    setenv("DYNOFA_FAKE_CUDA_DEVICES", "0", 1);
    CHECK_IS(dynofa_backend_check("cuda"), DYNOFA_E_DEVICE);
    CHECK(strcmp(dynofa_error(), "no CUDA device: the driver (12.4) sees none") == 0);
    setenv("DYNOFA_FAKE_CUDA_DEVICES", "2", 1);
    CHECK_OK(dynofa_backend_check("cuda"));
    CHECK_OK(dynofa_backend_check("cuda:1"));
    CHECK_OK(dynofa_backend_check("native"));
    CHECK_IS(dynofa_backend_check("cuda:2"), DYNOFA_E_DEVICE);
    CHECK(strcmp(dynofa_error(), "no CUDA device 2, expected 0 to 1") == 0);
    static const char *const none[] = {
        "",     "cud",   "cuda:",      "cuda:x",     "cuda:-1",     "cuda:12345",
        "CUDA", "cuda/", "cuda/fp32",  "cuda/bf16",  "cuda:1/tf32", "cuda/tf32/fp16",
        "tf32", "/tf32", "cuda/tf32:", "cuda/tf32x", "native/tf32"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        CHECK_IS(dynofa_backend_check(none[i]), DYNOFA_E_ARGUMENT);
    CHECK(strstr(dynofa_error(), "native/tf32 is no backend of this build, expected native") ==
          dynofa_error());
}

/* What needs tensor cores is refused where there are none, and loaded where it is asked for. Still
 * with two devices. */
static void test_precision(life *l) {
    static const char *const names[] = {"cuda", "cuda/tf32", "cuda/fp16"};
    static const char *const own[] = {"dync_pointwise_", "dync_tf32_", "dync_fp16_"};
    for (int i = 0; i < 3; i++) {
        char second[16];
        snprintf(second, sizeof second, "%s:1", names[i]);
        CHECK_OK(dynofa_backend_check(names[i]));
        CHECK_OK(dynofa_backend_check(second));
        setenv("DYNOFA_FAKE_CUDA_SM", "75", 1);
        backend = second;
        dynofa_config config = counted();
        const dynofa_status want = i == 0 ? DYNOFA_OK : DYNOFA_E_DEVICE;
        CHECK_IS(dynofa_backend_check(second), want);
        CHECK_IS(dynofa_model_open(l->path, &config, &l->m), want);
        dynofa_model_free(&l->m);
        if (i == 1)
            CHECK(strstr(dynofa_error(), "CUDA device 1 has compute capability 7.5, tf32 needs "
                                         "tensor cores of 8.0 or newer") != NULL);
        setenv("DYNOFA_FAKE_CUDA_SM", "80", 1);
        backend = names[i];
        config = counted();
        fail_next("cuModuleLoadDataEx:2");
        CHECK_IS(dynofa_model_open(l->path, &config, &l->m), i == 0 ? DYNOFA_OK : DYNOFA_E_DEVICE);
        unsetenv("DYNOFA_FAKE_CUDA_FAIL");
        dynofa_model_free(&l->m);
        CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
        dynofa_model_info info = {.struct_size = sizeof info};
        CHECK_OK(dynofa_model_describe(l->m, &info));
        CHECK(strcmp(info.isa, names[i]) == 0);
        uint32_t kernels = 0, of[3] = {0};
        for (const char *name; (name = dynofa_model_kernel(l->m, kernels)) != NULL; kernels++)
            for (int p = 0; p < 3; p++)
                of[p] += strncmp(name, own[p], strlen(own[p])) == 0;
        for (int p = 0; p < 3; p++)
            CHECK(of[p] == (p == i ? 3 : 0));
        CHECK(kernels == 13);
        dynofa_model_free(&l->m);
    }
    backend = names[0];
    unsetenv("DYNOFA_FAKE_CUDA_SM");
}

/* What gives back may fail without a word, and then the driver keeps what it was given. */
static bool gives_back(const char *entry) {
    return strstr(entry, "Free") != NULL || strstr(entry, "Destroy") != NULL ||
           strstr(entry, "Unload") != NULL || strstr(entry, "Release") != NULL ||
           strstr(entry, "Pop") != NULL;
}

static void test_every_call(life *l) {
    static const char *const entries[] = {
#define NAME(name, entry, parameters) #entry,
        CUDA_CALLS(NAME)
#undef NAME
    };
    int failing = 0, failures = 0;
    for (size_t e = 0; e < sizeof entries / sizeof entries[0]; e++) {
        int at = 1, before_failures = failures;
        for (dynofa_status status = DYNOFA_E_STATE; status != DYNOFA_OK && at < 1000;
             at += 1 + at / 8) {
            char plan[96];
            const char *sentence;
            long before = live(), before_blocks = blocks;
            snprintf(plan, sizeof plan, "%s:%d", entries[e], at);
            fail_next(plan);
            status = live_through(l, &sentence);
            if (status != DYNOFA_OK) {
                failures++;
                if (!expected_failure(status, sentence))
                    printf("%s: %s: %s\n", plan, dynofa_status_name(status), sentence);
                CHECK(expected_failure(status, sentence));
            }
            if (l->s != NULL && status != DYNOFA_OK) {
                /* The session goes on, unless it says that it cannot. */
                dynofa_status again = run(l);
                CHECK(again == DYNOFA_OK ||
                      (again == DYNOFA_E_DEVICE && strstr(sentence, "was lost") != NULL));
            }
            if (strstr(entries[e], "Push") != NULL)
                unsetenv("DYNOFA_FAKE_CUDA_FAIL"); /* without a context nothing can be given back */
            end(l);
            CHECK(blocks == before_blocks);
            if (!gives_back(entries[e]))
                CHECK(live() == before);
        }
        CHECK(at < 1000);
        failing += failures > before_failures;
    }
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    printf("%d failing calls of %d entry points\n", failures, failing);
    CHECK(failing >= 20);
}

/* Calls that take something fail at once: nobody makes them. */
static void test_hot_path(life *l) {
    dynofa_config config = counted();
    dynofa_subnet n = {.struct_size = sizeof n};
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
    long before = block_calls, objects = live();
    fail_next("cuMemAlloc_v2:1,cuMemHostAlloc:1,cuEventCreate:1,cuStreamCreateWithPriority:1,"
              "cuGraphInstantiateWithFlags:1,cuStreamBeginCapture_v2:1,cuModuleLoadDataEx:1,"
              "cuMemcpyHtoD_v2:1,cuDevicePrimaryCtxRetain:1");
    for (uint32_t i = 0; i < 3 * l->info.levels; i++) {
        CHECK_OK(dynofa_session_select(l->s, i % l->info.levels));
        CHECK_OK(dynofa_session_describe(l->s, &l->now));
        CHECK_OK(run(l));
    }
    fail_next("cuLaunchKernel:1,cuMemcpyHtoDAsync_v2:1"); /* a level is one launch */
    CHECK_OK(dynofa_session_select(l->s, 0));
    CHECK_OK(dynofa_session_describe(l->s, &l->now));
    CHECK_OK(run(l));
    fail_next("cuMemcpyHtoDAsync_v2:2"); /* batch normalisations go over once, with configure */
    CHECK_OK(dynofa_session_subnet(l->s, &n));
    CHECK_OK(dynofa_session_configure(l->s, &n, l->norms, l->norm_floats));
    CHECK_IS(run(l), DYNOFA_E_DEVICE);
    CHECK_OK(run(l));
    CHECK(block_calls == before && live() == objects);
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    end(l);
}

/* The launches of a run: the first that a run does without. */
static int launches_of(life *l, size_t count) {
    for (int n = 1; n < 1000; n++) {
        char plan[64];
        snprintf(plan, sizeof plan, "cuLaunchKernel:%d", n);
        fail_next(plan);
        dynofa_status status = run_batch(l, count);
        unsetenv("DYNOFA_FAKE_CUDA_FAIL");
        if (status == DYNOFA_OK)
            return n - 1;
    }
    return -1;
}

/* A pass of several images is issued once, and where it is a whole batch of a level, launched once.
 */
static void test_batches(life *l) {
    dynofa_config config = counted();
    dynofa_subnet n = {.struct_size = sizeof n};
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
    CHECK_OK(dynofa_session_select(l->s, 0));
    CHECK_OK(dynofa_session_describe(l->s, &l->now));
    long before = block_calls, objects = live();
    CHECK(launches_of(l, 1) == 0 && launches_of(l, BATCH) == 0 && launches_of(l, 2 * BATCH) == 0);
    int part = launches_of(l, 2);
    CHECK(part > 5 && launches_of(l, BATCH + 2) == part);
    fail_next("cuGraphLaunch:3,cuMemcpyHtoDAsync_v2:1");
    CHECK_OK(run_batch(l, 2 * BATCH));
    fail_next("cuStreamSynchronize:2"); /* a wait for each pass */
    CHECK_OK(run_batch(l, BATCH));
    CHECK_OK(dynofa_session_subnet(l->s, &n));
    CHECK_OK(dynofa_session_configure(l->s, &n, NULL, 0));
    CHECK(launches_of(l, 1) == part && launches_of(l, BATCH) == part);
    CHECK(launches_of(l, BATCH + 1) == 2 * part);
    CHECK(block_calls == before && live() == objects);
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    end(l);
}

/* The logits of a run of BATCH images with every element of the norms at a value. */
static void run_with(life *l, const dynofa_subnet *n, float value, float *logits) {
    for (size_t i = 0; i < l->norm_floats; i++)
        l->norms[i] = value;
    CHECK_OK(dynofa_session_configure(l->s, n, l->norms, l->norm_floats));
    CHECK_OK(run_batch(l, BATCH));
    memcpy(logits, l->logits, BATCH * l->classes * sizeof *logits);
}

/* What was asked for is launched once, gives the same bits, and serves all batch normalisations of
 * its kind. */
static void test_prepared(life *l) {
    dynofa_config config = counted();
    dynofa_subnet n = {.struct_size = sizeof n};
    const size_t size = BATCH * l->classes * sizeof(float);
    float *plain[3], *again = malloc(size);
    for (int i = 0; i < 3; i++)
        plain[i] = malloc(size);
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
    CHECK_OK(dynofa_model_level(l->m, 0, &n));
    CHECK_OK(dynofa_session_select(l->s, 0));
    CHECK_OK(dynofa_session_describe(l->s, &l->now));
    const size_t floats = BATCH * l->now.image_floats;
    for (size_t i = 0; i < floats; i++)
        l->image[i] = (float)(i % 17) / 8 - 1;
    const int part = launches_of(l, 2);
    long before = block_calls, objects = live();
    CHECK_OK(dynofa_session_prepare(l->s, 1)); /* a level is */
    CHECK_OK(dynofa_session_prepare(l->s, BATCH));
    CHECK(live() == objects);
    CHECK_OK(dynofa_session_prepare(l->s, 2));
    CHECK(launches_of(l, BATCH + 2) == 0 && live() == objects + 1);

    run_with(l, &n, 0.5F, plain[0]);
    run_with(l, &n, 0.25F, plain[1]);
    CHECK(memcmp(plain[0], plain[1], size) != 0);
    CHECK_OK(dynofa_session_configure(l->s, &n, NULL, 0));
    CHECK(launches_of(l, 2) == part && launches_of(l, BATCH) == part); /* is not the level */
    memcpy(plain[2], l->logits, size);
    CHECK_OK(dynofa_session_prepare(l->s, BATCH));
    CHECK(launches_of(l, BATCH) == 0 && launches_of(l, 2) == part && launches_of(l, 1) == part);
    CHECK_OK(run_batch(l, BATCH));
    CHECK(memcmp(plain[2], l->logits, size) == 0);
    CHECK(live() == objects + 2);

    run_with(l, &n, 0.5F, again);
    CHECK(launches_of(l, BATCH) == part); /* nor are the supernet's normalisations */
    CHECK_OK(dynofa_session_prepare(l->s, BATCH));
    CHECK(launches_of(l, BATCH) == 0);
    for (int i = 1; i >= 0; i--) {
        run_with(l, &n, i == 0 ? 0.5F : 0.25F, again);
        CHECK(memcmp(plain[i], again, size) == 0);
        CHECK(launches_of(l, BATCH) == 0);
    }
    CHECK_OK(dynofa_session_configure(l->s, &n, NULL, 0));
    CHECK_OK(run_batch(l, BATCH));
    CHECK(memcmp(plain[2], l->logits, size) == 0);
    CHECK(block_calls == before && live() == objects + 3);

    /* What fails leaves nothing behind, and the session runs on. */
    static const char *const failing[] = {"cuStreamBeginCapture_v2:1", "cuLaunchKernel:2",
                                          "cuStreamEndCapture:1", "cuGraphInstantiateWithFlags:1",
                                          "cuGraphInstantiateWithFlags:1:2"};
    for (int i = 0; i < 5; i++) {
        fail_next(failing[i]);
        CHECK_IS(dynofa_session_prepare(l->s, 2), i < 4 ? DYNOFA_E_DEVICE : DYNOFA_E_MEMORY);
        CHECK(live() == objects + 3);
        CHECK(launches_of(l, 2) == part);
    }
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    CHECK_IS(dynofa_session_prepare(l->s, 0), DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_session_prepare(l->s, BATCH + 1), DYNOFA_E_ARGUMENT);
    CHECK(strcmp(dynofa_session_error(l->s), "prepare: 4 images, expected 1 to 3 (config.batch)") ==
          0);
    end(l);
    CHECK(blocks == 0);
    for (int i = 0; i < 3; i++)
        free(plain[i]);
    free(again);
}

/* A session keeps 32 recordings, those that were used last. */
static void test_kept(life *l) {
    enum { KEPT = 32, MANY = KEPT + 8 };
    dynofa_config config = counted();
    dynofa_subnet n = {.struct_size = sizeof n};
    config.batch = MANY;
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
    CHECK_OK(dynofa_model_level(l->m, 0, &n));
    n.resolution = 1;
    CHECK_OK(dynofa_session_configure(l->s, &n, NULL, 0));
    CHECK_OK(dynofa_session_describe(l->s, &l->now));
    CHECK(MANY * l->now.image_floats <=
          IMAGES * (size_t)l->info.max_resolution * l->info.max_resolution * 3);
    float *logits = l->logits;
    l->logits = malloc(MANY * l->classes * sizeof(float));
    const long before = block_calls, objects = live();
    for (size_t images = 1; images <= MANY; images++) {
        CHECK_OK(dynofa_session_prepare(l->s, images));
        CHECK(live() == objects + (long)size_min(images, KEPT));
        CHECK(launches_of(l, 1) == 0); /* so the first stays */
    }
    for (size_t images = 2; images <= MANY; images++)
        CHECK((launches_of(l, images) == 0) == (images > MANY - KEPT + 1));
    /* One that could not be made leaves no trace of the one that made room. */
    fail_next("cuStreamBeginCapture_v2:1");
    CHECK_IS(dynofa_session_prepare(l->s, 2), DYNOFA_E_DEVICE);
    CHECK(launches_of(l, 2) > 0 && live() == objects + KEPT - 1);
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    CHECK_OK(dynofa_session_prepare(l->s, 2));
    CHECK(block_calls == before && live() == objects + KEPT);
    end(l);
    free(l->logits);
    l->logits = logits;
}

/* A device with exactly as many bytes; the next thing that is made has to be refused by name. */
static size_t refused(life *l, size_t bytes, uint32_t batch, const char *what) {
    dynofa_config config = counted();
    config.batch = batch;
    char limit[32], start[64];
    unsigned long long asked = 0;
    snprintf(limit, sizeof limit, "%zu", bytes);
    setenv("DYNOFA_FAKE_CUDA_MEMORY", limit, 1);
    if (l->m == NULL)
        CHECK_IS(dynofa_model_open(l->path, &config, &l->m), DYNOFA_E_MEMORY);
    else
        CHECK_IS(dynofa_session_new(l->m, &config, &l->s), DYNOFA_E_MEMORY);
    snprintf(start, sizeof start, "no device memory for %s of ", what);
    const char *at = strstr(dynofa_error(), start);
    CHECK(at != NULL && sscanf(at + strlen(start), "%llu bytes: ", &asked) == 1);
    unsetenv("DYNOFA_FAKE_CUDA_MEMORY");
    return (size_t)asked;
}

static void test_memory(life *l) {
    dynofa_config config = counted();
    long before = live();
    size_t weights = refused(l, 100, 1, "the weights");
    CHECK(strstr(dynofa_error(), "100 of 100 are free") != NULL);
    CHECK(refused(l, weights - 1, 1, "the weights") == weights);
    size_t library = refused(l, weights, 1, "the library");
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    static const char *const whats[] = {"a session", "a session with batches of 4",
                                        "a session with batches of 64"};
    static const uint32_t batches[] = {1, 4, 64};
    size_t one = 0;
    for (int i = 0; i < 3; i++) {
        const uint32_t batch = batches[i];
        size_t session = refused(l, weights + library + 1, batch, whats[i]);
        CHECK(refused(l, weights + library + session - 1, batch, whats[i]) == session);
        char enough[32];
        snprintf(enough, sizeof enough, "%zu", weights + library + session);
        setenv("DYNOFA_FAKE_CUDA_MEMORY", enough, 1);
        config.batch = batch;
        CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
        unsetenv("DYNOFA_FAKE_CUDA_MEMORY");
        dynofa_session_free(&l->s);
        one = i == 0 ? session : one;
        CHECK(session <= batch * one && (i == 0 || session > one));
    }
    fail_next("cuMemHostAlloc:1:2");
    CHECK_IS(dynofa_session_new(l->m, &config, &l->s), DYNOFA_E_MEMORY);
    CHECK(strstr(dynofa_error(), "no pinned memory for a session with batches of 64 of ") ==
          dynofa_error());
    unsetenv("DYNOFA_FAKE_CUDA_FAIL");
    end(l);
    CHECK(live() == before && blocks == 0);
    config.affinity = 1;
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_IS(dynofa_session_new(l->m, &config, &l->s), DYNOFA_E_ARGUMENT);
    end(l);
}

static void test_device(life *l) {
    dynofa_config config = counted();
    dynofa_model_info info = {.struct_size = sizeof info};
    config.backend = "cuda:1";
    setenv("DYNOFA_FAKE_CUDA_SM", "90", 1);
    CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
    CHECK_OK(dynofa_model_describe(l->m, &info));
    CHECK(strcmp(info.device, "emulated device 1") == 0);
    CHECK(info.device_driver == 12040 && info.device_capability == 90);
    info = (dynofa_model_info){.struct_size = offsetof(dynofa_model_info, device)};
    CHECK_OK(dynofa_model_describe(l->m, &info)); /* a caller that knows no devices */
    CHECK(info.device == NULL && info.classes == l->classes);
    unsetenv("DYNOFA_FAKE_CUDA_SM");
    end(l);
}

/* In a process of its own: a lost device stays lost. */
static void test_lost(life *l) {
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        test_checks = test_failures = 0;
        dynofa_config config = counted();
        dynofa_session *second = NULL;
        CHECK_OK(dynofa_model_open(l->path, &config, &l->m));
        CHECK_OK(dynofa_session_new(l->m, &config, &l->s));
        CHECK_OK(dynofa_session_select(l->s, 0));
        CHECK_OK(dynofa_session_describe(l->s, &l->now));
        CHECK_OK(run(l));
        setenv("DYNOFA_FAKE_CUDA_LOST", "200", 1); /* of the process, which has run a few */
        dynofa_status status = DYNOFA_OK;
        for (int i = 0; i < 100 && status == DYNOFA_OK; i++)
            status = run(l);
        CHECK_IS(status, DYNOFA_E_DEVICE);
        CHECK(strstr(dynofa_session_error(l->s), "the device was lost: CUDA_ERROR_LAUNCH_FAILED") !=
              NULL);
        CHECK_OK(dynofa_session_select(l->s, 0));
        CHECK_IS(run(l), DYNOFA_E_DEVICE);
        CHECK(strstr(dynofa_session_error(l->s), "was lost in an earlier call") != NULL);
        CHECK_IS(dynofa_session_prepare(l->s, 2), DYNOFA_E_DEVICE);
        CHECK_IS(dynofa_session_new(l->m, &config, &second), DYNOFA_E_DEVICE);
        end(l);
        CHECK(blocks == 0);
        exit(test_failures > 0);
    }
    int status = 1;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: host_test BUNDLE\n");
        return 2;
    }
    test_loading();
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (driver != NULL)
        *(void **)&live = dlsym(driver, "fake_cuda_live");
    if (live == NULL) {
        printf("libcuda.so.1 is not the emulated driver, expected its folder in LD_LIBRARY_PATH\n");
        return 1;
    }
    life l = prepare(argv[1]);
    test_precision(&l);
    test_lost(&l);
    test_device(&l);
    test_memory(&l);
    test_hot_path(&l);
    test_batches(&l);
    test_prepared(&l);
    test_kept(&l);
    test_every_call(&l); /* last: what could not be given back takes memory */
    setenv("DYNOFA_FAKE_CUDA_INTEGRATED", "1", 1);
    backend = "cuda/tf32";
    test_every_call(&l);
    free(l.image);
    free(l.logits);
    free(l.norms);
    dlclose(driver);
    return test_result();
}
