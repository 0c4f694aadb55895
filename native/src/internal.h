/* What the files of the engine share: errors and memory. */
#ifndef DYNOFA_INTERNAL_H
#define DYNOFA_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dynk.h"
#include "dynofa.h"
#include "names.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bundles are little-endian, and the engine reads their numbers in place"
#endif

enum { ERROR_SIZE = 320 };

/* Where a sentence about a failure goes. */
typedef struct failure {
    char text[ERROR_SIZE];
} failure;

/* Writes the sentence and returns the status. */
__attribute__((format(printf, 3, 4))) dynofa_status fail(failure *f, dynofa_status status,
                                                         const char *format, ...);

/* The failure of this thread, for calls without a session. */
failure *thread_failure(void);

/* An allocator of config, or the system's. */
typedef struct memory {
    dynofa_allocator user;
} memory;

/* Large blocks of the system's allocator are asked to be huge pages: a first touch of small ones
 * costs 12-16 us each on virtual machines. */
void *memory_new(const memory *m, size_t size);
/* The same, all zero. */
void *memory_zeroed(const memory *m, size_t size);
void memory_free(const memory *m, void *p, size_t size);

/* Reads the caller's config, as far as its struct_size goes, over the defaults, and checks it. */
dynofa_status config_read(dynofa_config *out, const dynofa_config *in, failure *f);

/* A walk that hands out floats of a block: with base NULL it only counts. Every piece starts
 * 64-byte aligned and has DYNK_OVERREAD bytes behind it. */
typedef struct carver {
    float *base;
    size_t used;   /* floats */
    bool overflow; /* more than SIZE_MAX / 8 bytes asked for */
} carver;

float *carve(carver *c, size_t floats);

static inline size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}
static inline size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}
static inline size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

#endif
