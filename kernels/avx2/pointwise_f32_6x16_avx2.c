//go:build amd64

#include "avx2.h"

#include "pointwise.h"

DYNK_TARGET void dynk_pointwise_f32_6x16_avx2(const dynk_pointwise_args *a) {
    for (size_t out = 0; out < a->out; out += DYNK_PANEL)
        pointwise_pixels(a, out, 6, 1);
}
