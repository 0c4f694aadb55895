/* Pointwise convolution as a matrix product whose register tile is `rows` pixels by `panels` panels
 * of output channels. Per input channel: one row of the panels is loaded, each pixel's value is
 * broadcast, and rows * panels products are added. The pixels are used where they lie, one stream
 * per row of the tile: it is at the speed of its products already, so packing could only add.
 *
 * Loops: panels outside (each panel of weights comes from memory once), pixels inside. */
#ifndef DYNK_POINTWISE_H
#define DYNK_POINTWISE_H

#include "vector.h"

/* The weights of a tile: the caller's panels, or what the first tile of a gated call has left in
 * scratch. */
typedef struct pointwise_panels {
    const float *weight;
    size_t w_panel, w_in; /* from panel to panel, from input to input */
    size_t out;           /* first output channel */
    const float *next;    /* a panel to fetch meanwhile */
} pointwise_panels;

enum { POINTWISE_MOST = 32 }; /* vectors of a tile, at most */

DYNK_INLINE void pointwise_finish(const dynk_pointwise_args *a, const pointwise_panels *g,
                                  const vact *act, const vf *sum, size_t pixel, size_t rows,
                                  size_t panels, int clamped) {
    const size_t vectors = panels * VF_PER_PANEL;
    vf scale[POINTWISE_MOST], shift[POINTWISE_MOST];
    vtail tail[POINTWISE_MOST];
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        size_t o = g->out + v * VF_LANES;
        tail[v] = vtail_of(o < a->out ? a->out - o : 0);
        scale[v] = vact_prepare(vf_load_tail(a->scale + o, tail[v]), clamped);
        shift[v] = vact_prepare(vf_load_tail(a->shift + o, tail[v]), clamped);
    }
    float *y = a->y + pixel * a->y_pix + g->out;
    const float *residual = a->residual;
    if (residual != NULL)
        residual += pixel * a->r_pix + g->out;
    DYNK_UNROLL
    for (size_t r = 0; r < rows; r++) {
        vf result[POINTWISE_MOST];
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            vf affine = vf_fma(sum[r * vectors + v], scale[v], shift[v]);
            result[v] = vact_apply(act, affine, clamped);
        }
        if (residual != NULL) {
            DYNK_UNROLL
            for (size_t v = 0; v < vectors; v++)
                result[v] = vf_add(result[v], vf_load_tail(residual + v * VF_LANES, tail[v]));
            residual += a->r_pix;
        }
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++)
            vf_store_tail(y + v * VF_LANES, result[v], tail[v]);
        y += a->y_pix;
    }
}

/* `gated`: the weights are still to be scaled. They are scaled in registers and left in scratch for
 * the tiles that follow: a pass of its own would wait for memory with the multipliers idle. */
DYNK_INLINE void pointwise_tile(const dynk_pointwise_args *a, const pointwise_panels *g,
                                const vact *act, size_t pixel, size_t rows, size_t panels,
                                int gated) {
    const size_t vectors = panels * VF_PER_PANEL, x_pix = a->x_pix;
    const size_t w_panel = g->w_panel, w_in = gated ? DYNK_PANEL : g->w_in;
    vf sum[POINTWISE_MOST];
    DYNK_UNROLL
    for (size_t i = 0; i < rows * vectors; i++)
        sum[i] = vf_zero();
    const float *x = a->x + pixel * x_pix, *w = g->weight, *gate = a->gate, *next = g->next;
    float *scaled = a->scratch;
    DYNK_TWICE
    for (size_t i = a->in; i > 0; i--) {
        __builtin_prefetch(next, 0, 2);
        vf weight[POINTWISE_MOST];
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++)
            weight[v] = vf_load(w + v / VF_PER_PANEL * w_panel + v % VF_PER_PANEL * VF_LANES);
        if (gated) {
            vf factor = vf_set1(*gate++);
            DYNK_UNROLL
            for (size_t v = 0; v < vectors; v++) {
                weight[v] = vf_mul(weight[v], factor);
                vf_store(scaled + v * VF_LANES, weight[v]);
            }
            scaled += panels * DYNK_PANEL;
        }
        DYNK_UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf value = vf_set1(x[r * x_pix]);
            DYNK_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum[r * vectors + v] = vf_fma(value, weight[v], sum[r * vectors + v]);
        }
        x++;
        w += w_in;
        next += DYNK_PANEL;
    }
    if (act->clamped)
        pointwise_finish(a, g, act, sum, pixel, rows, panels, 1);
    else
        pointwise_finish(a, g, act, sum, pixel, rows, panels, 0);
}

/* All pixels for the `panels` panels from output channel `out` on, in tiles of at most most_rows, as
 * even as possible: a short last tile would run at the latency of its few sums. Each tile fetches
 * one panel of the next step, whose first tile would otherwise wait for cold weights. */
DYNK_INLINE void pointwise_pixels(const dynk_pointwise_args *args, size_t out, size_t most_rows,
                                  size_t panels) {
#define DYNK_ROWS(n)                                                                               \
    case n:                                                                                        \
        if ((n) <= most_rows) {                                                                    \
            if (gated)                                                                             \
                pointwise_tile(&a, &g, &act, pixel, n, panels, 1);                                 \
            else                                                                                   \
                pointwise_tile(&a, &g, &act, pixel, n, panels, 0);                                 \
        }                                                                                          \
        break;
    const dynk_pointwise_args a = *args;
    pointwise_panels g = {a.weight + out / DYNK_PANEL * a.w_panel, a.w_panel, DYNK_PANEL, out,
                          NULL};
    const vact act = vact_of(a.act);
    int gated = a.gate != NULL;
    size_t pixel = 0, next = out + panels * DYNK_PANEL;
    const size_t next_end = next + panels * DYNK_PANEL < a.out ? next + panels * DYNK_PANEL : a.out;
    for (size_t tiles = (a.pixels + most_rows - 1) / most_rows; tiles > 0; tiles--) {
        size_t rows = (a.pixels - pixel + tiles - 1) / tiles;
        g.next = next < next_end ? a.weight + next / DYNK_PANEL * a.w_panel : g.weight;
        switch (rows) {
            DYNK_ROWS(1)
            DYNK_ROWS(2)
            DYNK_ROWS(3)
            DYNK_ROWS(4)
            DYNK_ROWS(5)
            DYNK_ROWS(6)
            DYNK_ROWS(7)
            DYNK_ROWS(8)
            DYNK_ROWS(9)
            DYNK_ROWS(10)
            DYNK_ROWS(11)
            DYNK_ROWS(12)
            DYNK_ROWS(13)
            DYNK_ROWS(14)
        default:
            break;
        }
        pixel += rows;
        next += DYNK_PANEL;
        if (gated)
            g = (pointwise_panels){a.scratch, DYNK_PANEL, panels * DYNK_PANEL, out, NULL};
        gated = 0;
    }
#undef DYNK_ROWS
}

#endif
