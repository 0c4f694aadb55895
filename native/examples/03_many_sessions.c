/* Several threads share one model, each with its own session and level: 03_many_sessions BUNDLE */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "dynofa.h"

enum { THREADS = 4, RUNS = 10 };

typedef struct job {
    dynofa_model *model;
    uint32_t level;
    char says[160];
} job;

/* A model is read-only, so there is nothing to lock; a session belongs to the thread that made it.
 */
static void *work(void *argument) {
    job *j = argument;
    dynofa_session *session = NULL;
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_session_info now = {.struct_size = sizeof now};
    dynofa_model_describe(j->model, &info);
    dynofa_status status = dynofa_session_new(j->model, NULL, &session);
    if (status == DYNOFA_OK)
        status = dynofa_session_select(session, j->level);
    if (status == DYNOFA_OK)
        status = dynofa_session_describe(session, &now);
    float *image = calloc(now.image_floats + 1, sizeof *image);
    float *logits = calloc(info.classes, sizeof *logits);
    if (image == NULL || logits == NULL)
        status = DYNOFA_E_MEMORY;
    for (int i = 0; i < RUNS && status == DYNOFA_OK; i++)
        status = dynofa_session_run(session, image, now.image_floats, logits, info.classes);
    if (status == DYNOFA_OK)
        snprintf(j->says, sizeof j->says, "level %u: %d runs of %.1f M multiply-adds in %.1f MB",
                 (unsigned)j->level, RUNS, (double)now.macs / 1e6, (double)now.bytes / 1e6);
    else
        snprintf(j->says, sizeof j->says, "level %u: %s", (unsigned)j->level,
                 dynofa_status_name(status));
    free(image);
    free(logits);
    dynofa_session_free(&session);
    return status == DYNOFA_OK ? NULL : j;
}

int main(int argc, char **argv) {
    dynofa_model *model = NULL;
    if (argc != 2 || dynofa_model_open(argv[1], NULL, &model) != DYNOFA_OK) {
        fprintf(stderr, "03_many_sessions: %s\n",
                argc != 2 ? "usage: 03_many_sessions BUNDLE" : dynofa_error());
        return 2;
    }
    dynofa_model_info info = {.struct_size = sizeof info};
    dynofa_model_describe(model, &info);
    pthread_t thread[THREADS];
    job jobs[THREADS];
    int started = 0, failed = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        jobs[i] = (job){.model = model, .level = info.levels > 0 ? i % info.levels : 0};
        if (pthread_create(&thread[i], NULL, work, &jobs[i]) != 0)
            break;
        started++;
    }
    for (int i = 0; i < started; i++) {
        void *unhappy;
        pthread_join(thread[i], &unhappy);
        puts(jobs[i].says);
        failed += unhappy != NULL;
    }
    printf("one model: %.1f MB of weights, %.3f MB of levels\n", (double)info.supernet_bytes / 1e6,
           (double)info.library_bytes / 1e6);
    dynofa_model_free(&model);
    return failed > 0 || started < THREADS;
}
