/* Dense layer: weights stream by once, so what counts is to keep several lines of them under way:
 * `panels` panels at a time, and for each vector one sum for even and one for odd inputs, which
 * also hides the latency of the additions. */
#ifndef DYNK_DENSE_H
#define DYNK_DENSE_H

#include "vector.h"

DYNK_INLINE vf dense_activate(dynk_act kind, const vact *act, vf v) {
    if (kind == DYNK_ACT_HSIGMOID)
        return vact_hsigmoid(v);
    return vact_apply(act, vact_prepare(v, act->clamped), act->clamped);
}

DYNK_INLINE void dense_panels(const dynk_dense_args *a, const vact *act, size_t out,
                              size_t panels) {
    enum { MOST = 16 };
    const size_t vectors = panels * VF_PER_PANEL, w_panel = a->w_panel;
    const float *w = a->weight + out / DYNK_PANEL * w_panel, *x = a->x;
    vf even[MOST], odd[MOST];
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++)
        even[v] = odd[v] = vf_zero();
    size_t i = 0;
    for (; i + 1 < a->in; i += 2) {
        vf x0 = vf_set1(x[i]), x1 = vf_set1(x[i + 1]);
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            const float *from = w + v / VF_PER_PANEL * w_panel + v % VF_PER_PANEL * VF_LANES;
            even[v] = vf_fma(x0, vf_load(from), even[v]);
            odd[v] = vf_fma(x1, vf_load(from + DYNK_PANEL), odd[v]);
        }
        w += 2 * DYNK_PANEL;
    }
    if (i < a->in) {
        vf x0 = vf_set1(x[i]);
        DYNK_UNROLL
        for (size_t v = 0; v < vectors; v++) {
            const float *from = w + v / VF_PER_PANEL * w_panel + v % VF_PER_PANEL * VF_LANES;
            even[v] = vf_fma(x0, vf_load(from), even[v]);
        }
    }
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++) {
        size_t o = out + v * VF_LANES;
        vtail tail = vtail_of(o < a->out ? a->out - o : 0);
        vf sum = vf_add(even[v], odd[v]);
        if (a->bias != NULL)
            sum = vf_add(sum, vf_load_tail(a->bias + o, tail));
        vf_store_tail(a->y + o, dense_activate(a->act, act, sum), tail);
    }
}

/* All outputs, most_panels at a time. */
DYNK_INLINE void dense(const dynk_dense_args *a, size_t most_panels) {
    vact act = vact_of(a->act);
    size_t out = 0;
    for (; out + (most_panels - 1) * DYNK_PANEL < a->out; out += most_panels * DYNK_PANEL)
        dense_panels(a, &act, out, most_panels);
    for (; out < a->out; out += DYNK_PANEL)
        dense_panels(a, &act, out, 1);
}

#endif
