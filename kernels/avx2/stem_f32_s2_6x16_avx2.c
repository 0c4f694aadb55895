//go:build amd64

#include "avx2.h"

#include "stem.h"

DYNK_TARGET void dynk_stem_f32_s2_6x16_avx2(const dynk_stem_args *a) {
    for (size_t out = 0; out < a->channels; out += DYNK_PANEL)
        stem_rows(a, out, 6, 1, 2);
}
