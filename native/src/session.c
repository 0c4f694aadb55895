#include "session.h"

#include <math.h>
#include <string.h>

#include "backend.h"

typedef struct norm_places {
    carver *c;
    affine *norm;
} norm_places;

static void place_norm(void *to, uint32_t number, uint32_t channels) {
    norm_places *p = to;
    affine a = {carve(p->c, channels), NULL};
    a.shift = carve(p->c, channels);
    if (p->c->base != NULL)
        p->norm[number] = a;
}

/* The session itself comes first in its block. Without a base the pointers of *s mean nothing. */
static void carve_all(carver *c, dynofa_session *s, const subnet *largest) {
    const dynofa_model *m = s->model;
    carve(c, ceil_div(sizeof *s, sizeof(float)));
    for (int i = 0; i < 2; i++)
        plan_carve(&m->space, c, &s->configured[i]);
    s->given = (void *)carve(c, ceil_div(m->norms * sizeof *s->given, sizeof(float)));
    s->order = (void *)carve(c, ceil_div(m->norms * sizeof *s->order, sizeof(float)));
    const size_t before = c->used;
    norm_places places = {c, s->given};
    norms_visit(&m->space, largest, place_norm, &places);
    s->given_block = c->base == NULL ? NULL : c->base + before;
    s->given_floats = c->used - before;
    if (m->backend != NULL)
        return; /* has its arena on the device */
    s->lane = (void *)carve(c, ceil_div(s->max_threads * sizeof *s->lane, sizeof(float)));
    s->pool.worker =
        (void *)carve(c, ceil_div(s->max_threads * sizeof *s->pool.worker, sizeof(float)));
    session_carve(c, s, largest);
}

/* Checks the config and fills in what carving needs. */
static dynofa_status prepare(dynofa_session *s, const dynofa_model *model,
                             const dynofa_config *config, dynofa_config *settings, failure *f) {
    dynofa_status status = config_read(settings, config, f);
    if (status != DYNOFA_OK)
        return status;
    if (settings->max_resolution == 0)
        settings->max_resolution = model->space.max_resolution;
    if (settings->max_resolution > MAX_RESOLUTION)
        return fail(f, DYNOFA_E_ARGUMENT, "config.max_resolution is %u, expected 0 to %d",
                    (unsigned)settings->max_resolution, MAX_RESOLUTION);
    if (model->backend != NULL && settings->affinity != 0)
        return fail(f, DYNOFA_E_ARGUMENT, "config.affinity with backend %s, expected 0",
                    model->backend->name);
    memset(s, 0, sizeof *s);
    s->model = (dynofa_model *)(uintptr_t)model;
    s->mem.user = settings->allocator;
    s->max_resolution = settings->max_resolution;
    s->max_threads = settings->max_threads;
    s->threads = settings->threads;
    s->batch = settings->batch;
    s->level = -1;
    return DYNOFA_OK;
}

static bool count_bytes(dynofa_session *s) {
    /* 8.25 KiB of stack: room for the largest legal space. */
    uint32_t kernels[MAX_SLOTS], expands[MAX_SLOTS], depths[MAX_STAGES];
    subnet largest = {0, kernels, expands, depths};
    carver count = {0};
    space_largest(&s->model->space, s->max_resolution, &largest);
    carve_all(&count, s, &largest);
    s->bytes = count.used * sizeof(float);
    return !count.overflow;
}

dynofa_status dynofa_session_bytes(const dynofa_model *model, const dynofa_config *config,
                                   size_t *bytes) {
    failure *f = thread_failure();
    dynofa_session s;
    dynofa_config settings;
    if (model == NULL || bytes == NULL)
        return fail(f, DYNOFA_E_ARGUMENT, "session bytes: model or bytes is NULL");
    dynofa_status status = prepare(&s, model, config, &settings, f);
    if (status != DYNOFA_OK)
        return status;
    *bytes = count_bytes(&s) ? s.bytes : SIZE_MAX;
    return DYNOFA_OK;
}

dynofa_status dynofa_session_new(dynofa_model *model, const dynofa_config *config,
                                 dynofa_session **session) {
    failure *f = thread_failure();
    dynofa_session plain, *s;
    dynofa_config settings;
    if (session != NULL)
        *session = NULL;
    if (model == NULL || session == NULL)
        return fail(f, DYNOFA_E_ARGUMENT, "session: model or session is NULL");
    dynofa_status status = prepare(&plain, model, config, &settings, f);
    if (status != DYNOFA_OK)
        return status;
    if (!count_bytes(&plain) || (s = memory_new(&plain.mem, plain.bytes)) == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for a session of %zu bytes", plain.bytes);
    memset(s, 0, plain.bytes); /* touches every page, so that no run has to */
    *s = plain;
    uint32_t kernels[MAX_SLOTS], expands[MAX_SLOTS], depths[MAX_STAGES];
    subnet largest = {0, kernels, expands, depths};
    carver c = {.base = (float *)(void *)s};
    space_largest(&model->space, s->max_resolution, &largest);
    carve_all(&c, s, &largest);
    atomic_flag_clear(&s->busy);
    if (model->backend != NULL)
        status = model->backend->session_new(s, &largest, f);
    else
        status = pool_start(&s->pool, s->max_threads, settings.affinity, f);
    if (status != DYNOFA_OK) {
        memory_free(&plain.mem, s, plain.bytes);
        return status;
    }
    if (model->backend == NULL)
        pool_set_threads(&s->pool, s->threads);
    model_hold(model);
    for (uint32_t i = 0; i < model->levels; i++)
        if (model->level[i].n.resolution <= s->max_resolution) {
            s->plan = &model->level[i];
            s->level = (int32_t)i;
        }
    *session = s;
    return DYNOFA_OK;
}

void dynofa_session_free(dynofa_session **session) {
    if (session == NULL || *session == NULL)
        return;
    dynofa_session *s = *session;
    memory mem = s->mem;
    *session = NULL;
    if (s->model->backend != NULL)
        s->model->backend->session_free(s);
    else
        pool_stop(&s->pool);
    model_release(s->model);
    memory_free(&mem, s, s->bytes);
}

const char *dynofa_session_error(const dynofa_session *session) {
    return session == NULL ? thread_failure()->text : session->error.text;
}

static dynofa_status no_session(const char *call) {
    return fail(thread_failure(), DYNOFA_E_ARGUMENT, "%s: session is NULL", call);
}

/* Marks the session as in use. The sentence of a refusal goes to the thread: the session's is the
 * other thread's. */
static bool enter(dynofa_session *s) {
    if (!atomic_flag_test_and_set_explicit(&s->busy, memory_order_acquire))
        return true;
    fail(thread_failure(), DYNOFA_E_STATE,
         "the session is in use by another thread, expected one thread at a time");
    return false;
}

static dynofa_status leave(dynofa_session *s, dynofa_status status) {
    atomic_flag_clear_explicit(&s->busy, memory_order_release);
    return status;
}

/* ---- Choosing ---------------------------------------------------------------------------------*/

static dynofa_status too_large(dynofa_session *s, uint32_t resolution) {
    return fail(&s->error, DYNOFA_E_RESOLUTION,
                "resolution is %u, expected at most %u, which the session was made for",
                (unsigned)resolution, (unsigned)s->max_resolution);
}

dynofa_status dynofa_session_select(dynofa_session *session, uint32_t level) {
    dynofa_session *s = session;
    if (s == NULL)
        return no_session("select");
    if (!enter(s))
        return DYNOFA_E_STATE;
    const dynofa_model *m = s->model;
    if (level >= m->levels)
        return leave(s,
                     fail(&s->error, DYNOFA_E_LEVEL, "level %u, expected one of the library's %u",
                          (unsigned)level, (unsigned)m->levels));
    const plan *p = &m->level[level];
    if (p->n.resolution > s->max_resolution)
        return leave(s, too_large(s, p->n.resolution));
    s->plan = p;
    s->level = (int32_t)level;
    return leave(s, DYNOFA_OK);
}

/* Copies the caller's batch normalisation, in order of execution. */
typedef struct norm_copy {
    const affine *given;
    affine *order;
    const float *from;
} norm_copy;

static void copy_norm(void *to, uint32_t number, uint32_t channels) {
    norm_copy *n = to;
    const affine *a = &n->given[number];
    memcpy(a->scale, n->from, channels * sizeof(float));
    memcpy(a->shift, n->from + channels, channels * sizeof(float));
    n->from += 2 * (size_t)channels;
    *n->order++ = *a;
}

static dynofa_status configure(dynofa_session *s, const dynofa_subnet *subnet, const float *norms,
                               size_t count) {
    failure *f = &s->error;
    plan *p = &s->configured[s->plan == &s->configured[0]];
    uint64_t tag = 0;
    if (!subnet_complete(subnet))
        return fail(f, DYNOFA_E_ARGUMENT,
                    "configure: a part of subnet is NULL, or subnet.struct_size is not set");
    dynofa_status status = subnet_read(&s->model->space, subnet, true, &p->n, f);
    if (status != DYNOFA_OK)
        return status;
    if (p->n.resolution > s->max_resolution)
        return too_large(s, p->n.resolution);
    size_t expected = norms == NULL ? 0 : norm_floats(&s->model->space, &p->n);
    if (count != expected)
        return fail(f, DYNOFA_E_SIZE, "configure: norm_floats is %zu, expected %zu", count,
                    expected);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        if (!isfinite(norms[i]))
            return fail(f, DYNOFA_E_ARGUMENT,
                        "configure: norms[%zu] is %g, expected a finite number", i,
                        (double)norms[i]);
        memcpy(&bits, &norms[i], sizeof bits);
        tag = (tag ^ bits) * 0x100000001b3u;
    }
    if (norms != NULL) {
        norm_copy copy = {s->given, s->order, norms};
        norms_visit(&s->model->space, &p->n, copy_norm, &copy);
        tag |= UINT64_C(1) << 63; /* neither the supernet's nor a level's */
    }
    plan_build(s->model, p, norms == NULL ? NULL : s->order, tag);
    if (norms != NULL && s->model->backend != NULL) {
        status = s->model->backend->upload_given(s);
        if (status != DYNOFA_OK)
            return status;
    }
    s->plan = p;
    s->level = -1;
    return DYNOFA_OK;
}

dynofa_status dynofa_session_configure(dynofa_session *session, const dynofa_subnet *subnet,
                                       const float *norms, size_t norm_count) {
    if (session == NULL)
        return no_session("configure");
    if (!enter(session))
        return DYNOFA_E_STATE;
    return leave(session, configure(session, subnet, norms, norm_count));
}

dynofa_status dynofa_session_set_threads(dynofa_session *session, uint32_t threads) {
    dynofa_session *s = session;
    if (s == NULL)
        return no_session("set threads");
    if (!enter(s))
        return DYNOFA_E_STATE;
    if (threads < 1 || threads > s->max_threads)
        return leave(s, fail(&s->error, DYNOFA_E_ARGUMENT,
                             "threads is %u, expected 1 to %u (config.max_threads)",
                             (unsigned)threads, (unsigned)s->max_threads));
    s->threads = threads;
    if (s->model->backend == NULL)
        pool_set_threads(&s->pool, threads);
    return leave(s, DYNOFA_OK);
}

dynofa_status dynofa_session_prepare(dynofa_session *session, size_t images) {
    dynofa_session *s = session;
    dynofa_status status = DYNOFA_OK;
    if (s == NULL)
        return no_session("prepare");
    if (!enter(s))
        return DYNOFA_E_STATE;
    if (images < 1 || images > s->batch)
        status = fail(&s->error, DYNOFA_E_ARGUMENT,
                      "prepare: %zu images, expected 1 to %u (config.batch)", images,
                      (unsigned)s->batch);
    else if (s->plan == NULL)
        status = fail(&s->error, DYNOFA_E_STATE, "prepare: no sub-network is selected");
    else if (s->model->backend != NULL)
        status = s->model->backend->prepare(s, (uint32_t)images);
    return leave(s, status);
}

/* ---- Running ----------------------------------------------------------------------------------*/

static dynofa_status run(dynofa_session *s, size_t count, const float *images, size_t image_floats,
                         float *logits, size_t logit_floats) {
    failure *f = &s->error;
    if (images == NULL || logits == NULL || count == 0)
        return fail(f, DYNOFA_E_ARGUMENT, "run: image or logits is NULL, or there are no images");
    if (s->plan == NULL)
        return fail(f, DYNOFA_E_STATE, "run: no sub-network is selected");
    size_t side = s->plan->n.resolution, image = side * side * 3, classes = s->model->space.classes;
    if (image_floats / count != image || image_floats % count != 0)
        return fail(f, DYNOFA_E_SIZE,
                    "run: %zu image floats, expected %zu x %zu for resolution %zu", image_floats,
                    count, image, side);
    if (logit_floats / count != classes || logit_floats % count != 0)
        return fail(f, DYNOFA_E_SIZE, "run: %zu logit floats, expected %zu x %zu classes",
                    logit_floats, count, classes);
    const size_t pass = s->model->backend == NULL ? 1 : s->batch;
    for (size_t i = 0; i < count; i += s->images) {
        s->image = images + i * image;
        s->logits = logits + i * classes;
        s->images = (uint32_t)size_min(pass, count - i);
        if (s->model->backend == NULL) {
            session_execute(s);
            continue;
        }
        dynofa_status status = s->model->backend->run(s);
        if (status != DYNOFA_OK)
            return status;
    }
    return DYNOFA_OK;
}

dynofa_status dynofa_session_run_batch(dynofa_session *session, size_t count, const float *images,
                                       size_t image_floats, float *logits, size_t logit_floats) {
    if (session == NULL)
        return no_session("run");
    if (!enter(session))
        return DYNOFA_E_STATE;
    session->times = NULL;
    return leave(session, run(session, count, images, image_floats, logits, logit_floats));
}

dynofa_status dynofa_session_run(dynofa_session *session, const float *image, size_t image_floats,
                                 float *logits, size_t logit_floats) {
    return dynofa_session_run_batch(session, 1, image, image_floats, logits, logit_floats);
}

dynofa_status dynofa_session_run_timed(dynofa_session *session, const float *image,
                                       size_t image_floats, float *logits, size_t logit_floats,
                                       dynofa_layer_time *times, size_t capacity, size_t *count) {
    dynofa_session *s = session;
    if (s == NULL)
        return no_session("run timed");
    if (!enter(s))
        return DYNOFA_E_STATE;
    if (times == NULL || count == NULL)
        return leave(s, fail(&s->error, DYNOFA_E_ARGUMENT, "run timed: times or count is NULL"));
    s->times = times;
    s->times_room = capacity;
    s->times_count = 0;
    dynofa_status status = run(s, 1, image, image_floats, logits, logit_floats);
    *count = s->times_count;
    s->times = NULL;
    return leave(s, status);
}

/* ---- Questions --------------------------------------------------------------------------------*/

dynofa_status dynofa_session_describe(const dynofa_session *session, dynofa_session_info *info) {
    const dynofa_session *s = session;
    if (s == NULL || info == NULL || info->struct_size < 2 * sizeof(uint32_t))
        return fail(thread_failure(), DYNOFA_E_ARGUMENT,
                    "describe: session or info is NULL, or info.struct_size is not set");
    const plan *p = s->plan;
    dynofa_session_info all = {
        .struct_size = info->struct_size,
        .level = s->level,
        .threads = s->threads,
        .max_threads = s->max_threads,
        .max_resolution = s->max_resolution,
        .bytes = s->bytes,
        .isa = engine_name(s->model),
    };
    if (p != NULL) {
        all.resolution = p->n.resolution;
        all.plan = p->id;
        all.macs = p->macs;
        all.image_floats = (uint64_t)p->n.resolution * p->n.resolution * 3;
    }
    memcpy(info, &all, size_min(info->struct_size, sizeof all));
    return DYNOFA_OK;
}

dynofa_status dynofa_session_subnet(const dynofa_session *session, dynofa_subnet *subnet) {
    failure *f = thread_failure();
    if (session == NULL || subnet == NULL || subnet->struct_size < sizeof *subnet)
        return fail(f, DYNOFA_E_ARGUMENT,
                    "subnet: session or subnet is NULL, or subnet.struct_size is not set");
    if (session->plan == NULL)
        return fail(f, DYNOFA_E_STATE, "subnet: no sub-network is selected");
    *subnet = plan_subnet(session->model, session->plan);
    return DYNOFA_OK;
}
