/* The reference kernels share how they finish a sum. They are the oracle of every other kernel:
 * plain loops, double sums, nothing clever. */
#ifndef DYNK_REF_H
#define DYNK_REF_H

#include "dynk.h"

/* gcc with -std=c11 does not fuse a*b+c; clang has to be told. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

/* Comparisons are written so that NaN falls through to the result. */
static inline double clamp_ref(double v, double low, double high) {
    if (v < low)
        return low;
    if (v > high)
        return high;
    return v;
}

static inline double activate_ref(double v, dynk_act act) {
    switch (act) {
    case DYNK_ACT_RELU:
        return v < 0 ? 0 : v;
    case DYNK_ACT_RELU6:
        return clamp_ref(v, 0, 6);
    case DYNK_ACT_HSWISH:
        return v * clamp_ref(v + 3, 0, 6) / 6;
    case DYNK_ACT_HSIGMOID:
        return clamp_ref(v + 3, 0, 6) / 6;
    case DYNK_ACT_NONE:
        break;
    }
    return v;
}

/* The weight from input i to output o of a packed matrix. */
static inline double packed_ref(const float *weight, size_t w_panel, size_t i, size_t o) {
    return weight[o / DYNK_PANEL * w_panel + i * DYNK_PANEL + o % DYNK_PANEL];
}

#endif
