#include "model.h"

void norms_visit(const space *s, const subnet *n, norm_visitor visit, void *to) {
    block_walk w = {.s = s, .n = n};
    visit(to, 0, s->stem_channels);
    while (block_next(&w)) {
        uint32_t number = norm_of(w.b.index);
        if (w.b.expand)
            visit(to, number++, w.b.mid);
        visit(to, number, w.b.mid);
        visit(to, number + 1, w.b.out);
    }
    visit(to, norm_of(1 + s->slots), s->head_expand > 0 ? s->head_expand : s->head_features);
}

static void *carve_bytes(carver *c, size_t size) {
    return carve(c, ceil_div(size, sizeof(float)));
}

void subnet_carve(const space *s, carver *c, subnet *n) {
    n->kernels = carve_bytes(c, s->slots * sizeof *n->kernels);
    n->expands = carve_bytes(c, s->slots * sizeof *n->expands);
    n->depths = carve_bytes(c, s->stages * sizeof *n->depths);
}

void plan_carve(const space *s, carver *c, plan *p) {
    subnet_carve(s, c, &p->n);
    p->block = carve_bytes(c, (1 + s->slots) * sizeof *p->block);
}

/* FNV-1a over numbers. */
static uint64_t mix(uint64_t h, const uint32_t *v, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        h = (h ^ v[i]) * 0x100000001b3u;
    return h;
}

typedef struct norm_source {
    const affine *own, *supernet;
} norm_source;

static affine next_norm(norm_source *from, uint32_t number) {
    return from->own != NULL ? *from->own++ : from->supernet[number];
}

void plan_build(const dynofa_model *m, plan *p, const affine *norms, uint64_t tag) {
    const space *s = &m->space;
    norm_source from = {norms, m->norm};
    block_walk w = {.s = s, .n = &p->n};
    uint64_t params;
    p->stem = next_norm(&from, 0);
    p->blocks = 0;
    while (block_next(&w)) {
        plan_block *pb = &p->block[p->blocks++];
        uint32_t number = norm_of(w.b.index);
        *pb = (plan_block){.b = w.b, .w = &m->block[w.b.index]};
        if (w.b.expand)
            pb->expand = next_norm(&from, number++);
        pb->depthwise = next_norm(&from, number);
        pb->project = next_norm(&from, number + 1);
    }
    p->head = next_norm(&from, norm_of(1 + s->slots));
    p->last_side = w.b.out_side;
    p->last_channels = w.b.out;
    space_cost(s, &p->n, &p->macs, &params);
    uint64_t h = mix(0xcbf29ce484222325u ^ tag, &p->n.resolution, 1);
    h = mix(h, p->n.kernels, s->slots);
    h = mix(h, p->n.expands, s->slots);
    p->id = mix(h, p->n.depths, s->stages);
}
