/* dynofa itself, through its public C API. */
#include "worker.h"

#include <stdio.h>

#include "dynofa.h"

static const struct worker_job *job;
static dynofa_session *session;

void engine_load(const struct worker_job *j) {
    dynofa_model *model = NULL;
    dynofa_config config;
    dynofa_config_init(&config);
    config.threads = (uint32_t)j->threads;
    job = j;
    if (dynofa_model_open(j->model, &config, &model) != DYNOFA_OK ||
        dynofa_session_new(model, &config, &session) != DYNOFA_OK)
        worker_fail("%s", dynofa_error());
    if (dynofa_session_select(session, (uint32_t)j->level) != DYNOFA_OK)
        worker_fail("%s", dynofa_session_error(session));
    dynofa_model_free(&model); /* the session keeps what it needs */
}

const char *engine_version(void) {
    static char text[64];
    dynofa_session_info info = {.struct_size = sizeof info};
    dynofa_session_describe(session, &info);
    snprintf(text, sizeof text, "%d.%d.%d native/%s", DYNOFA_VERSION_MAJOR, DYNOFA_VERSION_MINOR,
             DYNOFA_VERSION_PATCH, info.isa ? info.isa : "?");
    return text;
}

void engine_run(void) {
    if (dynofa_session_run(session, job->image, job->image_floats, job->logits, job->classes) !=
        DYNOFA_OK)
        worker_fail("%s", dynofa_session_error(session));
}
