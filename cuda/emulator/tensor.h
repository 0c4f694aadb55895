/* The product of a warp: between emulator.c and tensor.c. */
#ifndef TENSOR_H
#define TENSOR_H

#include "emulator.h"

enum { TENSOR_LANES = 32 };

/* All lanes are of the same format. */
void tensor_multiply(emulator_fragments *const lane[TENSOR_LANES]);

#endif
