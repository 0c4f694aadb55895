/* Stem. A thread owns the outputs of one pixel and one panel, a warp 32 pixels in a row, a block
 * DYNC_STEM_PIXELS; block_y is the panel. All threads read the same weights at the same time,
 * from shared memory. */
#include "dync_kernel.h"

/* Row u of the three that an output at row, col needs. Loads are without conditions, so that those
 * of a row are on their way at once: what is padding is taken from the beginning. Counted from the
 * padding, to stay unsigned. */
static DYNC_INLINE void fetch(const dync_stem_args *a, const float *x, uint32_t row, uint32_t col,
                              float values[9]) {
    DYNC_UNROLL
    for (uint32_t k = 0; k < 9; k++) {
        const uint32_t j = col + k / 3;
        const int there = row >= 1 && row <= a->side && j >= 1 && j <= a->side;
        const float value = dync_load(x + (there ? ((row - 1) * a->side + j - 1) * 3 + k % 3 : 0));
        values[k] = there ? value : 0.0f;
    }
}

DYNC_ENTRY(DYNC_STEM_PIXELS) void dync_stem(const dync_stem_args a) {
    const uint32_t first = block_y() * DYNK_PANEL, out = dync_ceil_div(a.side, a.stride);
    const uint32_t p = block_x() * DYNC_STEM_PIXELS + thread_x(), image = p / (out * out);
    const uint32_t row = p / out % out * a.stride, col = p % out * a.stride;
    const float *x = a.x + (size_t)least(image, a.n - 1) * a.side * a.side * 3;
    float values[9], next[9];
    fetch(&a, x, row, col, next);
    for (uint32_t f = thread_x(); f < 27 * DYNC_QUADS; f += DYNC_STEM_PIXELS)
        put4(dync_shared + f * 4, dync_load4(a.weight + (size_t)block_y() * a.w_panel + f * 4));
    dync_barrier();
    if (image >= a.n)
        return;
    float4 sum[DYNC_QUADS] = {zero4(), zero4(), zero4(), zero4()};
    DYNC_ROLL
    for (uint32_t u = 0; u < 3; u++) {
        DYNC_UNROLL
        for (uint32_t k = 0; k < 9; k++)
            values[k] = next[k];
        if (u < 2)
            fetch(&a, x, row + u + 1, col, next);
        DYNC_UNROLL
        for (uint32_t k = 0; k < 9; k++) {
            const float *weight = dync_shared + (u * 9 + k) * DYNK_PANEL;
            DYNC_UNROLL
            for (uint32_t q = 0; q < DYNC_QUADS; q++)
                sum[q] = scale4(values[k], get4(weight + q * 4), sum[q]);
        }
    }
    DYNC_UNROLL
    for (uint32_t q = 0; q < DYNC_QUADS; q++) {
        const uint32_t o = first + q * 4;
        if (o >= a.channels)
            continue;
        const float4 y = fma4(dync_load4(a.scale + o), sum[q], dync_load4(a.shift + o));
        store4(a.y + (size_t)p * a.y_pix + o, activate4(y, a.act), a.channels - o);
    }
}
