#include "backend.h"

#include <stdlib.h>
#include <string.h>

/* cgo links the packages that a program imports, and native may not import a folder above it. CMake
 * says which it builds: a weak reference takes nothing out of a static library. */
#ifdef DYNOFA_CUDA
#define OPTIONAL extern
#else
#define OPTIONAL __attribute__((weak)) extern
#endif
OPTIONAL const backend dynofa_internal_cuda, dynofa_internal_cuda_tf32, dynofa_internal_cuda_fp16;

static const backend *const backends[] = {&dynofa_internal_cuda, &dynofa_internal_cuda_tf32,
                                          &dynofa_internal_cuda_fp16};

static bool named(const char *name, const backend *b, uint32_t *device) {
    size_t length = strlen(b->name);
    if (strncmp(name, b->name, length) != 0)
        return false;
    name += length;
    *device = 0;
    if (*name == '\0')
        return true;
    const char *digits = "0123456789";
    size_t count = *name == ':' ? strspn(name + 1, digits) : 0;
    *device = count > 0 ? (uint32_t)strtoul(name + 1, NULL, 10) : 0;
    return count > 0 && count <= 4 && name[1 + count] == '\0';
}

dynofa_status backend_find(const char *name, const backend **out, uint32_t *device, failure *f) {
    *out = NULL;
    if (name == NULL || strcmp(name, "native") == 0)
        return DYNOFA_OK;
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (backends[i] != NULL && named(name, backends[i], device)) {
            *out = backends[i];
            return DYNOFA_OK;
        }
    return fail(
        f, DYNOFA_E_ARGUMENT, "%.40s is no backend of this build, expected native%s", name,
        backends[0] != NULL ? ", cuda, cuda/tf32 or cuda/fp16 (cuda:1 for the second device)" : "");
}

const char *engine_name(const dynofa_model *m) {
    return m->backend != NULL ? m->backend->name : m->table.isa;
}

dynofa_status dynofa_backend_check(const char *name) {
    const backend *b;
    uint32_t device;
    failure *f = thread_failure();
    dynofa_status status = backend_find(name, &b, &device, f);
    return status != DYNOFA_OK || b == NULL ? status : b->check(device, f);
}
