/* Stem convolution: `cols` neighbouring pixels by `panels` panels of output channels in registers,
 * the 27 inputs of a pixel broadcast one by one. The nine of a kernel row lie side by side in NHWC,
 * so an inner pixel needs no gathering; the first and the last column leave out what is padding. */
#ifndef DYNK_STEM_H
#define DYNK_STEM_H

#include "vector.h"

enum { STEM_MOST = 24 }; /* vectors of a tile, at most */

DYNK_INLINE void stem_finish(const dynk_stem_args *a, const vact *act, const vf *sum, size_t out,
                             size_t i, size_t col, size_t cols, size_t panels, int clamped) {
    const size_t vectors = panels * VF_PER_PANEL;
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        size_t o = out + v * VF_LANES;
        vtail tail = vtail_of(o < a->channels ? a->channels - o : 0);
        vf scale = vact_prepare(vf_load_tail(a->scale + o, tail), clamped);
        vf shift = vact_prepare(vf_load_tail(a->shift + o, tail), clamped);
        float *y = a->y + i * a->y_row + col * a->y_pix + o;
        DYNK_UNROLL
        for (size_t j = 0; j < cols; j++) {
            vf result = vact_apply(act, vf_fma(sum[j * vectors + v], scale, shift), clamped);
            vf_store_tail(y + j * a->y_pix, result, tail);
        }
    }
}

/* Outputs col..col+cols of row i for the panels from output channel `out` on. Kernel columns
 * from..to of three lie in the image. */
DYNK_INLINE void stem_block(const dynk_stem_args *a, const vact *act, size_t out, size_t i,
                            size_t col, size_t from, size_t to, size_t cols, size_t panels,
                            size_t stride) {
    const size_t vectors = panels * VF_PER_PANEL;
    const float *weight = a->weight + out / DYNK_PANEL * a->w_panel;
    vf sum[STEM_MOST];
    DYNK_UNROLL
    for (size_t n = 0; n < cols * vectors; n++)
        sum[n] = vf_zero();
    DYNK_ROLLED
    for (size_t u = 0; u < 3; u++) {
        const float *x = a->rows[i * stride + u], *w = weight + (u * 9 + from * 3) * DYNK_PANEL;
        if (x == NULL)
            continue;
        x += (col * stride + from - 1) * 3;
        for (size_t t = (to - from) * 3; t > 0; t--) {
            vf tap[STEM_MOST];
            DYNK_UNROLL
            for (size_t v = 0; v < vectors; v++)
                tap[v] = vf_load(w + v / VF_PER_PANEL * a->w_panel + v % VF_PER_PANEL * VF_LANES);
            DYNK_UNROLL
            for (size_t j = 0; j < cols; j++) {
                vf value = vf_set1(x[j * stride * 3]);
                DYNK_UNROLL
                for (size_t v = 0; v < vectors; v++)
                    sum[j * vectors + v] = vf_fma(value, tap[v], sum[j * vectors + v]);
            }
            x++;
            w += DYNK_PANEL;
        }
    }
    if (act->clamped)
        stem_finish(a, act, sum, out, i, col, cols, panels, 1);
    else
        stem_finish(a, act, sum, out, i, col, cols, panels, 0);
}

/* Row i: the border column on the left, inner columns in even blocks of at most most_cols, the
 * border column on the right if there is one. */
DYNK_INLINE void stem_row(const dynk_stem_args *a, const vact *act, size_t out, size_t i,
                          size_t most_cols, size_t panels, size_t stride) {
#define DYNK_COLS(n)                                                                               \
    case n:                                                                                        \
        if ((n) <= most_cols)                                                                      \
            stem_block(a, act, out, i, col, 0, 3, n, panels, stride);                              \
        break;
    const size_t width = (a->width - 1) / stride + 1;
    const size_t inner_end = a->width >= 2 ? (a->width - 2) / stride + 1 : 0;
    stem_block(a, act, out, i, 0, 1, a->width == 1 ? 2 : 3, 1, panels, stride);
    size_t col = 1;
    if (inner_end > col)
        for (size_t blocks = (inner_end - col + most_cols - 1) / most_cols; blocks > 0; blocks--) {
            size_t cols = (inner_end - col + blocks - 1) / blocks;
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
    if (col < width)
        stem_block(a, act, out, i, col, 0, 2, 1, panels, stride);
#undef DYNK_COLS
}

/* All rows of `panels` panels from output channel `out` on. */
DYNK_INLINE void stem_rows(const dynk_stem_args *args, size_t out, size_t most_cols, size_t panels,
                           size_t stride) {
    const dynk_stem_args a = *args;
    const vact act = vact_of(a.act);
    for (size_t i = 0; i < a.out_rows; i++)
        stem_row(&a, &act, out, i, most_cols, panels, stride);
}

#endif
