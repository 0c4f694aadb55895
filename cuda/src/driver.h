/* NVIDIA's driver: the few of its types and calls that the engine needs, declared here, so that a
 * build needs neither its headers nor its library. Loaded by the first who asks. */
#ifndef DYNOFA_CUDA_DRIVER_H
#define DYNOFA_CUDA_DRIVER_H

#include "internal.h"

typedef int cu_result; /* CUresult; 0 is success */
typedef int cu_device;
typedef unsigned long long cu_pointer; /* CUdeviceptr */
typedef void *cu_handle;               /* context, module, function, stream, event, graph */

enum {
    CU_OUT_OF_MEMORY = 2,
    CU_ATTRIBUTE_INTEGRATED = 18,
    CU_ATTRIBUTE_CAPABILITY_MAJOR = 75,
    CU_ATTRIBUTE_CAPABILITY_MINOR = 76,
    CU_STREAM_NON_BLOCKING = 1,
    CU_CAPTURE_RELAXED = 2,
    CU_HOST_PORTABLE = 1,
    CU_HOST_DEVICE_MAP = 2,
    CU_JIT_ERROR_LOG = 5,
    CU_JIT_ERROR_LOG_BYTES = 6,
};

/* name, entry point of the library, parameters */
#define CUDA_CALLS(CALL)                                                                           \
    CALL(init, cuInit, (unsigned flags))                                                           \
    CALL(version, cuDriverGetVersion, (int *version))                                              \
    CALL(error_name, cuGetErrorName, (cu_result r, const char **text))                             \
    CALL(error_text, cuGetErrorString, (cu_result r, const char **text))                           \
    CALL(device_count, cuDeviceGetCount, (int *count))                                             \
    CALL(device_get, cuDeviceGet, (cu_device * device, int number))                                \
    CALL(device_name, cuDeviceGetName, (char *name, int size, cu_device device))                   \
    CALL(device_attribute, cuDeviceGetAttribute, (int *value, int attribute, cu_device device))    \
    CALL(context_retain, cuDevicePrimaryCtxRetain, (cu_handle * context, cu_device device))        \
    CALL(context_release, cuDevicePrimaryCtxRelease_v2, (cu_device device))                        \
    CALL(context_push, cuCtxPushCurrent_v2, (cu_handle context))                                   \
    CALL(context_pop, cuCtxPopCurrent_v2, (cu_handle * context))                                   \
    CALL(stream_priorities, cuCtxGetStreamPriorityRange, (int *least, int *greatest))              \
    CALL(module_load, cuModuleLoadDataEx,                                                          \
         (cu_handle * module, const void *image, unsigned count, int *options, void **values))     \
    CALL(module_unload, cuModuleUnload, (cu_handle module))                                        \
    CALL(module_function, cuModuleGetFunction,                                                     \
         (cu_handle * function, cu_handle module, const char *name))                               \
    CALL(memory_info, cuMemGetInfo_v2, (size_t *free, size_t *total))                              \
    CALL(memory_alloc, cuMemAlloc_v2, (cu_pointer * at, size_t bytes))                             \
    CALL(memory_free, cuMemFree_v2, (cu_pointer at))                                               \
    CALL(host_alloc, cuMemHostAlloc, (void **at, size_t bytes, unsigned flags))                    \
    CALL(host_free, cuMemFreeHost, (void *at))                                                     \
    CALL(host_pointer, cuMemHostGetDevicePointer_v2,                                               \
         (cu_pointer * device, void *at, unsigned flags))                                          \
    CALL(upload, cuMemcpyHtoD_v2, (cu_pointer to, const void *from, size_t bytes))                 \
    CALL(upload_async, cuMemcpyHtoDAsync_v2,                                                       \
         (cu_pointer to, const void *from, size_t bytes, cu_handle stream))                        \
    CALL(stream_create, cuStreamCreateWithPriority,                                                \
         (cu_handle * stream, unsigned flags, int priority))                                       \
    CALL(stream_destroy, cuStreamDestroy_v2, (cu_handle stream))                                   \
    CALL(stream_wait, cuStreamSynchronize, (cu_handle stream))                                     \
    CALL(capture_begin, cuStreamBeginCapture_v2, (cu_handle stream, int mode))                     \
    CALL(capture_end, cuStreamEndCapture, (cu_handle stream, cu_handle * graph))                   \
    CALL(graph_instantiate, cuGraphInstantiateWithFlags,                                           \
         (cu_handle * executable, cu_handle graph, unsigned long long flags))                      \
    CALL(graph_upload, cuGraphUpload, (cu_handle executable, cu_handle stream))                    \
    CALL(graph_launch, cuGraphLaunch, (cu_handle executable, cu_handle stream))                    \
    CALL(graph_exec_destroy, cuGraphExecDestroy, (cu_handle executable))                           \
    CALL(graph_destroy, cuGraphDestroy, (cu_handle graph))                                         \
    CALL(event_create, cuEventCreate, (cu_handle * event, unsigned flags))                         \
    CALL(event_destroy, cuEventDestroy_v2, (cu_handle event))                                      \
    CALL(event_record, cuEventRecord, (cu_handle event, cu_handle stream))                         \
    CALL(event_elapsed, cuEventElapsedTime, (float *ms, cu_handle from, cu_handle to))             \
    CALL(launch, cuLaunchKernel,                                                                   \
         (cu_handle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, \
          unsigned block_y, unsigned block_z, unsigned shared, cu_handle stream, void **args,      \
          void **extra))

typedef struct cuda_driver {
#define CUDA_FIELD(name, entry, parameters) cu_result(*name) parameters;
    CUDA_CALLS(CUDA_FIELD)
#undef CUDA_FIELD
    int devices, supports; /* supports: a CUDA version as cuDriverGetVersion tells it */
} cuda_driver;

/* The driver, initialised and with at least one device, or NULL and a sentence. What once loaded
 * stays for as long as the program runs; what failed is tried again. Any thread. */
const cuda_driver *dynofa_internal_cuda_driver(failure *f);

/* A sentence about a failed call: DYNOFA_E_MEMORY or DYNOFA_E_DEVICE. */
dynofa_status dynofa_internal_cuda_failed(const cuda_driver *d, failure *f, const char *what,
                                          cu_result result);

/* Gives the caller back the context that it had. */
static inline void cuda_leave(const cuda_driver *d) {
    cu_handle ours;
    (void)d->context_pop(&ours);
}

#define cuda_driver_get dynofa_internal_cuda_driver
#define cuda_failed     dynofa_internal_cuda_failed

/* What a call came to. */
static inline dynofa_status cuda_check(const cuda_driver *d, failure *f, const char *what,
                                       cu_result result) {
    return result == 0 ? DYNOFA_OK : cuda_failed(d, f, what, result);
}

#endif
