/* A plain forward pass in double over the tensors of a bundle: independent of packing, plans,
 * kernels and tiles. It shares only the bundle reader and the list of blocks with the engine. */
#ifndef DYNOFA_TESTS_ORACLE_H
#define DYNOFA_TESTS_ORACLE_H

#include "bundle.h"

/* Logits [classes] of image [r][r][3] for a canonical sub-network. level >= 0 takes that level's
 * batch normalisation; else norms, if not NULL, in the order of dynofa_model_norm_floats; else the
 * supernet's. Ends the program where a tensor is missing. */
void oracle_run(const bundle *b, const subnet *n, int level, const float *norms, const float *image,
                double *logits);

#endif
