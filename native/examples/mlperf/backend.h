/* The C interface of a back-end of the MLPerf Mobile app: the names, types and values that it looks
 * up in a shared object (its headers are flutter/cpp/c/backend_c.h and type.h). Declared here in
 * plain C, because its own headers are C++ only. */
#ifndef DYNOFA_MLPERF_BACKEND_H
#define DYNOFA_MLPERF_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

typedef void *mlperf_backend_ptr_t;

typedef enum { MLPERF_SUCCESS = 0, MLPERF_FAILURE = 1 } mlperf_status_t;

typedef enum {
    MLPERF_FLOAT32 = 0,
    MLPERF_UINT8 = 1,
    MLPERF_INT8 = 2,
    MLPERF_FLOAT16 = 3,
    MLPERF_INT32 = 4,
    MLPERF_INT64 = 5
} mlperf_type_t;

typedef struct {
    mlperf_type_t type;
    int64_t size; /* elements */
} mlperf_data_t;

enum { MLPERF_MAX_CONFIGS = 256 };

typedef struct {
    const char *delegate_selected, *accelerator, *accelerator_desc;
    uint32_t batch_size;
    int count; /* of keys and values */
    const char *keys[MLPERF_MAX_CONFIGS], *values[MLPERF_MAX_CONFIGS];
} mlperf_backend_configuration_t;

typedef struct {
    const char *model, *manufacturer, *native_lib_path;
} mlperf_device_info_t;

#define MLPERF_API __attribute__((visibility("default")))

MLPERF_API bool mlperf_backend_matches_hardware(const char **not_allowed_message,
                                                const char **settings,
                                                const mlperf_device_info_t *device);
MLPERF_API mlperf_backend_ptr_t mlperf_backend_create(const char *model_path,
                                                      mlperf_backend_configuration_t *configs,
                                                      const char *native_lib_path);
MLPERF_API const char *mlperf_backend_vendor_name(mlperf_backend_ptr_t backend);
MLPERF_API const char *mlperf_backend_accelerator_name(mlperf_backend_ptr_t backend);
MLPERF_API const char *mlperf_backend_name(mlperf_backend_ptr_t backend);
MLPERF_API void mlperf_backend_delete(mlperf_backend_ptr_t backend);
MLPERF_API mlperf_status_t mlperf_backend_issue_query(mlperf_backend_ptr_t backend);
MLPERF_API mlperf_status_t mlperf_backend_flush_queries(mlperf_backend_ptr_t backend);
MLPERF_API int32_t mlperf_backend_get_input_count(mlperf_backend_ptr_t backend);
MLPERF_API mlperf_data_t mlperf_backend_get_input_type(mlperf_backend_ptr_t backend, int32_t i);
MLPERF_API mlperf_status_t mlperf_backend_set_input(mlperf_backend_ptr_t backend,
                                                    int32_t batch_index, int32_t i, void *data);
MLPERF_API int32_t mlperf_backend_get_output_count(mlperf_backend_ptr_t backend);
MLPERF_API mlperf_data_t mlperf_backend_get_output_type(mlperf_backend_ptr_t backend, int32_t i);
MLPERF_API mlperf_status_t mlperf_backend_get_output(mlperf_backend_ptr_t backend,
                                                     uint32_t batch_index, int32_t i, void **data);
/* Optional: called on 8-bit images before set_input, in place. */
MLPERF_API void mlperf_backend_convert_inputs(mlperf_backend_ptr_t backend, int bytes, int width,
                                              int height, uint8_t *data);

#endif
