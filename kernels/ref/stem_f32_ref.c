#include "ref.h"

void dynk_stem_f32_ref(const dynk_stem_args *a) {
    size_t out_width = (a->width - 1) / a->stride + 1;
    for (size_t i = 0; i < a->out_rows; i++)
        for (size_t j = 0; j < out_width; j++)
            for (size_t o = 0; o < a->channels; o++) {
                double sum = 0;
                for (size_t u = 0; u < 3; u++)
                    for (size_t v = 0; v < 3; v++) {
                        const float *row = a->rows[i * a->stride + u];
                        size_t col = j * a->stride + v; /* counted from the padding */
                        if (row == NULL || col < 1 || col > a->width)
                            continue;
                        for (size_t c = 0; c < 3; c++)
                            sum += packed_ref(a->weight, a->w_panel, (u * 3 + v) * 3 + c, o) *
                                   (double)row[(col - 1) * 3 + c];
                    }
                double affine = (double)a->shift[o] + (double)a->scale[o] * sum;
                a->y[i * a->y_row + j * a->y_pix + o] = (float)activate_ref(affine, a->act);
            }
}
