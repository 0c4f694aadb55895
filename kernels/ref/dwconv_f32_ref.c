#include "ref.h"

void dynk_dwconv_f32_ref(const dynk_dwconv_args *a) {
    size_t out_width = (a->width - 1) / a->stride + 1, half = a->k / 2;
    const size_t taps = (size_t)a->k * a->k;
    for (size_t c = 0; c < a->channels; c++) {
        const float *weight = a->weight + c / DYNK_PANEL * taps * DYNK_PANEL + c % DYNK_PANEL;
        double total = 0;
        for (size_t i = 0; i < a->out_rows; i++)
            for (size_t j = 0; j < out_width; j++) {
                double sum = 0;
                for (size_t u = 0; u < a->k; u++)
                    for (size_t v = 0; v < a->k; v++) {
                        const float *row = a->rows[i * a->stride + u];
                        size_t col = j * a->stride + v; /* counted from the padding */
                        if (row == NULL || col < half || col - half >= a->width)
                            continue;
                        sum += (double)weight[(u * a->k + v) * DYNK_PANEL] *
                               (double)row[(col - half) * a->x_pix + c];
                    }
                double y = activate_ref((double)a->shift[c] + (double)a->scale[c] * sum, a->act);
                a->y[i * a->y_row + j * a->y_pix + c] = (float)y;
                total += y;
            }
        if (a->sums != NULL)
            a->sums[c] = (float)total;
    }
}
