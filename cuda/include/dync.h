/* The CUDA kernels of dynofa: what each operator computes, on which memory, and how it is launched.
 * For the kernels and for the host code that launches them; C99 and C++.
 *
 * A kernel takes one struct by value: kernelParams = {&args}. dync_<op>_launch(&args) says which
 * entry to call with which geometry; what depends on the shape is decided there and nowhere else.
 *
 * Common to all contracts (the equations are those of dynk.h)
 *   Layout       NHWC floats; weights in the panels of dynk.h, so that packed weights are uploaded
 *                as they are; scale and shift per channel. Strides count floats.
 *   Batch        n images; those of a map lie side_pixels * x_pix apart, without a gap.
 *   Alignment    every array starts at 16 bytes, and every *_pix, w_panel, gate_image and x_image
 *                is a multiple of 4; the image of the stem and what contracts call scalar only
 *                needs that of float.
 *   Access       no kernel reads or writes an element that the contract does not name, but the
 *                float4 that the last of them lies in may be read, so arrays end at 16 bytes too.
 *   Aliasing     y overlaps no input.
 *   Padding      zeros, which are multiplied: a weight that is NaN shows in them, too, and one that
 *                is infinite as NaN.
 *   Order        sums are taken in an order that follows from the shape alone: no atomics. Another
 *                batch size may use other tiles, and so give other last bits. */
#ifndef DYNC_H
#define DYNC_H

#include <stdint.h>

#include "dynk.h"

typedef enum dync_entry {
#define DYNC_KERNEL(op, name, precision) DYNC_ENTRY_##name,
#include "cuda.inc"
#undef DYNC_KERNEL
    DYNC_ENTRIES
} dync_entry;

/* How pointwise convolutions multiply: in float32, or with factors rounded to tf32 or to halves on
 * tensor cores, which multiply exactly and sum in float32. */
typedef enum dync_precision { DYNC_FP32, DYNC_TF32, DYNC_FP16, DYNC_ALL } dync_precision;

/* A launch: the arguments of cuLaunchKernel. `shared` is dynamic shared memory in bytes, below the
 * 48 KiB that need no cuFuncSetAttribute. */
typedef struct dync_launch {
    dync_entry entry;
    uint32_t grid[3], threads, shared;
} dync_launch;

#ifdef __CUDA__ /* what the kernels need too */
#define DYNC_BOTH static inline __attribute__((host)) __attribute__((device))
#else
#define DYNC_BOTH static inline
#endif

DYNC_BOTH uint32_t dync_ceil_div(uint32_t a, uint32_t b) {
    return (a + b - 1) / b;
}

/* ---- Stem: 3x3 over three channels, stride 1 or 2, "same" padding -----------------------------*/
typedef struct dync_stem_args {
    const float *x; /* [n][side][side][3], scalar */
    const float *weight, *scale, *shift;
    float *y; /* [n][ceil(side / stride)^2] pixels, y_pix apart */
    uint32_t n, side, channels, stride, y_pix, w_panel, act;
} dync_stem_args;

enum { DYNC_STEM_PIXELS = 128 }; /* pixels of a block, one a thread */

static inline dync_launch dync_stem_launch(const dync_stem_args *a) {
    const uint32_t out = dync_ceil_div(a->side, a->stride);
    const dync_launch l = {DYNC_ENTRY_stem,
                           {dync_ceil_div(a->n * out * out, DYNC_STEM_PIXELS),
                            dync_ceil_div(a->channels, DYNK_PANEL), 1},
                           DYNC_STEM_PIXELS,
                           27 * DYNK_PANEL * sizeof(float)};
    return l;
}

/* ---- Pointwise: y = act(shift + scale * sum w * gate * x) + residual --------------------------*/
typedef struct dync_pointwise_args {
    const float *x, *weight, *scale, *shift;
    const float *gate;     /* [images][gate_image >= in], or NULL for ones */
    const float *residual; /* [pixels], r_pix apart, or NULL for none */
    float *y;
    uint32_t pixels, area; /* of all images; of one, which share a gate */
    uint32_t in, out, x_pix, y_pix, r_pix, w_panel, gate_image, act;
} dync_pointwise_args;

/* Tiles of pixels x outputs. A block keeps `groups` sums of each output, of alternating inputs, and
 * `inputs` inputs of its tile in shared memory at a time. Of the large tile, which computes, twice:
 * one is used, one is filled. The small ones wait for memory: theirs are twice as many inputs at a
 * time, for half of the waits, with a barrier more. */
#define DYNC_POINTWISE_TILES(TILE)                                                                 \
    TILE(128, 32, 1, 16, 128)                                                                      \
    TILE(32, 32, 4, 64, 256)                                                                       \
    TILE(16, 16, 16, 128, 256)
#define DYNC_POINTWISE_BUFFERS(groups) ((groups) > 1 ? 1 : 2)

/* Floats of shared memory. Bank conflicts: eight threads read the same pixel, or with 16 outputs
 * two pixels, whose rows then must not be a multiple of 32 floats apart; and two panels, which are
 * an odd number of 16 apart. */
#define DYNC_POINTWISE_ROW(inputs)       ((inputs) + ((inputs) > 32 ? 4 : 0))
#define DYNC_POINTWISE_X(pixels, inputs) ((pixels) * DYNC_POINTWISE_ROW(inputs))
#define DYNC_POINTWISE_W(outs, inputs)   ((outs) / DYNK_PANEL * ((inputs) + 1) * DYNK_PANEL)
#define DYNC_POINTWISE_STAGE(pixels, outs, inputs)                                                 \
    (DYNC_POINTWISE_X(pixels, inputs) + DYNC_POINTWISE_W(outs, inputs))

/* The same on tensor cores. A block keeps DYNC_TENSOR_ROW words of each pixel and each output for a
 * group in shared memory at a time, twice: a word is a number of tf32 or two halves. Rows are
 * without a gap: eight threads read two of them, that is every bank once. Sums of a pixel are
 * `outs` and a gap of 8 floats, so that sixteen threads, of four pixels, write to every bank once.
 */
#define DYNC_TENSOR_TILES(TILE)                                                                    \
    TILE(128, 32, 1, 128)                                                                          \
    TILE(32, 32, 4, 256)                                                                           \
    TILE(16, 16, 8, 256)
enum { DYNC_TENSOR_ROW = 16, DYNC_TENSOR_GAP = 8 };
#define DYNC_TENSOR_STAGE(pixels, outs, groups) ((groups) * ((pixels) + (outs)) * DYNC_TENSOR_ROW)

/* Blocks that make a larger tile worth its better use of shared memory: some for each
 * multiprocessor of a small device, and a good part of a large one. */
enum { DYNC_ENOUGH_BLOCKS = 48 };

/* The launch with the tile of one of the pointwise entries. */
static inline dync_launch dync_pointwise_tiled(const dync_pointwise_args *a, dync_entry entry) {
    dync_launch l = {entry, {0, 0, 1}, 0, 0};
    uint32_t stages = 0, sums = 0;
#define DYNC_TILE(pixel, outs, groups, inputs, count)                                              \
    if (entry == DYNC_ENTRY_pointwise_##pixel##x##outs) {                                          \
        stages = DYNC_POINTWISE_BUFFERS(groups) * DYNC_POINTWISE_STAGE(pixel, outs, inputs);       \
        sums = (groups) > 1 ? (groups) * (pixel) * (outs) : 0;                                     \
        l.grid[0] = dync_ceil_div(a->pixels, pixel);                                               \
        l.grid[1] = dync_ceil_div(a->out, outs);                                                   \
        l.threads = count;                                                                         \
    }
    DYNC_POINTWISE_TILES(DYNC_TILE)
#undef DYNC_TILE
#define DYNC_TILE(pixel, outs, groups, count)                                                      \
    if (entry == DYNC_ENTRY_tf32_##pixel##x##outs || entry == DYNC_ENTRY_fp16_##pixel##x##outs) {  \
        stages = 2 * DYNC_TENSOR_STAGE(pixel, outs, groups);                                       \
        sums = (groups) * (pixel) * ((outs) + DYNC_TENSOR_GAP);                                    \
        l.grid[0] = dync_ceil_div(a->pixels, pixel);                                               \
        l.grid[1] = dync_ceil_div(a->out, outs);                                                   \
        l.threads = count;                                                                         \
    }
    DYNC_TENSOR_TILES(DYNC_TILE)
#undef DYNC_TILE
    l.shared = (stages > sums ? stages : sums) * (uint32_t)sizeof(float);
    return l;
}

static inline dync_launch dync_pointwise_launch(const dync_pointwise_args *a,
                                                dync_precision precision) {
    static const dync_entry tiles[][3] = {
        {DYNC_ENTRY_pointwise_128x32, DYNC_ENTRY_pointwise_32x32, DYNC_ENTRY_pointwise_16x16},
        {DYNC_ENTRY_tf32_128x32, DYNC_ENTRY_tf32_32x32, DYNC_ENTRY_tf32_16x16},
        {DYNC_ENTRY_fp16_128x32, DYNC_ENTRY_fp16_32x32, DYNC_ENTRY_fp16_16x16}};
    dync_launch l = dync_pointwise_tiled(a, tiles[precision][0]);
    for (int i = 1; i < 3 && l.grid[0] * l.grid[1] < DYNC_ENOUGH_BLOCKS; i++)
        l = dync_pointwise_tiled(a, tiles[precision][i]);
    return l;
}

/* ---- Depthwise: k x k, k in {3, 5, 7}, stride 1 or 2, "same" padding --------------------------*/
typedef struct dync_depthwise_args {
    const float *x, *weight, *scale, *shift; /* panels of weights are k*k * DYNK_PANEL apart */
    float *y;                                /* [n][ceil(side / stride)^2] pixels, y_pix apart */
    float *sums; /* [n][dync_depthwise_parts()][channels], scalar: sums of y, or NULL */
    uint32_t n, side, channels, k, stride, x_pix, y_pix, act;
} dync_depthwise_args;

/* A block owns a panel of a square of outputs, a thread four channels of a strip: DYNC_STRIP
 * outputs of a row. What of x the square needs is in shared memory. There, the rows of two strips,
 * which threads of a quarter warp read at the same time, are an odd number of 16 floats apart. */
enum {
    DYNC_SQUARE = 8,
    DYNC_STRIP = 4,
    DYNC_STRIPS = DYNC_SQUARE * DYNC_SQUARE / DYNC_STRIP,
    DYNC_QUADS = DYNK_PANEL / 4
};
#define DYNC_DEPTHWISE_SIDE(k, stride) ((DYNC_SQUARE - 1) * (stride) + (k))
#define DYNC_DEPTHWISE_ROW(k, stride)                                                              \
    (DYNC_DEPTHWISE_SIDE(k, stride) * DYNK_PANEL + ((stride) == 1 ? 16 : 8))

DYNC_BOTH uint32_t dync_depthwise_parts(uint32_t side, uint32_t stride) {
    const uint32_t squares = dync_ceil_div(dync_ceil_div(side, stride), DYNC_SQUARE);
    return squares * squares;
}

static inline dync_launch dync_depthwise_launch(const dync_depthwise_args *a) {
    const uint32_t floats = a->k * a->k * DYNK_PANEL + DYNC_DEPTHWISE_SIDE(a->k, a->stride) *
                                                           DYNC_DEPTHWISE_ROW(a->k, a->stride);
    const dync_launch l = {
        (dync_entry)(DYNC_ENTRY_depthwise_k3s1 + (a->k / 2 - 1) * 2 + a->stride - 1),
        {dync_depthwise_parts(a->side, a->stride), dync_ceil_div(a->channels, DYNK_PANEL), a->n},
        DYNC_QUADS * DYNC_STRIPS,
        floats * (uint32_t)sizeof(float)};
    return l;
}

/* ---- Average: y[image] = 1/area * sum of its pixels -------------------------------------------*/
typedef struct dync_average_args {
    const float *x; /* [n][area] pixels, x_pix apart */
    float *y;       /* [n][y_image], scalar */
    uint32_t n, area, channels, x_pix, y_image;
} dync_average_args;

enum { DYNC_AVERAGE_QUADS = 8, DYNC_AVERAGE_PIXELS = 16 }; /* threads of a block */

static inline dync_launch dync_average_launch(const dync_average_args *a) {
    const dync_launch l = {DYNC_ENTRY_average,
                           {dync_ceil_div(a->channels, DYNC_AVERAGE_QUADS * 4), a->n, 1},
                           DYNC_AVERAGE_QUADS * DYNC_AVERAGE_PIXELS,
                           DYNC_AVERAGE_QUADS * 4 * DYNC_AVERAGE_PIXELS * sizeof(float)};
    return l;
}

/* ---- Dense: y = act(bias + sum w * mean), mean = share * sum of the rows of x -----------------
 * With rows = share = 1 a dense layer. With the sums of a depthwise convolution (rows = its parts,
 * x_row = its channels, x_image = rows * x_row, share = 1 / the pixels of a map) the first half of
 * squeeze-excitation; its second half, with DYNK_ACT_HSIGMOID, writes the gate. A division in the
 * kernel would be a call, for which registers are spilled. */
typedef struct dync_dense_args {
    const float *x;             /* [n][rows] rows of in floats, x_image and x_row apart, scalar */
    const float *weight, *bias; /* bias [out], scalar, or NULL for zeros */
    float *y;                   /* [n][out], y_image apart, scalar */
    uint32_t n, rows, in, out, x_row, x_image, y_image, w_panel, act;
    float share;
} dync_dense_args;

/* A block owns a panel of one image, or of DYNC_DENSE_IMAGES: for these it reads the weights once.
 * The order of sums is the same. Sums of DYNC_DENSE_PART lanes are added by a thread; in shared
 * memory each such part has a gap behind it, so that those of two parts, which a warp reads, lie in
 * other banks. */
enum {
    DYNC_DENSE_LANES = 64,
    DYNC_DENSE_THREADS = DYNC_DENSE_LANES * DYNC_QUADS,
    DYNC_DENSE_IMAGES = 4,
    DYNC_DENSE_PART = DYNC_DENSE_LANES * DYNK_PANEL / DYNC_DENSE_THREADS,
    DYNC_DENSE_SUMS = DYNC_DENSE_LANES / DYNC_DENSE_PART * (DYNC_DENSE_PART + 1) * DYNK_PANEL
};

static inline dync_launch dync_dense_launch(const dync_dense_args *a) {
    const uint32_t images = a->n < DYNC_DENSE_IMAGES ? 1 : DYNC_DENSE_IMAGES;
    const dync_launch l = {images == 1 ? DYNC_ENTRY_dense_x1 : DYNC_ENTRY_dense_x4,
                           {dync_ceil_div(a->out, DYNK_PANEL), dync_ceil_div(a->n, images), 1},
                           DYNC_DENSE_THREADS,
                           images * DYNC_DENSE_SUMS * (uint32_t)sizeof(float)};
    return l;
}

#endif
