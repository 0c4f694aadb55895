/* The checker checked: kernels with one planted fault each. Every one of them has to fail, and the
 * reference, which has none, has to pass. */
#include "check.h"

#include <math.h>
#include <stdio.h>

static float *last(const dynk_pointwise_args *a) {
    return a->y + (a->pixels - 1) * a->y_pix + a->out - 1;
}

static void past_the_end(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    last(a)[1] = 0;
}

static void before_the_start(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    a->y[-1] = 0;
}

static void between_pixels(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    if (a->y_pix > a->out)
        a->y[a->out] = 0;
}

static void nothing_written(const dynk_pointwise_args *a) {
    float keep = *last(a);
    dynk_pointwise_f32_ref(a);
    *last(a) = keep;
}

static void one_wrong_lane(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    *last(a) += 1e-3f * (1 + fabsf(*last(a)));
}

static void writes_its_input(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    *(float *)(size_t)a->x = 0;
}

static void reads_too_far(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    const float *end = a->x + (a->pixels - 1) * a->x_pix + a->in;
    volatile float read = end[DYNK_OVERREAD / sizeof(float)];
    (void)read;
}

static void uses_the_overread(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    *last(a) += 0 * a->x[(a->pixels - 1) * a->x_pix + a->in];
}

static void loses_nan(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    if (isnan(*last(a)))
        *last(a) = 0;
}

static void depends_on_the_cut(const dynk_pointwise_args *a) {
    dynk_pointwise_f32_ref(a);
    if (a->pixels % 2 == 1)
        *last(a) = nextafterf(*last(a), 0);
}

size_t self_test(uint64_t seed) {
    static const struct {
        const char *name;
        dynk_pointwise_fn fn;
        int sound;
    } kernels[] = {
        {"sound", dynk_pointwise_f32_ref, 1},          {"past_the_end", past_the_end, 0},
        {"before_the_start", before_the_start, 0},     {"between_pixels", between_pixels, 0},
        {"nothing_written", nothing_written, 0},       {"one_wrong_lane", one_wrong_lane, 0},
        {"writes_its_input", writes_its_input, 0},     {"reads_too_far", reads_too_far, 0},
        {"uses_the_overread", uses_the_overread, 0},   {"loses_nan", loses_nan, 0},
        {"depends_on_the_cut", depends_on_the_cut, 0},
    };
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        dynk_kernel kernel = {.name = kernels[i].name,
                              .op = DYNK_OP_POINTWISE,
                              .rows = 6,
                              .cols = DYNK_PANEL,
                              .fn.pointwise = kernels[i].fn};
        check c = {.kernel = &kernel, .isa = "self-test", .seed = seed, .random = seed};
        c.silent = 1;
        sweep_pointwise(&c);
        int right = (c.failures == 0) == kernels[i].sound;
        printf("%s self-test %s: %zu of %zu cases failed\n", right ? "ok" : "FAIL", kernels[i].name,
               c.failures, c.cases);
        wrong += !right;
    }
    return wrong;
}
