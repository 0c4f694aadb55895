/* Pointwise convolution as a matrix product whose register tile is `rows` pixels by `panels` panels
 * of output channels. Per input channel: one row of the panels is loaded, each pixel's value is
 * broadcast, and rows * panels products are added. The pixels are used where they lie: they are read
 * in streams of one per tile row, and packing them cost more than it saved on OFA's short products.
 *
 * Loops: panels outside (each panel of weights comes from memory once), pixels inside. */
#ifndef DYNK_POINTWISE_H
#define DYNK_POINTWISE_H

#include "vector.h"

/* The panels that a call works on: their weights, scaled by the gate if there is one. */
typedef struct pointwise_panels {
    const float *weight;
    size_t w_panel;
    size_t out; /* first output channel */
} pointwise_panels;

DYNK_INLINE void pointwise_tile(const dynk_pointwise_args *a, const pointwise_panels *g,
                                const vact *act, size_t pixel, size_t rows, size_t panels)
{
    enum { MOST = 32 };
    const size_t vectors = panels * VF_PER_PANEL, x_pix = a->x_pix, w_panel = g->w_panel;
    vf sum[MOST];
    DYNK_UNROLL
    for (size_t i = 0; i < rows * vectors; i++)
        sum[i] = vf_zero();
    const float *x = a->x + pixel * x_pix, *w = g->weight;
    for (size_t i = a->in; i > 0; i--) {
        vf weight[MOST];
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++)
            weight[v] = vf_load(w + v / VF_PER_PANEL * w_panel + v % VF_PER_PANEL * VF_LANES);
        DYNK_UNROLL
        for (size_t r = 0; r < rows; r++) {
            vf value = vf_set1(x[r * x_pix]);
            DYNK_UNROLL
            for (size_t v = 0; v < vectors; v++)
                sum[r * vectors + v] = vf_fma(value, weight[v], sum[r * vectors + v]);
        }
        x++;
        w += DYNK_PANEL;
    }
    vf scale[MOST], shift[MOST];
    vtail tail[MOST];
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        size_t o = g->out + v * VF_LANES;
        tail[v] = vtail_of(o < a->out ? a->out - o : 0);
        scale[v] = vf_load_tail(a->scale + o, tail[v]);
        shift[v] = vf_load_tail(a->shift + o, tail[v]);
    }
    DYNK_UNROLL
    for (size_t r = 0; r < rows; r++) {
        float *y = a->y + (pixel + r) * a->y_pix + g->out;
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            vf result = vact_apply(act, vf_fma(sum[r * vectors + v], scale[v], shift[v]));
            if (a->residual != NULL) {
                const float *from = a->residual + (pixel + r) * a->r_pix + g->out;
                result = vf_add(result, vf_load_tail(from + v * VF_LANES, tail[v]));
            }
            vf_store_tail(y + v * VF_LANES, result, tail[v]);
        }
    }
}

/* All pixels for some panels, in tiles of at most most_rows, as even as possible: a short last tile
 * would run at the latency of its few sums. */
DYNK_INLINE void pointwise_pixels(const dynk_pointwise_args *a, const pointwise_panels *g,
                                  const vact *act, size_t most_rows, size_t panels)
{
#define DYNK_ROWS(n)                                                                               \
    case n:                                                                                        \
        if ((n) <= most_rows)                                                                      \
            pointwise_tile(a, g, act, pixel, n, panels);                                           \
        break;
    size_t pixel = 0;
    for (size_t tiles = (a->pixels + most_rows - 1) / most_rows; tiles > 0; tiles--) {
        size_t rows = (a->pixels - pixel + tiles - 1) / tiles;
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
    }
#undef DYNK_ROWS
}

/* Where the weights of `panels` panels from output channel `out` on are to be read. Scaling them by
 * the gate costs one product per weight and call; scaling x in the tile would cost one per pixel,
 * input and panel. */
DYNK_INLINE pointwise_panels pointwise_gate(const dynk_pointwise_args *a, size_t out, size_t panels)
{
    const float *weight = a->weight + out / DYNK_PANEL * a->w_panel;
    pointwise_panels g = {weight, a->w_panel, out};
    if (a->gate == NULL)
        return g;
    g.weight = a->scratch;
    g.w_panel = a->in * DYNK_PANEL;
    for (size_t p = 0; p < panels; p++)
        for (size_t i = 0; i < a->in; i++) {
            const float *from = weight + p * a->w_panel + i * DYNK_PANEL;
            float *to = a->scratch + p * g.w_panel + i * DYNK_PANEL;
            vf gate = vf_set1(a->gate[i]);
            DYNK_UNROLL
            for (size_t v = 0; v < VF_PER_PANEL; v++)
                vf_store(to + v * VF_LANES, vf_mul(gate, vf_load(from + v * VF_LANES)));
        }
    return g;
}

#endif
