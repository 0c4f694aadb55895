#include "ref.h"

void dynk_pointwise_f32_ref(const dynk_pointwise_args *a) {
    for (size_t p = 0; p < a->pixels; p++)
        for (size_t o = 0; o < a->out; o++) {
            double sum = 0;
            for (size_t i = 0; i < a->in; i++) {
                double gate = a->gate != NULL ? (double)a->gate[i] : 1;
                sum +=
                    packed_ref(a->weight, a->w_panel, i, o) * gate * (double)a->x[p * a->x_pix + i];
            }
            double y = activate_ref((double)a->shift[o] + (double)a->scale[o] * sum, a->act);
            if (a->residual != NULL)
                y += (double)a->residual[p * a->r_pix + o];
            a->y[p * a->y_pix + o] = (float)y;
        }
}
