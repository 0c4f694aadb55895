/* One thread of execution: its memory, its threads, its choice of sub-network. */
#ifndef DYNOFA_SESSION_H
#define DYNOFA_SESSION_H

#include "model.h"
#include "pool.h"

/* Channels of a tile of the fused expansion, and of the head, in panels. Wider tiles need more
 * second-level cache, narrower ones read the input more often. */
enum { GROUP_PANELS = 4, GROUP = GROUP_PANELS * DYNK_PANEL };

/* Floats between pixels. Of a map between blocks: whole cache lines, so that a store meets one
 * line. Of what is filtered: an odd number of lines besides, or the lines of some channels, pixel
 * after pixel, would meet in few sets of the first-level cache. */
static inline size_t map_pixel(size_t channels) {
    return ceil_div(channels, 16) * 16;
}
static inline size_t filter_pixel(size_t channels) {
    return (ceil_div(channels, 16) | 1) * 16;
}

/* Floats that the ring of expanded rows should not exceed: it has to stay in the second-level cache
 * beside weights and input. */
enum { RING_FLOATS = 40 * 1024 };

/* What each thread has for itself. */
typedef struct lane {
    float *ring;    /* rows of the expanded map, or a tile of the head */
    float *scratch; /* gated weights */
    const float **rows;
} lane;

struct dynofa_session {
    dynofa_model *model;
    memory mem;
    size_t bytes;
    uint32_t max_resolution, max_threads, threads, batch;
    int32_t level;
    const plan *plan;      /* of the following runs, or NULL */
    plan configured[2];    /* by dynofa_session_configure: the current one and the next */
    affine *given, *order; /* its batch normalisation, by number and in order of execution */
    float *given_block;    /* what given points to */
    size_t given_floats;
    void *remote; /* the backend's part */
    atomic_flag busy;
    pool pool;
    float *map[2], *filtered, *sums, *mean, *tight, *gate, *vector, *features;
    lane *lane;
    /* Of the run in progress */
    const float *image; /* [images] of them, one behind the other */
    float *logits;
    uint32_t images;
    dynofa_layer_time *times;
    size_t times_room, times_count;
    uint64_t since;
    failure error;
};

/* Executes the plan for one image. */
void session_execute(dynofa_session *s);

/* Carves a session; c without a base only counts. */
void session_carve(carver *c, dynofa_session *s, const subnet *largest);

#endif
