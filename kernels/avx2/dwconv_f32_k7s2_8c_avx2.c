//go:build amd64

#include "avx2.h"

#include "dwconv.h"

DYNK_TARGET void dynk_dwconv_f32_k7s2_8c_avx2(const dynk_dwconv_args *a) {
    dwconv(a, 7, 2);
}
