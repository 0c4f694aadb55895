/* All kernels in one module, so that the driver compiles once. */
#include "../average/average.cu"
#include "../dense/dense.cu"
#include "../depthwise/depthwise.cu"
#include "../pointwise/pointwise.cu"
#include "../stem/stem.cu"
