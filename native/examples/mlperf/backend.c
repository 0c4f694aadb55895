/* libdynofabackend.so: a bundle as a back-end of the MLPerf Mobile app.
 *
 * The model file is a bundle. Settings: "level" (default: the last, the most accurate), "threads"
 * (default 1). Input 0 is one image [r][r][3] of float32, channels last and preprocessed; output 0
 * is one float32 logit a class. A query is a whole batch: set_input keeps the pointers, which the
 * app owns until the query is done. */
#include "backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dynofa.h"

typedef struct backend {
    dynofa_model *model;
    dynofa_session *session;
    dynofa_model_info info;
    dynofa_session_info now;
    uint32_t batch;
    const float **image; /* [batch], the app's */
    float *logits;       /* [batch][classes] */
    char accelerator[32];
} backend;

bool mlperf_backend_matches_hardware(const char **not_allowed_message, const char **settings,
                                     const mlperf_device_info_t *device) {
    (void)device; /* every CPU has at least the plain C kernels */
    if (not_allowed_message != NULL)
        *not_allowed_message = NULL;
    if (settings != NULL)
        *settings = ""; /* which benchmarks to run is up to who packages the app */
    return true;
}

void mlperf_backend_delete(mlperf_backend_ptr_t backend_ptr) {
    backend *b = backend_ptr;
    if (b == NULL)
        return;
    dynofa_session_free(&b->session);
    dynofa_model_free(&b->model);
    free(b->image);
    free(b->logits);
    free(b);
}

/* A number of the settings; false, with a sentence on stderr, which is the app's log, if it is
 * none.
 */
static bool setting(const mlperf_backend_configuration_t *c, const char *key, uint32_t *value) {
    for (int i = 0; c != NULL && i < c->count && i < MLPERF_MAX_CONFIGS; i++) {
        if (strcmp(c->keys[i], key) != 0)
            continue;
        char *end;
        unsigned long v = strtoul(c->values[i], &end, 10);
        if (c->values[i][0] < '0' || c->values[i][0] > '9' || *end != '\0' || v > UINT32_MAX) {
            fprintf(stderr, "dynofa: setting %s is \"%s\", expected a number\n", key, c->values[i]);
            return false;
        }
        *value = (uint32_t)v;
    }
    return true;
}

mlperf_backend_ptr_t mlperf_backend_create(const char *model_path,
                                           mlperf_backend_configuration_t *configs,
                                           const char *native_lib_path) {
    (void)native_lib_path;
    backend *b = calloc(1, sizeof *b);
    dynofa_config config;
    dynofa_config_init(&config);
    uint32_t level = UINT32_MAX;
    if (b == NULL || !setting(configs, "threads", &config.threads) ||
        !setting(configs, "level", &level)) {
        free(b);
        return NULL;
    }
    b->batch = configs != NULL && configs->batch_size > 1 ? configs->batch_size : 1;
    b->info.struct_size = sizeof b->info;
    b->now.struct_size = sizeof b->now;
    const char *sentence = NULL;
    if (dynofa_model_open(model_path, &config, &b->model) != DYNOFA_OK ||
        dynofa_session_new(b->model, &config, &b->session) != DYNOFA_OK) {
        sentence = dynofa_error();
    } else {
        dynofa_model_describe(b->model, &b->info);
        if (level == UINT32_MAX)
            level = b->info.levels - 1;
        b->image = calloc(b->batch, sizeof *b->image);
        b->logits = calloc((size_t)b->batch * b->info.classes, sizeof *b->logits);
        if (dynofa_session_select(b->session, level) != DYNOFA_OK)
            sentence = dynofa_session_error(b->session);
        else if (b->image == NULL || b->logits == NULL)
            sentence = "no memory for the batch";
    }
    if (sentence != NULL) {
        fprintf(stderr, "dynofa: %s\n", sentence);
        mlperf_backend_delete(b);
        return NULL;
    }
    dynofa_session_describe(b->session, &b->now);
    snprintf(b->accelerator, sizeof b->accelerator, "CPU, native/%s", b->now.isa);
    return b;
}

const char *mlperf_backend_vendor_name(mlperf_backend_ptr_t backend_ptr) {
    (void)backend_ptr;
    return "dynofa";
}

const char *mlperf_backend_accelerator_name(mlperf_backend_ptr_t backend_ptr) {
    return ((const backend *)backend_ptr)->accelerator;
}

const char *mlperf_backend_name(mlperf_backend_ptr_t backend_ptr) {
    (void)backend_ptr;
    return "dynofa";
}

mlperf_status_t mlperf_backend_issue_query(mlperf_backend_ptr_t backend_ptr) {
    backend *b = backend_ptr;
    for (uint32_t i = 0; i < b->batch; i++) {
        float *logits = b->logits + (size_t)i * b->info.classes;
        if (dynofa_session_run(b->session, b->image[i], b->now.image_floats, logits,
                               b->info.classes) != DYNOFA_OK) {
            fprintf(stderr, "dynofa: %s\n", dynofa_session_error(b->session));
            return MLPERF_FAILURE;
        }
    }
    return MLPERF_SUCCESS;
}

/* Queries are done when issue_query returns. */
mlperf_status_t mlperf_backend_flush_queries(mlperf_backend_ptr_t backend_ptr) {
    (void)backend_ptr;
    return MLPERF_SUCCESS;
}

int32_t mlperf_backend_get_input_count(mlperf_backend_ptr_t backend_ptr) {
    (void)backend_ptr;
    return 1;
}

mlperf_data_t mlperf_backend_get_input_type(mlperf_backend_ptr_t backend_ptr, int32_t i) {
    const backend *b = backend_ptr;
    return (mlperf_data_t){MLPERF_FLOAT32, i == 0 ? (int64_t)b->now.image_floats : 0};
}

mlperf_status_t mlperf_backend_set_input(mlperf_backend_ptr_t backend_ptr, int32_t batch_index,
                                         int32_t i, void *data) {
    backend *b = backend_ptr;
    if (i != 0 || batch_index < 0 || (uint32_t)batch_index >= b->batch || data == NULL)
        return MLPERF_FAILURE;
    b->image[batch_index] = data;
    return MLPERF_SUCCESS;
}

int32_t mlperf_backend_get_output_count(mlperf_backend_ptr_t backend_ptr) {
    (void)backend_ptr;
    return 1;
}

mlperf_data_t mlperf_backend_get_output_type(mlperf_backend_ptr_t backend_ptr, int32_t i) {
    const backend *b = backend_ptr;
    return (mlperf_data_t){MLPERF_FLOAT32, i == 0 ? (int64_t)b->info.classes : 0};
}

mlperf_status_t mlperf_backend_get_output(mlperf_backend_ptr_t backend_ptr, uint32_t batch_index,
                                          int32_t i, void **data) {
    backend *b = backend_ptr;
    if (i != 0 || batch_index >= b->batch || data == NULL)
        return MLPERF_FAILURE;
    *data = b->logits + (size_t)batch_index * b->info.classes;
    return MLPERF_SUCCESS;
}

/* Images arrive as float32 already, channels last: nothing to convert. */
void mlperf_backend_convert_inputs(mlperf_backend_ptr_t backend_ptr, int bytes, int width,
                                   int height, uint8_t *data) {
    (void)backend_ptr, (void)bytes, (void)width, (void)height, (void)data;
}
