/* checkcuda: every CUDA kernel, in the emulator, against kernels/ref. See ../README.md.
 *
 * Element by element with the bounds of kernels/tests/check.h, over shapes with tails and batches,
 * in every order of threads, whose bits have to agree. Every array ends at a page that cannot be
 * touched; inputs are read-only, and NaN where the contract names no element; outputs are
 * pre-filled, and what the contract does not name must be unchanged. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kernels/tests/check.h"
#include "dync.h"
#include "emulator.h"
#include "ptx.h"

/* PTX that is run beside the kernels, and what that asks for. */
enum { MOST_MODULES = 4 };
static ptx_module *modules[MOST_MODULES];
static ptx_counts counts;

static size_t round4(size_t n) {
    return (n + 3) / 4 * 4;
}

static uint32_t upto(check *c, uint32_t most) {
    return (uint32_t)random_upto(c, most);
}
static int one_in(check *c, uint32_t n) {
    return upto(c, n) == 1;
}

/* Rows of `width` floats, `pitch` apart, ending with a float4. All others are NaN. */
static buffer input(check *c, size_t rows, size_t width, size_t pitch, data kind) {
    buffer b = buffer_new(c, round4((rows - 1) * pitch + width), 0, 0);
    buffer_fill(c, b, kind);
    if (kind == DATA_NAN && one_in(c, 2))
        b.p[0] = NAN; /* which kernels load instead of what is not there, and have to drop */
    for (size_t r = 0; r < rows; r++) {
        size_t from = r * pitch + width, to = r + 1 < rows ? (r + 1) * pitch : b.n;
        memset(b.p + from, 0xFF, (to - from) * sizeof(float));
    }
    buffer_protect(b);
    return b;
}

/* What the contract calls scalar may begin anywhere. */
static buffer scalars(check *c, size_t n, data kind) {
    buffer b = buffer_new(c, n, 0, 0);
    buffer_fill(c, b, kind);
    buffer_protect(b);
    return b;
}

static buffer output(check *c, size_t n) {
    buffer b = buffer_new(c, round4(n), 0, 0);
    if (c->cases % 2 == 1)
        memset(b.map, 0xFF, b.bytes);
    return b;
}

/* An output of the kernel under test, and what is expected of it. */
typedef struct result {
    layout l;
    double roundings;
    float **at; /* of the arguments: where they point to it */
    buffer y, want, magnitude;
} result;

static result result_of(check *c, float **at, layout l, double roundings) {
    size_t n = l.rows * l.cols * l.width, last = (l.rows - 1) * l.y_row + (l.cols - 1) * l.y_pix;
    result r = {l,
                roundings + EXTRA_ROUNDINGS,
                at,
                output(c, last + l.width),
                buffer_new(c, n, 0, 0),
                buffer_new(c, n, 0, 0)};
    return r;
}

typedef struct job {
    dync_launch launch;
    const void *args;
    emulator_order order;
    const char *wrong;
    const ptx_entry *ptx; /* to be run instead, or NULL */
} job;

static void *anywhere(uint64_t address, size_t bytes) {
    (void)bytes;
    return (void *)(uintptr_t)address;
}

static void launch(const dynk_kernel *kernel, const void *args) {
    job *j = *(job *const *)args;
    (void)kernel;
    if (j->ptx != NULL)
        j->wrong = ptx_launch(j->ptx, j->args, j->launch.grid, j->launch.threads, j->launch.shared,
                              j->order, anywhere, &counts);
    else
        j->wrong = emulator_launch(emulator_kernel_at(j->launch.entry), j->args, j->launch.grid,
                                   j->launch.threads, j->launch.shared, j->order);
}

/* The same bits, but for those of a NaN, which the host's compiler chooses. */
static void compare_numbers(check *c, buffer kernel, buffer ptx) {
    const float *a = (const float *)(const void *)kernel.map, *b = (const float *)(void *)ptx.map;
    for (size_t i = 0; i < kernel.bytes / sizeof *a; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && (!isnan(a[i]) || !isnan(b[i]))) {
            fault(c, "the PTX gives %.9g, the kernel %.9g", (double)b[i], (double)a[i]);
            return;
        }
}

/* Runs the kernel in every order: the first is compared with what is wanted, the others with the
 * first. */
static void run(check *c, dync_launch l, const void *args, result *results, size_t count) {
    buffer first[2], before[2];
    for (size_t i = 0; i < count; i++)
        before[i] = buffer_clone(c, results[i].y);
    const ptx_entry *ptx = NULL;
    for (size_t i = 0; i < MOST_MODULES && modules[i] != NULL && ptx == NULL; i++)
        ptx = ptx_find(modules[i], emulator_kernel_at(l.entry)->name);
    if (modules[0] != NULL && ptx == NULL)
        fault(c, "the PTX has no %s", emulator_kernel_at(l.entry)->name);
    for (int order = 0; order < EMULATOR_ORDERS * (ptx != NULL ? 2 : 1); order++) {
        job j = {l, args, (emulator_order)(order % EMULATOR_ORDERS), NULL,
                 order < EMULATOR_ORDERS ? NULL : ptx};
        job *argument = &j;
        for (size_t i = 0; i < count; i++) {
            buffer y = order == 0 ? results[i].y : buffer_clone(c, before[i]);
            *results[i].at = y.p;
            if (order == 0)
                first[i] = y;
            results[i].y = y;
        }
        if (!run_guarded(c, launch, &argument))
            return;
        if (j.wrong != NULL)
            fault(c, "%s", j.wrong);
        for (size_t i = 0; i < count; i++) {
            result *r = &results[i];
            if (order == 0)
                compare(c, r->y, before[i], r->l, r->want.p, r->magnitude.p, r->roundings);
            else
                order < EMULATOR_ORDERS
                    ? compare_bits(c, first[i], r->y, "another order of threads")
                    : compare_numbers(c, first[i], r->y);
        }
    }
}

static uint32_t gap(check *c) {
    return one_in(c, 2) ? 0 : 4 * upto(c, 3);
}
static uint32_t pitch_of(check *c, uint32_t channels) {
    return (uint32_t)round4(channels) + gap(c);
}

/* Runs reference() twice: for the wanted values, and with absolute inputs for the magnitudes. */
#define ABS(pointer, b) ((pointer) != NULL ? buffer_abs(c, b).p : NULL)

/* The reference skips taps in the padding, kernels count them as zeros: the same for all weights
 * but NaN. */
static data weights_of(data kind) {
    return kind == DATA_NAN ? DATA_RANDOM : kind;
}

/* ---- Stem -------------------------------------------------------------------------------------*/

static void ref_stem(const dync_stem_args *a, float *y, uint32_t act) {
    const uint32_t out = dync_ceil_div(a->side, a->stride);
    const float **rows = malloc((a->side + 4) * sizeof *rows);
    for (uint32_t image = 0; image < a->n; image++) {
        for (uint32_t r = 0; r < a->side + 4; r++)
            rows[r] = r >= 1 && r <= a->side
                          ? a->x + ((size_t)image * a->side + r - 1) * a->side * 3
                          : NULL;
        dynk_stem_f32_ref(&(dynk_stem_args){
            .rows = rows,
            .weight = a->weight,
            .scale = a->scale,
            .shift = a->shift,
            .y = y + (size_t)image * out * out * a->channels,
            .width = a->side,
            .out_rows = out,
            .channels = a->channels,
            .w_panel = a->w_panel,
            .y_row = (size_t)out * a->channels,
            .y_pix = a->channels,
            .stride = a->stride,
            .act = (dynk_act)act,
        });
    }
    free(rows);
}

static void try_stem(check *c, uint32_t side, uint32_t channels, uint32_t stride) {
    const data kind = (data)(random_next(c) % DATA_KINDS);
    dync_stem_args a = {.n = upto(c, 2),
                        .side = side,
                        .channels = channels,
                        .stride = stride,
                        .y_pix = pitch_of(c, channels),
                        .w_panel = 27 * DYNK_PANEL + gap(c),
                        .act = (uint32_t)(random_next(c) % DYNK_ACT_HSIGMOID)};
    const uint32_t panels = dync_ceil_div(channels, DYNK_PANEL), out = dync_ceil_div(side, stride);
    buffer x = scalars(c, (size_t)a.n * side * side * 3, kind);
    buffer weight = input(c, panels, 27 * DYNK_PANEL, a.w_panel, weights_of(kind));
    buffer scale = input(c, 1, channels, channels, kind);
    buffer shift = input(c, 1, channels, channels, kind);
    layout l = {1, a.n * out * out, channels, 0, a.y_pix, (dynk_act)a.act};
    result r = result_of(c, &a.y, l, 27);
    dync_stem_args ref = a;
    a.x = ref.x = x.p;
    a.weight = ref.weight = weight.p;
    a.scale = ref.scale = scale.p;
    a.shift = ref.shift = shift.p;
    ref_stem(&ref, r.want.p, a.act);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, scale).p;
    ref.shift = buffer_abs(c, shift).p;
    ref_stem(&ref, r.magnitude.p, DYNK_ACT_NONE);
    run(c, dync_stem_launch(&a), &a, &r, 1);
}

/* ---- Pointwise --------------------------------------------------------------------------------*/

static void ref_pointwise(const dync_pointwise_args *a, float *y, uint32_t act) {
    for (uint32_t from = 0; from < a->pixels; from += a->area)
        dynk_pointwise_f32_ref(&(dynk_pointwise_args){
            .x = a->x + (size_t)from * a->x_pix,
            .weight = a->weight,
            .scale = a->scale,
            .shift = a->shift,
            .gate = a->gate == NULL ? NULL : a->gate + (size_t)(from / a->area) * a->gate_image,
            .residual = a->residual == NULL ? NULL : a->residual + (size_t)from * a->r_pix,
            .y = y + (size_t)from * a->out,
            .pixels = a->area,
            .in = a->in,
            .out = a->out,
            .x_pix = a->x_pix,
            .y_pix = a->out,
            .r_pix = a->r_pix,
            .w_panel = a->w_panel,
            .act = (dynk_act)act,
        });
}

/* Arguments at random, in arrays of a kind. */
typedef struct pointwise_case {
    data kind;
    dync_pointwise_args a;
    buffer x, weight, scale, shift, gate, residual;
    result r;
} pointwise_case;

static void draw_pointwise(check *c, pointwise_case *p, data gates, uint32_t n, uint32_t area,
                           uint32_t in, uint32_t out) {
    const data kind = p->kind;
    const uint32_t panels = dync_ceil_div(out, DYNK_PANEL);
    dync_pointwise_args *a = &p->a;
    *a = (dync_pointwise_args){.pixels = n * area,
                               .area = area,
                               .in = in,
                               .out = out,
                               .x_pix = pitch_of(c, in),
                               .y_pix = pitch_of(c, out),
                               .r_pix = pitch_of(c, out),
                               .w_panel = (in + gap(c)) * DYNK_PANEL,
                               .gate_image = pitch_of(c, in),
                               .act = (uint32_t)(random_next(c) % DYNK_ACT_HSIGMOID)};
    p->x = input(c, a->pixels, in, a->x_pix, kind);
    p->weight = input(c, panels, (size_t)in * DYNK_PANEL, a->w_panel, kind);
    p->scale = input(c, 1, out, out, kind);
    p->shift = input(c, 1, out, out, kind);
    p->gate = input(c, n, in, a->gate_image, gates);
    p->residual = input(c, a->pixels, out, a->r_pix, kind);
    p->r = result_of(c, &a->y, (layout){1, a->pixels, out, 0, a->y_pix, (dynk_act)a->act}, in);
    a->x = p->x.p;
    a->weight = p->weight.p;
    a->scale = p->scale.p;
    a->shift = p->shift.p;
    a->gate = one_in(c, 2) ? p->gate.p : NULL;
    a->residual = one_in(c, 2) ? p->residual.p : NULL;
}

/* What is wanted, and its magnitude, of factors x and weights; with the case's gate, or none. */
static void want_pointwise(check *c, const pointwise_case *p, buffer x, buffer weight, int gated) {
    dync_pointwise_args ref = p->a;
    ref.x = x.p;
    ref.weight = weight.p;
    ref.gate = gated ? p->a.gate : NULL;
    ref_pointwise(&ref, p->r.want.p, ref.act);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, p->scale).p;
    ref.shift = buffer_abs(c, p->shift).p;
    ref.gate = ABS(ref.gate, p->gate);
    ref.residual = ABS(p->a.residual, p->residual);
    ref_pointwise(&ref, p->r.magnitude.p, DYNK_ACT_NONE);
}

static void run_pointwise(check *c, pointwise_case *p, dync_entry tile, dync_precision precision) {
    run(c,
        tile == DYNC_ENTRIES ? dync_pointwise_launch(&p->a, precision)
                             : dync_pointwise_tiled(&p->a, tile),
        &p->a, &p->r, 1);
}

static void try_pointwise(check *c, dync_entry tile, uint32_t n, uint32_t area, uint32_t in,
                          uint32_t out) {
    pointwise_case p = {.kind = (data)(random_next(c) % DATA_KINDS)};
    draw_pointwise(c, &p, p.kind, n, area, in, out);
    want_pointwise(c, &p, p.x, p.weight, 1);
    run_pointwise(c, &p, tile, DYNC_FP32);
}

/* ---- Pointwise on tensor cores ----------------------------------------------------------------*/

/* Two comparisons.
 *
 * With factors that are rounded here, by other means than the emulator's, the reference and the
 * kernel differ as any two orders of a sum do: products of 11 bits are exact in float32. That finds
 * a rounding that is missing, or in the wrong place.
 *
 * With factors as they are, what is added is the rounding: both formats keep 11 bits, so a factor
 * is off by at most e = 2^-11 of itself, a product by 2e + e^2, that is 2^14 + 4 units of 2^-24,
 * and the sum by that of the magnitude. Halves that are not normal are off by up to 2^-25 instead,
 * a product by that times the other factor, which is at most 1, or 2^10 in the worst data. */
static const double TENSOR_ROUNDINGS = 0x1p14 + 4;

static float rounded(float v, dync_precision to) {
    const int least = to == DYNC_TF32 ? -126 : -14; /* exponent of a normal number */
    int exponent;
    if (v == 0 || !isfinite(v))
        return v;
    frexpf(v, &exponent); /* of a number from 1/2 on */
    const int unit = (exponent - 1 > least ? exponent - 1 : least) - 10;
    const double units = ldexp((double)v, -unit);
    const double near = ldexp(to == DYNC_TF32 ? round(units) : nearbyint(units), unit);
    return to == DYNC_FP16 && fabs(near) > 65504 ? copysignf(INFINITY, v) : (float)near;
}

static float half_value(uint32_t bits) {
    const int exponent = bits >> 10 & 31, hidden = exponent > 0 ? 1024 : 0;
    const float v = ldexpf((float)(hidden + (int)(bits & 1023)), (hidden ? exponent : 1) - 25);
    if (exponent == 31)
        return bits & 1023 ? NAN : copysignf(INFINITY, bits & 0x8000 ? -1 : 1);
    return bits & 0x8000 ? -v : v;
}

/* The emulator's formats, at random and around what lies halfway between two of their numbers. */
static void try_format(check *c, uint32_t precision) {
    for (uint32_t i = 0; i < 1 << 20 && c->fault == NULL; i++) {
        uint32_t bits = (uint32_t)random_next(c);
        float v, got;
        if (i % 2 == 0)
            bits = (bits & ~0x1FFFU) + 0x1000 + upto(c, 3) - 2;
        memcpy(&v, &bits, sizeof v);
        if (precision == DYNC_FP16 && i % 4 < 2) /* from below the least to above the greatest */
            v = ldexpf(frexpf(v, &(int){0}), (int)upto(c, 44) - 27);
        if (precision == DYNC_FP16 && i % 4 == 3)
            v = nextafterf(ldexpf((float)upto(c, 4096), -25), (float)upto(c, 2) - 1);
        const float want = rounded(v, (dync_precision)precision);
        const uint32_t word = precision == DYNC_FP16 ? emulator_fp16(v) : emulator_tf32(v);
        memcpy(&got, &word, sizeof got);
        if (precision == DYNC_FP16)
            got = half_value(word);
        if (isnan(want) ? !isnan(got) : memcmp(&got, &want, sizeof got) != 0)
            fault(c, "%.9g becomes %.9g, expected %.9g", (double)v, (double)got, (double)want);
    }
}

/* Rounds an input of rows that are `pitch` apart; with a gate, its product with that. */
static buffer rounded_input(check *c, buffer from, dync_precision to, const float *gate,
                            const dync_pointwise_args *a) {
    buffer b = buffer_clone(c, from);
    for (size_t i = 0; i < b.n; i++) {
        const size_t row = i / a->x_pix, k = i % a->x_pix;
        if (gate != NULL && k < a->in)
            b.p[i] *= gate[row / a->area * a->gate_image + k];
        b.p[i] = rounded(b.p[i], to);
    }
    return b;
}

static void try_tensor(check *c, uint32_t precision, uint32_t tile, uint32_t n, uint32_t area,
                       uint32_t in, uint32_t out) {
    pointwise_case p = {.kind = (data)(random_next(c) % DATA_KINDS)};
    /* Gates within 1, as they are: a product may not pass 65504. */
    draw_pointwise(c, &p, p.kind == DATA_WORST ? DATA_RANDOM : p.kind, n, area, in, out);
    buffer near_weight = buffer_clone(c, p.weight);
    for (size_t i = 0; i < near_weight.n; i++)
        near_weight.p[i] = rounded(near_weight.p[i], precision);
    want_pointwise(c, &p, rounded_input(c, p.x, precision, p.a.gate, &p.a), near_weight, 0);
    run_pointwise(c, &p, tile, precision);
    if (c->fault != NULL)
        return;

    want_pointwise(c, &p, p.x, p.weight, 1);
    const double factor = p.kind == DATA_WORST ? 0x1p10 : 1, added = 2 * 0x1p-25 * factor * in;
    for (size_t i = 0; precision == DYNC_FP16 && i < p.r.magnitude.n; i++)
        p.r.magnitude.p[i] +=
            fabsf(p.scale.p[i % out]) * (float)(added / TENSOR_ROUNDINGS * 0x1p24);
    compare(c, p.r.y, p.r.y, p.r.l, p.r.want.p, p.r.magnitude.p, p.r.roundings + TENSOR_ROUNDINGS);
}

/* ---- Depthwise --------------------------------------------------------------------------------*/

/* y and its sums, which the reference gives for all of an image. */
static void ref_depthwise(const dync_depthwise_args *a, float *y, float *sums, uint32_t act) {
    const uint32_t out = dync_ceil_div(a->side, a->stride), count = a->side + 2 * a->k;
    const float **rows = malloc(count * sizeof *rows);
    for (uint32_t image = 0; image < a->n; image++) {
        const float *x = a->x + (size_t)image * a->side * a->side * a->x_pix;
        for (uint32_t r = 0; r < count; r++)
            rows[r] = r >= a->k / 2 && r - a->k / 2 < a->side
                          ? x + (size_t)(r - a->k / 2) * a->side * a->x_pix
                          : NULL;
        dynk_dwconv_f32_ref(&(dynk_dwconv_args){
            .rows = rows,
            .weight = a->weight,
            .scale = a->scale,
            .shift = a->shift,
            .y = y + (size_t)image * out * out * a->channels,
            .sums = sums + (size_t)image * a->channels,
            .width = a->side,
            .out_rows = out,
            .channels = a->channels,
            .x_pix = a->x_pix,
            .y_row = (size_t)out * a->channels,
            .y_pix = a->channels,
            .k = a->k,
            .stride = a->stride,
            .act = (dynk_act)act,
        });
    }
    free(rows);
}

/* The sums of the kernel are of parts; they have to add up to those of the reference. */
static void check_sums(check *c, const dync_depthwise_args *a, const float *want,
                       const float *magnitude) {
    const uint32_t parts = dync_depthwise_parts(a->side, a->stride);
    const uint32_t out = dync_ceil_div(a->side, a->stride);
    const double roundings = a->k * a->k + EXTRA_ROUNDINGS + (double)out * out;
    for (uint32_t i = 0; i < a->n * a->channels; i++) {
        double sum = 0;
        for (uint32_t p = 0; p < parts; p++)
            sum +=
                (double)
                    a->sums[((size_t)i / a->channels * parts + p) * a->channels + i % a->channels];
        double bound = 1.5 * roundings * 0x1p-24 * (double)magnitude[i] + 0x1p-126;
        if (isnan(want[i]) ? !isnan(sum) : !(fabs(sum - (double)want[i]) <= bound))
            fault(c, "image %u, channel %u sums to %.9g, reference %.9g +- %.2g",
                  (unsigned)(i / a->channels), (unsigned)(i % a->channels), sum, (double)want[i],
                  bound);
    }
}

static void try_depthwise(check *c, uint32_t side, uint32_t channels, uint32_t k, uint32_t stride) {
    const data kind = (data)(random_next(c) % DATA_KINDS);
    const data weights = weights_of(kind);
    const uint32_t panels = dync_ceil_div(channels, DYNK_PANEL), out = dync_ceil_div(side, stride);
    dync_depthwise_args a = {.n = upto(c, 2),
                             .side = side,
                             .channels = channels,
                             .k = k,
                             .stride = stride,
                             .x_pix = pitch_of(c, channels),
                             .y_pix = pitch_of(c, channels),
                             .act = (uint32_t)(random_next(c) % DYNK_ACT_HSIGMOID)};
    const size_t images = a.n;
    buffer x = input(c, images * side * side, channels, a.x_pix, kind);
    buffer weight = input(c, 1, (size_t)panels * k * k * DYNK_PANEL, 0, weights);
    buffer scale = input(c, 1, channels, channels, kind);
    buffer shift = input(c, 1, channels, channels, kind);
    const uint32_t parts = dync_depthwise_parts(side, stride);
    result r[2] = {
        result_of(c, &a.y, (layout){1, images * out * out, channels, 0, a.y_pix, (dynk_act)a.act},
                  k * k),
        /* Compared below; here only what lies around them, and that orders agree. */
        result_of(c, &a.sums, (layout){1, 1, images * parts * channels, 0, 0, DYNK_ACT_NONE}, 0)};
    buffer sums = buffer_new(c, images * channels, 0, 0);
    buffer sums_magnitude = buffer_new(c, images * channels, 0, 0);
    a.x = x.p;
    a.weight = weight.p;
    a.scale = scale.p;
    a.shift = shift.p;
    dync_depthwise_args ref = a;
    ref_depthwise(&ref, r[0].want.p, sums.p, a.act);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, scale).p;
    ref.shift = buffer_abs(c, shift).p;
    ref_depthwise(&ref, r[0].magnitude.p, sums_magnitude.p, DYNK_ACT_NONE);
    for (size_t i = 0; i < r[1].magnitude.n; i++) {
        r[1].want.p[i] = 0;
        r[1].magnitude.p[i] = INFINITY;
    }
    int with_sums = one_in(c, 2);
    if (kind == DATA_NAN)
        with_sums = 0;
    run(c, dync_depthwise_launch(&a), &a, r, with_sums ? 2 : 1);
    if (with_sums && c->fault == NULL)
        check_sums(c, &a, sums.p, sums_magnitude.p);
}

/* ---- Average and dense ------------------------------------------------------------------------*/

static void try_average(check *c, uint32_t area, uint32_t channels) {
    const data kind = (data)(random_next(c) % DATA_KINDS);
    dync_average_args a = {.n = upto(c, 3),
                           .area = area,
                           .channels = channels,
                           .x_pix = pitch_of(c, channels),
                           .y_image = channels + upto(c, 3) - 1};
    buffer x = input(c, (size_t)a.n * area, channels, a.x_pix, kind), magnitude = buffer_abs(c, x);
    result r = result_of(c, &a.y, (layout){1, a.n, channels, 0, a.y_image, DYNK_ACT_NONE}, area);
    a.x = x.p;
    for (uint32_t image = 0; image < a.n; image++) {
        const size_t from = (size_t)image * area * a.x_pix, to = (size_t)image * channels;
        dynk_average_f32_ref(
            &(dynk_average_args){x.p + from, r.want.p + to, area, channels, a.x_pix, area});
        dynk_average_f32_ref(&(dynk_average_args){magnitude.p + from, r.magnitude.p + to, area,
                                                  channels, a.x_pix, area});
    }
    run(c, dync_average_launch(&a), &a, &r, 1);
}

static void ref_dense(check *c, const dync_dense_args *a, uint32_t count, float *y, uint32_t act) {
    buffer mean = buffer_new(c, a->in, 0, 0);
    for (uint32_t image = 0; image < a->n; image++) {
        dynk_average_f32_ref(&(dynk_average_args){a->x + (size_t)image * a->x_image, mean.p,
                                                  a->rows, a->in, a->x_row, count});
        dynk_dense_f32_ref(&(dynk_dense_args){.x = mean.p,
                                              .weight = a->weight,
                                              .bias = a->bias,
                                              .y = y + (size_t)image * a->out,
                                              .in = a->in,
                                              .out = a->out,
                                              .w_panel = a->w_panel,
                                              .act = (dynk_act)act});
    }
}

static void try_dense(check *c, uint32_t rows, uint32_t in, uint32_t out) {
    const data kind = (data)(random_next(c) % DATA_KINDS);
    const uint32_t panels = dync_ceil_div(out, DYNK_PANEL);
    const uint32_t count = rows == 1 ? 1 : rows * upto(c, 16); /* what the sums are of */
    dync_dense_args a = {.n = upto(c, 9),
                         .rows = rows,
                         .share = 1 / (float)count,
                         .in = in,
                         .out = out,
                         .x_row = in + upto(c, 3) - 1,
                         .y_image = out + upto(c, 3) - 1,
                         .w_panel = (in + gap(c)) * DYNK_PANEL,
                         .act = (uint32_t)(random_next(c) % (DYNK_ACT_HSIGMOID + 1))};
    a.x_image = rows * a.x_row + upto(c, 3) - 1;
    buffer x = scalars(c, (size_t)(a.n - 1) * a.x_image + (rows - 1) * a.x_row + in, kind);
    buffer weight = input(c, panels, (size_t)in * DYNK_PANEL, a.w_panel, kind);
    buffer bias = scalars(c, out, kind);
    result r = result_of(c, &a.y, (layout){1, a.n, out, 0, a.y_image, (dynk_act)a.act},
                         (double)in + rows + 3);
    a.x = x.p;
    a.weight = weight.p;
    a.bias = one_in(c, 2) ? bias.p : NULL;
    dync_dense_args ref = a;
    ref_dense(c, &ref, count, r.want.p, a.act);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.bias = ABS(a.bias, bias);
    ref_dense(c, &ref, count, r.magnitude.p, DYNK_ACT_NONE);
    run(c, dync_dense_launch(&a), &a, &r, 1);
    if (c->fault != NULL)
        return;
    buffer alone = buffer_clone(c, r.y);
    for (uint32_t image = 0; image < a.n; image++) {
        dync_dense_args one = a;
        one.n = 1;
        one.x += (size_t)image * a.x_image;
        one.y = alone.p + (size_t)image * a.y_image;
        memset(one.y, 0xFF, out * sizeof(float));
        job j = {dync_dense_launch(&one), &one, EMULATOR_ASCENDING, NULL, NULL}, *argument = &j;
        run_guarded(c, launch, &argument);
    }
    compare_bits(c, r.y, alone, "a batch");
}

/* ---- Sweeps -----------------------------------------------------------------------------------*/

/* TRY(try_stem, 7, 24, 2): runs it, and says which one failed. */
#define TRY(function, ...)                                                                         \
    do {                                                                                           \
        c->fault = NULL;                                                                           \
        function(c, __VA_ARGS__);                                                                  \
        finished(c, #function, #__VA_ARGS__, (const uint32_t[]){__VA_ARGS__},                      \
                 sizeof(const uint32_t[]){__VA_ARGS__} / sizeof(uint32_t));                        \
    } while (0)

static void finished(check *c, const char *name, const char *what, const uint32_t *values,
                     size_t count) {
    buffers_free(c);
    c->cases++;
    if (c->fault == NULL)
        return;
    c->failures++;
    printf("FAIL %s(%s =", name, what);
    for (size_t i = 0; i < count; i++)
        printf(" %u", (unsigned)values[i]);
    printf("): %s\n", c->fault);
}

static void all_stem(check *c) {
    for (uint32_t stride = 1; stride <= 2; stride++) {
        for (uint32_t channels = 1; channels <= 2 * DYNK_PANEL + 1; channels += 1 + channels / 4)
            TRY(try_stem, upto(c, 14), channels, stride);
        for (uint32_t side = 1; side <= 9; side++)
            TRY(try_stem, side, 4 * upto(c, 8), stride);
    }
    TRY(try_stem, 32, 24, 2);
}

static void all_pointwise(check *c) {
    static const struct {
        dync_entry entry;
        uint32_t pixels, outs, inputs;
    } tiles[] = {
#define DYNC_TILE(pixels, outs, groups, inputs, threads)                                           \
    {DYNC_ENTRY_pointwise_##pixels##x##outs, pixels, outs, inputs},
        DYNC_POINTWISE_TILES(DYNC_TILE)
#undef DYNC_TILE
    };
    for (size_t t = 0; t < sizeof tiles / sizeof tiles[0]; t++) {
        const dync_entry tile = tiles[t].entry;
        const uint32_t pixels = tiles[t].pixels, outs = tiles[t].outs, inputs = tiles[t].inputs;
        for (uint32_t in = 1; in <= 2 * inputs + 1; in += 1 + in / 8)
            TRY(try_pointwise, tile, 1, upto(c, pixels), in, upto(c, 2 * outs + 1));
        for (uint32_t out = 1; out <= 2 * outs + 1; out += 1 + out / 8)
            TRY(try_pointwise, tile, upto(c, 3), upto(c, 20), upto(c, 2 * inputs), out);
        for (uint32_t area = 1; area <= 2 * pixels + 1; area += 1 + area / 4)
            TRY(try_pointwise, tile, upto(c, 3), area, upto(c, inputs + 9), upto(c, outs));
    }
    /* Layers, with the tile that they get. */
    TRY(try_pointwise, DYNC_ENTRIES, 1, 49, 160, 960);
    TRY(try_pointwise, DYNC_ENTRIES, 1, 49, 960, 160);
    TRY(try_pointwise, DYNC_ENTRIES, 1, 196, 80, 480);
    TRY(try_pointwise, DYNC_ENTRIES, 2, 784, 40, 120);
}

static void all_tensor(check *c) {
    static const struct {
        uint32_t entry[2], pixels, outs, words;
    } tiles[] = {
#define DYNC_TILE(pixels, outs, groups, threads)                                                   \
    {{DYNC_ENTRY_tf32_##pixels##x##outs, DYNC_ENTRY_fp16_##pixels##x##outs},                       \
     pixels,                                                                                       \
     outs,                                                                                         \
     (groups) * DYNC_TENSOR_ROW},
        DYNC_TENSOR_TILES(DYNC_TILE)
#undef DYNC_TILE
    };
    for (uint32_t precision = DYNC_TF32; precision <= DYNC_FP16; precision++) {
        TRY(try_format, precision);
        for (size_t t = 0; t < sizeof tiles / sizeof tiles[0]; t++) {
            const uint32_t tile = tiles[t].entry[precision == DYNC_FP16];
            const uint32_t pixels = tiles[t].pixels, outs = tiles[t].outs;
            const uint32_t inputs = tiles[t].words * (precision == DYNC_FP16 ? 2 : 1);
            for (uint32_t in = 1; in <= 2 * inputs + 1; in += 1 + in / 8)
                TRY(try_tensor, precision, tile, 1, upto(c, pixels), in, upto(c, 2 * outs + 1));
            for (uint32_t out = 1; out <= 2 * outs + 1; out += 1 + out / 8)
                TRY(try_tensor, precision, tile, upto(c, 3), upto(c, 20), upto(c, 2 * inputs), out);
            for (uint32_t area = 1; area <= 2 * pixels + 1; area += 1 + area / 4)
                TRY(try_tensor, precision, tile, upto(c, 3), area, upto(c, inputs + 9),
                    upto(c, outs));
        }
        /* Layers, with the tile that they get. */
        TRY(try_tensor, precision, DYNC_ENTRIES, 1, 49, 160, 960);
        TRY(try_tensor, precision, DYNC_ENTRIES, 1, 49, 960, 160);
        TRY(try_tensor, precision, DYNC_ENTRIES, 1, 196, 80, 480);
        TRY(try_tensor, precision, DYNC_ENTRIES, 2, 784, 40, 120);
    }
}

static void all_depthwise(check *c) {
    for (uint32_t k = 3; k <= 7; k += 2)
        for (uint32_t stride = 1; stride <= 2; stride++) {
            for (uint32_t channels = 1; channels <= 2 * DYNK_PANEL + 1;
                 channels += 1 + channels / 8)
                TRY(try_depthwise, upto(c, 15), channels, k, stride);
            for (uint32_t side = 1; side <= 17; side++)
                TRY(try_depthwise, side, upto(c, 40), k, stride);
            TRY(try_depthwise, 28, 72, k, stride);
        }
}

static void all_average(check *c) {
    for (uint32_t channels = 1; channels <= 67; channels += 1 + channels / 8)
        TRY(try_average, upto(c, 60), channels);
    for (uint32_t area = 1; area <= 40; area++)
        TRY(try_average, area, upto(c, 80));
}

static void all_dense(check *c) {
    for (uint32_t out = 1; out <= 2 * DYNK_PANEL + 1; out++)
        TRY(try_dense, 1, upto(c, 300), out);
    for (uint32_t in = 1; in <= 2 * DYNC_DENSE_LANES + 1; in += 1 + in / 16)
        TRY(try_dense, upto(c, 3), in, upto(c, 40));
    TRY(try_dense, 13, 240, 64);
    TRY(try_dense, 1, 1280, 1000);
}

static ptx_module *load(const char *path) {
    char why[200] = "it cannot be read";
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 4 << 20);
    if (f != NULL && text != NULL)
        text[fread(text, 1, (4 << 20) - 1, f)] = '\0';
    ptx_module *m = f == NULL || text == NULL ? NULL : ptx_read(text, why, sizeof why);
    if (m == NULL)
        fprintf(stderr, "checkcuda: %s: %s\n", path, why);
    if (f != NULL)
        fclose(f);
    free(text);
    return m;
}

int main(int argc, char **argv) {
    static const struct {
        const char *op;
        void (*sweep)(check *);
        double turns; /* of the banks of shared memory, more than the least, at most */
    } ops[] = {{"stem", all_stem, 0},        {"pointwise", all_pointwise, 0},
               {"tensor", all_tensor, 0.02}, {"depthwise", all_depthwise, 0.01},
               {"average", all_average, 0},  {"dense", all_dense, 0}};
    const char *only = argc > 1 ? argv[1] : NULL;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 7;
    size_t failures = 0, cases = 0;
    if (argc > 3 + MOST_MODULES || (argc > 1 && argv[1][0] == '-')) {
        fputs("usage: checkcuda [OPERATOR [SEED [PTX...]]]\n", stderr);
        return 2;
    }
    for (int i = 3; i < argc; i++)
        if ((modules[i - 3] = load(argv[i])) == NULL)
            return 2;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* check.sh reads up to the first fault */
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (only != NULL && strcmp(only, ops[i].op) != 0)
            continue;
        check c = {.seed = seed, .random = seed};
        counts = (ptx_counts){0};
        ops[i].sweep(&c);
        const double least = (double)counts.shared_least, turns = (double)counts.shared_turns;
        if (turns > least * (1 + ops[i].turns)) {
            printf(
                "FAIL %s: banks of shared memory take %.3f times the least turns, expected %.2f\n",
                ops[i].op, turns / least, 1 + ops[i].turns);
            c.failures++;
        }
        printf("%s %s: %zu cases in %d orders of threads\n", c.failures == 0 ? "ok" : "FAIL",
               ops[i].op, c.cases, EMULATOR_ORDERS);
        failures += c.failures;
        cases += c.cases;
    }
    if (cases == 0) {
        fprintf(stderr, "checkcuda: there is no operator %s\n", only);
        return 2;
    }
    return failures > 0;
}
