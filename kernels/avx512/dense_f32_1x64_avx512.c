//go:build amd64

#include "avx512.h"

#include "dense.h"

DYNK_TARGET void dynk_dense_f32_1x64_avx512(const dynk_dense_args *a) {
    dense(a, 4);
}
