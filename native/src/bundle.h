/* Reading a .dofa bundle: a safetensors file whose tensors are the supernet's under their OFA
 * names, and whose metadata entry "dynofa" holds space and library as JSON. The input is hostile:
 * nothing is read outside it, and memory stays within a small multiple of its size. */
#ifndef DYNOFA_BUNDLE_H
#define DYNOFA_BUNDLE_H

#include "space.h"

/* Where the bytes of a bundle are: in memory, or in an open file if fd is not negative. A file is
 * read and never mapped, so that one that gets shorter meanwhile is an error and no signal. */
typedef struct source {
    const unsigned char *bytes;
    int fd;
    size_t size;
} source;

/* Opens a regular file that is not empty. After a failure there is nothing to close. */
dynofa_status source_open(source *s, const char *path, failure *f);
void source_close(source *s);

typedef struct tensor {
    span name;
    size_t at, bytes; /* in the source; at may be odd */
    uint32_t rank;
    uint32_t shape[4];
    bool f32, used;
} tensor;

typedef struct bundle {
    const memory *mem;
    source from;
    char *header; /* of a file; in memory it stays where it is */
    size_t header_size;
    tensor *tensors;
    size_t count;
    uint32_t *table; /* open addressing: index + 1 into tensors, 0 for free */
    size_t table_size;
    char *text; /* the metadata, unescaped */
    size_t text_size, text_room;
    space *space;
    span library; /* JSON list of levels in text; size 0 without */
} bundle;

/* Reads header and metadata. The source must outlive the bundle. After a failure too, bundle_close.
 */
dynofa_status bundle_read(bundle *b, const memory *mem, source from, failure *f);
void bundle_close(bundle *b);

/* Says whether a tensor is there with this shape, and marks it as used. */
dynofa_status bundle_expect(bundle *b, const char *name, uint32_t rank, const uint32_t *shape,
                            failure *f);
/* Reads the numbers of a tensor that bundle_expect has found; all must be finite, and at least 0
 * if it is a variance. */
dynofa_status bundle_values(const bundle *b, const char *name, float *into, failure *f);
/* Floats of the largest tensor. */
size_t bundle_largest(const bundle *b);
bool bundle_has(const bundle *b, const char *name);
/* A tensor that nobody asked for is an error. */
dynofa_status bundle_all_used(const bundle *b, failure *f);

/* Walks the library: the sub-network of each level as the file has it. slots and stages bound what
 * is read into the arrays. */
typedef struct level_walk {
    json j;
    bool first;
    uint32_t number; /* of the level that was read, plus one */
} level_walk;
level_walk library_of(const bundle *b);
/* false at the end or on a failure, which *status tells. n's arrays have the space's lengths. */
bool library_next(level_walk *w, const bundle *b, subnet *n, dynofa_status *status, failure *f);

#endif
