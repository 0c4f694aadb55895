/* The list of kernels, from cuda.inc. */
#include <stddef.h>

#include "dync.h"
#include "emulator.h"

/* Arguments begin with their pointers: what comes first behind them. */
enum {
    pointers_of_stem = offsetof(dync_stem_args, n) / sizeof(void *),
    pointers_of_pointwise = offsetof(dync_pointwise_args, pixels) / sizeof(void *),
    pointers_of_depthwise = offsetof(dync_depthwise_args, n) / sizeof(void *),
    pointers_of_average = offsetof(dync_average_args, n) / sizeof(void *),
    pointers_of_dense = offsetof(dync_dense_args, n) / sizeof(void *),
};

#define DYNC_KERNEL(op, name, precision)                                                           \
    void dync_##name(dync_##op##_args a);                                                          \
    static void call_##name(const void *args) {                                                    \
        dync_##name(*(const dync_##op##_args *)args);                                              \
    }
#include "cuda.inc"
#undef DYNC_KERNEL

static const emulator_kernel kernels[] = {
#define DYNC_KERNEL(op, name, precision)                                                           \
    {"dync_" #name, call_##name, sizeof(dync_##op##_args), pointers_of_##op},
#include "cuda.inc"
#undef DYNC_KERNEL
};

const emulator_kernel *emulator_kernel_at(size_t i) {
    return i < DYNC_ENTRIES ? &kernels[i] : NULL;
}
