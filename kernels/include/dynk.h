/* The kernels of dynofa: what each operator computes, on which memory.
 *
 * Every kernel of an operator has the same signature, void f(const dynk_<op>_args *), and keeps the
 * contract written above that struct. Kernels are pure functions of their arguments: no state, no
 * allocation, no I/O, no errors; any number of threads may call them on disjoint outputs.
 *
 * Common to all contracts
 *   Element      float. Maps are NHWC. Strides and sizes count elements, never bytes.
 *   Alignment    that of float. Packed weights run faster when 64-byte aligned (DYNK_ALIGN).
 *   Over-read    a kernel may read, and ignore, up to DYNK_OVERREAD bytes past the last element of
 *                an input that the contract calls *padded*. It never reads before the first, and
 *                never writes an element that the contract does not name.
 *   Aliasing     outputs overlap no input, except where a contract allows it.
 *   Order        every output is summed in an order that does not depend on how a map was cut into
 *                calls, so any tiling by pixels, rows or panels gives the same bits. (The pooling
 *                sums of the depthwise convolution are sums of one call.)
 *   Activation   one of dynk_act, applied after scale and shift. NaN in, NaN out.
 *   Rounding     each kernel is within n * u * sum|terms| of the exact result, n the number of its
 *                terms and u = 2^-24 (tests/check.h); kernels of two ISAs need not agree in bits.
 *
 * A batch normalisation arrives as scale and shift per channel and never touches shared weights.
 * The network is OFA's MobileNetV3 (Cai et al. 2020) and its relatives; squeeze-excitation (Hu et
 * al. 2018) is average -> dense relu -> dense h_sigmoid, the factors being the gate of the
 * projecting pointwise convolution. */
#ifndef DYNK_H
#define DYNK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DYNK_OVERREAD = 64, /* bytes behind a padded input that may be read */
    DYNK_ALIGN = 64,    /* bytes: a cache line and the widest vector */
    DYNK_PANEL = 16     /* output channels of a panel of packed weights */
};

typedef enum dynk_act {
    DYNK_ACT_NONE = 0,
    DYNK_ACT_RELU = 1,    /* max(v, 0) */
    DYNK_ACT_RELU6 = 2,   /* min(max(v, 0), 6) */
    DYNK_ACT_HSWISH = 3,  /* v * min(max(v + 3, 0), 6) / 6 */
    DYNK_ACT_HSIGMOID = 4 /* min(max(v + 3, 0), 6) / 6; of dense only */
} dynk_act;

/* ---- Packed weights ---------------------------------------------------------------------------
 * Stem, pointwise and dense weights are packed once, for the largest network, in panels of
 * DYNK_PANEL output channels:
 *
 *   panel p at weight + p * w_panel, element [i][j] = weight from input i to output p*PANEL + j
 *
 * with w_panel = inputs stored * DYNK_PANEL. A sub-network with fewer inputs uses the first rows
 * of each panel, one with fewer outputs the first panels; nothing is copied. Lanes past the last
 * output of the supernet are zero. All instruction sets share this layout.
 * Depthwise kernels are such a matrix, from k*k taps to their channels: what a vector of channels
 * needs lies in one piece. */

/* Floats of a packed matrix with `in` inputs and `out` outputs. */
static inline size_t dynk_packed_size(size_t in, size_t out) {
    return (out + DYNK_PANEL - 1) / DYNK_PANEL * DYNK_PANEL * in;
}

/* ---- Stem convolution -------------------------------------------------------------------------
 * 3x3 over three input channels, "same" padding of one pixel:
 *
 *   y[i,j,o] = act( shift[o] + scale[o] * sum_{u,v,c<3} w[u,v,c -> o] * x[i*s+u-1, j*s+v-1, c] )
 *
 * for out_rows rows i of width ceil(width / s). An image is given by its rows: rows[i*s + u] is
 * input row i*s+u-1 of the first output row asked for, [width][3], or NULL for a row of padding.
 *   rows          (out_rows - 1) * s + 3 pointers; the rows are NOT padded, being the caller's
 *   weight        packed, 27 inputs in the order row, column, channel; w_panel >= 27 * DYNK_PANEL
 *   scale, shift  [channels], padded
 *   y             [out_rows][y_row], pixels y_pix >= channels apart
 * width, out_rows, channels >= 1; stride s in {1, 2} is the kernel's own. */
typedef struct dynk_stem_args {
    const float *const *rows;
    const float *weight, *scale, *shift;
    float *y;
    size_t width, out_rows, channels;
    size_t w_panel, y_row, y_pix;
    unsigned stride;
    dynk_act act;
} dynk_stem_args;

/* ---- Pointwise convolution --------------------------------------------------------------------
 * A matrix product over pixels, wherever they come from:
 *
 *   y[p,o] = act( shift[o] + scale[o] * sum_{i<in} w[i -> o] * gate[i] * x[p,i] ) + residual[p,o]
 *
 *   x             [pixels], x_pix >= in apart; padded
 *   weight        packed; w_panel >= in * DYNK_PANEL
 *   scale, shift  [out], padded
 *   gate          [in], factors of squeeze-excitation, or NULL for ones
 *   residual      [pixels], r_pix >= out apart, padded, or NULL for none; may be y itself
 *   y             [pixels], y_pix >= out apart
 *   scratch       DYNK_POINTWISE_SCRATCH(in) floats, used if gate is given, else may be NULL
 * pixels, in, out >= 1. With a gate the weights are scaled once a call and kept in scratch, so a
 * gated call should cover some dozens of pixels. The panels are the outer loop and the pixels the
 * inner: give as many pixels as keep x in the second-level cache. */
#define DYNK_POINTWISE_SCRATCH(in) ((size_t)(in) * 3 * DYNK_PANEL)
typedef struct dynk_pointwise_args {
    const float *x, *weight, *scale, *shift, *gate, *residual;
    float *y, *scratch;
    size_t pixels, in, out;
    size_t x_pix, y_pix, r_pix, w_panel;
    dynk_act act;
} dynk_pointwise_args;

/* ---- Depthwise convolution --------------------------------------------------------------------
 * "Same" padding of k/2 pixels:
 *
 *   y[i,j,c] = act( shift[c] + scale[c] * sum_{u,v<k} w[u,v,c] * x[i*s+u-k/2, j*s+v-k/2, c] )
 *
 * for out_rows rows i of width ceil(width / s). rows[i*s + u] points to input row i*s+u-k/2 of the
 * first output row asked for, or is NULL for a row of padding: whole maps, bands of a map and ring
 * buffers of a fused expansion look the same.
 *   rows          (out_rows - 1) * s + k pointers; each row [width] pixels x_pix >= channels apart,
 *                 padded
 *   weight        packed, k*k inputs in the order row, column, and no more: panels are
 *                 k*k * DYNK_PANEL apart
 *   scale, shift  [channels], padded
 *   y             [out_rows][y_row], pixels y_pix >= channels apart
 *   sums          [channels] or NULL: receives sum_{i,j} y[i,j,c] of this call, for pooling
 * width, out_rows, channels >= 1; k in {3, 5, 7} and stride s in {1, 2} are the kernel's own. Some
 * of the channels, from a whole panel on, are asked for by moving all pointers. Kernels 5 and 3 of an
 * elastic layer are derived from 7 once, by dynk_ktransform_f32. */
typedef struct dynk_dwconv_args {
    const float *const *rows;
    const float *weight, *scale, *shift;
    float *y, *sums;
    size_t width, out_rows, channels;
    size_t x_pix, y_row, y_pix;
    unsigned k, stride;
    dynk_act act;
} dynk_dwconv_args;

/* ---- Dense layer ------------------------------------------------------------------------------
 * A matrix-vector product: feature mixing, the classifier, both halves of squeeze-excitation.
 *
 *   y[o] = act( bias[o] + sum_{i<in} w[i -> o] * x[i] )
 *
 *   x       [in]
 *   weight  packed; w_panel >= in * DYNK_PANEL
 *   bias    [out], padded, or NULL for zeros
 *   y       [out]
 * in, out >= 1. The weights are read once, so the speed is that of the memory they lie in; threads
 * share a layer by panels. */
typedef struct dynk_dense_args {
    const float *x, *weight, *bias;
    float *y;
    size_t in, out, w_panel;
    dynk_act act;
} dynk_dense_args;

/* ---- Average ----------------------------------------------------------------------------------
 * Global average pooling, and the mean from the partial sums of depthwise calls:
 *
 *   y[c] = 1/count * sum_{r<rows} x[r,c]
 *
 *   x  [rows], x_row >= channels apart; padded
 *   y  [channels]
 * rows, channels, count >= 1. count is the number of pixels, whatever rows is. */
typedef struct dynk_average_args {
    const float *x;
    float *y;
    size_t rows, channels, x_row, count;
} dynk_average_args;

typedef void (*dynk_stem_fn)(const dynk_stem_args *);
typedef void (*dynk_pointwise_fn)(const dynk_pointwise_args *);
typedef void (*dynk_dwconv_fn)(const dynk_dwconv_args *);
typedef void (*dynk_dense_fn)(const dynk_dense_args *);
typedef void (*dynk_average_fn)(const dynk_average_args *);

/* ---- Preparation, once at load ----------------------------------------------------------------
 * Not dispatched: a model is packed once. Sources are tensors in PyTorch's layout. */

/* Packs src [out][in] (a pointwise, squeeze-excitation or linear weight, or depthwise kernels
 * [channels][k*k]) into dst [dynk_packed_size(in, out)]. */
void dynk_pack_f32(float *dst, const float *src, size_t in, size_t out);

/* Packs a stem weight src [out][3 channels][3 rows][3 columns] into
 * dst [dynk_packed_size(27, out)]. */
void dynk_pack_stem_f32(float *dst, const float *src, size_t out);

/* Elastic kernel size (OFA, Cai et al. 2020): the centre to x to of each kernel, as a vector of
 * to*to, through a matrix [to*to][to*to] shared by the channels:
 *
 *   dst[c][t] = sum_j matrix[t][j] * centre(src[c])[j],    or the centre itself if matrix is NULL
 *
 * src [channels][from][from], dst [channels][to][to]; from > to, both odd and at most 7. Sums are
 * double. 3 from 7 goes by 5: dst of the first step is src of the second. */
void dynk_ktransform_f32(float *dst, const float *src, const float *matrix, size_t channels,
                         unsigned from, unsigned to);

/* ---- Dispatch ---------------------------------------------------------------------------------*/

typedef enum dynk_op {
    DYNK_OP_STEM,
    DYNK_OP_POINTWISE,
    DYNK_OP_DWCONV,
    DYNK_OP_DENSE,
    DYNK_OP_AVERAGE,
    DYNK_OPS
} dynk_op;

/* One kernel as its <isa>.inc lists it. Of fn, the member of op is set. k and stride are 0 where
 * the operator has none, or where the kernel takes all of them (ref). */
typedef struct dynk_kernel {
    const char *name;
    dynk_op op;
    unsigned k, stride;
    unsigned rows, cols; /* register tile: pixels x channels, 0 x 0 for ref */
    union {
        dynk_stem_fn stem;
        dynk_pointwise_fn pointwise;
        dynk_dwconv_fn dwconv;
        dynk_dense_fn dense;
        dynk_average_fn average;
    } fn;
} dynk_kernel;

/* What to call for each operator on one machine. A plain value: the caller keeps it. */
typedef struct dynk_table {
    dynk_kernel stem[2]; /* [stride - 1] */
    dynk_kernel pointwise;
    dynk_kernel dwconv[3][2]; /* [k/2 - 1][stride - 1] */
    dynk_kernel dense, average;
    const char *isa; /* the highest instruction set used */
} dynk_table;

/* Fills the table with the best kernels for this CPU. cap names the highest instruction set to use
 * (ref, neon, avx2, avx512); NULL means the environment's DYNOFA_ISA, and if that is unset or
 * empty, no cap. Returns 1, or 0 if the cap names no instruction set of this build: the table then
 * has no cap. Any thread may call it at any time. */
int dynk_table_fill(dynk_table *table, const char *cap);

/* The operator's name, as in kernel names. */
const char *dynk_op_name(dynk_op op);

/* An instruction set of this build. */
typedef struct dynk_isa {
    const char *name;
    const dynk_kernel *kernels;
    size_t count;
    int present; /* this CPU has it */
} dynk_isa;

/* Fills out with instruction set i, in ascending rank, ref first. Returns 0 past the last. */
int dynk_isa_at(size_t i, dynk_isa *out);

#ifdef __cplusplus
}
#endif

#endif
