/* Stem. A thread owns the outputs of one pixel and one panel, a warp 32 pixels in a row, a block
 * DYNC_STEM_PIXELS; block_y is the panel. All threads read the same weights at the same time, from
 * shared memory. */
#include "dync_kernel.h"

DYNC_ENTRY(DYNC_STEM_PIXELS) void dync_stem(const dync_stem_args a) {
    const uint32_t first = block_y() * DYNK_PANEL, out = dync_ceil_div(a.side, a.stride);
    const uint32_t p = block_x() * DYNC_STEM_PIXELS + thread_x(), image = p / (out * out);
    const uint32_t row = p / out % out * a.stride, col = p % out * a.stride;
    for (uint32_t f = thread_x(); f < 27 * DYNC_QUADS; f += DYNC_STEM_PIXELS)
        put4(dync_shared + f * 4, dync_load4(a.weight + (size_t)block_y() * a.w_panel + f * 4));
    dync_barrier();
    if (image >= a.n)
        return;
    float4 sum[DYNC_QUADS] = {zero4(), zero4(), zero4(), zero4()};
    for (uint32_t u = 0; u < 3; u++)
        for (uint32_t v = 0; v < 3; v++) {
            /* Counted from the padding, to stay unsigned. */
            const uint32_t i = row + u, j = col + v;
            if (i < 1 || i > a.side || j < 1 || j > a.side)
                continue;
            const float *x = a.x + (((size_t)image * a.side + i - 1) * a.side + j - 1) * 3;
            const float *weight = dync_shared + (u * 3 + v) * 3 * DYNK_PANEL;
            DYNC_UNROLL
            for (uint32_t c = 0; c < 3; c++) {
                const float value = dync_load(x + c);
                DYNC_UNROLL
                for (uint32_t q = 0; q < DYNC_QUADS; q++)
                    sum[q] = scale4(value, get4(weight + c * DYNK_PANEL + q * 4), sum[q]);
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
