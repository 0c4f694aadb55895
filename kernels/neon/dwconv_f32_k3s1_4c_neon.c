//go:build arm64

#include "neon.h"

#include "dwconv.h"

DYNK_TARGET void dynk_dwconv_f32_k3s1_4c_neon(const dynk_dwconv_args *a) {
    dwconv(a, 3, 1);
}
