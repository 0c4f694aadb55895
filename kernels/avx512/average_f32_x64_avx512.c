//go:build amd64

#include "avx512.h"

#include "average.h"

DYNK_TARGET void dynk_average_f32_x64_avx512(const dynk_average_args *a) {
    average(a);
}
