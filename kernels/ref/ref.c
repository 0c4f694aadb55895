#include "dynk_isa.h"

#define DYNK_KERNEL DYNK_DECLARE
#include "ref.inc"
#undef DYNK_KERNEL

static const dynk_kernel kernels[] = {
#define DYNK_KERNEL DYNK_ENTRY
#include "ref.inc"
#undef DYNK_KERNEL
};

dynk_isa dynk_isa_ref(void) {
    int present = 1;
    return (dynk_isa){"ref", kernels, DYNK_COUNT(kernels), present};
}
