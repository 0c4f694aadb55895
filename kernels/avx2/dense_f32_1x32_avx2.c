//go:build amd64

#include "avx2.h"

#include "dense.h"

DYNK_TARGET void dynk_dense_f32_1x32_avx2(const dynk_dense_args *a) {
    dense(a, 2);
}
