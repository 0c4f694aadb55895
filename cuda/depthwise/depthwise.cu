/* Depthwise convolution. A thread owns four channels of a strip, DYNC_STRIP outputs of a row, and
 * keeps one row of the inputs below its strip in registers. A block owns a panel (block_y) of
 * DYNC_STRIPS strips (block_x) of an image (block_z); eight strips make a warp. Weights are in
 * shared memory; x comes through the first-level cache, where strips side by side find it again.
 * Padding counts as zeros. */
#include "dync_kernel.h"

enum { MOST_COLUMNS = (DYNC_STRIP - 1) * 2 + 7 };

/* k and stride are constants where it is used. */
static DYNC_INLINE void depthwise(const dync_depthwise_args *a, const uint32_t k,
                                  const uint32_t stride) {
    const uint32_t columns = (DYNC_STRIP - 1) * stride + k, taps = k * k, half = k / 2;
    const uint32_t t = thread_x(), quad = t % DYNC_QUADS, panel = block_y(), image = block_z();
    const uint32_t c = panel * DYNK_PANEL + quad * 4, out = dync_ceil_div(a->side, stride);
    const uint32_t strip = block_x() * DYNC_STRIPS + t / DYNC_QUADS;
    const uint32_t row_strips = dync_ceil_div(out, DYNC_STRIP);
    const uint32_t row = strip / row_strips, col = strip % row_strips * DYNC_STRIP;
    for (uint32_t f = t; f < taps * DYNC_QUADS; f += DYNC_QUADS * DYNC_STRIPS)
        put4(dync_shared + f * 4,
             dync_load4(a->weight + (size_t)panel * taps * DYNK_PANEL + f * 4));
    dync_barrier();

    float4 total = zero4();
    if (row < out && c < a->channels) {
        float4 sum[DYNC_STRIP] = {zero4(), zero4(), zero4(), zero4()};
        const float *x = a->x + (size_t)image * a->side * a->side * a->x_pix + c;
        DYNC_ROLL /* a tenth of the instructions to compile, and to fetch in a small map */
            for (uint32_t u = 0; u < k; u++) {
            /* Counted from the padding, to stay unsigned. */
            const uint32_t i = row * stride + u;
            if (i < half || i >= a->side + half)
                continue;
            const float *from = x + (size_t)(i - half) * a->side * a->x_pix;
            float4 values[MOST_COLUMNS];
            DYNC_UNROLL
            for (uint32_t v = 0; v < columns; v++) {
                const uint32_t j = col * stride + v;
                const int there = j >= half && j < a->side + half;
                values[v] = there ? dync_load4(from + (j - half) * a->x_pix) : zero4();
            }
            DYNC_UNROLL
            for (uint32_t v = 0; v < k; v++) {
                const float4 w = get4(dync_shared + ((u * k + v) * DYNC_QUADS + quad) * 4);
                DYNC_UNROLL
                for (uint32_t o = 0; o < DYNC_STRIP; o++)
                    sum[o] = fma4(values[o * stride + v], w, sum[o]);
            }
        }
        const float4 scale = dync_load4(a->scale + c), shift = dync_load4(a->shift + c);
        float *y = a->y + (((size_t)image * out + row) * out + col) * a->y_pix + c;
        DYNC_UNROLL
        for (uint32_t o = 0; o < DYNC_STRIP; o++) {
            if (col + o >= out)
                continue;
            const float4 value = activate4(fma4(scale, sum[o], shift), a->act);
            store4(y + (size_t)o * a->y_pix, value, a->channels - c);
            total += value;
        }
    }

    if (a->sums == NULL)
        return;
    dync_barrier(); /* the weights have been read */
    put4(dync_shared + t * 4, total);
    dync_barrier();
    const uint32_t channel = panel * DYNK_PANEL + t;
    if (t >= DYNK_PANEL || channel >= a->channels)
        return;
    float sum = dync_shared[t];
    for (uint32_t s = 1; s < DYNC_STRIPS; s++)
        sum += dync_shared[s * DYNK_PANEL + t];
    const uint32_t parts = dync_depthwise_parts(a->side, stride);
    a->sums[((size_t)image * parts + block_x()) * a->channels + channel] = sum;
}

#define DEPTHWISE(k, stride)                                                                       \
    DYNC_ENTRY(DYNC_QUADS *DYNC_STRIPS)                                                            \
    void dync_depthwise_k##k##s##stride(const dync_depthwise_args a) {                             \
        depthwise(&a, k, stride);                                                                  \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(7, 2)
