#include "ref.h"

void dynk_dense_f32_ref(const dynk_dense_args *a) {
    for (size_t o = 0; o < a->out; o++) {
        double sum = a->bias != NULL ? (double)a->bias[o] : 0;
        for (size_t i = 0; i < a->in; i++)
            sum += packed_ref(a->weight, a->w_panel, i, o) * (double)a->x[i];
        a->y[o] = (float)activate_ref(sum, a->act);
    }
}
