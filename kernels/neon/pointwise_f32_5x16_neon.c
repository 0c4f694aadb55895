//go:build arm64

#include "neon.h"

#include "pointwise.h"

/* Twenty sums; with a sixth row the compiler spilled one of them in the inner loop. */
DYNK_TARGET void dynk_pointwise_f32_5x16_neon(const dynk_pointwise_args *a) {
    for (size_t out = 0; out < a->out; out += DYNK_PANEL)
        pointwise_pixels(a, out, 5, 1);
}
