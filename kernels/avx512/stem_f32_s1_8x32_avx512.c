//go:build amd64

#include "avx512.h"

#include "stem.h"

DYNK_TARGET void dynk_stem_f32_s1_8x32_avx512(const dynk_stem_args *a) {
    size_t out = 0;
    for (; out + DYNK_PANEL < a->channels; out += 2 * DYNK_PANEL)
        stem_rows(a, out, 8, 2, 1);
    if (out < a->channels)
        stem_rows(a, out, 8, 1, 1);
}
