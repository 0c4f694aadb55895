/* A model on a device: the kernels, and one copy of what native has packed. */
#include <stdio.h>

#include "engine.h"

/* The kernels as the driver compiles them for its device. */
#define EMBED(symbol, file)                                                                        \
    __asm__(".section .rodata\n"                                                                   \
            ".balign 16\n"                                                                         \
            ".local " symbol "\n" symbol ":\n"                                                     \
            ".incbin \"" file "\"\n"                                                               \
            ".byte 0\n"                                                                            \
            ".text\n")
EMBED("dynofa_internal_cuda_ptx", "dync.ptx");
EMBED("dynofa_internal_cuda_ptx_sm80", "dync_sm80.ptx");
extern const char ptx[] __asm__("dynofa_internal_cuda_ptx");
extern const char ptx_sm80[] __asm__("dynofa_internal_cuda_ptx_sm80");

static const struct {
    const char *name;
    dync_precision precision; /* of the models that call it */
} entries[DYNC_ENTRIES] = {
#define DYNC_KERNEL(op, name, precision) {"dync_" #name, DYNC_##precision},
#include "cuda.inc"
#undef DYNC_KERNEL
};

const char *cuda_entry(dync_entry i) {
    return entries[i].name;
}

static bool calls(dync_precision precision, uint32_t i) {
    return entries[i].precision == DYNC_ALL || entries[i].precision == precision;
}

static const char *nth_called(dync_precision precision, uint32_t n) {
    for (uint32_t i = 0; i < DYNC_ENTRIES; i++)
        if (calls(precision, i) && n-- == 0)
            return entries[i].name;
    return NULL;
}

dynofa_status cuda_alloc(const cuda_driver *d, cu_pointer *at, size_t bytes, const char *what,
                         failure *f) {
    cu_result r = d->memory_alloc(at, bytes);
    if (r == 0)
        return DYNOFA_OK;
    *at = 0;
    size_t available = 0, total = 0;
    if (r != CU_OUT_OF_MEMORY || d->memory_info(&available, &total) != 0)
        return cuda_failed(d, f, what, r);
    return fail(f, DYNOFA_E_MEMORY, "no device memory for %s of %zu bytes: %zu of %zu are free",
                what, bytes, available, total);
}

static dynofa_status find_device(const cuda_driver *d, uint32_t number, cu_device *device,
                                 failure *f) {
    if (number >= (uint32_t)d->devices)
        return fail(f, DYNOFA_E_DEVICE, "no CUDA device %u, expected 0 to %d", (unsigned)number,
                    d->devices - 1);
    return cuda_check(d, f, "finding the device", d->device_get(device, (int)number));
}

/* Whether the device has tensor cores that the precision needs. */
static dynofa_status check_precision(const cuda_driver *d, uint32_t number, cu_device device,
                                     dync_precision precision, failure *f) {
    enum { LEAST = 8 };
    int major = 0, minor = 0;
    if (precision == DYNC_FP32)
        return DYNOFA_OK;
    cu_result r = d->device_attribute(&major, CU_ATTRIBUTE_CAPABILITY_MAJOR, device);
    if (r == 0)
        r = d->device_attribute(&minor, CU_ATTRIBUTE_CAPABILITY_MINOR, device);
    if (r != 0)
        return cuda_failed(d, f, "asking the device", r);
    if (major < LEAST)
        return fail(f, DYNOFA_E_DEVICE,
                    "CUDA device %u has compute capability %d.%d, %s needs tensor cores of %d.0 or "
                    "newer",
                    (unsigned)number, major, minor, precision == DYNC_TF32 ? "tf32" : "fp16",
                    LEAST);
    return DYNOFA_OK;
}

static dynofa_status check(uint32_t number, dync_precision precision, failure *f) {
    const cuda_driver *d = cuda_driver_get(f);
    cu_device device;
    if (d == NULL)
        return DYNOFA_E_DEVICE;
    dynofa_status status = find_device(d, number, &device, f);
    return status != DYNOFA_OK ? status : check_precision(d, number, device, precision, f);
}

static dynofa_status load_module(cuda_model *c, cu_handle *module, const char *text, failure *f) {
    char log[200] = "";
    int options[] = {CU_JIT_ERROR_LOG, CU_JIT_ERROR_LOG_BYTES};
    void *values[] = {log, (void *)sizeof log};
    cu_result r = c->d->module_load(module, text, 2, options, values);
    if (r == 0)
        return DYNOFA_OK;
    *module = NULL;
    char what[sizeof log + 40];
    snprintf(what, sizeof what, "compiling the kernels (%.90s)", log);
    return cuda_failed(c->d, f, what, r);
}

static dynofa_status load_kernels(cuda_model *c, failure *f) {
    dynofa_status status = load_module(c, &c->module[0], ptx, f);
    if (status == DYNOFA_OK && c->precision != DYNC_FP32)
        status = load_module(c, &c->module[1], ptx_sm80, f);
    for (uint32_t i = 0; i < DYNC_ENTRIES && status == DYNOFA_OK; i++) {
        if (!calls(c->precision, i))
            continue;
        const bool tensor = entries[i].precision == DYNC_TF32 || entries[i].precision == DYNC_FP16;
        cu_result r = c->d->module_function(&c->function[i], c->module[tensor], entries[i].name);
        if (r != 0)
            status = cuda_failed(c->d, f, entries[i].name, r);
    }
    return status;
}

static dynofa_status copy(cuda_model *c, mirror *to, const void *from, size_t bytes,
                          const char *what, failure *f) {
    if (bytes == 0)
        return DYNOFA_OK;
    dynofa_status status = cuda_alloc(c->d, &to->device, bytes, what, f);
    if (status != DYNOFA_OK)
        return status;
    to->host = from;
    to->bytes = bytes;
    return cuda_check(c->d, f, what, c->d->upload(to->device, from, bytes));
}

static dynofa_status fill(dynofa_model *m, cuda_model *c, failure *f) {
    dynofa_status status = load_kernels(c, f);
    if (status == DYNOFA_OK)
        status = copy(c, &c->weights, m->weights, m->weights_bytes, "the weights", f);
    if (status == DYNOFA_OK)
        status = copy(c, &c->library, m->library, m->library_bytes, "the library", f);
    /* The host's pages have been read, but may be on their way yet: sessions have streams that do
     * not wait for the default one, which copies. */
    if (status == DYNOFA_OK)
        status = cuda_check(c->d, f, "copying the model", c->d->stream_wait(NULL));
    return status;
}

static cu_result ask_device(cuda_model *c) {
    const cuda_driver *d = c->d;
    int integrated = 0, major = 0, minor = 0;
    cu_result r = d->device_attribute(&integrated, CU_ATTRIBUTE_INTEGRATED, c->device);
    if (r == 0)
        r = d->device_attribute(&major, CU_ATTRIBUTE_CAPABILITY_MAJOR, c->device);
    if (r == 0)
        r = d->device_attribute(&minor, CU_ATTRIBUTE_CAPABILITY_MINOR, c->device);
    if (r == 0)
        r = d->device_name(c->name, sizeof c->name, c->device);
    c->integrated = integrated != 0;
    c->capability = 10 * major + minor;
    return r;
}

static void describe(const dynofa_model *m, dynofa_model_info *info) {
    const cuda_model *c = m->remote;
    info->device = c->name;
    info->device_driver = (uint32_t)c->d->supports;
    info->device_capability = (uint32_t)c->capability;
}

static dynofa_status open(dynofa_model *m, uint32_t number, dync_precision precision, failure *f) {
    const cuda_driver *d = cuda_driver_get(f);
    if (d == NULL)
        return DYNOFA_E_DEVICE;
    cuda_model *c = memory_zeroed(&m->mem, sizeof *c);
    if (c == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for a model on a device, %zu bytes", sizeof *c);
    m->remote = c;
    c->d = d;
    c->precision = precision;
    dynofa_status status = find_device(d, number, &c->device, f);
    if (status == DYNOFA_OK)
        status = check_precision(d, number, c->device, precision, f);
    if (status != DYNOFA_OK)
        return status;
    status = cuda_check(d, f, "asking the device", ask_device(c));
    if (status != DYNOFA_OK)
        return status;
    cu_result r;
    if ((r = d->context_retain(&c->context, c->device)) != 0) {
        c->context = NULL;
        return cuda_failed(d, f, "taking the device", r);
    }
    status = cuda_enter(c, f);
    if (status != DYNOFA_OK)
        return status;
    status = fill(m, c, f);
    cuda_leave(d);
    return status;
}

/* What fails here has failed before: of a device that is lost nothing is left to give back. */
static void close(dynofa_model *m) {
    cuda_model *c = m->remote;
    const cuda_driver *d = c->d;
    if (c->context != NULL && d->context_push(c->context) == 0) {
        if (c->library.device != 0)
            d->memory_free(c->library.device);
        if (c->weights.device != 0)
            d->memory_free(c->weights.device);
        for (int i = 0; i < 2; i++)
            if (c->module[i] != NULL)
                d->module_unload(c->module[i]);
        cuda_leave(d);
    }
    if (c->context != NULL)
        d->context_release(c->device);
    memory_free(&m->mem, c, sizeof *c);
}

/* A backend for each precision. */
#define BACKEND(of, text, value)                                                                   \
    static dynofa_status check_##value(uint32_t number, failure *f) {                              \
        return check(number, DYNC_##value, f);                                                     \
    }                                                                                              \
    static dynofa_status open_##value(dynofa_model *m, uint32_t number, failure *f) {              \
        return open(m, number, DYNC_##value, f);                                                   \
    }                                                                                              \
    static const char *kernel_##value(uint32_t i) {                                                \
        return nth_called(DYNC_##value, i);                                                        \
    }                                                                                              \
    extern const backend of;                                                                       \
    const backend of = {                                                                           \
        .name = text,                                                                              \
        .check = check_##value,                                                                    \
        .open = open_##value,                                                                      \
        .close = close,                                                                            \
        .kernel = kernel_##value,                                                                  \
        .describe = describe,                                                                      \
        .session_new = cuda_session_new,                                                           \
        .session_free = cuda_session_free,                                                         \
        .upload_given = cuda_upload_given,                                                         \
        .prepare = cuda_prepare,                                                                   \
        .run = cuda_run,                                                                           \
    };
BACKEND(dynofa_internal_cuda, "cuda", FP32)
BACKEND(dynofa_internal_cuda_tf32, "cuda/tf32", TF32)
BACKEND(dynofa_internal_cuda_fp16, "cuda/fp16", FP16)
