/* A bundle opened: packed weights, the supernet's batch normalisation, and a plan for each level.
 */
#ifndef DYNOFA_MODEL_H
#define DYNOFA_MODEL_H

#include <stdatomic.h>

#include "space.h"

/* A batch normalisation in evaluation mode. Both arrays are padded. */
typedef struct affine {
    float *scale, *shift;
} affine;

/* A packed matrix: panels of DYNK_PANEL outputs, w_panel floats apart. */
typedef struct matrix {
    float *weight;
    size_t w_panel;
} matrix;

typedef struct block_weights {
    matrix expand, reduce, excite, project;
    float *reduce_bias, *excite_bias;
    float *depthwise[3]; /* by kernel / 2 - 1, packed; NULL where the space has not the size */
} block_weights;

/* What a session executes for one sub-network: pointers into shared memory. */
typedef struct plan_block {
    block b;
    const block_weights *w;
    affine expand, depthwise, project;
} plan_block;

typedef struct plan {
    subnet n;
    affine stem, head;
    plan_block *block;
    uint32_t blocks, last_side, last_channels;
    uint64_t id, macs;
} plan;

struct dynofa_model {
    memory mem;
    const struct backend *backend; /* NULL for this CPU */
    void *remote;                  /* the backend's part */
    atomic_uint holders;           /* the caller's handle and the sessions */
    dynk_table table;
    space space;
    uint32_t norms;                                 /* of the supernet */
    block_weights *block;                           /* [1 + slots] */
    affine *norm;                                   /* [norms] of the supernet, all channels */
    matrix stem, head_expand, features, classifier; /* features: pointwise without head_expand */
    float *bias;
    uint32_t levels;
    plan *level;
    void *index, *weights, *library; /* block and norm; what they point to; levels */
    size_t index_bytes, weights_bytes, library_bytes;
};

enum { MAX_NORMS = 4 + 3 * MAX_SLOTS };

/* Number of the first of a block's batch normalisations in the supernet's order. */
static inline uint32_t norm_of(uint32_t index) {
    return index == 0 ? 1 : 3 * index;
}

/* Calls visit for every batch normalisation of a sub-network, in order of execution, with its
 * number in the supernet and its channels. */
typedef void (*norm_visitor)(void *to, uint32_t number, uint32_t channels);
void norms_visit(const space *s, const subnet *n, norm_visitor visit, void *to);

/* The arrays of a sub-network. */
void subnet_carve(const space *s, carver *c, subnet *n);

/* The arrays of a plan and of its sub-network. */
void plan_carve(const space *s, carver *c, plan *p);

/* Builds the plan of p->n. norms are its own in order of execution, or NULL for the supernet's. tag
 * tells plans with different batch normalisation of one sub-network apart. */
void plan_build(const dynofa_model *m, plan *p, const affine *norms, uint64_t tag);

/* A view of a plan's sub-network for the caller. */
dynofa_subnet plan_subnet(const dynofa_model *m, const plan *p);

/* Floats of all scales and shifts of a sub-network. */
size_t norm_floats(const space *s, const subnet *n);

void model_hold(dynofa_model *m);
void model_release(dynofa_model *m);

#endif
