//go:build arm64

#include "neon.h"

#include "average.h"

DYNK_TARGET void dynk_average_f32_x16_neon(const dynk_average_args *a) {
    average(a);
}
