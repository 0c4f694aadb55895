/* What the engine has on a device for a model and for a session. */
#ifndef DYNOFA_CUDA_ENGINE_H
#define DYNOFA_CUDA_ENGINE_H

#include "backend.h"
#include "driver.h"
#include "dync.h"

/* A piece of host memory and its copy on the device. */
typedef struct mirror {
    const char *host;
    size_t bytes;
    cu_pointer device;
} mirror;

typedef struct cuda_model {
    const cuda_driver *d;
    cu_device device;
    dync_precision precision;
    /* module[1], with the entries for tensor cores, only where the precision needs them. */
    cu_handle context, module[2], function[DYNC_ENTRIES];
    bool integrated; /* shares its memory with the host */
    int capability;  /* 10 * major + minor */
    char name[256];
    mirror weights, library;
} cuda_model;

/* Makes the model's device the one that this thread talks to, until cuda_leave gives back the one
 * that it had. */
static inline dynofa_status cuda_enter(const cuda_model *m, failure *f) {
    return cuda_check(m->d, f, "using the device", m->d->context_push(m->context));
}

/* The name of the entry point of a kernel. */
const char *dynofa_internal_cuda_entry(dync_entry i);

dynofa_status dynofa_internal_cuda_session_new(dynofa_session *s, const subnet *largest,
                                               failure *f);
void dynofa_internal_cuda_session_free(dynofa_session *s);
dynofa_status dynofa_internal_cuda_upload_given(dynofa_session *s);
dynofa_status dynofa_internal_cuda_prepare(dynofa_session *s, uint32_t images);
dynofa_status dynofa_internal_cuda_run(dynofa_session *s);

/* Device memory, or a sentence with what was asked for and what there is. The context is current.
 */
dynofa_status dynofa_internal_cuda_alloc(const cuda_driver *d, cu_pointer *at, size_t bytes,
                                         const char *what, failure *f);

#define cuda_entry        dynofa_internal_cuda_entry
#define cuda_session_new  dynofa_internal_cuda_session_new
#define cuda_session_free dynofa_internal_cuda_session_free
#define cuda_upload_given dynofa_internal_cuda_upload_given
#define cuda_prepare      dynofa_internal_cuda_prepare
#define cuda_run          dynofa_internal_cuda_run
#define cuda_alloc        dynofa_internal_cuda_alloc

#endif
