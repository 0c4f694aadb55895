/* The shape of a supernet, the sub-networks it offers, and the blocks they execute: the same
 * vocabulary and the same rules as gofacade/ofa. */
#ifndef DYNOFA_SPACE_H
#define DYNOFA_SPACE_H

#include "internal.h"
#include "json.h"

/* Limits of gofacade/ofa: far above published networks, and low enough that no product of them
 * overflows 64 bits. */
enum {
    MAX_CHANNELS = 1 << 14,
    MAX_STAGES = 32,
    MAX_DEPTH = 32,
    MAX_CLASSES = 1 << 20,
    MAX_RESOLUTION = 2048,
    MAX_EXPAND = 32,
    MAX_SLOTS = MAX_STAGES * MAX_DEPTH
};

/* Ascending legal values. */
typedef struct choices {
    uint32_t count;
    uint16_t value[MAX_RESOLUTION];
} choices;

typedef struct few {
    uint32_t count;
    uint16_t value[MAX_DEPTH];
} few;

typedef struct stage {
    uint32_t channels, stride;
    dynk_act act;
    bool se;
    few depths;
} stage;

typedef struct space {
    uint32_t classes;
    double bn_eps;
    uint32_t stem_channels, stem_stride;
    dynk_act stem_act;
    uint32_t first_channels, first_stride;
    dynk_act first_act;
    bool first_se, first_residual;
    uint32_t stages;
    stage stage[MAX_STAGES];
    uint32_t head_expand, head_features;
    dynk_act head_act;
    few kernels, expands;
    choices resolutions;
    /* Derived */
    uint32_t slots, max_kernel, max_expand, max_resolution;
} space;

/* One sub-network, checked and canonical. */
typedef struct subnet {
    uint32_t resolution;
    uint32_t *kernels, *expands, *depths; /* [slots], [slots], [stages] */
} subnet;

/* What a block of a sub-network is, as ofa.Block. */
typedef struct block {
    uint32_t index; /* number in the supernet */
    uint32_t in, mid, out;
    uint32_t max_mid;
    uint32_t squeeze, max_squeeze; /* 0 without squeeze-excitation */
    uint32_t kernel, stride;
    uint32_t in_side, out_side;
    dynk_act act;
    bool expand, residual;
} block;

/* Walks the blocks of a checked sub-network: block_walk w = {space, subnet}; while (block_next(&w))
 * … */
typedef struct block_walk {
    const space *s;
    const subnet *n;
    block b;
    uint32_t stage, depth, slot; /* of the next block, once started */
    bool started;
} block_walk;

bool block_next(block_walk *w);

/* Reads a space and checks it. What is wrong goes to f. */
dynofa_status space_read(space *s, json *j, failure *f);

/* The larger part of every choice; n's arrays are the caller's. */
void space_largest(const space *s, uint32_t resolution, subnet *n);

/* Checks what the caller asks for and writes its canonical form to n, whose arrays are the
 * caller's. Any image side up to MAX_RESOLUTION is legal if any_side. */
dynofa_status subnet_read(const space *s, const dynofa_subnet *from, bool any_side, subnet *n,
                          failure *f);

/* Of sub-networks in canonical form. A copy goes to arrays that are there. */
bool subnet_equal(const space *s, const subnet *a, const subnet *b);
void subnet_copy(const space *s, subnet *to, const subnet *from);

/* The caller's struct and its arrays are there. */
static inline bool subnet_complete(const dynofa_subnet *n) {
    return n != NULL && n->struct_size >= sizeof *n && n->kernels != NULL && n->expands != NULL &&
           n->depths != NULL;
}

/* Multiply-adds and parameters at batch 1. */
void space_cost(const space *s, const subnet *n, uint64_t *macs, uint64_t *params);

static inline uint32_t strided(uint32_t side, uint32_t stride) {
    return (side - 1) / stride + 1;
}

#endif
