#define _GNU_SOURCE
#include "emulator.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fibre.h"
#include "tensor.h"
#include "walk.h"

enum { STACK = 64 * 1024, FINISHED = -1 };

emulator_thread emulator_now;

static struct {
    fibre scheduler, thread[EMULATOR_THREADS];
    unsigned char *stacks, *shared_end; /* shared_end: the guard behind shared memory */
    int line[EMULATOR_THREADS];         /* of the barrier that it waits at, or FINISHED */
    emulator_fragments *fragments[EMULATOR_THREADS]; /* waits for its warp with them, or NULL */
    const emulator_kernel *kernel;
    const void *args;
} now;

static void give_way(int line, emulator_fragments *fragments) {
    uint32_t self = emulator_now.thread;
    now.line[self] = line;
    now.fragments[self] = fragments;
    fibre_switch(&now.thread[self], &now.scheduler);
}

void emulator_barrier(int line) {
    give_way(line, NULL);
}

void emulator_mma(int line, emulator_fragments *f) {
    give_way(line, f);
}

/* A fibre lives for a grid and is the same thread of block after block. */
static void thread_body(void) {
    for (;;) {
        now.kernel->call(now.args);
        give_way(FINISHED, NULL);
    }
}

static int prepare(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), shared = EMULATOR_SHARED + page;
    if (now.stacks != NULL)
        return 1;
    unsigned char *memory =
        mmap(NULL, EMULATOR_THREADS * (size_t)STACK + shared + page, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    now.shared_end = memory + shared;
    mprotect(memory, page, PROT_NONE);
    mprotect(now.shared_end, page, PROT_NONE);
    now.stacks = now.shared_end + page;
    return 1;
}

typedef struct orders {
    walk blocks, threads, warps, lanes;
} orders;

/* Threads first to first + count - 1 have to wait at one line for one thing. */
static const char *check_together(uint32_t first, uint32_t count) {
    static char fault[160];
    for (uint32_t i = first + 1; i < first + count; i++)
        if (now.line[i] != now.line[first] ||
            (now.fragments[i] == NULL) != (now.fragments[first] == NULL)) {
            snprintf(fault, sizeof fault,
                     "%s: thread %u waits at line %d, thread %u at line %d (%d: finished)",
                     now.kernel->name, (unsigned)first, now.line[first], (unsigned)i, now.line[i],
                     FINISHED);
            return fault;
        }
    return NULL;
}

/* Runs the threads of a warp from product to product, until none waits for one. */
static const char *run_warp(uint32_t first, uint32_t lanes, const walk *order) {
    for (;;) {
        const char *fault = check_together(first, lanes);
        if (fault != NULL || now.fragments[first] == NULL)
            return fault;
        if (lanes < TENSOR_LANES)
            return "a product of less than a warp";
        tensor_multiply(&now.fragments[first]);
        for (uint32_t i = 0; i < lanes; i++) {
            emulator_now.thread = first + walk_at(order, i);
            fibre_switch(&now.scheduler, &now.thread[emulator_now.thread]);
        }
    }
}

/* Runs the threads of a block from barrier to barrier; between them, one warp after the other to
 * the end of its products. */
static const char *run_block(uint32_t threads, const orders *in) {
    const char *fault;
    do {
        for (uint32_t i = 0; i < threads; i++) {
            emulator_now.thread = walk_at(&in->threads, i);
            fibre_switch(&now.scheduler, &now.thread[emulator_now.thread]);
        }
        fault = NULL;
        for (uint32_t i = 0; i < in->warps.count && fault == NULL; i++) {
            const uint32_t first = walk_at(&in->warps, i) * TENSOR_LANES, rest = threads - first;
            fault = run_warp(first, rest < TENSOR_LANES ? rest : TENSOR_LANES, &in->lanes);
        }
        if (fault == NULL)
            fault = check_together(0, threads);
    } while (fault == NULL && now.line[0] != FINISHED);
    return fault;
}

const char *emulator_geometry(const char *name, const uint32_t grid[3], uint32_t threads,
                              uint32_t shared) {
    static char fault[128];
    if (threads >= 1 && threads <= EMULATOR_THREADS && shared <= EMULATOR_SHARED &&
        shared % 16 == 0 && grid[0] >= 1 && grid[1] >= 1 && grid[2] >= 1 && grid[1] <= 65535 &&
        grid[2] <= 65535 && (uint64_t)grid[0] * grid[1] <= UINT32_MAX / grid[2])
        return NULL;
    snprintf(fault, sizeof fault, "%s: no device runs a grid of %u x %u x %u, %u threads, %u bytes",
             name, (unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2], (unsigned)threads,
             (unsigned)shared);
    return fault;
}

const char *emulator_launch(const emulator_kernel *kernel, const void *args, const uint32_t grid[3],
                            uint32_t threads, uint32_t shared, emulator_order order) {
    const char *wrong = emulator_geometry(kernel->name, grid, threads, shared);
    if (wrong != NULL)
        return wrong;
    if (!prepare())
        return "no memory for the stacks of the emulated threads";
    now.kernel = kernel;
    now.args = args;
    for (uint32_t i = 0; i < threads; i++)
        fibre_make(&now.thread[i], now.stacks + (size_t)i * STACK, STACK, thread_body);
    emulator_now.shared = (float *)(void *)(now.shared_end - shared);
    const uint32_t blocks = grid[0] * grid[1] * grid[2];
    const orders in = {walk_of(blocks, order), walk_of(threads, order),
                       walk_of((threads + TENSOR_LANES - 1) / TENSOR_LANES, order),
                       walk_of(TENSOR_LANES, order)};
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = walk_at(&in.blocks, b);
        emulator_now.block[0] = at % grid[0];
        emulator_now.block[1] = at / grid[0] % grid[1];
        emulator_now.block[2] = at / grid[0] / grid[1];
        memset(emulator_now.shared, 0xFF, shared);
        wrong = run_block(threads, &in);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}
