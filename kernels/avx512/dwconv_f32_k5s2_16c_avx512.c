//go:build amd64

#include "avx512.h"

#include "dwconv.h"

DYNK_TARGET void dynk_dwconv_f32_k5s2_16c_avx512(const dynk_dwconv_args *a) {
    dwconv(a, 5, 2);
}
