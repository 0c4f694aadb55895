/* The kernel transform runs once at load, so there is one version of it. */
#include "ref.h"

enum { MAX_TAPS = 25 };

/* Tap by tap of the source, so that the sums of a channel are independent and run on vectors; each
 * is still summed in the order of j. */
void dynk_ktransform_f32(float *dst, const float *src, const float *matrix, size_t channels,
                         unsigned from, unsigned to) {
    size_t margin = (from - to) / 2, taps = (size_t)to * to;
    double columns[MAX_TAPS * MAX_TAPS];
    for (size_t i = 0; matrix != NULL && i < taps * taps; i++)
        columns[i % taps * taps + i / taps] = (double)matrix[i];
    for (size_t c = 0; c < channels; c++) {
        const float *kernel = src + c * from * from;
        float *out = dst + c * taps;
        double sum[MAX_TAPS] = {0};
        for (size_t j = 0; j < taps; j++) {
            float v = kernel[(j / to + margin) * from + j % to + margin];
            out[j] = v;
            for (size_t t = 0; matrix != NULL && t < taps; t++)
                sum[t] += columns[j * taps + t] * (double)v;
        }
        for (size_t t = 0; matrix != NULL && t < taps; t++)
            out[t] = (float)sum[t];
    }
}
