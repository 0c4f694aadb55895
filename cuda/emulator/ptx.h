/* Runs PTX as it is given to a driver: the subset that clang writes for our kernels, by an
 * interpreter. A warp's threads run an instruction together; where they part, those that are behind
 * go first, and all meet again where their paths do, or at a barrier. */
#ifndef PTX_H
#define PTX_H

#include "emulator.h"

typedef struct ptx_module ptx_module;
typedef struct ptx_entry ptx_entry;

/* NULL, and why in a sentence, for text that is not understood. */
ptx_module *ptx_read(const char *text, char *why, size_t size);
void ptx_free(ptx_module *m);

const ptx_entry *ptx_find(const ptx_module *m, const char *name); /* or NULL */

/* Where bytes of global memory are for the host, or NULL if no kernel may touch them. */
typedef void *(*ptx_memory)(uint64_t address, size_t bytes);

/* What a launch asks of a device, whatever that takes. Instructions are those of warps. A request
 * is what a warp asks for with one of them; of global memory it takes so many sectors of 32 bytes,
 * and of shared memory so many turns of 32 banks of four bytes: shared_least is what they
 * would be if no two threads asked a bank for different words. */
#define PTX_COUNTS(COUNT)                                                                          \
    COUNT(instructions)                                                                            \
    COUNT(fma)                                                                                     \
    COUNT(mma)                                                                                     \
    COUNT(branches)                                                                                \
    COUNT(barriers)                                                                                \
    COUNT(loads) COUNT(load_sectors) COUNT(load_bytes) COUNT(stores) COUNT(store_sectors)          \
        COUNT(store_bytes) COUNT(shared_requests) COUNT(shared_turns) COUNT(shared_least)
typedef struct ptx_counts {
#define COUNT(name) uint64_t name;
    PTX_COUNTS(COUNT)
#undef COUNT
} ptx_counts;

/* Runs a grid, as emulator_launch does. Besides, two threads that touch the same word of shared
 * memory between two barriers, one of them writing, are a fault. Adds to counts, if there are any.
 */
const char *ptx_launch(const ptx_entry *e, const void *args, const uint32_t grid[3],
                       uint32_t threads, uint32_t shared, emulator_order order, ptx_memory memory,
                       ptx_counts *counts);

#endif
