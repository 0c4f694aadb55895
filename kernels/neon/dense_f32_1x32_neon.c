//go:build arm64

#include "neon.h"

#include "dense.h"

DYNK_TARGET void dynk_dense_f32_1x32_neon(const dynk_dense_args *a) {
    dense(a, 2);
}
