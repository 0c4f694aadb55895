/* Runs the kernels of the .cu files, as they are, on the host: a fibre for each thread of a block,
 * which runs until a barrier, of the block or of its warp. Threads of a block, and blocks, run in a
 * given order: a kernel that gives other bits in another order has a race. One launch at a time. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <stddef.h>
#include <stdint.h>

/* What the running thread sees. */
typedef struct emulator_thread {
    uint32_t thread, block[3];
    float *shared;
} emulator_thread;
extern emulator_thread emulator_now;

/* Waits for the other threads of the block, which have to wait at the same line. */
void emulator_barrier(int line);

/* Tensor cores. A number as tf32, the upper 19 bits of a word, and as the bits of a half. */
uint32_t emulator_tf32(float v);
uint32_t emulator_fp16(float v);

/* What a lane holds of sum + a * b, a [16][8], b [8][8] of tf32 or, with halves, a [16][16], b
 * [16][8].
 */
typedef struct emulator_fragments {
    int halves;
    float sum[4];
    uint32_t a[4], b[2];
} emulator_fragments;

/* Puts the product into f->sum once all lanes of the warp are at that line. Products are exact,
 * sums are float32, in the order of the inputs. A word of tf32 that was not rounded to it counts as
 * NaN. */
void emulator_mma(int line, emulator_fragments *f);

/* A kernel of cuda.inc. */
typedef struct emulator_kernel {
    const char *name;
    void (*call)(const void *args);
    size_t size;     /* of its arguments */
    size_t pointers; /* of device memory, that they begin with */
} emulator_kernel;

/* In the order of dync_entry; NULL for others. */
const emulator_kernel *emulator_kernel_at(size_t i);

typedef enum emulator_order {
    EMULATOR_ASCENDING,
    EMULATOR_DESCENDING,
    EMULATOR_PERMUTED,
    EMULATOR_ORDERS
} emulator_order;

enum { EMULATOR_THREADS = 1024, EMULATOR_SHARED = 48 * 1024 };

/* What is wrong with a launch of that name, or NULL. */
const char *emulator_geometry(const char *name, const uint32_t grid[3], uint32_t threads,
                              uint32_t shared);

/* Runs a grid. Shared memory holds 0xff (NaN) before each block, begins and ends at memory that
 * cannot be touched, and is exactly `shared` bytes, a multiple of 16. Returns NULL, or what the
 * kernel or the launch did wrong; an address out of bounds is a signal. */
const char *emulator_launch(const emulator_kernel *kernel, const void *args, const uint32_t grid[3],
                            uint32_t threads, uint32_t shared, emulator_order order);

#endif
