/* Pointwise convolution on tensor cores: the same matrix product as in ../pointwise, of factors
 * that are rounded to tf32 or to halves, with sums in float32. Scale, shift, activation and
 * residual are float32, and so is the product with the gate, before it is rounded.
 *
 * A block owns a tile of pixels x outputs (block_x x block_y). It has `groups` of warps; a warp
 * owns some of the pixels, 16 or 32 in a row, times all outputs, for the inputs of its group, and
 * the sums of the groups are added in their order. Within a warp PTX says what a thread holds: of
 * the factors rows lane/4 (+ 8) and of the sums columns lane%4 * 2 (+ 1).
 *
 * A stage is DYNC_TENSOR_ROW words of each pixel and of each output for each group, in shared
 * memory, and numbers are rounded on the way there, once. A thread reads four words in a row of
 * each of its rows, for two instructions; which inputs those are does not matter as long as both
 * factors agree. The next stage is on its way in registers while one is used, so that a stage costs
 * one barrier.
 */
#include "dync_kernel.h"

enum {
    MOST_X_LOADS = 8,
    MOST_W_LOADS = 4,
    MOST_WORD = 2,
    MOST_FRAGMENTS = 2,
    MOST_COLUMNS = 4,
    MOST_LAST = 8
};

static DYNC_INLINE word4 get_words(const float *p) {
    return *(const word4 *)p;
}

/* Puts down four inputs of a row, as four words or two. */
static DYNC_INLINE void put_inputs(uint32_t *row, float4 v, const dync_precision precision) {
    if (precision == DYNC_TF32) {
        const word4 words = {dync_tf32(v[0]), dync_tf32(v[1]), dync_tf32(v[2]), dync_tf32(v[3])};
        *(word4 *)row = words;
    } else {
        const word2 words = {dync_fp16(v[0], v[1]), dync_fp16(v[2], v[3])};
        *(word2 *)row = words;
    }
}

/* All but `a` are constants where it is used. */
static DYNC_INLINE void tensor(const dync_pointwise_args *a, const dync_precision precision,
                               const uint32_t pixels, const uint32_t outs, const uint32_t groups,
                               const uint32_t threads) {
    const uint32_t word = precision == DYNC_FP16 ? 2 : 1; /* inputs of a word */
    const uint32_t group_inputs = DYNC_TENSOR_ROW * word, inputs = groups * group_inputs;
    const uint32_t quads = group_inputs / 4; /* of inputs, of a row */
    const uint32_t x_loads = groups * pixels * quads / threads;
    const uint32_t w_loads = groups * outs / 4 * DYNC_TENSOR_ROW / threads;
    const uint32_t stage = DYNC_TENSOR_STAGE(pixels, outs, groups);
    const uint32_t warp_pixels = pixels * groups * 32 / threads, warps = pixels / warp_pixels;
    const uint32_t fragments = warp_pixels / 16, columns = outs / 8;

    const uint32_t t = thread_x(), first_pixel = block_x() * pixels, first_out = block_y() * outs;
    const uint32_t lane = t % 32, group = t / 32 / warps, pixel = t / 32 % warps * warp_pixels;

    /* What the thread brings of each stage: four inputs of some rows, and of some words the weights
     * of four outputs. Pixels and outputs behind the last are the last once more, and nobody stores
     * their sums. Loads are without conditions, so that all are on their way at once: inputs behind
     * the last are the first, and zeroed when they are put down, so that their weights, which are
     * the first as well, do not matter. */
    float4 next_x[MOST_X_LOADS], next_w[MOST_W_LOADS][MOST_WORD], sum[MOST_FRAGMENTS][MOST_COLUMNS];
    const uint32_t x_quad = t % quads * 4, x_row = t / quads, x_step = threads / quads;
    const uint32_t w_word = t % DYNC_TENSOR_ROW, w_row = t / DYNC_TENSOR_ROW,
                   w_step = threads / DYNC_TENSOR_ROW;
    const float *x[MOST_X_LOADS], *gate[MOST_X_LOADS], *weight[MOST_W_LOADS];
    DYNC_UNROLL
    for (uint32_t l = 0; l < x_loads; l++) {
        const uint32_t p = least(first_pixel + (x_row + l * x_step) % pixels, a->pixels - 1);
        x[l] = a->x + (size_t)p * a->x_pix;
        gate[l] = a->gate == NULL ? NULL : a->gate + (size_t)(p / a->area) * a->gate_image;
    }
    DYNC_UNROLL
    for (uint32_t l = 0; l < w_loads; l++) {
        const uint32_t o =
            least(first_out + (w_row + l * w_step) % (outs / 4) * 4, (a->out - 1) / 4 * 4);
        weight[l] = a->weight + (size_t)(o / DYNK_PANEL) * a->w_panel + o % DYNK_PANEL;
    }
    DYNC_UNROLL
    for (uint32_t f = 0; f < fragments; f++) {
        DYNC_UNROLL
        for (uint32_t c = 0; c < columns; c++)
            sum[f][c] = zero4();
    }

    /* What it stores in the end: four sums of some pixels. */
    const uint32_t last_pixel = first_pixel + t * 4 / outs, last_out = first_out + t * 4 % outs;
    const uint32_t last_step = threads * 4 / outs, last_pixels = dync_ceil_div(pixels, last_step);

    /* Turn k fetches the stage of inputs from k on, if there is one, and uses the one before. */
    float *fill = dync_shared, *use = dync_shared + stage;
    for (uint32_t k = 0;; k += inputs) {
        const int more = k < a->in;
        if (more) {
            DYNC_UNROLL
            for (uint32_t l = 0; l < x_loads; l++) {
                const uint32_t i = k + (x_row + l * x_step) / pixels * group_inputs + x_quad;
                next_x[l] = dync_load4(x[l] + (i < a->in ? i : 0));
            }
            DYNC_UNROLL
            for (uint32_t l = 0; l < w_loads; l++) {
                DYNC_UNROLL
                for (uint32_t h = 0; h < word; h++) {
                    const uint32_t i =
                        k + (w_row + l * w_step) / (outs / 4) * group_inputs + w_word * word + h;
                    next_w[l][h] = dync_load4(weight[l] + (size_t)(i < a->in ? i : 0) * DYNK_PANEL);
                }
            }
        }
        /* Groups whose inputs are all behind the last have nothing to add. */
        if (k > 0 && k - inputs + group * group_inputs < a->in) {
            const float *own = use + group * (pixels + outs) * DYNC_TENSOR_ROW + lane % 4 * 4;
            const float *own_x = own + (pixel + lane / 4) * DYNC_TENSOR_ROW;
            const float *own_w = own + (pixels + lane / 4) * DYNC_TENSOR_ROW;
            word4 above[MOST_FRAGMENTS], below[MOST_FRAGMENTS];
            DYNC_UNROLL
            for (uint32_t f = 0; f < fragments; f++) {
                above[f] = get_words(own_x + f * 16 * DYNC_TENSOR_ROW);
                below[f] = get_words(own_x + (f * 16 + 8) * DYNC_TENSOR_ROW);
            }
            DYNC_UNROLL
            for (uint32_t c = 0; c < columns; c++) {
                const word4 w = get_words(own_w + c * 8 * DYNC_TENSOR_ROW);
                DYNC_UNROLL
                for (uint32_t j = 0; j < 4; j += 2) {
                    DYNC_UNROLL
                    for (uint32_t f = 0; f < fragments; f++) {
                        const word4 rows = {above[f][j], below[f][j], above[f][j + 1],
                                            below[f][j + 1]};
                        sum[f][c] = precision == DYNC_TF32
                                        ? dync_mma_tf32(sum[f][c], rows, w[j], w[j + 1])
                                        : dync_mma_fp16(sum[f][c], rows, w[j], w[j + 1]);
                    }
                }
            }
        }
        if (!more)
            break;
        DYNC_UNROLL
        for (uint32_t l = 0; l < x_loads; l++) {
            const uint32_t row = x_row + l * x_step, of = row / pixels, p = row % pixels;
            const uint32_t i = k + of * group_inputs + x_quad;
            if (a->gate != NULL)
                next_x[l] *= dync_load4(gate[l] + (i < a->in ? i : 0));
            put_inputs((uint32_t *)fill + (of * (pixels + outs) + p) * DYNC_TENSOR_ROW +
                           x_quad / word,
                       first4(next_x[l], i < a->in ? a->in - i : 0), precision);
        }
        DYNC_UNROLL
        for (uint32_t l = 0; l < w_loads; l++) {
            const uint32_t row = w_row + l * w_step, of = row / (outs / 4),
                           o = row % (outs / 4) * 4;
            uint32_t *to =
                (uint32_t *)fill + (of * (pixels + outs) + pixels + o) * DYNC_TENSOR_ROW + w_word;
            /* A warp has words of two quads of outputs, 4 rows apart, which is the same bank: one
             * of them begins with its second row. */
            DYNC_UNROLL
            for (uint32_t j = 0; j < 4; j++) {
                const float4 first = next_w[l][0], second = next_w[l][word - 1];
                const float low = w_row % 2 == 0 ? first[j] : first[j ^ 1];
                const float high = w_row % 2 == 0 ? second[j] : second[j ^ 1];
                to[(j ^ w_row % 2) * DYNC_TENSOR_ROW] =
                    precision == DYNC_TF32 ? dync_tf32(low) : dync_fp16(low, high);
            }
        }
        dync_barrier();
        float *const used = use;
        use = fill;
        fill = used;
    }

    ending e = {zero4(), zero4(), zero4()};
    if (t * 4 < pixels * outs)
        e = ending_of(a, last_pixel, last_out);
    const uint32_t sum_row = outs + DYNC_TENSOR_GAP;
    dync_barrier(); /* the last stage has been used */
    DYNC_UNROLL
    for (uint32_t f = 0; f < fragments; f++) {
        float *to =
            dync_shared + (group * pixels + pixel + f * 16 + lane / 4) * sum_row + lane % 4 * 2;
        DYNC_UNROLL
        for (uint32_t c = 0; c < columns; c++) {
            const float2 upper = {sum[f][c][0], sum[f][c][1]}, lower = {sum[f][c][2], sum[f][c][3]};
            *(float2 *)(to + c * 8) = upper;
            *(float2 *)(to + 8 * sum_row + c * 8) = lower;
        }
    }
    dync_barrier();
    if (t * 4 >= pixels * outs)
        return;
    float4 residual[MOST_LAST];
    DYNC_UNROLL
    for (uint32_t i = 1; i < last_pixels; i++)
        residual[i] = residual_of(a, last_pixel + i * last_step, last_out);
    DYNC_UNROLL
    for (uint32_t i = 0; i < last_pixels; i++) {
        const float *from =
            dync_shared + (last_pixel - first_pixel + i * last_step) * sum_row + t * 4 % outs;
        float4 total = get4(from);
        DYNC_UNROLL
        for (uint32_t g = 1; g < groups; g++)
            total += get4(from + g * pixels * sum_row);
        e.residual = i == 0 ? e.residual : residual[i];
        finish(a, last_pixel + i * last_step, last_out, total, &e);
    }
}

/* Left to itself, ptxas keeps a few registers less than it needs, for a block more. */
#define DYNC_TILE(pixels, outs, groups, threads)                                                   \
    DYNC_ENTRY_BLOCKS(threads, 2) void dync_tf32_##pixels##x##outs(const dync_pointwise_args a) {  \
        tensor(&a, DYNC_TF32, pixels, outs, groups, threads);                                      \
    }                                                                                              \
    DYNC_ENTRY_BLOCKS(threads, 2) void dync_fp16_##pixels##x##outs(const dync_pointwise_args a) {  \
        tensor(&a, DYNC_FP16, pixels, outs, groups, threads);                                      \
    }
DYNC_TENSOR_TILES(DYNC_TILE)
#undef DYNC_TILE
