#define _DEFAULT_SOURCE /* madvise and MAP_ANONYMOUS */

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

enum { HUGE_PAGE = 2 << 20 };

/* Whole pages of any of Linux's base page sizes. */
static size_t kept_size(size_t size) {
    return ceil_div(size, 65536) * 65536;
}

/* Blocks of at least a huge page come straight from the system, so that they start at one. */
static void *map_huge(size_t size) {
    size_t kept = kept_size(size), whole = kept + HUGE_PAGE;
    char *p = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    size_t head = (HUGE_PAGE - (uintptr_t)p % HUGE_PAGE) % HUGE_PAGE;
    if (head > 0)
        munmap(p, head);
    size_t tail = whole - head - kept;
    if (tail > 0)
        munmap(p + head + kept, tail);
#ifdef MADV_HUGEPAGE
    /* Advice: where it is refused, small pages do. */
    (void)madvise(p + head, kept, MADV_HUGEPAGE);
#endif
    return p + head;
}

void *memory_new(const memory *m, size_t size) {
    if (size == 0 || size > SIZE_MAX / 4)
        return NULL;
    if (m->user.alloc != NULL)
        return m->user.alloc(m->user.context, size, DYNK_ALIGN);
    if (size >= HUGE_PAGE)
        return map_huge(size);
    return aligned_alloc(DYNK_ALIGN, (size + DYNK_ALIGN - 1) / DYNK_ALIGN * DYNK_ALIGN);
}

void *memory_zeroed(const memory *m, size_t size) {
    void *p = memory_new(m, size);
    bool fresh = m->user.alloc == NULL && size >= HUGE_PAGE; /* pages of the system are zeros */
    if (p != NULL && !fresh)
        memset(p, 0, size);
    return p;
}

void memory_free(const memory *m, void *p, size_t size) {
    if (p == NULL)
        return;
    if (m->user.release != NULL)
        m->user.release(m->user.context, p, size);
    else if (size >= HUGE_PAGE)
        munmap(p, kept_size(size));
    else
        free(p);
}

float *carve(carver *c, size_t floats) {
    const size_t line = DYNK_ALIGN / sizeof(float), gap = DYNK_OVERREAD / sizeof(float);
    const size_t limit = SIZE_MAX / 8 / sizeof(float);
    if (floats > limit || c->used > limit - floats) {
        c->overflow = true;
        return NULL;
    }
    float *p = c->base == NULL ? NULL : c->base + c->used;
    c->used += ceil_div(floats + gap, line) * line;
    return p;
}
