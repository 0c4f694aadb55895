/* The orders in which threads and blocks run: between emulator.c and ptx_run.c. */
#ifndef WALK_H
#define WALK_H

#include "emulator.h"

/* An order of 0..count-1: it begins at `first` and goes on by `step`, without a common factor. */
typedef struct walk {
    uint64_t first, step, count;
} walk;

static inline uint32_t walk_common_factor(uint32_t a, uint32_t b) {
    while (b != 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static inline walk walk_of(uint32_t count, emulator_order order) {
    walk w = {0, 1, count};
    if (order == EMULATOR_DESCENDING) {
        w.first = count - 1;
        w.step = w.first;
    }
    if (order == EMULATOR_PERMUTED) {
        w.first = count / 3;
        w.step = count * 2ULL / 5 + 1;
        while (walk_common_factor(count, (uint32_t)w.step) != 1)
            w.step++;
    }
    return w;
}

static inline uint32_t walk_at(const walk *w, uint32_t i) {
    return (uint32_t)((w->first + i * w->step) % w->count);
}

#endif
