/* A session on a device: one stream, one arena, and graphs: for each level one for one image and
 * one for a batch, and those that were asked for. Such a run is one launch; any other is issued
 * kernel by kernel. */
#include <stdio.h>
#include <string.h>

#include "engine.h"

/* Parts of a run that are timed, at most, but for those of blocks. */
enum { PARTS = 4, BLOCK_PARTS = 4 };

typedef struct part {
    dynofa_layer_kind kind;
    int32_t block;
    uint64_t macs;
} part;

/* A graph that was asked for. Batch normalisations that the caller gave are always in the same
 * place, so the graph is good for all of them. */
typedef struct record {
    cu_handle graph; /* NULL: free */
    uint32_t images;
    int32_t level; /* or -1: */
    bool given;    /* runs n with the caller's batch normalisations, else with the supernet's */
    subnet n;
    uint64_t used; /* when: the session's clock */
} record;

/* How many a session keeps, as gofacade's pure-Go sessions keep plans. */
enum { RECORDS = 32 };

typedef struct cuda_session {
    const cuda_model *m;
    const cuda_driver *d;
    size_t bytes; /* of this struct and what lies behind it */
    bool lost;    /* the device failed in the midst of something */
    cu_handle stream;
    mirror given;
    cu_pointer arena;
    float *map[2], *expanded, *filtered, *sums, *tight, *gate, *vector,
        *features; /* of the device */
    /* Pinned, and where the device reads and writes them: logits there, the image only if it shares
     * its memory with the host, for kernels read pixels several times. */
    float *image, *logits, *device_image, *device_logits;
    cu_handle *graph[2]; /* [levels] for one image, and for a batch of several; or NULL */
    record record[RECORDS];
    uint64_t clock;   /* uses of records */
    cu_handle *event; /* [parts + 1] */
    part *part;
    uint32_t parts_max, parts;
} cuda_session;

/* ---- Issuing a run ----------------------------------------------------------------------------*/

/* A run being issued, or recorded into a graph. The first failure ends it. */
typedef struct issue {
    cuda_session *c;
    const dynofa_session *s;
    const plan *p;
    uint32_t images;
    bool timed;
    const char *what; /* failed with result */
    cu_result result;
} issue;

/* Where the device has its copy of weights or of a batch normalisation. */
static const float *on_device(const cuda_session *c, const float *host) {
    const mirror *const all[] = {&c->m->weights, &c->m->library, &c->given};
    if (host == NULL)
        return NULL;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        size_t offset = (size_t)((uintptr_t)host - (uintptr_t)all[i]->host);
        if (all[i]->host != NULL && offset < all[i]->bytes)
            return (const float *)(uintptr_t)(all[i]->device + offset);
    }
    return NULL; /* not reached: plans point nowhere else */
}

static void launch(issue *i, dync_launch l, void *args) {
    if (i->result != 0)
        return;
    i->what = cuda_entry(l.entry);
    i->result = i->c->d->launch(i->c->m->function[l.entry], l.grid[0], l.grid[1], l.grid[2],
                                l.threads, 1, 1, l.shared, i->c->stream, &args, NULL);
}

static void mark(issue *i, uint32_t number) {
    if (i->result != 0 || !i->timed)
        return;
    i->what = "timing a part";
    i->result = i->c->d->event_record(i->c->event[number], i->c->stream);
}

/* What was issued since the last one is a part of the run. */
static void end_part(issue *i, dynofa_layer_kind kind, int32_t block, uint64_t macs) {
    if (!i->timed)
        return;
    i->c->part[i->c->parts] = (part){kind, block, macs};
    mark(i, ++i->c->parts);
}

/* area: pixels of an image. */
static void pointwise(issue *i, const float *x, const matrix *weight, affine norm, float *y,
                      uint32_t area, uint32_t in, uint32_t out, dynk_act act, const float *gate,
                      const float *residual, uint32_t r_pix) {
    dync_pointwise_args a = {
        .x = x,
        .weight = on_device(i->c, weight->weight),
        .scale = on_device(i->c, norm.scale),
        .shift = on_device(i->c, norm.shift),
        .gate = gate,
        .residual = residual,
        .y = y,
        .pixels = i->images * area,
        .area = area,
        .in = in,
        .out = out,
        .x_pix = (uint32_t)map_pixel(in),
        .y_pix = (uint32_t)map_pixel(out),
        .r_pix = r_pix,
        .w_panel = (uint32_t)weight->w_panel,
        .gate_image = (uint32_t)map_pixel(in),
        .act = act,
    };
    launch(i, dync_pointwise_launch(&a, i->c->m->precision), &a);
}

/* What a dense layer reads and writes; vectors of images lie map_pixel apart, if nothing else is
 * said. */
static dync_dense_args dense_args(const issue *i, const float *x, const matrix *weight,
                                  const float *bias, float *y, uint32_t in, uint32_t out,
                                  dynk_act act) {
    return (dync_dense_args){
        .x = x,
        .weight = on_device(i->c, weight->weight),
        .bias = on_device(i->c, bias),
        .y = y,
        .n = i->images,
        .rows = 1,
        .in = in,
        .out = out,
        .x_row = in,
        .x_image = (uint32_t)map_pixel(in),
        .y_image = (uint32_t)map_pixel(out),
        .w_panel = (uint32_t)weight->w_panel,
        .act = act,
        .share = 1,
    };
}

static void stem(issue *i) {
    const space *sp = &i->s->model->space;
    uint32_t side = i->p->n.resolution, out = strided(side, sp->stem_stride);
    dync_stem_args a = {
        .x = i->c->device_image,
        .weight = on_device(i->c, i->s->model->stem.weight),
        .scale = on_device(i->c, i->p->stem.scale),
        .shift = on_device(i->c, i->p->stem.shift),
        .y = i->c->map[0],
        .n = i->images,
        .side = side,
        .channels = sp->stem_channels,
        .stride = sp->stem_stride,
        .y_pix = (uint32_t)map_pixel(sp->stem_channels),
        .w_panel = (uint32_t)i->s->model->stem.w_panel,
        .act = sp->stem_act,
    };
    launch(i, dync_stem_launch(&a), &a);
    end_part(i, DYNOFA_LAYER_STEM, -1, (uint64_t)27 * sp->stem_channels * out * out);
}

static void block_of(issue *i, const plan_block *pb, const float *from, float *to) {
    cuda_session *c = i->c;
    const block *b = &pb->b;
    const int32_t number = (int32_t)b->index;
    const uint32_t in = b->in_side * b->in_side, out = b->out_side * b->out_side;
    const uint64_t taps = (uint64_t)b->kernel * b->kernel;
    if (b->expand)
        pointwise(i, from, &pb->w->expand, pb->expand, c->expanded, in, b->in, b->mid, b->act, NULL,
                  NULL, 0);
    dync_depthwise_args a = {
        .x = b->expand ? c->expanded : from,
        .weight = on_device(c, pb->w->depthwise[b->kernel / 2 - 1]),
        .scale = on_device(c, pb->depthwise.scale),
        .shift = on_device(c, pb->depthwise.shift),
        .y = c->filtered,
        .sums = b->squeeze > 0 ? c->sums : NULL,
        .n = i->images,
        .side = b->in_side,
        .channels = b->mid,
        .k = b->kernel,
        .stride = b->stride,
        .x_pix = (uint32_t)map_pixel(b->mid),
        .y_pix = (uint32_t)map_pixel(b->mid),
        .act = b->act,
    };
    launch(i, dync_depthwise_launch(&a), &a);
    end_part(i, DYNOFA_LAYER_EXPAND_DEPTHWISE, number,
             b->mid * ((b->expand ? (uint64_t)b->in * in : 0) + taps * out));
    if (b->squeeze > 0) {
        dync_dense_args d = dense_args(i, c->sums, &pb->w->reduce, pb->w->reduce_bias, c->tight,
                                       b->mid, b->squeeze, DYNK_ACT_RELU);
        d.rows = dync_depthwise_parts(b->in_side, b->stride);
        d.share = 1 / (float)out;
        d.x_image = d.rows * d.x_row;
        launch(i, dync_dense_launch(&d), &d);
        end_part(i, DYNOFA_LAYER_SQUEEZE, number, (uint64_t)b->mid * b->squeeze);
        d = dense_args(i, c->tight, &pb->w->excite, pb->w->excite_bias, c->gate, b->squeeze, b->mid,
                       DYNK_ACT_HSIGMOID);
        launch(i, dync_dense_launch(&d), &d);
        end_part(i, DYNOFA_LAYER_EXCITE, number, (uint64_t)b->mid * b->squeeze);
    }
    pointwise(i, c->filtered, &pb->w->project, pb->project, to, out, b->mid, b->out, DYNK_ACT_NONE,
              b->squeeze > 0 ? c->gate : NULL, b->residual ? from : NULL,
              (uint32_t)map_pixel(b->in));
    end_part(i, DYNOFA_LAYER_PROJECT, number, (uint64_t)b->mid * b->out * out);
}

static void head(issue *i, const float *from) {
    cuda_session *c = i->c;
    const dynofa_model *m = i->s->model;
    const space *sp = &m->space;
    const plan *p = i->p;
    const bool expand = sp->head_expand > 0;
    const uint32_t area = p->last_side * p->last_side;
    const uint32_t out = expand ? sp->head_expand : sp->head_features;
    pointwise(i, from, expand ? &m->head_expand : &m->features, p->head, c->expanded, area,
              p->last_channels, out, sp->head_act, NULL, NULL, 0);
    const uint32_t apart = (uint32_t)map_pixel(out);
    dync_average_args a = {c->expanded, c->vector, i->images, area, out, apart, apart};
    launch(i, dync_average_launch(&a), &a);
    end_part(i, DYNOFA_LAYER_HEAD, -1, (uint64_t)area * p->last_channels * out);
    const float *vector = c->vector;
    if (expand) {
        dync_dense_args d = dense_args(i, vector, &m->features, NULL, c->features, out,
                                       sp->head_features, sp->head_act);
        launch(i, dync_dense_launch(&d), &d);
        end_part(i, DYNOFA_LAYER_FEATURES, -1, (uint64_t)out * sp->head_features);
        vector = c->features;
    }
    dync_dense_args d = dense_args(i, vector, &m->classifier, m->bias, c->device_logits,
                                   sp->head_features, sp->classes, DYNK_ACT_NONE);
    d.y_image = sp->classes; /* as the caller gets them */
    launch(i, dync_dense_launch(&d), &d);
    end_part(i, DYNOFA_LAYER_CLASSIFIER, -1, (uint64_t)sp->head_features * sp->classes);
}

static size_t image_bytes(uint32_t side) {
    return (size_t)side * side * 3 * sizeof(float);
}

static size_t logit_bytes(const dynofa_session *s) {
    return s->model->space.classes * sizeof(float);
}

/* Everything from the pinned images to the pinned logits, in the order of the stream. */
static void issue_run(issue *i) {
    cuda_session *c = i->c;
    c->parts = 0;
    if (!c->m->integrated) {
        i->what = "copying the image";
        i->result = c->d->upload_async((cu_pointer)(uintptr_t)c->device_image, c->image,
                                       i->images * image_bytes(i->p->n.resolution), c->stream);
    }
    mark(i, 0);
    stem(i);
    int at = 0;
    for (uint32_t n = 0; n < i->p->blocks; n++, at = 1 - at)
        block_of(i, &i->p->block[n], c->map[at], c->map[1 - at]);
    head(i, c->map[at]);
}

/* ---- Making and ending ------------------------------------------------------------------------*/

static void carve_host(carver *k, const dynofa_session *s, cuda_session *c) {
    const dynofa_model *m = s->model;
    c->parts_max = PARTS + BLOCK_PARTS * (1 + m->space.slots);
    carve(k, ceil_div(sizeof *c, sizeof(float)));
    for (int i = 0; i < 2; i++)
        c->graph[i] = (void *)carve(k, ceil_div(m->levels * sizeof *c->graph[i], sizeof(float)));
    for (int i = 0; i < RECORDS; i++)
        subnet_carve(&m->space, k, &c->record[i].n);
    c->event = (void *)carve(k, ceil_div((c->parts_max + 1) * sizeof *c->event, sizeof(float)));
    c->part = (void *)carve(k, ceil_div(c->parts_max * sizeof *c->part, sizeof(float)));
}

static void carve_device(carver *k, const dynofa_session *s, const subnet *largest,
                         cuda_session *c) {
    const space *sp = &s->model->space;
    const size_t batch = s->batch;
    size_t side = strided(largest->resolution, sp->stem_stride);
    size_t maps = side * side * map_pixel(sp->stem_channels), expanded = 1, filtered = 1, sums = 1;
    size_t mid = 1, squeeze = 1, head = size_max(sp->head_expand, sp->head_features);
    block_walk w = {.s = sp, .n = largest};
    while (block_next(&w)) {
        const block *b = &w.b;
        size_t in = (size_t)b->in_side * b->in_side, out = (size_t)b->out_side * b->out_side;
        maps = size_max(maps, out * map_pixel(b->out));
        if (b->expand)
            expanded = size_max(expanded, in * map_pixel(b->mid));
        filtered = size_max(filtered, out * map_pixel(b->mid));
        sums = size_max(sums, (size_t)dync_depthwise_parts(b->in_side, b->stride) * b->mid);
        mid = size_max(mid, b->mid);
        squeeze = size_max(squeeze, b->squeeze);
    }
    size_t last = (size_t)w.b.out_side * w.b.out_side;
    for (int i = 0; i < 2; i++)
        c->map[i] = carve(k, batch * maps);
    c->expanded = carve(k, batch * size_max(expanded, last * map_pixel(head)));
    c->filtered = carve(k, batch * filtered);
    c->sums = carve(k, batch * sums);
    c->tight = carve(k, batch * map_pixel(squeeze));
    c->gate = carve(k, batch * map_pixel(mid));
    c->vector = carve(k, batch * map_pixel(head));
    c->features = carve(k, batch * map_pixel(sp->head_features));
    if (!c->m->integrated)
        c->device_image = carve(k, batch * image_bytes(largest->resolution) / sizeof(float));
}

/* What a session is called when there is no memory for it. */
enum { NAME_SIZE = 40 };
static void name_session(const dynofa_session *s, char out[NAME_SIZE]) {
    snprintf(out, NAME_SIZE, s->batch > 1 ? "a session with batches of %u" : "a session",
             (unsigned)s->batch);
}

static dynofa_status make_arena(dynofa_session *s, cuda_session *c, const subnet *largest,
                                failure *f) {
    carver count = {0};
    carve_device(&count, s, largest, c);
    carve(&count, s->given_floats);
    char what[NAME_SIZE];
    name_session(s, what);
    if (count.overflow)
        return fail(f, DYNOFA_E_MEMORY, "no device memory for %s: more than %zu bytes", what,
                    SIZE_MAX / 8);
    dynofa_status status = cuda_alloc(c->d, &c->arena, count.used * sizeof(float), what, f);
    if (status != DYNOFA_OK)
        return status;
    carver place = {.base = (float *)(uintptr_t)c->arena};
    carve_device(&place, s, largest, c);
    c->given = (mirror){(const char *)s->given_block, s->given_floats * sizeof(float),
                        (cu_pointer)(uintptr_t)carve(&place, s->given_floats)};
    return DYNOFA_OK;
}

/* The images and the logits where both sides reach them. */
static dynofa_status make_pinned(dynofa_session *s, cuda_session *c, failure *f) {
    const size_t images = s->batch * image_bytes(s->max_resolution);
    const size_t logits_at = ceil_div(images, DYNK_ALIGN) * DYNK_ALIGN;
    const size_t bytes = logits_at + ceil_div(s->batch * logit_bytes(s), DYNK_ALIGN) * DYNK_ALIGN;
    void *at = NULL;
    cu_result r = c->d->host_alloc(&at, bytes, CU_HOST_PORTABLE | CU_HOST_DEVICE_MAP);
    if (r == CU_OUT_OF_MEMORY) {
        char what[NAME_SIZE];
        name_session(s, what);
        return fail(f, DYNOFA_E_MEMORY, "no pinned memory for %s of %zu bytes", what, bytes);
    }
    if (r != 0)
        return cuda_failed(c->d, f, "taking pinned memory", r);
    c->image = at;
    c->logits = (float *)(void *)((char *)at + logits_at);
    cu_pointer mapped = 0;
    if ((r = c->d->host_pointer(&mapped, at, 0)) != 0)
        return cuda_failed(c->d, f, "mapping pinned memory", r);
    if (c->m->integrated)
        c->device_image = (float *)(uintptr_t)mapped;
    c->device_logits = (float *)(uintptr_t)(mapped + logits_at);
    return DYNOFA_OK;
}

/* Records a run of a plan into a graph that is launched at once, its first run as any other. *out
 * is NULL before, and stays so if it fails. */
static dynofa_status make_graph(const dynofa_session *s, cuda_session *c, const plan *p,
                                uint32_t images, cu_handle *out, failure *f) {
    const cuda_driver *d = c->d;
    issue i = {.c = c, .s = s, .p = p, .images = images};
    cu_handle graph = NULL;
    cu_result r = d->capture_begin(c->stream, CU_CAPTURE_RELAXED);
    if (r != 0)
        return cuda_failed(d, f, "recording a run", r);
    issue_run(&i);
    r = d->capture_end(c->stream, &graph); /* also after a failure, or the stream stays recording */
    if (i.result != 0)
        r = i.result;
    else
        i.what = "recording a run";
    if (r == 0) {
        i.what = "preparing a recorded run";
        r = d->graph_instantiate(out, graph, 0);
        if (r != 0)
            *out = NULL;
    }
    if (*out != NULL &&
        ((r = d->graph_upload(*out, c->stream)) != 0 || (r = d->stream_wait(c->stream)) != 0)) {
        d->graph_exec_destroy(*out);
        *out = NULL;
    }
    if (graph != NULL)
        d->graph_destroy(graph);
    return cuda_check(d, f, i.what, r);
}

static dynofa_status make(dynofa_session *s, cuda_session *c, const subnet *largest, failure *f) {
    const cuda_driver *d = c->d;
    dynofa_status status = make_pinned(s, c, f);
    if (status == DYNOFA_OK)
        status = make_arena(s, c, largest, f);
    if (status != DYNOFA_OK)
        return status;
    int least = 0, greatest = 0;
    cu_result r = d->stream_priorities(&least, &greatest);
    if (r == 0)
        r = d->stream_create(&c->stream, CU_STREAM_NON_BLOCKING, greatest);
    if (r != 0) {
        c->stream = NULL;
        return cuda_failed(d, f, "making a stream", r);
    }
    for (uint32_t i = 0; i <= c->parts_max; i++)
        if ((r = d->event_create(&c->event[i], 0)) != 0) {
            c->event[i] = NULL;
            return cuda_failed(d, f, "making an event", r);
        }
    for (uint32_t i = 0; i < s->model->levels && status == DYNOFA_OK; i++) {
        const plan *p = &s->model->level[i];
        if (p->n.resolution > s->max_resolution)
            continue;
        status = make_graph(s, c, p, 1, &c->graph[0][i], f);
        if (status == DYNOFA_OK && s->batch > 1)
            status = make_graph(s, c, p, s->batch, &c->graph[1][i], f);
    }
    return status;
}

/* What fails here has failed before: of a device that is lost nothing is left to give back. */
static void unmake(const dynofa_session *s, cuda_session *c) {
    const cuda_driver *d = c->d;
    for (uint32_t i = 0; i < 2 * s->model->levels; i++)
        if (c->graph[i % 2][i / 2] != NULL)
            d->graph_exec_destroy(c->graph[i % 2][i / 2]);
    for (int i = 0; i < RECORDS; i++)
        if (c->record[i].graph != NULL)
            d->graph_exec_destroy(c->record[i].graph);
    for (uint32_t i = 0; i <= c->parts_max; i++)
        if (c->event[i] != NULL)
            d->event_destroy(c->event[i]);
    if (c->stream != NULL)
        d->stream_destroy(c->stream);
    if (c->arena != 0)
        d->memory_free(c->arena);
    if (c->image != NULL)
        d->host_free(c->image);
}

void cuda_session_free(dynofa_session *s) {
    cuda_session *c = s->remote;
    if (c->d->context_push(c->m->context) == 0) {
        unmake(s, c);
        cuda_leave(c->d);
    }
    memory_free(&s->mem, c, c->bytes);
    s->remote = NULL;
}

dynofa_status cuda_session_new(dynofa_session *s, const subnet *largest, failure *f) {
    cuda_session counted = {0};
    carver count = {0};
    carve_host(&count, s, &counted);
    const size_t bytes = count.used * sizeof(float);
    cuda_session *c = memory_zeroed(&s->mem, bytes);
    if (c == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for a session on a device, %zu bytes", bytes);
    carver place = {.base = (float *)(void *)c};
    carve_host(&place, s, c);
    c->bytes = bytes;
    c->m = s->model->remote;
    c->d = c->m->d;
    s->remote = c;
    dynofa_status status = cuda_enter(c->m, f);
    if (status == DYNOFA_OK) {
        status = make(s, c, largest, f);
        if (status != DYNOFA_OK)
            unmake(s, c);
        cuda_leave(c->d);
    }
    if (status != DYNOFA_OK) {
        memory_free(&s->mem, c, bytes);
        s->remote = NULL;
    }
    return status;
}

/* ---- Running ----------------------------------------------------------------------------------*/

/* Begins something that needs the device. */
static dynofa_status enter(dynofa_session *s) {
    cuda_session *c = s->remote;
    if (c->lost)
        return fail(&s->error, DYNOFA_E_DEVICE,
                    "CUDA: the device was lost in an earlier call, expected a new model and "
                    "session");
    return cuda_enter(c->m, &s->error);
}

/* Ends it: waits, and says what failed. A device that does not come to rest is lost. */
static dynofa_status settle(dynofa_session *s, const char *what, cu_result r) {
    cuda_session *c = s->remote;
    cu_result waited = c->d->stream_wait(c->stream);
    c->lost = waited != 0;
    return r != 0 ? cuda_failed(c->d, &s->error, what, r)
                  : cuda_check(c->d, &s->error, "the device was lost", waited);
}

dynofa_status cuda_upload_given(dynofa_session *s) {
    cuda_session *c = s->remote;
    dynofa_status status = enter(s);
    if (status != DYNOFA_OK)
        return status;
    cu_result r = c->d->upload_async(c->given.device, c->given.host, c->given.bytes, c->stream);
    status = settle(s, "copying batch normalisations", r);
    cuda_leave(c->d);
    return status;
}

/* The times between the events of the parts. */
static cu_result read_times(dynofa_session *s, const cuda_session *c) {
    for (uint32_t i = 0; i < c->parts; i++) {
        float ms = 0;
        cu_result r = c->d->event_elapsed(&ms, c->event[i], c->event[i + 1]);
        if (r != 0)
            return r;
        const part *p = &c->part[i];
        if (i < s->times_room)
            s->times[i] = (dynofa_layer_time){p->kind, p->block, p->macs, (uint64_t)(ms * 1e6F)};
    }
    s->times_count = c->parts;
    return 0;
}

/* ---- Graphs -----------------------------------------------------------------------------------*/

/* Whether the current sub-network has the caller's batch normalisations. */
static bool has_given(const dynofa_session *s) {
    return s->plan->stem.scale == s->given[0].scale;
}

static bool records(const record *r, const dynofa_session *s, uint32_t images) {
    return r->graph != NULL && r->images == images && r->level == s->level &&
           (r->level >= 0 ||
            (r->given == has_given(s) && subnet_equal(&s->model->space, &r->n, &s->plan->n)));
}

/* The graph of the current sub-network for so many images, or NULL. Levels have theirs for what a
 * session does again and again, single images and whole batches; the pass that is left over is of
 * any size. */
static cu_handle graph_of(const dynofa_session *s, cuda_session *c, uint32_t images) {
    if (s->level >= 0 && (images == 1 || images == s->batch))
        return c->graph[images > 1][s->level];
    for (int i = 0; i < RECORDS; i++)
        if (records(&c->record[i], s, images)) {
            c->record[i].used = ++c->clock;
            return c->record[i].graph;
        }
    return NULL;
}

/* In place of the one that was used the longest ago. */
static dynofa_status make_record(dynofa_session *s, cuda_session *c, uint32_t images) {
    record *oldest = &c->record[0];
    for (int i = 1; i < RECORDS; i++)
        if (c->record[i].used < oldest->used)
            oldest = &c->record[i];
    if (oldest->graph != NULL)
        c->d->graph_exec_destroy(oldest->graph);
    oldest->graph = NULL;
    oldest->images = images;
    oldest->level = s->level;
    oldest->given = has_given(s);
    subnet_copy(&s->model->space, &oldest->n, &s->plan->n);
    dynofa_status status = make_graph(s, c, s->plan, images, &oldest->graph, &s->error);
    oldest->used = status == DYNOFA_OK ? ++c->clock : 0;
    return status;
}

dynofa_status cuda_prepare(dynofa_session *s, uint32_t images) {
    cuda_session *c = s->remote;
    dynofa_status status = enter(s);
    if (status != DYNOFA_OK)
        return status;
    if (graph_of(s, c, images) == NULL)
        status = make_record(s, c, images);
    cuda_leave(c->d);
    return status;
}

/* ---- A run ------------------------------------------------------------------------------------*/

dynofa_status cuda_run(dynofa_session *s) {
    cuda_session *c = s->remote;
    dynofa_status status = enter(s);
    if (status != DYNOFA_OK)
        return status;
    issue i = {.c = c, .s = s, .p = s->plan, .images = s->images, .timed = s->times != NULL};
    cu_handle graph = i.timed ? NULL : graph_of(s, c, s->images);
    memcpy(c->image, s->image, s->images * image_bytes(s->plan->n.resolution));
    if (graph != NULL) {
        i.what = "launching a recorded run";
        i.result = c->d->graph_launch(graph, c->stream);
    } else {
        issue_run(&i);
    }
    status = settle(s, i.what, i.result);
    if (status == DYNOFA_OK && i.timed)
        status = cuda_check(c->d, &s->error, "reading the times", read_times(s, c));
    cuda_leave(c->d);
    if (status == DYNOFA_OK)
        memcpy(s->logits, c->logits, s->images * logit_bytes(s));
    return status;
}
