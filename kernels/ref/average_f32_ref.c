#include "ref.h"

void dynk_average_f32_ref(const dynk_average_args *a) {
    for (size_t c = 0; c < a->channels; c++) {
        double sum = 0;
        for (size_t r = 0; r < a->rows; r++)
            sum += (double)a->x[r * a->x_row + c];
        a->y[c] = (float)(sum / (double)a->count);
    }
}
