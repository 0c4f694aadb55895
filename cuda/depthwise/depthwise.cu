/* Depthwise convolution. A thread owns four channels of a strip, DYNC_STRIP outputs of a row, a
 * warp those of eight strips, one below the other. A block owns a panel (block_y) of a square of
 * outputs (block_x) of an image (block_z).
 *
 * All that a block reads is on its way at once, and the sums are without conditions: padding is
 * zeros in shared memory. */
#include "dync_kernel.h"

enum { MOST_COLUMNS = (DYNC_STRIP - 1) * 2 + 7, MOST_TURNS = 14 };

#define NOWHERE UINT32_MAX /* in shared memory */

/* k and stride are constants where it is used. */
static DYNC_INLINE void depthwise(const dync_depthwise_args *a, const uint32_t k,
                                  const uint32_t stride) {
    const uint32_t threads = DYNC_QUADS * DYNC_STRIPS, taps = k * k, half = k / 2;
    const uint32_t side = DYNC_DEPTHWISE_SIDE(k, stride), pitch = DYNC_DEPTHWISE_ROW(k, stride);
    const uint32_t columns = (DYNC_STRIP - 1) * stride + k, out = dync_ceil_div(a->side, stride);
    const uint32_t t = thread_x(), quad = t % DYNC_QUADS, panel = block_y(), image = block_z();
    const uint32_t c = panel * DYNK_PANEL + quad * 4;
    const uint32_t squares = dync_ceil_div(out, DYNC_SQUARE);
    const uint32_t top = block_x() / squares * DYNC_SQUARE,
                   left = block_x() % squares * DYNC_SQUARE;
    float *const weights = dync_shared, *const tile = dync_shared + taps * DYNK_PANEL;

    /* In turn n a thread brings a pixel of row n, in its column, or, once there are no more rows,
     * one of the columns that are left, row by row. Loads are without conditions: what is not there
     * is taken from the beginning, and zeroed. The first row and column are those of the padding
     * and, as unsigned numbers, behind the last. Weights are read while the first pixels are on
     * their way. */
    const uint32_t lanes = threads / DYNC_QUADS, lane = t / DYNC_QUADS;
    const uint32_t left_over = side > lanes ? side - lanes : 0;
    const uint32_t turns = side + dync_ceil_div(left_over * side, lanes);
    const uint32_t at_once = dync_ceil_div(turns, dync_ceil_div(turns, MOST_TURNS));
    const uint32_t first_i = top * stride - half, first_j = left * stride - half;
    const float *x = a->x + (size_t)image * a->side * a->side * a->x_pix;
    const uint32_t origin = (first_i * a->side + first_j) * a->x_pix + c;
    DYNC_UNROLL
    for (uint32_t from = 0; from < turns; from += at_once) {
        float4 values[MOST_TURNS];
        uint32_t to[MOST_TURNS];
        DYNC_UNROLL
        for (uint32_t n = from; n < least(from + at_once, turns); n++) {
            uint32_t row = n, col = lane;
            if (n >= side) {
                row = ((n - side) * lanes + lane) / left_over;
                col = lanes + ((n - side) * lanes + lane) % left_over;
            }
            const int there = first_i + row < a->side && first_j + col < a->side && c < a->channels;
            const uint32_t at = origin + row * (a->side * a->x_pix) + col * a->x_pix;
            values[n - from] = first4(dync_load4(x + (there ? at : 0)), there ? 4 : 0);
            to[n - from] = row < side && col < side ? row * pitch + col * DYNK_PANEL : NOWHERE;
        }
        for (uint32_t f = t; f < taps * DYNC_QUADS && from == 0; f += threads)
            put4(weights + f * 4,
                 dync_load4(a->weight + (size_t)panel * taps * DYNK_PANEL + f * 4));
        DYNC_UNROLL
        for (uint32_t n = from; n < least(from + at_once, turns); n++)
            if (to[n - from] != NOWHERE)
                put4(tile + to[n - from] + quad * 4, values[n - from]);
    }
    const uint32_t at = c < a->channels ? c : 0;
    const float4 scale = dync_load4(a->scale + at), shift = dync_load4(a->shift + at);
    dync_barrier();

    const uint32_t strip = t / DYNC_QUADS, row = strip % DYNC_SQUARE;
    const uint32_t col = strip / DYNC_SQUARE * DYNC_STRIP;
    float4 sum[DYNC_STRIP] = {zero4(), zero4(), zero4(), zero4()};
    DYNC_ROLL /* a tenth of the instructions to compile, and to fetch in a small map */
        for (uint32_t u = 0; u < k; u++) {
        const float *from =
            tile + (row * stride + u) * pitch + col * stride * DYNK_PANEL + quad * 4;
        float4 values[MOST_COLUMNS];
        DYNC_UNROLL
        for (uint32_t v = 0; v < columns; v++)
            values[v] = get4(from + v * DYNK_PANEL);
        DYNC_UNROLL
        for (uint32_t v = 0; v < k; v++) {
            const float4 w = get4(weights + ((u * k + v) * DYNC_QUADS + quad) * 4);
            DYNC_UNROLL
            for (uint32_t o = 0; o < DYNC_STRIP; o++)
                sum[o] = fma4(values[o * stride + v], w, sum[o]);
        }
    }

    float4 total = zero4();
    if (c < a->channels && top + row < out) {
        const size_t first = ((size_t)image * out + top + row) * out + left + col;
        DYNC_UNROLL
        for (uint32_t o = 0; o < DYNC_STRIP; o++) {
            if (left + col + o >= out)
                continue;
            const float4 value = activate4(fma4(scale, sum[o], shift), a->act);
            store4(a->y + (first + o) * a->y_pix + c, value, a->channels - c);
            total += value;
        }
    }

    if (a->sums == NULL)
        return;
    dync_barrier(); /* the tile has been read */
    put4(dync_shared + t * 4, total);
    dync_barrier();
    const uint32_t channel = panel * DYNK_PANEL + t;
    if (t >= DYNK_PANEL || channel >= a->channels)
        return;
    float all = dync_shared[t];
    for (uint32_t s = 1; s < DYNC_STRIPS; s++)
        all += dync_shared[s * DYNK_PANEL + t];
    const size_t parts = (size_t)squares * squares;
    a->sums[(image * parts + block_x()) * a->channels + channel] = all;
}

#define DEPTHWISE(k, stride)                                                                       \
    DYNC_ENTRY_BLOCKS(DYNC_QUADS *DYNC_STRIPS, 8)                                                  \
    void dync_depthwise_k##k##s##stride(const dync_depthwise_args a) {                             \
        depthwise(&a, k, stride);                                                                  \
    }
DEPTHWISE(3, 1)
DEPTHWISE(3, 2)
DEPTHWISE(5, 1)
DEPTHWISE(5, 2)
DEPTHWISE(7, 1)
DEPTHWISE(7, 2)
