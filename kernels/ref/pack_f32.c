/* Packing runs once at load, so there is one version of it. */
#include "ref.h"

/* Inputs of a tile: one cache line of each of a panel's rows. */
enum { TILE = 16 };

/* Tile by tile, so that reads and writes both stay within a few lines. */
void dynk_pack_f32(float *dst, const float *src, size_t in, size_t out) {
    for (size_t o = 0; o < out; o += DYNK_PANEL, dst += in * DYNK_PANEL) {
        const float *rows = src + o * in;
        if (out - o < DYNK_PANEL) {
            for (size_t i = 0; i < in; i++)
                for (size_t j = 0; j < DYNK_PANEL; j++)
                    dst[i * DYNK_PANEL + j] = o + j < out ? rows[j * in + i] : 0;
            break;
        }
        size_t i = 0;
        for (; i + TILE <= in; i += TILE)
            for (size_t t = 0; t < TILE; t++)
                for (size_t j = 0; j < DYNK_PANEL; j++)
                    dst[(i + t) * DYNK_PANEL + j] = rows[j * in + i + t];
        for (; i < in; i++)
            for (size_t j = 0; j < DYNK_PANEL; j++)
                dst[i * DYNK_PANEL + j] = rows[j * in + i];
    }
}

void dynk_pack_stem_f32(float *dst, const float *src, size_t out) {
    for (size_t o = 0; o < dynk_packed_size(1, out); o++)
        for (size_t c = 0; c < 3; c++)
            for (size_t uv = 0; uv < 9; uv++)
                dst[o / DYNK_PANEL * 27 * DYNK_PANEL + (uv * 3 + c) * DYNK_PANEL + o % DYNK_PANEL] =
                    o < out ? src[o * 27 + c * 9 + uv] : 0;
}
