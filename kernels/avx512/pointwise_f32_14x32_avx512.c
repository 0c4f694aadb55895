//go:build amd64

#include "avx512.h"

#include "pointwise.h"

/* 14 x 32 keeps 28 sums in registers. An odd number of panels takes one step of 8 x 48 (24 sums)
 * first, because a single panel would be bound by its broadcasts. Functions of their own, so that
 * the tiles of each are allocated registers apart. */
static __attribute__((noinline)) DYNK_TARGET void three_panels(const dynk_pointwise_args *a,
                                                               size_t out) {
    pointwise_pixels(a, out, 8, 3);
}

static __attribute__((noinline)) DYNK_TARGET void two_panels(const dynk_pointwise_args *a,
                                                             size_t out) {
    pointwise_pixels(a, out, 14, 2);
}

static __attribute__((noinline)) DYNK_TARGET void one_panel(const dynk_pointwise_args *a) {
    pointwise_pixels(a, 0, 14, 1);
}

DYNK_TARGET void dynk_pointwise_f32_14x32_avx512(const dynk_pointwise_args *a) {
    size_t out = 0, panels = (a->out + DYNK_PANEL - 1) / DYNK_PANEL;
    if (panels == 1) {
        one_panel(a);
        return;
    }
    if (panels % 2 == 1) {
        three_panels(a, 0);
        out = 3 * DYNK_PANEL;
    }
    for (; out < a->out; out += 2 * DYNK_PANEL)
        two_panels(a, out);
}
