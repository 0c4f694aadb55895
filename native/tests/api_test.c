/* The interface: statuses, failing and counted allocations, several sessions at once, and bundles
 * that lie. api_test BUNDLE, as tests/fixture writes it: the largest network is level 0. */
#define _DEFAULT_SOURCE /* alarm, fork */

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dynofa.h"
#include "test.h"

/* ---- An allocator that counts and fails on demand ---------------------------------------------*/

typedef struct counter {
    atomic_size_t calls, live, bytes;
    size_t fail_at; /* the call that fails, 0 for none */
} counter;

static void *counted_alloc(void *context, size_t size, size_t align) {
    counter *c = context;
    if (++c->calls == c->fail_at)
        return NULL;
    c->live++;
    c->bytes += size;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void counted_release(void *context, void *memory, size_t size) {
    counter *c = context;
    c->live--;
    c->bytes -= size;
    free(memory);
}

static dynofa_config counted(counter *c) {
    dynofa_config config;
    dynofa_config_init(&config);
    config.allocator = (dynofa_allocator){counted_alloc, counted_release, c};
    return config;
}

static void run_once(dynofa_session *s, float *image, float *logits, size_t classes) {
    dynofa_session_info info = {.struct_size = sizeof info};
    CHECK_OK(dynofa_session_describe(s, &info));
    CHECK_OK(dynofa_session_run(s, image, info.image_floats, logits, classes));
}

static void test_allocations(const bytes *file, float *image, float *logits) {
    counter none = {0};
    dynofa_config config = counted(&none);
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    size_t bytes_said;
    CHECK_OK(dynofa_model_open_memory(file->at, file->size, &config, &m));
    size_t of_open = none.calls, before = none.bytes;
    CHECK_OK(dynofa_session_bytes(m, &config, &bytes_said));
    CHECK_OK(dynofa_session_new(m, &config, &s));
    CHECK(none.bytes - before == bytes_said);
    dynofa_model_info info = {.struct_size = sizeof info};
    CHECK_OK(dynofa_model_describe(m, &info));
    size_t of_all = none.calls;
    dynofa_subnet n = {.struct_size = sizeof n};
    CHECK_OK(dynofa_model_level(m, 0, &n));
    for (uint32_t level = 0; level < info.levels; level++) {
        CHECK_OK(dynofa_session_select(s, level));
        run_once(s, image, logits, info.classes);
        CHECK_OK(dynofa_session_configure(s, &n, NULL, 0));
        run_once(s, image, logits, info.classes);
    }
    CHECK(none.calls == of_all); /* select, configure and run allocate nothing */
    dynofa_session_free(&s);
    dynofa_model_free(&m);
    CHECK(none.live == 0 && none.bytes == 0);

    for (size_t at = 1; at <= of_open; at++) {
        counter c = {.fail_at = at};
        config = counted(&c);
        CHECK_IS(dynofa_model_open_memory(file->at, file->size, &config, &m), DYNOFA_E_MEMORY);
        CHECK(m == NULL && c.live == 0 && c.bytes == 0);
    }
    counter c = {.fail_at = of_open + 1};
    config = counted(&c);
    CHECK_OK(dynofa_model_open_memory(file->at, file->size, &config, &m));
    CHECK_IS(dynofa_session_new(m, &config, &s), DYNOFA_E_MEMORY);
    CHECK(s == NULL);
    dynofa_model_free(&m);
    CHECK(c.live == 0 && c.bytes == 0);
}

/* ---- Statuses ---------------------------------------------------------------------------------*/

static void test_statuses(const bytes *file, float *image, float *logits) {
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    dynofa_config config;
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_session_info now = {.struct_size = sizeof now};
    size_t n;

    CHECK_IS(dynofa_model_open(NULL, NULL, &m), DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_model_open("/nonexistent", NULL, &m), DYNOFA_E_FILE);
    CHECK(strstr(dynofa_error(), "/nonexistent") != NULL);
    CHECK_IS(dynofa_model_open("/", NULL, &m), DYNOFA_E_FILE);
    dynofa_config_init(&config);
    config.isa = "abacus";
    CHECK_IS(dynofa_model_open_memory(file->at, file->size, &config, &m), DYNOFA_E_ARGUMENT);
    CHECK(strstr(dynofa_error(), "config.isa is \"abacus\", expected an instruction set of this "
                                 "build: ref") != NULL);
    dynofa_config_init(&config);
    config.struct_size = 0;
    CHECK_IS(dynofa_model_open_memory(file->at, file->size, &config, &m), DYNOFA_E_ARGUMENT);
    CHECK_OK(dynofa_model_open_memory(file->at, file->size, NULL, &m));
    CHECK_OK(dynofa_model_describe(m, &info));
    CHECK(dynofa_model_kernel(m, 0) != NULL && dynofa_model_kernel(m, 1000) == NULL);

    dynofa_config_init(&config);
    config.threads = 0;
    CHECK_IS(dynofa_session_new(m, &config, &s), DYNOFA_E_ARGUMENT);
    config.threads = 2;
    config.max_threads = 1;
    CHECK_IS(dynofa_session_new(m, &config, &s), DYNOFA_E_ARGUMENT);
    dynofa_config_init(&config);
    CHECK(config.batch == 1);
    config.batch = 0;
    CHECK_IS(dynofa_session_new(m, &config, &s), DYNOFA_E_ARGUMENT);
    CHECK(strcmp(dynofa_error(), "config.batch is 0, expected 1 to 64") == 0);
    config.batch = 65;
    CHECK_IS(dynofa_session_new(m, &config, &s), DYNOFA_E_ARGUMENT);
    config.struct_size = offsetof(dynofa_config, batch); /* of a caller that knows no batch */
    CHECK_OK(dynofa_session_new(m, &config, &s));
    dynofa_session_free(&s);
    dynofa_config_init(&config);
    config.max_resolution = 1;
    config.batch = 2;
    CHECK_OK(dynofa_session_new(m, &config, &s));
    CHECK_IS(dynofa_session_select(s, info.levels - 1), DYNOFA_E_RESOLUTION);
    CHECK_OK(dynofa_session_describe(s, &now));
    CHECK_IS(dynofa_session_prepare(s, 2), now.resolution == 0 ? DYNOFA_E_STATE : DYNOFA_OK);
    CHECK_IS(dynofa_session_prepare(s, 3), DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_session_prepare(NULL, 1), DYNOFA_E_ARGUMENT);
    dynofa_session_free(&s);
    CHECK_OK(dynofa_session_new(m, NULL, &s));

    CHECK_OK(dynofa_session_select(s, 0));
    CHECK_OK(dynofa_session_prepare(s, 1));
    CHECK_IS(dynofa_session_prepare(s, 0), DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_session_select(s, info.levels), DYNOFA_E_LEVEL);
    CHECK(strstr(dynofa_session_error(s), "level") != NULL);
    CHECK_OK(dynofa_session_describe(s, &now));
    CHECK(now.level == 0);
    CHECK_IS(dynofa_session_run(s, image, now.image_floats - 1, logits, info.classes),
             DYNOFA_E_SIZE);
    CHECK_IS(dynofa_session_run(s, image, now.image_floats, logits, info.classes + 1),
             DYNOFA_E_SIZE);
    CHECK_IS(dynofa_session_run(s, NULL, now.image_floats, logits, info.classes),
             DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_session_run(NULL, image, now.image_floats, logits, 1), DYNOFA_E_ARGUMENT);
    CHECK_IS(dynofa_session_set_threads(s, 2), DYNOFA_E_ARGUMENT);

    dynofa_subnet level = {.struct_size = sizeof level};
    CHECK_OK(dynofa_model_level(m, 1, &level));
    CHECK_IS(dynofa_model_level(m, info.levels, &level), DYNOFA_E_LEVEL);
    uint64_t plan = now.plan;
    dynofa_subnet wrong = level;
    wrong.resolution = 0;
    CHECK_IS(dynofa_session_configure(s, &wrong, NULL, 0), DYNOFA_E_SUBNET);
    wrong = level;
    wrong.slots--;
    CHECK_IS(dynofa_session_configure(s, &wrong, NULL, 0), DYNOFA_E_SUBNET);
    CHECK_OK(dynofa_model_norm_floats(m, &level, &n));
    float *norms = calloc(n, sizeof *norms);
    CHECK_IS(dynofa_session_configure(s, &level, norms, n - 1), DYNOFA_E_SIZE);
    norms[n - 1] = (float)(1e30 * 1e30);
    CHECK_IS(dynofa_session_configure(s, &level, norms, n), DYNOFA_E_ARGUMENT);
    free(norms);
    CHECK_OK(dynofa_session_describe(s, &now));
    CHECK(now.plan == plan); /* the old one stays */
    CHECK_OK(dynofa_session_configure(s, &level, NULL, 0));
    CHECK_OK(dynofa_session_describe(s, &now));
    CHECK(now.level == -1 && now.plan != plan && now.resolution == level.resolution);

    dynofa_layer_time times[4];
    size_t parts;
    CHECK_OK(dynofa_session_run_timed(s, image, now.image_floats, logits, info.classes, times, 4,
                                      &parts));
    CHECK(parts > 4 && times[0].kind == DYNOFA_LAYER_STEM);

    /* A batch is its images one by one. */
    float *two = malloc(2 * info.classes * sizeof *two),
          *images = malloc(2 * now.image_floats * sizeof *images);
    for (size_t i = 0; i < 2 * now.image_floats; i++)
        images[i] = (float)(i % 101) / 50 - 1;
    CHECK_OK(dynofa_session_run_batch(s, 2, images, 2 * now.image_floats, two, 2 * info.classes));
    for (size_t i = 0; i < 2; i++) {
        CHECK_OK(dynofa_session_run(s, images + i * now.image_floats, now.image_floats, logits,
                                    info.classes));
        CHECK(memcmp(logits, two + i * info.classes, info.classes * sizeof *two) == 0);
    }
    free(two);
    free(images);
    dynofa_session_free(&s);
    dynofa_session_free(&s);
    dynofa_model_free(&m);
    dynofa_model_free(&m);
    dynofa_model_free(NULL);
    CHECK(strcmp(dynofa_status_name((dynofa_status)7), "unknown status") == 0);
}

/* ---- Sessions at once -------------------------------------------------------------------------*/

typedef struct task {
    dynofa_model *m;
    const float *image, *expected; /* [levels][classes] */
    dynofa_model_info info;
    int failed;
} task;

static void *switch_and_run(void *argument) {
    task *t = argument;
    dynofa_session *s = NULL;
    dynofa_config config;
    dynofa_config_init(&config);
    config.max_threads = 2;
    float *logits = malloc(t->info.classes * sizeof *logits);
    t->failed += dynofa_session_new(t->m, &config, &s) != DYNOFA_OK;
    for (uint32_t i = 0; i < 12 && t->failed == 0; i++) {
        dynofa_session_info now = {.struct_size = sizeof now};
        uint32_t level = i % t->info.levels;
        t->failed += dynofa_session_select(s, level) != DYNOFA_OK;
        t->failed += dynofa_session_set_threads(s, 1 + i % 2) != DYNOFA_OK;
        dynofa_session_describe(s, &now);
        t->failed +=
            dynofa_session_run(s, t->image, now.image_floats, logits, t->info.classes) != DYNOFA_OK;
        t->failed += memcmp(logits, t->expected + level * t->info.classes,
                            t->info.classes * sizeof *logits) != 0;
    }
    dynofa_session_free(&s);
    free(logits);
    return NULL;
}

static void test_sessions(const bytes *file, float *image) {
    enum { TASKS = 3 };
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    dynofa_model_info info = {.struct_size = sizeof info};
    CHECK_OK(dynofa_model_open_memory(file->at, file->size, NULL, &m));
    CHECK_OK(dynofa_model_describe(m, &info));
    CHECK_OK(dynofa_session_new(m, NULL, &s));
    float *expected = malloc(info.levels * info.classes * sizeof *expected);
    for (uint32_t i = 0; i < info.levels; i++) {
        CHECK_OK(dynofa_session_select(s, i));
        run_once(s, image, expected + i * info.classes, info.classes);
    }
    pthread_t thread[TASKS];
    task tasks[TASKS];
    for (int i = 0; i < TASKS; i++) {
        tasks[i] = (task){m, image, expected, info, 0};
        CHECK(pthread_create(&thread[i], NULL, switch_and_run, &tasks[i]) == 0);
    }
    for (int i = 0; i < TASKS; i++) {
        pthread_join(thread[i], NULL);
        CHECK(tasks[i].failed == 0);
    }
    free(expected);
    dynofa_session_free(&s);
    dynofa_model_free(&m);
}

/* The child has the memory of a session and none of its threads. */
static void test_fork(const bytes *file, float *image, float *logits) {
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_config config;
    dynofa_config_init(&config);
    config.threads = 4;
    CHECK_OK(dynofa_model_open_memory(file->at, file->size, NULL, &m));
    CHECK_OK(dynofa_model_describe(m, &info));
    CHECK_OK(dynofa_session_new(m, &config, &s));
    run_once(s, image, logits, info.classes);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        float *again = malloc(info.classes * sizeof *again);
        alarm(60); /* rather than wait for ever */
        run_once(s, image, again, info.classes);
        CHECK(memcmp(again, logits, info.classes * sizeof *again) == 0);
        dynofa_session_free(&s);
        dynofa_model_free(&m);
        _exit(test_result());
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    run_once(s, image, logits, info.classes);
    dynofa_session_free(&s);
    dynofa_model_free(&m);
}

/* ---- Bundles that lie -------------------------------------------------------------------------*/

/* Opens a copy that ends where its allocation does, so that a sanitizer sees a read past it. */
static dynofa_status open_copy(const unsigned char *at, size_t size) {
    dynofa_model *m = NULL;
    unsigned char *copy = malloc(size > 0 ? size : 1);
    memcpy(copy, at, size);
    dynofa_status status = dynofa_model_open_memory(copy, size, NULL, &m);
    free(copy);
    CHECK((status == DYNOFA_OK) == (m != NULL));
    dynofa_model_free(&m);
    return status;
}

static void test_hostile(const bytes *file) {
    uint64_t header;
    memcpy(&header, file->at, sizeof header);
    for (size_t size = 0; size < file->size; size += size < 64 ? 1 : file->size / 40)
        CHECK_IS(open_copy(file->at, size), DYNOFA_E_FORMAT);

    static const struct {
        const char *from, *to;
        dynofa_status status;
        const char *says;
    } edits[] = {
        {"\"F32\"", "\"F16\"", DYNOFA_E_FORMAT, "F32"},
        {"first_conv.bn.bias", "first_conv.bn.bibs", DYNOFA_E_FORMAT, "first_conv.bn"},
        {"library/0/first_conv.bn/scale", "library/9/first_conv.bn/scale", DYNOFA_E_FORMAT,
         "library/0"},
        {"\\\"version\\\":1", "\\\"version\\\":2", DYNOFA_E_VERSION, "version is 2"},
        {"\\\"version\\\":1", "\\\"version\\\":0", DYNOFA_E_FORMAT, "version is 0"},
        {"\\\"h_swish\\\"", "\\\"h_swash\\\"", DYNOFA_E_FORMAT, "h_swash"},
        {"\\\"kernels\\\":[3", "\\\"kernels\\\":[9", DYNOFA_E_FORMAT, "kernels"},
        {"\\\"macs\\\":", "\\\"mbcs\\\":", DYNOFA_E_FORMAT, "macs"},
        {"\"data_offsets\":[", "\"data_offsets\":{", DYNOFA_E_FORMAT, "expected"},
        {"\"dynofa\"", "\"dinofa\"", DYNOFA_E_FORMAT, "metadata"},
    };
    unsigned char *copy = malloc(file->size);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        size_t n = strlen(edits[i].from), at = 0;
        memcpy(copy, file->at, file->size);
        while (at + n < header && memcmp(copy + at, edits[i].from, n) != 0)
            at++;
        if (at + n >= header)
            continue; /* this space has no such thing */
        memcpy(copy + at, edits[i].to, n);
        CHECK_IS(open_copy(copy, file->size), edits[i].status);
        CHECK(strstr(dynofa_error(), edits[i].says) != NULL);
    }
    memcpy(copy, file->at, file->size);
    memset(copy + file->size - 4, 0xff, 4); /* a NaN in the last tensor */
    CHECK_IS(open_copy(copy, file->size), DYNOFA_E_FORMAT);
    CHECK(strstr(dynofa_error(), "finite") != NULL);

    /* Single bytes of the header: whatever comes, no crash. */
    uint64_t seed = 5;
    for (int i = 0; i < 400; i++) {
        memcpy(copy, file->at, file->size);
        for (int j = 0; j < 3; j++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            copy[(seed >> 20) % (header + 8)] = (unsigned char)(seed >> 56);
        }
        open_copy(copy, file->size);
    }
    free(copy);
}

int main(int argc, char **argv) {
    bytes file = argc == 2 ? read_file(argv[1]) : (bytes){NULL, 0};
    if (file.size == 0) {
        fprintf(stderr, "usage: api_test BUNDLE\n");
        return 2;
    }
    static float image[224 * 224 * 3], logits[1000];
    for (size_t i = 0; i < sizeof image / sizeof image[0]; i++)
        image[i] = (float)(i % 41) / 20 - 1;
    test_statuses(&file, image, logits);
    test_allocations(&file, image, logits);
    test_sessions(&file, image);
    test_fork(&file, image, logits);
    test_hostile(&file);
    free(file.at);
    return test_result();
}
