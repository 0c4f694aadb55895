/* The kernel transform runs once at load, so there is one version of it. */
#include "ref.h"

void dynk_ktransform_f32(float *dst, const float *src, const float *matrix, size_t channels,
                         unsigned from, unsigned to) {
    size_t margin = (from - to) / 2, taps = (size_t)to * to;
    for (size_t c = 0; c < channels; c++) {
        const float *kernel = src + c * from * from;
        float *out = dst + c * taps;
        for (size_t t = 0; t < taps; t++) {
            if (matrix == NULL) {
                out[t] = kernel[(t / to + margin) * from + t % to + margin];
                continue;
            }
            double sum = 0;
            for (size_t j = 0; j < taps; j++)
                sum += (double)matrix[t * taps + j] *
                       (double)kernel[(j / to + margin) * from + j % to + margin];
            out[t] = (float)sum;
        }
    }
}
