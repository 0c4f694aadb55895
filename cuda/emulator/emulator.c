#define _GNU_SOURCE
#include "emulator.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fibre.h"

enum { STACK = 64 * 1024, FINISHED = -1 };

emulator_thread emulator_now;

static struct {
    fibre scheduler, thread[EMULATOR_THREADS];
    unsigned char *stacks, *shared_end; /* shared_end: the guard behind shared memory */
    int line[EMULATOR_THREADS];         /* of the barrier that it waits at, or FINISHED */
    const emulator_kernel *kernel;
    const void *args;
} now;

static void give_way(int line) {
    uint32_t self = emulator_now.thread;
    now.line[self] = line;
    fibre_switch(&now.thread[self], &now.scheduler);
}

void emulator_barrier(int line) {
    give_way(line);
}

/* A fibre lives for a grid and is the same thread of block after block. */
static void thread_body(void) {
    for (;;) {
        now.kernel->call(now.args);
        give_way(FINISHED);
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

static uint32_t common_factor(uint32_t a, uint32_t b) {
    return b == 0 ? a : common_factor(b, a % b);
}

/* An order of 0..count-1: it begins at `first` and goes on by `step`, without a common factor. */
typedef struct walk {
    uint64_t first, step, count;
} walk;

static walk walk_of(uint32_t count, emulator_order order) {
    walk w = {0, 1, count};
    if (order == EMULATOR_DESCENDING) {
        w.first = count - 1;
        w.step = w.first;
    }
    if (order == EMULATOR_PERMUTED) {
        w.first = count / 3;
        w.step = count * 2ULL / 5 + 1;
        while (common_factor(count, (uint32_t)w.step) != 1)
            w.step++;
    }
    return w;
}

static uint32_t walk_at(const walk *w, uint32_t i) {
    return (uint32_t)((w->first + i * w->step) % w->count);
}

/* Runs the threads of a block from barrier to barrier. */
static const char *run_block(uint32_t threads, const walk *order) {
    static char fault[128];
    do {
        for (uint32_t i = 0; i < threads; i++) {
            emulator_now.thread = walk_at(order, i);
            fibre_switch(&now.scheduler, &now.thread[emulator_now.thread]);
        }
        for (uint32_t i = 1; i < threads; i++)
            if (now.line[i] != now.line[0]) {
                snprintf(fault, sizeof fault,
                         "%s: thread 0 is at the barrier of line %d, thread %u at that of line %d "
                         "(%d: finished)",
                         now.kernel->name, now.line[0], (unsigned)i, now.line[i], FINISHED);
                return fault;
            }
    } while (now.line[0] != FINISHED);
    return NULL;
}

const char *emulator_launch(const emulator_kernel *kernel, const void *args, const uint32_t grid[3],
                            uint32_t threads, uint32_t shared, emulator_order order) {
    static char fault[128];
    if (threads < 1 || threads > EMULATOR_THREADS || shared > EMULATOR_SHARED || shared % 16 != 0 ||
        grid[0] < 1 || grid[1] < 1 || grid[2] < 1 || grid[1] > 65535 || grid[2] > 65535 ||
        (uint64_t)grid[0] * grid[1] > UINT32_MAX / grid[2]) {
        snprintf(fault, sizeof fault,
                 "%s: no device runs a grid of %u x %u x %u, %u threads, %u bytes", kernel->name,
                 (unsigned)grid[0], (unsigned)grid[1], (unsigned)grid[2], (unsigned)threads,
                 (unsigned)shared);
        return fault;
    }
    if (!prepare())
        return "no memory for the stacks of the emulated threads";
    now.kernel = kernel;
    now.args = args;
    for (uint32_t i = 0; i < threads; i++)
        fibre_make(&now.thread[i], now.stacks + (size_t)i * STACK, STACK, thread_body);
    emulator_now.shared = (float *)(void *)(now.shared_end - shared);
    const uint32_t blocks = grid[0] * grid[1] * grid[2];
    const walk of_blocks = walk_of(blocks, order), of_threads = walk_of(threads, order);
    for (uint32_t b = 0; b < blocks; b++) {
        uint32_t at = walk_at(&of_blocks, b);
        emulator_now.block[0] = at % grid[0];
        emulator_now.block[1] = at / grid[0] % grid[1];
        emulator_now.block[2] = at / grid[0] / grid[1];
        memset(emulator_now.shared, 0xFF, shared);
        const char *wrong = run_block(threads, &of_threads);
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}
