//go:build amd64

#include "dynk_isa.h"

#define DYNK_KERNEL DYNK_DECLARE
#include "avx512.inc"
#undef DYNK_KERNEL

static const dynk_kernel kernels[] = {
#define DYNK_KERNEL DYNK_ENTRY
#include "avx512.inc"
#undef DYNK_KERNEL
};

dynk_isa dynk_isa_avx512(void) {
    __builtin_cpu_init();
    int present = __builtin_cpu_supports("avx512f");
    return (dynk_isa){"avx512", kernels, DYNK_COUNT(kernels), present};
}
