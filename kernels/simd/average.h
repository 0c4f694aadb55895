/* Average of rows: four vectors of channels at a time, which hides the latency of the additions and
 * reads a whole number of cache lines of each row. */
#ifndef DYNK_AVERAGE_H
#define DYNK_AVERAGE_H

#include "vector.h"

DYNK_INLINE void average_vectors(const dynk_average_args *a, vf factor, size_t c, size_t vectors) {
    vf sum[4];
    vtail tail = vtail_of(a->channels - c - (vectors - 1) * VF_LANES);
    DYNK_UNROLL
    for (size_t v = 0; v < vectors; v++)
        sum[v] = vf_zero();
    const float *x = a->x + c;
    for (size_t r = 0; r < a->rows; r++) {
        DYNK_UNROLL
        for (size_t v = 0; v + 1 < vectors; v++)
            sum[v] = vf_add(sum[v], vf_load(x + v * VF_LANES));
        const float *last = x + (vectors - 1) * VF_LANES;
        sum[vectors - 1] = vf_add(sum[vectors - 1], vf_load_tail(last, tail));
        x += a->x_row;
    }
    DYNK_UNROLL
    for (size_t v = 0; v + 1 < vectors; v++)
        vf_store(a->y + c + v * VF_LANES, vf_mul(sum[v], factor));
    vf_store_tail(a->y + c + (vectors - 1) * VF_LANES, vf_mul(sum[vectors - 1], factor), tail);
}

DYNK_INLINE void average(const dynk_average_args *a) {
    vf factor = vf_set1(1.0f / (float)a->count);
    size_t c = 0;
    for (; c + 3 * VF_LANES < a->channels; c += 4 * VF_LANES)
        average_vectors(a, factor, c, 4);
    for (; c < a->channels; c += VF_LANES)
        average_vectors(a, factor, c, 1);
}

#endif
