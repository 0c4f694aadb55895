/* Closes the loop in C: libdynofa runs the levels of a bundle, libdynofa_governor says which, while
 * a second thread takes the CPU away for a while.
 *
 *   ./run.sh                     builds and runs it
 *   govern M.dofa [SECONDS]      what it makes */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dynofa.h"
#include "dynofa_governor.h"

enum { MAX_LEVELS = 64, BURNERS = 4, TIMES = 4096 };

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static atomic_int burning;

static void *burn(void *unused) {
    (void)unused;
    while (atomic_load(&burning)) {
    }
    return NULL;
}

/* A frame: so many images at the session's level; its time in ms, or -1. */
static double frame(dynofa_session *s, const float *image, size_t n, float *logits, size_t classes,
                    int images) {
    double start = now_ms();
    for (int i = 0; i < images; i++)
        if (dynofa_session_run(s, image, n, logits, classes) != DYNOFA_OK)
            return -1;
    return now_ms() - start;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 2)
        return fail("usage", "govern M.dofa [SECONDS]");
    double seconds = argc > 2 ? atof(argv[2]) : 3;
    char why[200];

    dynofa_governor g = 0;
    dynofa_governor_config config = {.struct_size = sizeof config};
    dynofa_model *model = NULL;
    dynofa_session *session = NULL;
    if (dynofa_model_open(argv[1], NULL, &model) != DYNOFA_OK ||
        dynofa_session_new(model, NULL, &session) != DYNOFA_OK)
        return fail(argv[1], dynofa_error());

    /* Profile the levels: the best of a few frames each. The library's levels go from fast to
     * accurate; without an accuracy floor only their order matters. dynofa info shows the bundle's
     * record of their accuracies. */
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_model_describe(model, &info);
    uint32_t count = info.levels;
    if (count == 0 || count > MAX_LEVELS)
        return fail(argv[1], "expected 1 to 64 levels");
    dynofa_governor_level levels[MAX_LEVELS];
    size_t classes = info.classes, sizes[MAX_LEVELS];
    float *image = calloc((size_t)info.max_resolution * info.max_resolution * 3, sizeof *image);
    float *logits = calloc(classes, sizeof *logits);
    if (!image || !logits)
        return fail("memory", "none left");
    const int images = 100;
    for (uint32_t l = 0; l < count; l++) {
        dynofa_session_info now = {.struct_size = sizeof now};
        if (dynofa_session_select(session, l) != DYNOFA_OK)
            return fail("select", dynofa_session_error(session));
        dynofa_session_describe(session, &now);
        sizes[l] = now.image_floats;
        levels[l].accuracy = l;
        levels[l].latency_ms = INFINITY;
        for (int i = 0; i < 10; i++) {
            double took = frame(session, image, sizes[l], logits, classes, images);
            if (took < 0)
                return fail("run", dynofa_session_error(session));
            levels[l].latency_ms = fmin(levels[l].latency_ms, took);
        }
    }

    config.levels = levels;
    config.level_count = count;
    config.deadline_ms = 1.5 * levels[count - 1].latency_ms;
    config.sensors = 1;
    if (dynofa_governor_new(&config, &g, why, sizeof why) != DYNOFA_GOVERNOR_OK)
        return fail("governor", why);

    pthread_t burners[BURNERS];
    int loaded = 0, frames[2] = {0}, late[2] = {0};
    double used[2] = {0}, start = now_ms();
    static double decisions[TIMES];
    int decided = 0;
    for (;;) {
        double at = (now_ms() - start) / 1e3;
        if (at >= seconds)
            break;
        int wanted = at > seconds / 3 && at < seconds * 2 / 3;
        if (wanted != loaded) {
            atomic_store(&burning, wanted);
            for (int i = 0; i < BURNERS; i++)
                if (wanted ? pthread_create(&burners[i], NULL, burn, NULL)
                           : pthread_join(burners[i], NULL))
                    return fail("threads", "cannot be made");
            loaded = wanted;
        }
        double begin = now_ms();
        int32_t level = dynofa_governor_next(g);
        decisions[decided++ % TIMES] = (now_ms() - begin) * 1e3;
        if (level < 0 || dynofa_session_select(session, (uint32_t)level) != DYNOFA_OK)
            return fail("select", dynofa_session_error(session));
        double took = frame(session, image, sizes[level], logits, classes, images);
        if (took < 0)
            return fail("run", dynofa_session_error(session));
        if (dynofa_governor_observe(g, took) != DYNOFA_GOVERNOR_OK)
            return fail("observe", "was refused");
        frames[loaded]++;
        late[loaded] += took > config.deadline_ms;
        used[loaded] += level;
    }
    if (loaded) {
        atomic_store(&burning, 0);
        for (int i = 0; i < BURNERS; i++)
            pthread_join(burners[i], NULL);
    }
    for (int i = 0; i < 2; i++)
        printf("%-9s  %5d frames, %4d late, mean level %.2f of %u\n", i ? "with load" : "alone",
               frames[i], late[i], frames[i] ? used[i] / frames[i] : 0, count - 1);
    int n = decided < TIMES ? decided : TIMES;
    qsort(decisions, (size_t)n, sizeof *decisions, by_value);
    printf("deadline %.2f ms; a decision takes %.2f us (median)\n", config.deadline_ms,
           n ? decisions[n / 2] : 0);
    dynofa_governor_free(&g);
    dynofa_session_free(&session);
    dynofa_model_free(&model);
    free(image);
    free(logits);
    return 0;
}
