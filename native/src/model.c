#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "bundle.h"

enum { NAME_SIZE = 160 };

/* ---- Placing ----------------------------------------------------------------------------------*/

static matrix carve_matrix(carver *c, size_t in, size_t out) {
    return (matrix){carve(c, dynk_packed_size(in, out)), in * DYNK_PANEL};
}

typedef struct norm_places {
    carver *c;
    affine *next;
} norm_places;

static void place_norm(void *to, uint32_t number, uint32_t channels) {
    norm_places *p = to;
    (void)number;
    p->next->scale = carve(p->c, channels);
    p->next->shift = carve(p->c, channels);
    p->next++;
}

/* Called twice: once without a base to count, once to place. */
static void place_weights(dynofa_model *m, carver *c, const subnet *largest) {
    const space *s = &m->space;
    m->stem = carve_matrix(c, 27, s->stem_channels);
    block_walk w = {.s = s, .n = largest};
    while (block_next(&w)) {
        const block *b = &w.b;
        block_weights *bw = &m->block[b->index];
        if (b->expand) {
            bw->expand = carve_matrix(c, b->in, b->mid);
            for (uint32_t i = 0; i < s->kernels.count; i++) {
                size_t k = s->kernels.value[i];
                bw->depthwise[k / 2 - 1] = carve(c, dynk_packed_size(k * k, b->mid));
            }
        } else {
            bw->depthwise[0] = carve(c, dynk_packed_size(9, b->mid));
        }
        if (b->squeeze > 0) {
            bw->reduce = carve_matrix(c, b->mid, b->squeeze);
            bw->reduce_bias = carve(c, b->squeeze);
            bw->excite = carve_matrix(c, b->squeeze, b->mid);
            bw->excite_bias = carve(c, b->mid);
        }
        bw->project = carve_matrix(c, b->mid, b->out);
    }
    if (s->head_expand > 0)
        m->head_expand = carve_matrix(c, w.b.out, s->head_expand);
    m->features = carve_matrix(c, s->head_expand > 0 ? s->head_expand : w.b.out, s->head_features);
    m->classifier = carve_matrix(c, s->head_features, s->classes);
    m->bias = carve(c, s->classes);
    norm_places places = {c, m->norm};
    norms_visit(s, largest, place_norm, &places);
}

/* ---- Loading ----------------------------------------------------------------------------------*/

/* A walk over the supernet's tensors. The first only asks whether they are all there, so that no
 * memory is taken for a space that the file does not fill; the second packs. */
typedef struct loader {
    dynofa_model *m;
    bundle *b;
    failure *f;
    dynofa_status status;
    bool pack;
    float *now, *next; /* of the largest tensor's size */
    float *transform;  /* [25 * 25] */
} loader;

#define SHAPE(...)                                                                                 \
    (sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)), (uint32_t[]) {                         \
        __VA_ARGS__                                                                                \
    }

/* Finds a tensor, or reads it to `into`. True if the caller is to pack it. */
__attribute__((format(printf, 5, 6))) static bool
take(loader *l, float *into, size_t rank, const uint32_t *shape, const char *format, ...) {
    char name[NAME_SIZE];
    va_list arguments;
    if (l->status != DYNOFA_OK)
        return false;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    if (l->pack)
        l->status = bundle_values(l->b, name, into, l->f);
    else
        l->status = bundle_expect(l->b, name, (uint32_t)rank, shape, l->f);
    return l->pack && l->status == DYNOFA_OK;
}

static void load_matrix(loader *l, const matrix *to, uint32_t in, uint32_t out, bool conv,
                        const char *name) {
    const uint32_t shape[] = {out, in, 1, 1};
    if (take(l, l->now, conv ? 4 : 2, shape, "%s", name))
        dynk_pack_f32(to->weight, l->now, in, out);
}

static void load_norm(loader *l, uint32_t number, uint32_t channels, const char *name) {
    const affine *to = &l->m->norm[number];
    float *weight = l->now, *variance = l->next;
    take(l, weight, SHAPE(channels), "%s.weight", name);
    take(l, l->pack ? to->shift : NULL, SHAPE(channels), "%s.bias", name);
    take(l, l->pack ? to->scale : NULL, SHAPE(channels), "%s.running_mean", name);
    if (!take(l, variance, SHAPE(channels), "%s.running_var", name))
        return;
    for (uint32_t c = 0; c < channels; c++) {
        double scale = weight[c] / sqrt((double)variance[c] + l->m->space.bn_eps);
        double shift = to->shift[c] - (double)to->scale[c] * scale;
        to->scale[c] = (float)scale;
        to->shift[c] = (float)shift;
        if (!isfinite(to->scale[c]) || !isfinite(to->shift[c])) {
            l->status =
                fail(l->f, DYNOFA_E_FORMAT,
                     "batch normalisation %s: channel %u has scale %g and shift %g, expected "
                     "finite float32 values",
                     name, (unsigned)c, scale, shift);
            return;
        }
    }
}

/* The stored kernels and, from size to size down, those derived from them. */
static void load_depthwise(loader *l, const block *b, const block_weights *to, const char *prefix) {
    const space *s = &l->m->space;
    uint32_t sizes = b->expand ? s->kernels.count : 1, k = b->kernel;
    if (take(l, l->now, SHAPE(b->mid, 1, k, k), "%s.depth_conv%s.conv.weight", prefix,
             b->expand ? ".conv" : ""))
        dynk_pack_f32(to->depthwise[k / 2 - 1], l->now, (size_t)k * k, b->mid);
    for (uint32_t i = sizes; i-- > 1;) {
        uint32_t from = s->kernels.value[i], small = s->kernels.value[i - 1], taps = small * small;
        char name[NAME_SIZE];
        snprintf(name, sizeof name, "%s.depth_conv.conv.%uto%u_matrix", prefix, (unsigned)from,
                 (unsigned)small);
        bool identity = !bundle_has(l->b, name);
        if (!identity)
            take(l, l->transform, SHAPE(taps, taps), "%s", name);
        if (!l->pack || l->status != DYNOFA_OK)
            continue;
        dynk_ktransform_f32(l->next, l->now, identity ? NULL : l->transform, b->mid, from, small);
        dynk_pack_f32(to->depthwise[small / 2 - 1], l->next, taps, b->mid);
        float *swap = l->now;
        l->now = l->next;
        l->next = swap;
    }
}

static void load_block(loader *l, const block *b) {
    const block_weights *to = &l->m->block[b->index];
    const char *bn = b->expand ? ".bn.bn" : ".bn", *conv = b->expand ? ".conv.conv" : ".conv";
    uint32_t number = norm_of(b->index);
    char p[NAME_SIZE / 2], name[NAME_SIZE];
    snprintf(p, sizeof p, "blocks.%u.conv", (unsigned)b->index);
    if (b->expand) {
        snprintf(name, sizeof name, "%s.inverted_bottleneck.conv.conv.weight", p);
        load_matrix(l, &to->expand, b->in, b->mid, true, name);
        snprintf(name, sizeof name, "%s.inverted_bottleneck.bn.bn", p);
        load_norm(l, number++, b->mid, name);
    }
    load_depthwise(l, b, to, p);
    snprintf(name, sizeof name, "%s.depth_conv%s", p, bn);
    load_norm(l, number, b->mid, name);
    if (b->squeeze > 0) {
        snprintf(name, sizeof name, "%s.depth_conv.se.fc.reduce.weight", p);
        load_matrix(l, &to->reduce, b->mid, b->squeeze, true, name);
        take(l, to->reduce_bias, SHAPE(b->squeeze), "%s.depth_conv.se.fc.reduce.bias", p);
        snprintf(name, sizeof name, "%s.depth_conv.se.fc.expand.weight", p);
        load_matrix(l, &to->excite, b->squeeze, b->mid, true, name);
        take(l, to->excite_bias, SHAPE(b->mid), "%s.depth_conv.se.fc.expand.bias", p);
    }
    snprintf(name, sizeof name, "%s.point_linear%s.weight", p, conv);
    load_matrix(l, &to->project, b->mid, b->out, true, name);
    snprintf(name, sizeof name, "%s.point_linear%s", p, bn);
    load_norm(l, number + 1, b->out, name);
}

static void load_supernet(loader *l, const subnet *largest) {
    dynofa_model *m = l->m;
    const space *s = &m->space;
    uint32_t head = norm_of(1 + s->slots);
    if (take(l, l->now, SHAPE(s->stem_channels, 3, 3, 3), "first_conv.conv.weight"))
        dynk_pack_stem_f32(m->stem.weight, l->now, s->stem_channels);
    load_norm(l, 0, s->stem_channels, "first_conv.bn");
    block_walk w = {.s = s, .n = largest};
    while (block_next(&w))
        load_block(l, &w.b);
    if (s->head_expand > 0) {
        load_matrix(l, &m->head_expand, w.b.out, s->head_expand, true,
                    "final_expand_layer.conv.weight");
        load_norm(l, head, s->head_expand, "final_expand_layer.bn");
        load_matrix(l, &m->features, s->head_expand, s->head_features, true,
                    "feature_mix_layer.conv.weight");
    } else {
        load_matrix(l, &m->features, w.b.out, s->head_features, true,
                    "feature_mix_layer.conv.weight");
        load_norm(l, head, s->head_features, "feature_mix_layer.bn");
    }
    load_matrix(l, &m->classifier, s->head_features, s->classes, false, "classifier.linear.weight");
    take(l, m->bias, SHAPE(s->classes), "classifier.linear.bias");
}

static void norm_name(const space *s, uint32_t number, char *out) {
    static const char *const part[] = {"inverted_bottleneck", "depth_conv", "point_linear"};
    if (number == 0)
        snprintf(out, NAME_SIZE, "first_conv.bn");
    else if (number < 3)
        snprintf(out, NAME_SIZE, "blocks.0.conv.%s.bn", part[number]);
    else if (number < norm_of(1 + s->slots))
        snprintf(out, NAME_SIZE, "blocks.%u.conv.%s.bn.bn", (unsigned)(number / 3),
                 part[number % 3]);
    else
        snprintf(out, NAME_SIZE, "%s.bn",
                 s->head_expand > 0 ? "final_expand_layer" : "feature_mix_layer");
}

typedef struct level_loader {
    loader *l;
    uint32_t level;
    affine *next;
} level_loader;

static void load_level_norm(void *to, uint32_t number, uint32_t channels) {
    level_loader *v = to;
    char name[NAME_SIZE];
    norm_name(&v->l->m->space, number, name);
    take(v->l, v->l->pack ? v->next->scale : NULL, SHAPE(channels), "library/%u/%.100s/scale",
         (unsigned)v->level, name);
    take(v->l, v->l->pack ? v->next->shift : NULL, SHAPE(channels), "library/%u/%.100s/shift",
         (unsigned)v->level, name);
    v->next++;
}

/* First pass: counts levels and floats in c and asks for the tensors. Second: builds the plans. */
static void load_library(loader *l, carver *c, subnet *n, affine *norms) {
    dynofa_model *m = l->m;
    level_walk w = library_of(l->b);
    uint32_t level = 0;
    for (;; level++) {
        plan *p = l->pack && level < m->levels ? &m->level[level] : NULL;
        plan counted;
        plan_carve(&m->space, c, p == NULL ? &counted : p);
        if (!library_next(&w, l->b, p == NULL ? n : &p->n, &l->status, l->f))
            break;
        norm_places places = {c, norms};
        level_loader load = {l, level, norms};
        norms_visit(&m->space, p == NULL ? n : &p->n, place_norm, &places);
        norms_visit(&m->space, p == NULL ? n : &p->n, load_level_norm, &load);
        if (l->status != DYNOFA_OK)
            return;
        if (p != NULL)
            plan_build(m, p, norms, 1 + level);
    }
    m->levels = level;
}

/* ---- Opening ----------------------------------------------------------------------------------*/

void model_hold(dynofa_model *m) {
    atomic_fetch_add_explicit(&m->holders, 1, memory_order_relaxed);
}

void model_release(dynofa_model *m) {
    if (atomic_fetch_sub_explicit(&m->holders, 1, memory_order_acq_rel) > 1)
        return;
    memory mem = m->mem;
    if (m->remote != NULL)
        m->backend->close(m);
    memory_free(&mem, m->library, m->library_bytes);
    memory_free(&mem, m->weights, m->weights_bytes);
    memory_free(&mem, m->index, m->index_bytes);
    memory_free(&mem, m, sizeof *m);
}

/* Memory that only opening needs, in one block. */
typedef struct workspace {
    void *block;
    size_t bytes;
    subnet largest, level;
    affine *norms;
} workspace;

static void carve_workspace(carver *c, workspace *ws, loader *l) {
    const space *s = &l->m->space;
    plan p;
    plan_carve(s, c, &p);
    ws->largest = p.n;
    plan_carve(s, c, &p);
    ws->level = p.n;
    ws->norms = (void *)carve(c, l->m->norms * (sizeof(affine) / sizeof(float)));
    l->now = carve(c, bundle_largest(l->b));
    l->next = carve(c, bundle_largest(l->b));
    l->transform = carve(c, 25 * 25);
}

static void *block_for(const memory *mem, const carver *c, size_t *bytes) {
    *bytes = c->used * sizeof(float);
    return c->overflow ? NULL : memory_zeroed(mem, *bytes);
}

static void carve_index(carver *c, dynofa_model *m) {
    m->block = (void *)carve(c, ceil_div((1 + m->space.slots) * sizeof *m->block, sizeof(float)));
    m->norm = (void *)carve(c, ceil_div(m->norms * sizeof *m->norm, sizeof(float)));
}

static dynofa_status no_memory(failure *f, const char *what, size_t bytes) {
    return fail(f, DYNOFA_E_MEMORY, "no memory for %s, %zu bytes", what, bytes);
}

static dynofa_status no_isa(const char *isa, failure *f) {
    const char *field = isa != NULL ? "config.isa" : "DYNOFA_ISA";
    const char *value = isa != NULL ? isa : getenv(field);
    char names[80] = "";
    dynk_isa of;
    for (size_t i = 0, n = 0; n < sizeof names && dynk_isa_at(i, &of); i++)
        n += (size_t)snprintf(names + n, sizeof names - n, " %s", of.name);
    return fail(f, DYNOFA_E_ARGUMENT,
                "%s is \"%.40s\", expected an instruction set of this build:%s", field,
                value != NULL ? value : "", names);
}

static dynofa_status build(dynofa_model *m, bundle *b, workspace *ws, failure *f) {
    loader l = {.m = m, .b = b, .f = f};
    carver count = {0}, c = {0};
    m->space = *b->space;
    m->norms = norm_of(1 + m->space.slots) + 1;
    carve_workspace(&count, ws, &l);
    ws->block = block_for(&m->mem, &count, &ws->bytes);
    if (ws->block == NULL)
        return no_memory(f, "opening", ws->bytes);
    c.base = ws->block;
    carve_workspace(&c, ws, &l);
    space_largest(&m->space, m->space.max_resolution, &ws->largest);

    count = (carver){0};
    carve_index(&count, m);
    m->index = block_for(&m->mem, &count, &m->index_bytes);
    if (m->index == NULL)
        return no_memory(f, "the model", m->index_bytes);
    c = (carver){.base = m->index};
    carve_index(&c, m);

    load_supernet(&l, &ws->largest);
    count = (carver){0};
    if (l.status == DYNOFA_OK)
        load_library(&l, &count, &ws->level, ws->norms);
    if (l.status == DYNOFA_OK)
        l.status = bundle_all_used(b, f);
    if (l.status != DYNOFA_OK)
        return l.status;

    l.pack = true;
    if (m->levels > 0) {
        carve(&count, ceil_div(m->levels * sizeof *m->level, sizeof(float)));
        m->library = block_for(&m->mem, &count, &m->library_bytes);
        if (m->library == NULL)
            return no_memory(f, "the library", m->library_bytes);
    }
    carver floats = {0};
    place_weights(m, &floats, &ws->largest);
    m->weights = block_for(&m->mem, &floats, &m->weights_bytes);
    if (m->weights == NULL)
        return no_memory(f, "the weights", m->weights_bytes);
    /* Zeroed: what padding holds is read and ignored, but lanes past the last channel must not be
     * NaN in depthwise weights, nor may the memory be anybody's secrets. */
    floats = (carver){.base = m->weights};
    place_weights(m, &floats, &ws->largest);
    load_supernet(&l, &ws->largest);
    if (m->levels > 0 && l.status == DYNOFA_OK) {
        c = (carver){.base = m->library};
        m->level = (void *)carve(&c, ceil_div(m->levels * sizeof *m->level, sizeof(float)));
        load_library(&l, &c, &ws->level, ws->norms);
    }
    return l.status;
}

static dynofa_status open_source(source from, const dynofa_config *settings, dynofa_model **out,
                                 failure *f) {
    memory mem = {settings->allocator};
    bundle b;
    workspace ws = {0};
    dynofa_model *m = memory_new(&mem, sizeof *m);
    if (m == NULL)
        return no_memory(f, "the model", sizeof *m);
    memset(m, 0, sizeof *m);
    m->mem = mem;
    atomic_init(&m->holders, 1);
    dynofa_status status = DYNOFA_OK;
    if (!dynk_table_fill(&m->table, settings->isa))
        status = no_isa(settings->isa, f);
    uint32_t device = 0;
    if (status == DYNOFA_OK)
        status = backend_find(settings->backend, &m->backend, &device, f);
    if (status == DYNOFA_OK) {
        status = bundle_read(&b, &m->mem, from, f);
        if (status == DYNOFA_OK)
            status = build(m, &b, &ws, f);
        memory_free(&m->mem, ws.block, ws.bytes);
        bundle_close(&b);
    }
    if (status == DYNOFA_OK && m->backend != NULL)
        status = m->backend->open(m, device, f);
    if (status != DYNOFA_OK) {
        model_release(m);
        return status;
    }
    *out = m;
    return DYNOFA_OK;
}

dynofa_status dynofa_model_open_memory(const void *bytes, size_t size, const dynofa_config *config,
                                       dynofa_model **model) {
    failure *f = thread_failure();
    dynofa_config settings;
    if (model == NULL || bytes == NULL)
        return fail(f, DYNOFA_E_ARGUMENT, "open: bytes or model is NULL");
    *model = NULL;
    dynofa_status status = config_read(&settings, config, f);
    source from = {bytes, -1, size};
    return status != DYNOFA_OK ? status : open_source(from, &settings, model, f);
}

dynofa_status dynofa_model_open(const char *path, const dynofa_config *config,
                                dynofa_model **model) {
    failure *f = thread_failure();
    source file;
    dynofa_config settings;
    if (model == NULL || path == NULL)
        return fail(f, DYNOFA_E_ARGUMENT, "open: path or model is NULL");
    *model = NULL;
    dynofa_status status = config_read(&settings, config, f);
    if (status != DYNOFA_OK)
        return status;
    status = source_open(&file, path, f);
    if (status == DYNOFA_OK) {
        status = open_source(file, &settings, model, f);
        source_close(&file);
    }
    if (status != DYNOFA_OK) {
        failure inner = *f;
        fail(f, status, "open %.120s: %.180s", path, inner.text);
    }
    return status;
}

void dynofa_model_free(dynofa_model **model) {
    if (model == NULL || *model == NULL)
        return;
    model_release(*model);
    *model = NULL;
}

/* ---- Questions --------------------------------------------------------------------------------*/

dynofa_status dynofa_model_describe(const dynofa_model *model, dynofa_model_info *info) {
    if (model == NULL || info == NULL || info->struct_size < 2 * sizeof(uint32_t))
        return fail(thread_failure(), DYNOFA_E_ARGUMENT,
                    "describe: model or info is NULL, or info.struct_size is not set");
    dynofa_model_info all = {
        .struct_size = info->struct_size,
        .classes = model->space.classes,
        .levels = model->levels,
        .slots = model->space.slots,
        .stages = model->space.stages,
        .max_resolution = model->space.max_resolution,
        .supernet_bytes = model->weights_bytes + model->index_bytes,
        .library_bytes = model->library_bytes,
        .isa = engine_name(model),
    };
    if (model->backend != NULL)
        model->backend->describe(model, &all);
    memcpy(info, &all, size_min(info->struct_size, sizeof all));
    return DYNOFA_OK;
}

dynofa_status dynofa_model_level(const dynofa_model *model, uint32_t level, dynofa_subnet *subnet) {
    failure *f = thread_failure();
    if (model == NULL || subnet == NULL || subnet->struct_size < sizeof *subnet)
        return fail(f, DYNOFA_E_ARGUMENT,
                    "level: model or subnet is NULL, or subnet.struct_size is not set");
    if (level >= model->levels)
        return fail(f, DYNOFA_E_LEVEL, "level %u, expected one of the library's %u",
                    (unsigned)level, (unsigned)model->levels);
    *subnet = plan_subnet(model, &model->level[level]);
    return DYNOFA_OK;
}

dynofa_subnet plan_subnet(const dynofa_model *m, const plan *p) {
    return (dynofa_subnet){
        .struct_size = sizeof(dynofa_subnet),
        .resolution = p->n.resolution,
        .slots = m->space.slots,
        .stages = m->space.stages,
        .kernels = p->n.kernels,
        .expands = p->n.expands,
        .depths = p->n.depths,
    };
}

const char *dynofa_model_kernel(const dynofa_model *model, uint32_t i) {
    if (model == NULL)
        return NULL;
    if (model->backend != NULL)
        return model->backend->kernel(i);
    const dynk_table *t = &model->table;
    const dynk_kernel *const all[] = {
        &t->stem[0],      &t->stem[1],      &t->pointwise,    &t->dwconv[0][0],
        &t->dwconv[0][1], &t->dwconv[1][0], &t->dwconv[1][1], &t->dwconv[2][0],
        &t->dwconv[2][1], &t->dense,        &t->average,
    };
    return i < sizeof all / sizeof all[0] ? all[i]->name : NULL;
}

static void count_floats(void *to, uint32_t number, uint32_t channels) {
    (void)number;
    *(size_t *)to += 2 * (size_t)channels;
}

size_t norm_floats(const space *s, const subnet *n) {
    size_t floats = 0;
    norms_visit(s, n, count_floats, &floats);
    return floats;
}

dynofa_status dynofa_model_norm_floats(const dynofa_model *model, const dynofa_subnet *subnet,
                                       size_t *floats) {
    failure *f = thread_failure();
    if (model == NULL || floats == NULL || !subnet_complete(subnet))
        return fail(f, DYNOFA_E_ARGUMENT,
                    "norm floats: model, floats or a part of subnet is NULL, "
                    "or subnet.struct_size is not set");
    /* 8.25 KiB of stack: room for the largest legal space. */
    uint32_t kernels[MAX_SLOTS], expands[MAX_SLOTS], depths[MAX_STAGES];
    struct subnet n = {0, kernels, expands, depths};
    dynofa_status status = subnet_read(&model->space, subnet, true, &n, f);
    if (status == DYNOFA_OK)
        *floats = norm_floats(&model->space, &n);
    return status;
}
