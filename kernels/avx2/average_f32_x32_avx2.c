//go:build amd64

#include "avx2.h"

#include "average.h"

DYNK_TARGET void dynk_average_f32_x32_avx2(const dynk_average_args *a) {
    average(a);
}
