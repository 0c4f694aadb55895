/* OpenVINO through its C API. The Python package brings the library but no C header, so what is
 * used of the API is declared here.
 *
 * One stream, the latency hint, float32 (the default may be bfloat16), no second hardware thread of
 * a core. The static shape is set before compilation. */
#include "worker.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct ov_core ov_core_t;
typedef struct ov_model ov_model_t;
typedef struct ov_compiled_model ov_compiled_model_t;
typedef struct ov_infer_request ov_infer_request_t;
typedef struct ov_tensor ov_tensor_t;
typedef struct {
    int64_t min, max;
} ov_dimension_t;
typedef struct {
    ov_dimension_t rank;
    ov_dimension_t *dims;
} ov_partial_shape_t;
typedef struct {
    const char *build, *description;
} ov_version_t;

int ov_get_openvino_version(ov_version_t *version);
const char *ov_get_last_err_msg(void);
int ov_core_create(ov_core_t **core);
int ov_core_read_model(const ov_core_t *core, const char *path, const char *weights,
                       ov_model_t **model);
int ov_model_reshape_single_input(const ov_model_t *model, ov_partial_shape_t shape);
int ov_core_compile_model(const ov_core_t *core, const ov_model_t *model, const char *device,
                          size_t properties, ov_compiled_model_t **compiled, ...);
int ov_compiled_model_create_infer_request(const ov_compiled_model_t *compiled,
                                           ov_infer_request_t **request);
int ov_infer_request_get_input_tensor(const ov_infer_request_t *request, ov_tensor_t **tensor);
int ov_infer_request_get_output_tensor(const ov_infer_request_t *request, ov_tensor_t **tensor);
int ov_infer_request_infer(ov_infer_request_t *request);
int ov_tensor_get_byte_size(const ov_tensor_t *tensor, size_t *bytes);
int ov_tensor_data(const ov_tensor_t *tensor, void **data);

static const struct worker_job *job;
static ov_infer_request_t *request;
static const void *output;

static void check(int status) {
    if (status != 0) {
        const char *sentence = ov_get_last_err_msg();
        worker_fail("OpenVINO: status %d: %s", status, sentence ? sentence : "");
    }
}

static void *data(const ov_tensor_t *tensor, size_t floats) {
    void *at = NULL;
    size_t bytes = 0;
    check(ov_tensor_get_byte_size(tensor, &bytes));
    check(ov_tensor_data(tensor, &at));
    if (bytes != floats * sizeof(float))
        worker_fail("OpenVINO: a tensor of %zu bytes, expected %zu floats", bytes, floats);
    return at;
}

void engine_load(const struct worker_job *j) {
    ov_core_t *core = NULL;
    ov_model_t *model = NULL;
    ov_compiled_model_t *compiled = NULL;
    ov_tensor_t *in = NULL, *out = NULL;
    ov_dimension_t dims[] = {{1, 1}, {3, 3}, {j->side, j->side}, {j->side, j->side}};
    char threads[16];
    job = j;
    snprintf(threads, sizeof threads, "%d", j->threads);
    check(ov_core_create(&core));
    check(ov_core_read_model(core, j->model, NULL, &model));
    check(ov_model_reshape_single_input(model, (ov_partial_shape_t){{4, 4}, dims}));
    check(ov_core_compile_model(core, model, "CPU", 10, &compiled, /* five names and values */
                                "PERFORMANCE_HINT", "LATENCY", "NUM_STREAMS", "1",
                                "INFERENCE_NUM_THREADS", threads, "INFERENCE_PRECISION_HINT", "f32",
                                "ENABLE_HYPER_THREADING", "NO"));
    check(ov_compiled_model_create_infer_request(compiled, &request));
    check(ov_infer_request_get_input_tensor(request, &in));
    check(ov_infer_request_get_output_tensor(request, &out));
    memcpy(data(in, j->image_floats), j->image, j->image_floats * sizeof(float));
    output = data(out, j->classes);
}

const char *engine_version(void) {
    ov_version_t version = {NULL, NULL};
    return ov_get_openvino_version(&version) == 0 ? version.build : "";
}

void engine_run(void) {
    check(ov_infer_request_infer(request));
    memcpy(job->logits, output, job->classes * sizeof(float));
}
