/* The engine against the oracle: engine_test [--backend NAME] BUNDLE... runs every level and random
 * sub-networks of each bundle, with the supernet's and with given batch normalisation, on 1 to 3
 * threads, one image and several. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "dynofa.h"
#include "oracle.h"
#include "test.h"

/* Two whole batches and a part of one. */
enum { MAX_THREADS = 3, RANDOM_SUBNETS = 6, BATCH = 5, IMAGES = 2 * BATCH + 3 };

/* Largest difference over largest logit: what storing maps as float32 and summing in it may come
 * to. The worst seen, on any instruction set and up to the networks of full width, is 9.4e-7. With
 * factors of 11 bits instead of 24, on tensor cores, it may be 2^13 times that, 7.7e-3. */
static double tolerance = 3e-6;

static uint32_t pick(uint64_t *seed, const uint16_t *value, uint32_t count) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return value[(*seed >> 33) % count];
}

static void fill(float *v, size_t n, uint64_t seed, float centre, float spread) {
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        v[i] = centre + spread * ((float)(seed >> 40) / (float)(1 << 23) - 1);
    }
}

static double worst_of_all;

/* Several images at once against one by one: each is as far from exact arithmetic as the tolerance
 * says, and on this CPU they are equal. */
static void compare_batch(dynofa_session *s, bool device, size_t size, size_t classes) {
    float *images = malloc(IMAGES * size * sizeof *images);
    float *together = malloc(IMAGES * classes * sizeof *together);
    float *alone = malloc(classes * sizeof *alone);
    static const size_t counts[] = {IMAGES, BATCH, BATCH - 1, 2, 1};
    fill(images, IMAGES * size, 71 + size, 0, 2);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        size_t count = counts[c];
        memset(together, 0xff, IMAGES * classes * sizeof *together);
        CHECK_OK(
            dynofa_session_run_batch(s, count, images, count * size, together, count * classes));
        for (size_t i = 0; i < count; i++) {
            double diff = 0, largest = 0;
            CHECK_OK(dynofa_session_run(s, images + i * size, size, alone, classes));
            for (size_t k = 0; k < classes; k++) {
                CHECK(isfinite(together[i * classes + k]));
                diff = fmax(diff, fabs(together[i * classes + k] - (double)alone[k]));
                largest = fmax(largest, fabs((double)alone[k]));
            }
            CHECK(device ? diff <= 2 * tolerance * largest : diff == 0);
        }
        for (size_t k = count * classes; k < IMAGES * classes; k++)
            CHECK(isnan(together[k])); /* nothing is written behind the last */
    }
    free(images);
    free(together);
    free(alone);
}

static void compare(const bundle *b, dynofa_session *s, int level, const float *norms) {
    dynofa_subnet view = {.struct_size = sizeof view};
    CHECK_OK(dynofa_session_subnet(s, &view));
    subnet n = {view.resolution, (uint32_t *)(uintptr_t)view.kernels,
                (uint32_t *)(uintptr_t)view.expands, (uint32_t *)(uintptr_t)view.depths};
    size_t size = (size_t)n.resolution * n.resolution * 3, classes = b->space->classes;
    float *image = malloc(size * sizeof *image), *first = malloc(classes * sizeof *first);
    float *logits = malloc(classes * sizeof *logits);
    double *want = malloc(classes * sizeof *want), diff = 0, largest = 0;
    fill(image, size, 17 + n.resolution, 0, 2);
    oracle_run(b, &n, level, norms, image, want);
    for (uint32_t threads = 1; threads <= MAX_THREADS; threads++) {
        CHECK_OK(dynofa_session_set_threads(s, threads));
        memset(logits, 0xa5, classes * sizeof *logits);
        CHECK_OK(dynofa_session_run(s, image, size, logits, classes));
        if (threads == 1)
            memcpy(first, logits, classes * sizeof *first);
        CHECK(memcmp(first, logits, classes * sizeof *first) == 0);
    }
    for (size_t i = 0; i < classes; i++) {
        CHECK(isfinite(logits[i]));
        diff = fmax(diff, fabs(logits[i] - want[i]));
        largest = fmax(largest, fabs(want[i]));
    }
    worst_of_all = fmax(worst_of_all, diff / largest);
    if (!(diff <= tolerance * largest))
        printf("level %d, r %u: difference %g of %g\n", level, (unsigned)n.resolution, diff,
               largest);
    CHECK(diff <= tolerance * largest);
    free(image);
    free(first);
    free(logits);
    free(want);
}

static size_t image_floats(const dynofa_session *s) {
    dynofa_session_info now = {.struct_size = sizeof now};
    CHECK_OK(dynofa_session_describe(s, &now));
    return now.image_floats;
}

static void check_bundle(const char *path, const char *backend) {
    failure f;
    bytes file = read_file(path);
    bundle b;
    memory mem = {0};
    CHECK_OK(bundle_read(&b, &mem, (source){file.at, -1, file.size}, &f));
    dynofa_model *m = NULL;
    dynofa_session *s = NULL;
    dynofa_config config;
    dynofa_config_init(&config);
    config.max_threads = MAX_THREADS;
    config.batch = BATCH;
    config.backend = backend;
    CHECK_OK(dynofa_model_open(path, &config, &m));
    if (m == NULL) {
        printf("%s\n", dynofa_error());
        return;
    }
    CHECK_OK(dynofa_session_new(m, &config, &s));
    dynofa_model_info info = {.struct_size = sizeof info};
    CHECK_OK(dynofa_model_describe(m, &info));
    for (uint32_t i = 0; i < info.levels; i++) {
        CHECK_OK(dynofa_session_select(s, i));
        compare(&b, s, (int)i, NULL);
        compare_batch(s, backend != NULL, image_floats(s), info.classes);
    }
    const space *sp = b.space;
    uint64_t seed = 99;
    for (int i = 0; i < RANDOM_SUBNETS; i++) {
        uint32_t kernels[MAX_SLOTS], expands[MAX_SLOTS], depths[MAX_STAGES];
        for (uint32_t j = 0; j < sp->slots; j++) {
            kernels[j] = pick(&seed, sp->kernels.value, sp->kernels.count);
            expands[j] = pick(&seed, sp->expands.value, sp->expands.count);
        }
        for (uint32_t j = 0; j < sp->stages; j++)
            depths[j] = pick(&seed, sp->stage[j].depths.value, sp->stage[j].depths.count);
        dynofa_subnet n = {sizeof n,  pick(&seed, sp->resolutions.value, sp->resolutions.count),
                           sp->slots, sp->stages,
                           kernels,   expands,
                           depths};
        CHECK_OK(dynofa_session_configure(s, &n, NULL, 0));
        compare(&b, s, -1, NULL);
        size_t floats;
        CHECK_OK(dynofa_model_norm_floats(m, &n, &floats));
        float *norms = malloc(floats * sizeof *norms);
        fill(norms, floats, seed, 0.4F, 0.3F);
        CHECK_OK(dynofa_session_configure(s, &n, norms, floats));
        compare(&b, s, -1, norms);
        compare_batch(s, backend != NULL, image_floats(s), info.classes);
        CHECK_OK(dynofa_session_prepare(s, 1));
        CHECK_OK(dynofa_session_prepare(s, BATCH));
        compare(&b, s, -1, norms);
        compare_batch(s, backend != NULL, image_floats(s), info.classes);
        free(norms);
    }
    printf("%s on %s: worst relative difference so far %.2e\n", path, info.isa, worst_of_all);
    dynofa_model_free(&m); /* before its session, which may outlive it */
    dynofa_session_free(&s);
    bundle_close(&b);
    free(file.at);
}

/* Large blocks come straight from the system, wherever it has room: giving one back must not take
 * what lies around it. */
static void check_memory(void) {
    enum { BLOCKS = 64, PAGE = 4096 };
    const memory m = {0};
    static char *block[BLOCKS], *neighbour[BLOCKS];
    static size_t size[BLOCKS];
    uint64_t seed = 5;
    for (int i = 0; i < 40 * BLOCKS; i++) {
        int at = i % BLOCKS;
        if (i >= BLOCKS)
            CHECK(msync(neighbour[at], PAGE, MS_ASYNC) == 0); /* still there */
        memory_free(&m, block[at], size[at]);
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size[at] = ((size_t)2 << 20) + (seed >> 33) % 300000;
        block[at] = memory_new(&m, size[at]);
        if (i % 3 == 0)
            munmap(neighbour[at], PAGE);
        if (i < BLOCKS || i % 3 == 0)
            neighbour[at] = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    for (int i = 0; i < BLOCKS; i++) {
        memory_free(&m, block[i], size[i]);
        munmap(neighbour[i], PAGE);
    }
}

int main(int argc, char **argv) {
    check_memory();
    int first = argc > 2 && strcmp(argv[1], "--backend") == 0 ? 3 : 1;
    const bool tensor = first > 1 && strncmp(argv[2], "cuda/", 5) == 0;
    if (tensor)
        tolerance = 1e-2;
    for (int i = first; i < argc; i++)
        check_bundle(argv[i], first > 1 ? argv[2] : NULL);
    CHECK(!tensor || worst_of_all > 1e-5); /* or float32 has answered */
    return test_result();
}
