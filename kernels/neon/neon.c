//go:build arm64

#include "dynk_isa.h"

#define DYNK_KERNEL DYNK_DECLARE
#include "neon.inc"
#undef DYNK_KERNEL

static const dynk_kernel kernels[] = {
#define DYNK_KERNEL DYNK_ENTRY
#include "neon.inc"
#undef DYNK_KERNEL
};

dynk_isa dynk_isa_neon(void) {
    int present = 1; /* part of the base of AArch64 */
    return (dynk_isa){"neon", kernels, DYNK_COUNT(kernels), present};
}
