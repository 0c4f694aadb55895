/* ONNX Runtime through its C API: all graph optimisations, its own defaults for spinning, tensors
 * made once over our buffers. */
#include "worker.h"

#include "onnxruntime_c_api.h"

static const OrtApi *api;
static OrtSession *session;
static OrtValue *image, *logits;

static void check(OrtStatus *status) {
    if (status)
        worker_fail("%s", api->GetErrorMessage(status));
}

void engine_load(const struct worker_job *job) {
    OrtEnv *env = NULL;
    OrtSessionOptions *options = NULL;
    OrtMemoryInfo *memory = NULL;
    const int64_t in[] = {1, 3, job->side, job->side}, out[] = {1, (int64_t)job->classes};
    api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!api)
        worker_fail("ONNX Runtime %s is older than its header, API %d",
                    OrtGetApiBase()->GetVersionString(), ORT_API_VERSION);
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "peers", &env));
    check(api->CreateSessionOptions(&options));
    check(api->SetSessionGraphOptimizationLevel(options, ORT_ENABLE_ALL));
    check(api->SetIntraOpNumThreads(options, job->threads));
    check(api->SetInterOpNumThreads(options, 1));
    check(api->AddFreeDimensionOverrideByName(options, "n", 1));
    check(api->CreateSession(env, job->model, options, &session));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(api->CreateTensorWithDataAsOrtValue(memory, (float *)job->image,
                                              job->image_floats * sizeof(float), in, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &image));
    check(api->CreateTensorWithDataAsOrtValue(memory, job->logits, job->classes * sizeof(float),
                                              out, 2, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                              &logits));
}

const char *engine_version(void) {
    return OrtGetApiBase()->GetVersionString();
}

void engine_run(void) {
    static const char *const in[] = {"image"}, *const out[] = {"logits"};
    check(api->Run(session, NULL, in, (const OrtValue *const *)&image, 1, out, 1, &logits));
}
