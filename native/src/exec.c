#include <string.h>

#include "session.h"

/* How the depthwise convolution of a block is cut: channel groups, and chunks of output rows, one
 * kernel call each. Chunks depend on nothing but the shapes, since pooling sums are sums of one
 * call: so no bit depends on the number of threads. Bands of whole chunks are tiles for threads. */
typedef struct cut {
    uint32_t groups;
    uint32_t chunk, chunks; /* rows of one, their number */
    uint32_t ring;          /* rows kept */
    uint32_t bands;
} cut;

/* The share of its time that a thread is busy, with `panels` panels in `groups` groups. */
static double busy(uint32_t panels, uint32_t groups, uint32_t threads) {
    size_t most = ceil_div(groups, threads) * ceil_div(panels, groups);
    return (double)panels / (double)(most * threads);
}

/* Groups of about GROUP_PANELS panels, as many as keep the threads busy. */
static uint32_t groups_of(uint32_t panels, uint32_t threads) {
    uint32_t least = (uint32_t)ceil_div(panels, GROUP_PANELS), best = least;
    for (uint32_t g = least; g <= panels && g < least + 2 * threads && threads > 1; g++)
        if (busy(panels, g, threads) > busy(panels, best, threads))
            best = g;
    return best;
}

static cut cut_of(const block *b, uint32_t threads) {
    const uint32_t panels = (uint32_t)ceil_div(b->mid, DYNK_PANEL);
    cut c = {.bands = 1};
    size_t rows = size_max(RING_FLOATS / (b->in_side * filter_pixel(GROUP)), b->kernel);
    size_t chunk = size_min((rows - b->kernel) / b->stride + 1, b->out_side);
    c.chunks = (uint32_t)ceil_div(b->out_side, chunk);
    c.chunk = (uint32_t)ceil_div(b->out_side, c.chunks);
    c.chunks = (uint32_t)ceil_div(b->out_side, c.chunk);
    c.ring = (c.chunk - 1) * b->stride + b->kernel;
    c.groups = groups_of(panels, threads);
    /* Bands keep all threads busy, but expand up to kernel - stride rows of their neighbours again.
     */
    uint32_t again = b->expand ? (b->kernel - b->stride) * (threads - 1) : 0;
    double of_bands = (double)b->in_side / (double)(b->in_side + again);
    if (c.chunks >= threads && of_bands > busy(panels, c.groups, threads)) {
        c.groups = groups_of(panels, 1);
        c.bands = threads;
    }
    return c;
}

/* The i-th of n nearly equal parts of count. */
static uint32_t part(uint32_t count, uint32_t i, uint32_t n) {
    return (uint32_t)((uint64_t)count * i / n);
}

/* Output channels of a tile: whole panels, the last of them as far as the channels go. */
typedef struct slice {
    uint32_t panel, first, count; /* first panel; first channel and number of channels */
} slice;

static slice slice_of(uint32_t channels, uint32_t i, uint32_t n) {
    uint32_t panels = (uint32_t)ceil_div(channels, DYNK_PANEL), panel = part(panels, i, n);
    size_t first = (size_t)panel * DYNK_PANEL, end = (size_t)part(panels, i + 1, n) * DYNK_PANEL;
    return (slice){panel, (uint32_t)first, (uint32_t)(size_min(end, channels) - first)};
}

/* ---- Steps ------------------------------------------------------------------------------------
 * A step is what threads do side by side; it reads what steps before it wrote. */

/* A matrix of pixel tiles and output tiles of a projection. */
typedef struct grid {
    uint32_t pixels, outs;
} grid;

typedef struct step {
    dynofa_session *s;
    const plan_block *pb;
    const float *from; /* the map before */
    float *to;
    cut cut;
    grid grid;
    /* Of dense layers, and of the head */
    const matrix *weight;
    const float *bias;
    uint32_t in, out, tiles;
    dynk_act act;
} step;

enum { STEM_ROWS = 8 };

static void stem_tile(void *argument, uint32_t thread, uint32_t tile) {
    dynofa_session *s = ((const step *)argument)->s;
    lane *own = &s->lane[thread];
    const space *sp = &s->model->space;
    const plan *p = s->plan;
    uint32_t side = p->n.resolution, out = strided(side, sp->stem_stride), stride = sp->stem_stride;
    uint32_t from = tile * STEM_ROWS, count = (uint32_t)size_min(STEM_ROWS, out - from);
    for (uint32_t i = 0; i < (count - 1) * stride + 3; i++) {
        int64_t row = (int64_t)from * stride + i - 1;
        own->rows[i] = row < 0 || row >= side ? NULL : s->image + (size_t)row * side * 3;
    }
    size_t pixel = map_pixel(sp->stem_channels);
    dynk_stem_args a = {
        .rows = own->rows,
        .weight = s->model->stem.weight,
        .scale = p->stem.scale,
        .shift = p->stem.shift,
        .y = s->map[0] + (size_t)from * out * pixel,
        .width = side,
        .out_rows = count,
        .channels = sp->stem_channels,
        .w_panel = s->model->stem.w_panel,
        .y_row = out * pixel,
        .y_pix = pixel,
        .stride = stride,
        .act = sp->stem_act,
    };
    s->model->table.stem[stride - 1].fn.stem(&a);
}

/* Expanding pointwise of input rows from..to, for the channels of one group, into the ring. */
static void expand_rows(const dynofa_session *s, const plan_block *pb, const float *map,
                        float *ring, const cut *c, const slice *o, uint32_t from, uint32_t to) {
    const block *b = &pb->b;
    const matrix *w = &pb->w->expand;
    size_t x_pix = map_pixel(b->in), y_pix = filter_pixel(o->count);
    while (from < to) {
        uint32_t slot = from % c->ring, count = (uint32_t)size_min(to - from, c->ring - slot);
        dynk_pointwise_args a = {
            .x = map + (size_t)from * b->in_side * x_pix,
            .weight = w->weight + o->panel * w->w_panel,
            .scale = pb->expand.scale + o->first,
            .shift = pb->expand.shift + o->first,
            .y = ring + (size_t)slot * b->in_side * y_pix,
            .pixels = (size_t)count * b->in_side,
            .in = b->in,
            .out = o->count,
            .x_pix = x_pix,
            .y_pix = y_pix,
            .w_panel = w->w_panel,
            .act = b->act,
        };
        s->model->table.pointwise.fn.pointwise(&a);
        from += count;
    }
}

/* One band of one group: row after row is expanded into the ring and filtered from there, so the
 * expanded map never leaves the near caches. */
static void depthwise_tile(void *argument, uint32_t thread, uint32_t tile) {
    const step *t = argument;
    dynofa_session *s = t->s;
    lane *own = &s->lane[thread];
    const plan_block *pb = t->pb;
    const block *b = &pb->b;
    const cut *c = &t->cut;
    const float *map = t->from;
    uint32_t group = tile / c->bands, band = tile % c->bands;
    const slice o = slice_of(b->mid, group, c->groups);
    const uint32_t first = o.first, channels = o.count;
    uint32_t end = part(c->chunks, band + 1, c->bands), expanded = 0;
    const unsigned size = b->kernel / 2 - 1;
    const size_t x_pix = b->expand ? filter_pixel(channels) : map_pixel(b->mid);
    const size_t y_pix = filter_pixel(b->mid);
    for (uint32_t chunk = part(c->chunks, band, c->bands); chunk < end; chunk++) {
        uint32_t from = chunk * c->chunk, rows = (uint32_t)size_min(c->chunk, b->out_side - from);
        uint32_t taps = (rows - 1) * b->stride + b->kernel;
        int64_t top = (int64_t)from * b->stride - b->kernel / 2;
        uint32_t low = top < 0 ? 0 : (uint32_t)top;
        uint32_t high = (uint32_t)size_min((size_t)(top + taps), b->in_side);
        if (b->expand) {
            if (expanded < low)
                expanded = low;
            expand_rows(s, pb, map, own->ring, c, &o, expanded, high);
            expanded = (uint32_t)size_max(expanded, high);
        }
        for (uint32_t i = 0; i < taps; i++) {
            int64_t row = top + i;
            if (row < 0 || row >= b->in_side)
                own->rows[i] = NULL;
            else if (b->expand)
                own->rows[i] = own->ring + (size_t)(row % c->ring) * b->in_side * x_pix;
            else
                own->rows[i] = map + (size_t)row * b->in_side * x_pix + first;
        }
        dynk_dwconv_args a = {
            .rows = own->rows,
            .weight = pb->w->depthwise[size] + (size_t)first * b->kernel * b->kernel,
            .scale = pb->depthwise.scale + first,
            .shift = pb->depthwise.shift + first,
            .y = s->filtered + (size_t)from * b->out_side * y_pix + first,
            .sums = b->squeeze > 0 ? s->sums + (size_t)chunk * b->mid + first : NULL,
            .width = b->in_side,
            .out_rows = rows,
            .channels = channels,
            .x_pix = x_pix,
            .y_row = b->out_side * y_pix,
            .y_pix = y_pix,
            .k = b->kernel,
            .stride = b->stride,
            .act = b->act,
        };
        s->model->table.dwconv[size][b->stride - 1].fn.dwconv(&a);
    }
}

/* A dense layer smaller than DENSE_SMALL multiply-adds is done before another thread has begun. */
enum { DENSE_SMALL = 16 * 1024 };

static void dense_tile(void *argument, uint32_t thread, uint32_t tile) {
    const step *t = argument;
    const matrix *w = t->weight;
    slice o = slice_of(t->out, tile, t->tiles);
    (void)thread;
    dynk_dense_args a = {
        .x = t->from,
        .weight = w->weight + o.panel * w->w_panel,
        .bias = t->bias == NULL ? NULL : t->bias + o.first,
        .y = t->to + o.first,
        .in = t->in,
        .out = o.count,
        .w_panel = w->w_panel,
        .act = t->act,
    };
    t->s->model->table.dense.fn.dense(&a);
}

/* Floats of a tile of input pixels: a part of the second-level cache. */
enum { PIXEL_FLOATS = 48 * 1024, FEW_PIXELS = 28 };

static grid grid_of(const block *b, uint32_t threads) {
    uint32_t pixels = b->out_side * b->out_side;
    uint32_t panels = (uint32_t)ceil_div(b->out, DYNK_PANEL);
    size_t most = size_max(PIXEL_FLOATS / b->mid, FEW_PIXELS);
    grid g = {(uint32_t)ceil_div(pixels, most), 1};
    if (threads > 1) {
        uint32_t even = (uint32_t)ceil_div(g.pixels, threads) * threads;
        if (pixels / even >= FEW_PIXELS)
            g.pixels = even;
        else
            g.outs = (uint32_t)size_min(ceil_div(panels, 2), threads);
    }
    return g;
}

static void project_tile(void *argument, uint32_t thread, uint32_t tile) {
    const step *t = argument;
    const dynofa_session *s = t->s;
    const plan_block *pb = t->pb;
    const block *b = &pb->b;
    const grid *g = &t->grid;
    const matrix *w = &pb->w->project;
    uint32_t pixels = b->out_side * b->out_side;
    uint32_t from = part(pixels, tile / g->outs, g->pixels);
    uint32_t end = part(pixels, tile / g->outs + 1, g->pixels);
    slice o = slice_of(b->out, tile % g->outs, g->outs);
    size_t x_pix = filter_pixel(b->mid), y_pix = map_pixel(b->out), r_pix = map_pixel(b->in);
    dynk_pointwise_args a = {
        .x = s->filtered + from * x_pix,
        .weight = w->weight + o.panel * w->w_panel,
        .scale = pb->project.scale + o.first,
        .shift = pb->project.shift + o.first,
        .gate = b->squeeze > 0 ? s->gate : NULL,
        .residual = b->residual ? t->from + from * r_pix + o.first : NULL,
        .y = t->to + from * y_pix + o.first,
        .scratch = s->lane[thread].scratch,
        .pixels = end - from,
        .in = b->mid,
        .out = o.count,
        .x_pix = x_pix,
        .y_pix = y_pix,
        .r_pix = r_pix,
        .w_panel = w->w_panel,
        .act = DYNK_ACT_NONE,
    };
    s->model->table.pointwise.fn.pointwise(&a);
}

/* Last pointwise and average of a group of channels. */
static void head_tile(void *argument, uint32_t thread, uint32_t tile) {
    const step *t = argument;
    dynofa_session *s = t->s;
    const plan *p = s->plan;
    float *own = s->lane[thread].ring;
    slice o = slice_of(t->out, tile, t->tiles);
    size_t pixels = (size_t)p->last_side * p->last_side;
    dynk_pointwise_args a = {
        .x = t->from,
        .weight = t->weight->weight + o.panel * t->weight->w_panel,
        .scale = p->head.scale + o.first,
        .shift = p->head.shift + o.first,
        .y = own,
        .pixels = pixels,
        .in = t->in,
        .out = o.count,
        .x_pix = map_pixel(t->in),
        .w_panel = t->weight->w_panel,
        .y_pix = filter_pixel(GROUP),
        .act = t->act,
    };
    s->model->table.pointwise.fn.pointwise(&a);
    dynk_average_args mean = {own, t->to + o.first, pixels, o.count, a.y_pix, pixels};
    s->model->table.average.fn.average(&mean);
}

/* ---- A run ------------------------------------------------------------------------------------*/

/* A counter that the clock itself is made of, where a program may read it: 9 ns in place of 23,
 * twice a percent of a small network's steps. session_execute turns its ticks into nanoseconds. */
static uint64_t ticks(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#else
    return pool_now();
#endif
}

/* Does a step of a run and notes the ticks since the one before. */
static void do_step(step *t, uint32_t tiles, pool_tile tile, dynofa_layer_kind kind,
                    uint64_t macs) {
    dynofa_session *s = t->s;
    pool_run(&s->pool, tiles, tile, t);
    if (s->times == NULL)
        return;
    uint64_t at = ticks();
    if (s->times_count < s->times_room)
        s->times[s->times_count] = (dynofa_layer_time){
            kind, t->pb == NULL ? -1 : (int32_t)t->pb->b.index, macs, at - s->since};
    s->times_count++;
    s->since = at;
}

static void do_dense(step *t, const matrix *weight, const float *bias, uint32_t in, uint32_t out,
                     dynk_act act, dynofa_layer_kind kind) {
    t->weight = weight;
    t->bias = bias;
    t->in = in;
    t->out = out;
    t->act = act;
    uint64_t macs = (uint64_t)in * out;
    uint32_t panels = (uint32_t)ceil_div(out, DYNK_PANEL), threads = t->s->threads;
    t->tiles = threads == 1 || macs < DENSE_SMALL ? 1 : groups_of(panels, threads);
    do_step(t, t->tiles, dense_tile, kind, macs);
}

static void do_squeeze_excitation(dynofa_session *s, const plan_block *pb, uint32_t chunks) {
    const block *b = &pb->b;
    step t = {.s = s, .pb = pb, .from = s->mean, .to = s->tight};
    size_t area = (size_t)b->out_side * b->out_side;
    dynk_average_args mean = {s->sums, s->mean, chunks, b->mid, b->mid, area};
    s->model->table.average.fn.average(&mean);
    do_dense(&t, &pb->w->reduce, pb->w->reduce_bias, b->mid, b->squeeze, DYNK_ACT_RELU,
             DYNOFA_LAYER_SQUEEZE);
    t.from = s->tight;
    t.to = s->gate;
    do_dense(&t, &pb->w->excite, pb->w->excite_bias, b->squeeze, b->mid, DYNK_ACT_HSIGMOID,
             DYNOFA_LAYER_EXCITE);
}

static void do_block(dynofa_session *s, const plan_block *pb, const float *from, float *to) {
    const block *b = &pb->b;
    const uint64_t in = (uint64_t)b->in_side * b->in_side;
    const uint64_t out = (uint64_t)b->out_side * b->out_side;
    step t = {.s = s, .pb = pb, .from = from, .to = to, .cut = cut_of(b, s->threads)};
    do_step(&t, t.cut.groups * t.cut.bands, depthwise_tile, DYNOFA_LAYER_EXPAND_DEPTHWISE,
            b->mid * ((b->expand ? b->in * in : 0) + b->kernel * b->kernel * out));
    if (b->squeeze > 0)
        do_squeeze_excitation(s, pb, t.cut.chunks);
    t.grid = grid_of(b, s->threads);
    do_step(&t, t.grid.pixels * t.grid.outs, project_tile, DYNOFA_LAYER_PROJECT,
            b->mid * out * b->out);
}

static void do_head(dynofa_session *s, const float *from) {
    const dynofa_model *m = s->model;
    const space *sp = &m->space;
    const plan *p = s->plan;
    const bool expand = sp->head_expand > 0;
    step t = {.s = s, .from = from, .to = s->vector, .in = p->last_channels, .act = sp->head_act};
    t.weight = expand ? &m->head_expand : &m->features;
    t.out = expand ? sp->head_expand : sp->head_features;
    t.tiles = groups_of((uint32_t)ceil_div(t.out, DYNK_PANEL), s->threads);
    do_step(&t, t.tiles, head_tile, DYNOFA_LAYER_HEAD,
            (uint64_t)p->last_side * p->last_side * t.in * t.out);
    t.from = s->vector;
    if (expand) {
        t.to = s->features;
        do_dense(&t, &m->features, NULL, t.out, sp->head_features, sp->head_act,
                 DYNOFA_LAYER_FEATURES);
        t.from = s->features;
    }
    t.to = s->logits;
    do_dense(&t, &m->classifier, m->bias, sp->head_features, sp->classes, DYNK_ACT_NONE,
             DYNOFA_LAYER_CLASSIFIER);
}

/* Turns the ticks of the steps into nanoseconds, of which the whole run took so many. */
static void in_nanoseconds(dynofa_session *s, uint64_t nanoseconds, uint64_t all) {
    size_t n = s->times_count < s->times_room ? s->times_count : s->times_room;
    double scale = all > 0 ? (double)nanoseconds / (double)all : 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t *t = &s->times[i].nanoseconds;
        *t = *t > all ? 0 : (uint64_t)((double)(int64_t)*t * scale);
    }
}

void session_execute(dynofa_session *s) {
    const space *sp = &s->model->space;
    const plan *p = s->plan;
    uint64_t side = strided(p->n.resolution, sp->stem_stride);
    step t = {.s = s};
    pool_begin(&s->pool);
    uint64_t began = 0, began_ticks = 0;
    if (s->times != NULL) {
        began = pool_now();
        began_ticks = s->since = ticks();
    }
    do_step(&t, (uint32_t)ceil_div(side, STEM_ROWS), stem_tile, DYNOFA_LAYER_STEM,
            27 * sp->stem_channels * side * side);
    int at = 0;
    for (uint32_t i = 0; i < p->blocks; i++, at = 1 - at)
        do_block(s, &p->block[i], s->map[at], s->map[1 - at]);
    do_head(s, s->map[at]);
    if (s->times != NULL)
        in_nanoseconds(s, pool_now() - began, s->since - began_ticks);
}

/* ---- Memory -----------------------------------------------------------------------------------*/

/* A product as a size, too large a one as a size that carve refuses. */
static size_t floats(uint64_t a, uint64_t b) {
    return a != 0 && b > SIZE_MAX / 8 / a ? SIZE_MAX / 2 : (size_t)(a * b);
}

void session_carve(carver *c, dynofa_session *s, const subnet *largest) {
    const space *sp = &s->model->space;
    uint64_t side = strided(largest->resolution, sp->stem_stride);
    size_t maps = floats(side * side, map_pixel(sp->stem_channels)), filtered = 1, sums = 1,
           mid = 1;
    size_t squeeze = 1, ring = RING_FLOATS;
    block_walk w = {.s = sp, .n = largest};
    while (block_next(&w)) {
        const block *b = &w.b;
        uint64_t area = (uint64_t)b->out_side * b->out_side;
        maps = size_max(maps, floats(area, map_pixel(b->out)));
        filtered = size_max(filtered, floats(area, filter_pixel(b->mid)));
        sums = size_max(sums, floats(b->out_side, b->mid));
        mid = size_max(mid, b->mid);
        squeeze = size_max(squeeze, b->squeeze);
        ring = size_max(ring, floats((uint64_t)b->kernel * b->in_side, filter_pixel(GROUP)));
    }
    ring = size_max(ring, floats((uint64_t)w.b.out_side * w.b.out_side, filter_pixel(GROUP)));
    for (int i = 0; i < 2; i++)
        s->map[i] = carve(c, maps);
    s->filtered = carve(c, filtered);
    s->sums = carve(c, sums);
    s->tight = carve(c, squeeze);
    s->gate = carve(c, mid);
    s->mean = carve(c, mid);
    s->vector = carve(c, size_max(sp->head_expand, sp->head_features));
    s->features = carve(c, sp->head_features);
    /* Rows of one kernel call: at most those of a whole map, its padding and one more. */
    size_t pointers = 2 * (size_t)largest->resolution + 16;
    for (uint32_t i = 0; i < s->max_threads; i++) {
        lane own;
        own.ring = carve(c, ring);
        own.scratch = carve(c, DYNK_POINTWISE_SCRATCH(mid));
        own.rows = (void *)carve(c, pointers * sizeof(float *) / sizeof(float));
        if (c->base != NULL)
            s->lane[i] = own;
    }
}
