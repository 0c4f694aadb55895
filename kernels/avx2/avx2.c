//go:build amd64

#include "dynk_isa.h"

#define DYNK_KERNEL DYNK_DECLARE
#include "avx2.inc"
#undef DYNK_KERNEL

static const dynk_kernel kernels[] = {
#define DYNK_KERNEL DYNK_ENTRY
#include "avx2.inc"
#undef DYNK_KERNEL
};

dynk_isa dynk_isa_avx2(void) {
    __builtin_cpu_init();
    int present = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return (dynk_isa){"avx2", kernels, DYNK_COUNT(kernels), present};
}
