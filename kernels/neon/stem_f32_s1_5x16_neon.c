//go:build arm64

#include "neon.h"

#include "stem.h"

DYNK_TARGET void dynk_stem_f32_s1_5x16_neon(const dynk_stem_args *a) {
    for (size_t out = 0; out < a->channels; out += DYNK_PANEL)
        stem_rows(a, out, 5, 1, 1);
}
