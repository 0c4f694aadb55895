/* Depthwise convolution: a vector of channels, `cols` neighbouring outputs of a row at once. One
 * row of k weights is held in registers while the row of inputs passes by; each input is loaded
 * once and goes into all the outputs of the block that it is a neighbour of. For k = 7 and 8
 * outputs that is 21 loads for 56 products.
 *
 * Blocks that touch the left or right border test each column, which is cheap, as an input serves
 * up to k products; what lies in the padding is skipped, so a border costs less than the interior.
 *
 * Loops: channels, rows, blocks. k input rows of one channel vector stay in the first-level cache,
 * and so do the weights. */
#ifndef DYNK_DWCONV_H
#define DYNK_DWCONV_H

#include "vector.h"

/* One vector of channels of a call. */
typedef struct dwconv_channels {
    size_t first;
    const float *weight;
    vtail tail;
    vf scale, shift, total;
    vact act;
} dwconv_channels;

DYNK_INLINE void dwconv_finish(const dynk_dwconv_args *a, dwconv_channels *g, const vf *sum,
                               size_t i, size_t col, size_t cols, int clamped) {
    float *y = a->y + i * a->y_row + col * a->y_pix + g->first;
    DYNK_UNROLL
    for (size_t j = 0; j < cols; j++) {
        vf result = vact_apply(&g->act, vf_fma(sum[j], g->scale, g->shift), clamped);
        g->total = vf_add(g->total, result);
        vf_store_tail(y + j * a->y_pix, result, g->tail);
    }
}

/* Outputs col..col+cols of row i. */
DYNK_INLINE void dwconv_block(const dynk_dwconv_args *a, dwconv_channels *g, size_t i, size_t col,
                              size_t cols, size_t k, size_t stride, int border) {
    const size_t half = k / 2, x_pix = a->x_pix, span = (cols - 1) * stride + k;
    /* Else each offset is kept for the next row, in a spilled register; but where weights and sums
     * fill 16 vector registers, the spills measured faster. */
    const int opaque = VF_REGISTERS > 16 || k + stride < 7;
    vf sum[8];
    DYNK_UNROLL
    for (size_t j = 0; j < cols; j++)
        sum[j] = vf_zero();
    DYNK_ROLLED
    for (size_t u = 0; u < k; u++) {
        const float *row = a->rows[i * stride + u];
        if (row == NULL)
            continue;
        const float *w = g->weight + u * k * DYNK_PANEL;
        vf weight[7];
        DYNK_UNROLL
        for (size_t v = 0; v < k; v++)
            weight[v] = vf_load(w + v * DYNK_PANEL);
        size_t from = col * stride - half; /* wraps to the left of the map, and so does at */
        size_t at = from * x_pix + g->first;
        DYNK_UNROLL
        for (size_t t = 0; t < span; t++) {
            if (!border || from + t < a->width) {
                vf x = vf_load_tail(row + at, g->tail);
                DYNK_UNROLL
                for (size_t v = 0; v < k; v++)
                    if (t >= v && (t - v) % stride == 0 && (t - v) / stride < cols)
                        sum[(t - v) / stride] = vf_fma(x, weight[v], sum[(t - v) / stride]);
            }
            at += x_pix;
            if (opaque)
                DYNK_OPAQUE(at);
        }
    }
    if (g->act.clamped)
        dwconv_finish(a, g, sum, i, col, cols, 1);
    else
        dwconv_finish(a, g, sum, i, col, cols, 0);
}

/* Row i in blocks of at most 8, as even as possible. */
DYNK_INLINE void dwconv_row(const dynk_dwconv_args *a, dwconv_channels *g, size_t i, size_t k,
                            size_t stride) {
#define DYNK_COLS(n)                                                                               \
    case n:                                                                                        \
        if (border)                                                                                \
            dwconv_block(a, g, i, col, n, k, stride, 1);                                           \
        else                                                                                       \
            dwconv_block(a, g, i, col, n, k, stride, 0);                                           \
        break;
    const size_t width = (a->width - 1) / stride + 1;
    size_t col = 0;
    for (size_t blocks = (width + 7) / 8; blocks > 0; blocks--) {
        size_t cols = (width - col + blocks - 1) / blocks;
        size_t last = (col + cols - 1) * stride + k; /* counted from the padding, as half is */
        int border = col * stride < k / 2 || last > a->width + k / 2;
        switch (cols) {
            DYNK_COLS(1)
            DYNK_COLS(2)
            DYNK_COLS(3)
            DYNK_COLS(4)
            DYNK_COLS(5)
            DYNK_COLS(6)
            DYNK_COLS(7)
            DYNK_COLS(8)
        default:
            break;
        }
        col += cols;
    }
#undef DYNK_COLS
}

DYNK_INLINE void dwconv(const dynk_dwconv_args *args, size_t k, size_t stride) {
    const dynk_dwconv_args local = *args, *a = &local;
    for (size_t c = 0; c < a->channels; c += VF_LANES) {
        const vtail tail = vtail_of(a->channels - c);
        const vact act = vact_of(a->act);
        const float *panel = a->weight + c / DYNK_PANEL * (k * k * DYNK_PANEL);
        dwconv_channels g = {
            .first = c,
            .weight = panel + c % DYNK_PANEL,
            .tail = tail,
            .scale = vact_prepare(vf_load_tail(a->scale + c, tail), act.clamped),
            .shift = vact_prepare(vf_load_tail(a->shift + c, tail), act.clamped),
            .total = vf_zero(),
            .act = act,
        };
        for (size_t i = 0; i < a->out_rows; i++)
            dwconv_row(a, &g, i, k, stride);
        if (a->sums != NULL)
            vf_store_tail(a->sums + c, g.total, tail);
    }
}

#endif
