#include "space.h"

#include <string.h>

/* ---- Reading ----------------------------------------------------------------------------------*/

/* A field being read: where it is, for messages, and where the first complaint goes. */
typedef struct reader {
    json *j;
    failure *f;
    dynofa_status status;
    const char *field; /* of the object around, with a dot, or "" */
} reader;

/* Keeps the first complaint. */
#define COMPLAIN(r, ...)                                                                           \
    ((r)->status == DYNOFA_OK ? (void)((r)->status = fail((r)->f, DYNOFA_E_FORMAT, __VA_ARGS__))   \
                              : (void)0)

/* Several fields that are both missing and malformed end here, with a sentence. */
static void malformed(reader *r, const char *name) {
    COMPLAIN(r, "space: %s%s at byte %zu of the metadata: expected %s", r->field, name,
             (size_t)(r->j->at - r->j->start), r->j->wrong == NULL ? "a value" : r->j->wrong);
}

static void read_int(reader *r, const char *name, int64_t low, int64_t high, uint32_t *out) {
    int64_t v;
    if (!json_integer(r->j, &v))
        malformed(r, name);
    else if (v < low || v > high)
        COMPLAIN(r, "space: %s%s is %lld, expected %lld to %lld", r->field, name, (long long)v,
                 (long long)low, (long long)high);
    else
        *out = (uint32_t)v;
}

static void read_bool(reader *r, const char *name, bool *out) {
    if (!json_bool(r->j, out))
        malformed(r, name);
}

static void read_act(reader *r, const char *name, dynk_act *out) {
    span s;
    if (!json_string(r->j, &s))
        malformed(r, name);
    else if (span_is(s, "relu"))
        *out = DYNK_ACT_RELU;
    else if (span_is(s, "relu6"))
        *out = DYNK_ACT_RELU6;
    else if (span_is(s, "h_swish"))
        *out = DYNK_ACT_HSWISH;
    else
        COMPLAIN(r, "space: %s%s is \"%.*s\", expected relu, relu6 or h_swish", r->field, name,
                 (int)size_min(s.size, 40), s.at);
}

/* An ascending list of low..high with at most `room` values. */
static void read_list(reader *r, const char *name, int64_t low, int64_t high, uint16_t *value,
                      uint32_t room, uint32_t *count) {
    bool first = true;
    *count = 0;
    if (json_open(r->j, '['))
        while (json_item(r->j, &first)) {
            int64_t v;
            if (!json_integer(r->j, &v))
                break;
            if (v < low || v > high || *count == room || (*count > 0 && v <= value[*count - 1])) {
                COMPLAIN(
                    r,
                    "space: %s%s has %lld in place %u, expected an ascending list of %lld to %lld",
                    r->field, name, (long long)v, (unsigned)*count, (long long)low,
                    (long long)high);
                return;
            }
            value[(*count)++] = (uint16_t)v;
        }
    if (r->j->wrong != NULL)
        malformed(r, name);
    else if (*count == 0)
        COMPLAIN(r, "space: %s%s is empty, expected at least one value", r->field, name);
}

static void read_few(reader *r, const char *name, int64_t low, int64_t high, few *out) {
    read_list(r, name, low, high, out->value, MAX_DEPTH, &out->count);
}

typedef void (*field_fn)(reader *r, span key, void *to);

static void read_object(reader *r, const char *field, field_fn read, void *to) {
    const char *around = r->field;
    json_fields seen = {0};
    span key;
    r->field = field;
    if (json_open(r->j, '{'))
        while (r->status == DYNOFA_OK && json_field(r->j, &seen, &key))
            read(r, key, to);
    if (r->j->wrong != NULL)
        malformed(r, "");
    r->field = around;
}

static void skip(reader *r) {
    if (!json_skip(r->j))
        malformed(r, "");
}

static void stem_field(reader *r, span key, void *to) {
    space *s = to;
    if (span_is(key, "channels"))
        read_int(r, "channels", 1, MAX_CHANNELS, &s->stem_channels);
    else if (span_is(key, "stride"))
        read_int(r, "stride", 1, 2, &s->stem_stride);
    else if (span_is(key, "act"))
        read_act(r, "act", &s->stem_act);
    else
        skip(r);
}

static void first_field(reader *r, span key, void *to) {
    space *s = to;
    if (span_is(key, "channels"))
        read_int(r, "channels", 1, MAX_CHANNELS, &s->first_channels);
    else if (span_is(key, "stride"))
        read_int(r, "stride", 1, 2, &s->first_stride);
    else if (span_is(key, "act"))
        read_act(r, "act", &s->first_act);
    else if (span_is(key, "se"))
        read_bool(r, "se", &s->first_se);
    else if (span_is(key, "residual"))
        read_bool(r, "residual", &s->first_residual);
    else
        skip(r);
}

static void stage_field(reader *r, span key, void *to) {
    stage *s = to;
    if (span_is(key, "channels"))
        read_int(r, "channels", 1, MAX_CHANNELS, &s->channels);
    else if (span_is(key, "stride"))
        read_int(r, "stride", 1, 2, &s->stride);
    else if (span_is(key, "act"))
        read_act(r, "act", &s->act);
    else if (span_is(key, "se"))
        read_bool(r, "se", &s->se);
    else if (span_is(key, "depths"))
        read_few(r, "depths", 1, MAX_DEPTH, &s->depths);
    else
        skip(r);
}

static void head_field(reader *r, span key, void *to) {
    space *s = to;
    if (span_is(key, "expand"))
        read_int(r, "expand", 0, MAX_CHANNELS, &s->head_expand);
    else if (span_is(key, "features"))
        read_int(r, "features", 1, MAX_CHANNELS, &s->head_features);
    else if (span_is(key, "act"))
        read_act(r, "act", &s->head_act);
    else
        skip(r);
}

static void read_stages(reader *r, space *s) {
    bool first = true;
    s->stages = 0;
    if (json_open(r->j, '['))
        while (r->status == DYNOFA_OK && json_item(r->j, &first)) {
            if (s->stages == MAX_STAGES) {
                COMPLAIN(r, "space: stages has more than %d entries", MAX_STAGES);
                return;
            }
            memset(&s->stage[s->stages], 0, sizeof s->stage[0]);
            read_object(r, "stages[].", stage_field, &s->stage[s->stages]);
            s->stages++;
        }
    if (r->j->wrong != NULL)
        malformed(r, "stages");
}

static void space_field(reader *r, span key, void *to) {
    space *s = to;
    if (span_is(key, "classes")) {
        read_int(r, "classes", 1, MAX_CLASSES, &s->classes);
    } else if (span_is(key, "bn_eps")) {
        if (!json_number(r->j, &s->bn_eps))
            malformed(r, "bn_eps");
    } else if (span_is(key, "stem")) {
        read_object(r, "stem.", stem_field, s);
    } else if (span_is(key, "first")) {
        read_object(r, "first.", first_field, s);
    } else if (span_is(key, "stages")) {
        read_stages(r, s);
    } else if (span_is(key, "head")) {
        read_object(r, "head.", head_field, s);
    } else if (span_is(key, "kernels")) {
        read_few(r, "kernels", 3, 7, &s->kernels);
    } else if (span_is(key, "expands")) {
        read_few(r, "expands", 1, MAX_EXPAND, &s->expands);
    } else if (span_is(key, "resolutions")) {
        read_list(r, "resolutions", 1, MAX_RESOLUTION, s->resolutions.value, MAX_RESOLUTION,
                  &s->resolutions.count);
    } else {
        skip(r);
    }
}

/* What a missing field or a combination of fields makes illegal. */
static void check_space(reader *r, const space *s) {
    const struct {
        const char *field;
        bool there;
    } needed[] = {
        {"classes", s->classes > 0},
        {"stem.channels", s->stem_channels > 0},
        {"stem.stride", s->stem_stride > 0},
        {"stem.act", s->stem_act != DYNK_ACT_NONE},
        {"first.channels", s->first_channels > 0},
        {"first.stride", s->first_stride > 0},
        {"first.act", s->first_act != DYNK_ACT_NONE},
        {"stages", s->stages > 0},
        {"head.features", s->head_features > 0},
        {"head.act", s->head_act != DYNK_ACT_NONE},
        {"kernels", s->kernels.count > 0},
        {"expands", s->expands.count > 0},
        {"resolutions", s->resolutions.count > 0},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!needed[i].there)
            COMPLAIN(r, "space: %s is missing or empty", needed[i].field);
    for (uint32_t i = 0; i < s->stages; i++) {
        const stage *t = &s->stage[i];
        if (t->channels == 0 || t->stride == 0 || t->act == DYNK_ACT_NONE || t->depths.count == 0)
            COMPLAIN(r, "space: stages[%u] lacks channels, stride, act or depths", (unsigned)i);
    }
    for (uint32_t i = 0; i < s->kernels.count; i++)
        if (s->kernels.value[i] % 2 == 0)
            COMPLAIN(r, "space: kernels has %u, expected 3, 5 and 7",
                     (unsigned)s->kernels.value[i]);
    if (!(s->bn_eps > 0 && s->bn_eps < 1))
        COMPLAIN(r, "space: bn_eps is %g, expected a number between 0 and 1", s->bn_eps);
    if (s->first_residual && (s->first_stride != 1 || s->first_channels != s->stem_channels))
        COMPLAIN(r, "space: first.residual is true, expected false unless the stride is 1 and the "
                    "channels are the stem's");
}

dynofa_status space_read(space *s, json *j, failure *f) {
    reader r = {j, f, DYNOFA_OK, ""};
    memset(s, 0, sizeof *s);
    read_object(&r, "", space_field, s);
    if (r.status == DYNOFA_OK)
        check_space(&r, s);
    if (r.status != DYNOFA_OK)
        return r.status;
    for (uint32_t i = 0; i < s->stages; i++)
        s->slots += s->stage[i].depths.value[s->stage[i].depths.count - 1];
    s->max_kernel = s->kernels.value[s->kernels.count - 1];
    s->max_expand = s->expands.value[s->expands.count - 1];
    s->max_resolution = s->resolutions.value[s->resolutions.count - 1];
    return DYNOFA_OK;
}

/* ---- Sub-networks -----------------------------------------------------------------------------*/

static uint32_t max_depth(const stage *t) {
    return t->depths.value[t->depths.count - 1];
}

void space_largest(const space *s, uint32_t resolution, subnet *n) {
    n->resolution = resolution;
    for (uint32_t i = 0; i < s->slots; i++) {
        n->kernels[i] = s->max_kernel;
        n->expands[i] = s->max_expand;
    }
    for (uint32_t i = 0; i < s->stages; i++)
        n->depths[i] = max_depth(&s->stage[i]);
}

static bool among(const uint16_t *value, uint32_t count, uint32_t v) {
    for (uint32_t i = 0; i < count; i++)
        if (value[i] == v)
            return true;
    return false;
}

static dynofa_status illegal(failure *f, const char *field, uint32_t at, uint32_t v,
                             const uint16_t *value, uint32_t count) {
    return fail(f, DYNOFA_E_SUBNET,
                "sub-network: %s[%u] is %u, expected one of %u values from %u to %u", field,
                (unsigned)at, (unsigned)v, (unsigned)count, (unsigned)value[0],
                (unsigned)value[count - 1]);
}

dynofa_status subnet_read(const space *s, const dynofa_subnet *from, bool any_side, subnet *n,
                          failure *f) {
    if (from->slots != s->slots || from->stages != s->stages)
        return fail(f, DYNOFA_E_SUBNET,
                    "sub-network: %u slots and %u stages, expected the space's %u and %u",
                    (unsigned)from->slots, (unsigned)from->stages, (unsigned)s->slots,
                    (unsigned)s->stages);
    for (uint32_t i = 0, slot = 0; i < s->stages; i++) {
        const few *depths = &s->stage[i].depths;
        if (!among(depths->value, depths->count, from->depths[i]))
            return illegal(f, "d", i, from->depths[i], depths->value, depths->count);
        n->depths[i] = from->depths[i];
        for (uint32_t j = 0; j < max_depth(&s->stage[i]); j++, slot++) {
            uint32_t k = from->kernels[slot], e = from->expands[slot];
            if (!among(s->kernels.value, s->kernels.count, k))
                return illegal(f, "ks", slot, k, s->kernels.value, s->kernels.count);
            if (!among(s->expands.value, s->expands.count, e))
                return illegal(f, "e", slot, e, s->expands.value, s->expands.count);
            bool kept = j < from->depths[i];
            n->kernels[slot] = kept ? k : s->kernels.value[0];
            n->expands[slot] = kept ? e : s->expands.value[0];
        }
    }
    if (any_side ? from->resolution < 1 || from->resolution > MAX_RESOLUTION
                 : !among(s->resolutions.value, s->resolutions.count, from->resolution))
        return fail(f, DYNOFA_E_SUBNET, "sub-network: r is %u, expected %s %u to %u",
                    (unsigned)from->resolution, any_side ? "" : "a resolution of the space,",
                    any_side ? 1U : (unsigned)s->resolutions.value[0],
                    any_side ? (unsigned)MAX_RESOLUTION : (unsigned)s->max_resolution);
    n->resolution = from->resolution;
    return DYNOFA_OK;
}

static bool equal(const uint32_t *a, const uint32_t *b, uint32_t count) {
    return memcmp(a, b, count * sizeof *a) == 0;
}

bool subnet_equal(const space *s, const subnet *a, const subnet *b) {
    return a->resolution == b->resolution && equal(a->kernels, b->kernels, s->slots) &&
           equal(a->expands, b->expands, s->slots) && equal(a->depths, b->depths, s->stages);
}

void subnet_copy(const space *s, subnet *to, const subnet *from) {
    to->resolution = from->resolution;
    memcpy(to->kernels, from->kernels, s->slots * sizeof *to->kernels);
    memcpy(to->expands, from->expands, s->slots * sizeof *to->expands);
    memcpy(to->depths, from->depths, s->stages * sizeof *to->depths);
}

/* MobileNets round channel counts to multiples of 8: to the nearest, at least 8, and up once more
 * if that lost over a tenth. In integers: below 0.9 v. */
static uint32_t divisible(uint32_t v) {
    uint32_t n = (v + 4) / 8 * 8;
    if (n < 8)
        n = 8;
    return 10 * n < 9 * v ? n + 8 : n;
}

static uint32_t squeeze_of(uint32_t mid) {
    return divisible(mid / 4);
}

bool block_next(block_walk *w) {
    const space *s = w->s;
    if (!w->started) {
        uint32_t side = strided(w->n->resolution, s->stem_stride);
        uint32_t squeeze = s->first_se ? squeeze_of(s->stem_channels) : 0;
        w->started = true;
        w->b = (block){
            .in = s->stem_channels,
            .mid = s->stem_channels,
            .max_mid = s->stem_channels,
            .out = s->first_channels,
            .squeeze = squeeze,
            .max_squeeze = squeeze,
            .kernel = 3,
            .stride = s->first_stride,
            .act = s->first_act,
            .residual = s->first_residual,
            .in_side = side,
            .out_side = strided(side, s->first_stride),
        };
        return true;
    }
    if (w->stage < s->stages && w->depth == w->n->depths[w->stage]) {
        w->slot += max_depth(&s->stage[w->stage]);
        w->stage++;
        w->depth = 0;
    }
    if (w->stage == s->stages)
        return false;
    const stage *t = &s->stage[w->stage];
    uint32_t slot = w->slot + w->depth, in = w->b.out, side = w->b.out_side;
    uint32_t stride = w->depth == 0 ? t->stride : 1;
    uint32_t mid = divisible(in * w->n->expands[slot]), max_mid = divisible(in * s->max_expand);
    w->b = (block){
        .index = 1 + slot,
        .in = in,
        .mid = mid,
        .max_mid = max_mid,
        .out = t->channels,
        .squeeze = t->se ? squeeze_of(mid) : 0,
        .max_squeeze = t->se ? squeeze_of(max_mid) : 0,
        .kernel = w->n->kernels[slot],
        .stride = stride,
        .act = t->act,
        .expand = true,
        .residual = stride == 1 && in == t->channels,
        .in_side = side,
        .out_side = strided(side, stride),
    };
    w->depth++;
    return true;
}

void space_cost(const space *s, const subnet *n, uint64_t *macs, uint64_t *params) {
    uint64_t m = 0, p = 0, side = strided(n->resolution, s->stem_stride);
    /* A convolution without bias over `area` pixels, and the weight and bias of `norm` channels. */
#define CONV(weights, area, norm)                                                                  \
    (m += (uint64_t)(weights) * (area), p += (uint64_t)(weights) + 2 * (uint64_t)(norm))
    CONV(27 * s->stem_channels, side * side, s->stem_channels);
    block_walk w = {.s = s, .n = n};
    while (block_next(&w)) {
        const block *b = &w.b;
        uint64_t in = (uint64_t)b->in_side * b->in_side, out = (uint64_t)b->out_side * b->out_side;
        if (b->expand)
            CONV((uint64_t)b->in * b->mid, in, b->mid);
        CONV((uint64_t)b->kernel * b->kernel * b->mid, out, b->mid);
        if (b->squeeze > 0) {
            CONV(2 * (uint64_t)b->mid * b->squeeze, 1, 0);
            p += b->mid + b->squeeze;
        }
        CONV((uint64_t)b->mid * b->out, out, b->out);
    }
    uint64_t last = w.b.out, area = (uint64_t)w.b.out_side * w.b.out_side;
    if (s->head_expand > 0) {
        CONV(last * s->head_expand, area, s->head_expand);
        CONV((uint64_t)s->head_expand * s->head_features, 1, 0);
    } else {
        CONV(last * s->head_features, area, s->head_features);
    }
    CONV((uint64_t)s->head_features * s->classes, 1, 0);
#undef CONV
    *macs = m;
    *params = p + s->classes;
}
