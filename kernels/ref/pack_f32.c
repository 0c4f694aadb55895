/* Packing runs once at load, so there is one version of it. */
#include "ref.h"

static void put(float *dst, size_t in, size_t i, size_t o, float v) {
    dst[o / DYNK_PANEL * in * DYNK_PANEL + i * DYNK_PANEL + o % DYNK_PANEL] = v;
}

void dynk_pack_f32(float *dst, const float *src, size_t in, size_t out) {
    for (size_t o = 0; o < dynk_packed_size(1, out); o++)
        for (size_t i = 0; i < in; i++)
            put(dst, in, i, o, o < out ? src[o * in + i] : 0);
}

void dynk_pack_stem_f32(float *dst, const float *src, size_t out) {
    for (size_t o = 0; o < dynk_packed_size(1, out); o++)
        for (size_t c = 0; c < 3; c++)
            for (size_t uv = 0; uv < 9; uv++)
                put(dst, 27, uv * 3 + c, o, o < out ? src[o * 27 + c * 9 + uv] : 0);
}
