#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

uint32_t dynofa_version(void) {
    return DYNOFA_VERSION;
}

const char *dynofa_status_name(dynofa_status status) {
    switch (status) {
#define NAME(s)                                                                                    \
    case s:                                                                                        \
        return #s;
        NAME(DYNOFA_OK)
        NAME(DYNOFA_E_ARGUMENT)
        NAME(DYNOFA_E_LEVEL)
        NAME(DYNOFA_E_SUBNET)
        NAME(DYNOFA_E_SIZE)
        NAME(DYNOFA_E_RESOLUTION)
        NAME(DYNOFA_E_STATE)
        NAME(DYNOFA_E_FILE)
        NAME(DYNOFA_E_FORMAT)
        NAME(DYNOFA_E_VERSION)
        NAME(DYNOFA_E_MEMORY)
        NAME(DYNOFA_E_THREAD)
        NAME(DYNOFA_E_DEVICE)
#undef NAME
    }
    return "unknown status";
}

static _Thread_local failure last;

failure *thread_failure(void) {
    return &last;
}

const char *dynofa_error(void) {
    return last.text;
}

dynofa_status fail(failure *f, dynofa_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(f->text, sizeof f->text, format, arguments);
    va_end(arguments);
    return status;
}

void dynofa_config_init(dynofa_config *config) {
    if (config == NULL)
        return;
    memset(config, 0, sizeof *config);
    config->struct_size = sizeof *config;
    config->threads = 1;
    config->batch = 1;
}

enum { MAX_THREADS = 256, MAX_BATCH = 64 };

dynofa_status config_read(dynofa_config *out, const dynofa_config *in, failure *f) {
    dynofa_config_init(out);
    if (in != NULL) {
        if (in->struct_size < 2 * sizeof(uint32_t))
            return fail(f, DYNOFA_E_ARGUMENT,
                        "config.struct_size is %u, expected what dynofa_config_init sets, %zu",
                        (unsigned)in->struct_size, sizeof *in);
        memcpy(out, in, size_min(in->struct_size, sizeof *out));
        out->struct_size = sizeof *out;
    }
    if (out->max_threads == 0)
        out->max_threads = out->threads;
    if (out->threads < 1 || out->threads > MAX_THREADS)
        return fail(f, DYNOFA_E_ARGUMENT, "config.threads is %u, expected 1 to %d",
                    (unsigned)out->threads, MAX_THREADS);
    if (out->max_threads < out->threads || out->max_threads > MAX_THREADS)
        return fail(f, DYNOFA_E_ARGUMENT,
                    "config.max_threads is %u, expected 0 or %u (config.threads) to %d",
                    (unsigned)out->max_threads, (unsigned)out->threads, MAX_THREADS);
    if (out->batch < 1 || out->batch > MAX_BATCH)
        return fail(f, DYNOFA_E_ARGUMENT, "config.batch is %u, expected 1 to %d",
                    (unsigned)out->batch, MAX_BATCH);
    if ((out->allocator.alloc == NULL) != (out->allocator.release == NULL))
        return fail(f, DYNOFA_E_ARGUMENT,
                    "config.allocator has one of alloc and release, expected both or none");
    return DYNOFA_OK;
}
