/* What an engine on a device does for models and sessions. It executes the same plans, on a copy of
 * the same packed weights. It lives in a folder above this one, and a build may come without it. */
#ifndef DYNOFA_BACKEND_H
#define DYNOFA_BACKEND_H

#include "session.h"

typedef struct backend {
    const char *name;
    /* Whether the device of that number can be used. */
    dynofa_status (*check)(uint32_t device, failure *f);
    /* Sets m->remote, also where it fails after taking something; close gives that back. */
    dynofa_status (*open)(dynofa_model *m, uint32_t device, failure *f);
    void (*close)(dynofa_model *m);
    const char *(*kernel)(uint32_t i);
    /* Fills in what info says of the device. */
    void (*describe)(const dynofa_model *m, dynofa_model_info *info);
    /* On failure the session has nothing of the backend. */
    dynofa_status (*session_new)(dynofa_session *s, const subnet *largest, failure *f);
    void (*session_free)(dynofa_session *s);
    /* s->given_block has changed. */
    dynofa_status (*upload_given)(dynofa_session *s);
    /* Makes the following runs of s->plan for so many images, at most s->batch, fast. */
    dynofa_status (*prepare)(dynofa_session *s, uint32_t images);
    /* Executes s->plan, of s->level if that is not negative, for s->images images at s->image, at
     * most s->batch. */
    dynofa_status (*run)(dynofa_session *s);
} backend;

/* config.backend as backend and number of a device; NULL for this CPU. */
dynofa_status backend_find(const char *name, const backend **out, uint32_t *device, failure *f);

/* What describe calls the instruction set. */
const char *engine_name(const dynofa_model *m);

#endif
