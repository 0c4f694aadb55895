/* What needs tensor cores of sm_80, in a module of its own that only such devices are given. */
#include "../tensor/tensor.cu"
