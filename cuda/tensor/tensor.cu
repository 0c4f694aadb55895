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

enum { MOST_X_LOADS = 8, MOST_W_LOADS = 4, MOST_WORD = 2, MOST_FRAGMENTS = 2, MOST_COLUMNS = 4 };

static DYNC_INLINE word4 get_words(const float *p) {
    return *(const word4 *)p;
}

/* Puts down four inputs of a row, as four words or two. */
static DYNC_INLINE void put_inputs(uint32_t *row, float4 v, const dync_precision precision) {
    if (precision == DYNC_TF32) {
        const word4 words = {dync_tf32(v[0]), dync_tf32(v[1]), dync_tf32(v[2]), dync_tf32(v[3])};
        *(word4 *)row = words;
    } else {
        row[0] = dync_fp16(v[0], v[1]);
        row[1] = dync_fp16(v[2], v[3]);
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
     * of four outputs. Loads are without conditions, so that all are on their way at once: what is
     * not there is taken from the beginning, and zeroed when it is put down. */
    float4 next_x[MOST_X_LOADS], next_w[MOST_W_LOADS][MOST_WORD], sum[MOST_FRAGMENTS][MOST_COLUMNS];
    const uint32_t x_quad = t % quads * 4, x_row = t / quads, x_step = threads / quads;
    const uint32_t w_word = t % DYNC_TENSOR_ROW, w_row = t / DYNC_TENSOR_ROW,
                   w_step = threads / DYNC_TENSOR_ROW;
    uint32_t image[MOST_X_LOADS];
    DYNC_UNROLL
    for (uint32_t l = 0; l < x_loads; l++)
        image[l] = a->gate == NULL ? 0 : (first_pixel + (x_row + l * x_step) % pixels) / a->area;
    DYNC_UNROLL
    for (uint32_t f = 0; f < fragments; f++) {
        DYNC_UNROLL
        for (uint32_t c = 0; c < columns; c++)
            sum[f][c] = zero4();
    }

    /* Turn k fetches the stage of inputs from k on and uses the one before. */
    float *fill = dync_shared, *use = dync_shared + stage;
    for (uint32_t k = 0; k < a->in + inputs; k += inputs) {
        DYNC_UNROLL
        for (uint32_t l = 0; l < x_loads; l++) {
            const uint32_t row = x_row + l * x_step, p = first_pixel + row % pixels;
            const uint32_t i = k + row / pixels * group_inputs + x_quad;
            const int there = p < a->pixels && i < a->in;
            next_x[l] = dync_load4(a->x + (there ? (size_t)p * a->x_pix + i : 0));
        }
        DYNC_UNROLL
        for (uint32_t l = 0; l < w_loads; l++) {
            const uint32_t row = w_row + l * w_step, o = first_out + row % (outs / 4) * 4;
            DYNC_UNROLL
            for (uint32_t h = 0; h < word; h++) {
                const uint32_t i = k + row / (outs / 4) * group_inputs + w_word * word + h;
                const int there = o < a->out && i < a->in;
                next_w[l][h] =
                    dync_load4(a->weight + (there ? (size_t)(o / DYNK_PANEL) * a->w_panel +
                                                        (size_t)i * DYNK_PANEL + o % DYNK_PANEL
                                                  : 0));
            }
        }
        if (k > 0) {
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
                        const word4 x = {above[f][j], below[f][j], above[f][j + 1],
                                         below[f][j + 1]};
                        sum[f][c] = precision == DYNC_TF32
                                        ? dync_mma_tf32(sum[f][c], x, w[j], w[j + 1])
                                        : dync_mma_fp16(sum[f][c], x, w[j], w[j + 1]);
                    }
                }
            }
        }
        DYNC_UNROLL
        for (uint32_t l = 0; l < x_loads; l++) {
            const uint32_t row = x_row + l * x_step, of = row / pixels, p = row % pixels;
            const uint32_t i = k + of * group_inputs + x_quad;
            const int there = first_pixel + p < a->pixels && i < a->in;
            if (a->gate != NULL)
                next_x[l] *= gate4(a, there, image[l], i);
            put_inputs((uint32_t *)fill + (of * (pixels + outs) + p) * DYNC_TENSOR_ROW +
                           x_quad / word,
                       first4(next_x[l], there ? a->in - i : 0), precision);
        }
        DYNC_UNROLL
        for (uint32_t l = 0; l < w_loads; l++) {
            const uint32_t row = w_row + l * w_step, of = row / (outs / 4),
                           o = row % (outs / 4) * 4;
            const uint32_t i = k + of * group_inputs + w_word * word;
            const uint32_t count = first_out + o < a->out && i < a->in ? a->in - i : 0;
            const float4 first = first4(next_w[l][0], count > 0 ? 4 : 0);
            const float4 second = first4(next_w[l][word - 1], count > 1 ? 4 : 0);
            uint32_t *to =
                (uint32_t *)fill + (of * (pixels + outs) + pixels + o) * DYNC_TENSOR_ROW + w_word;
            DYNC_UNROLL
            for (uint32_t j = 0; j < 4; j++)
                to[j * DYNC_TENSOR_ROW] =
                    precision == DYNC_TF32 ? dync_tf32(first[j]) : dync_fp16(first[j], second[j]);
        }
        dync_barrier();
        float *const used = use;
        use = fill;
        fill = used;
    }

    const uint32_t sum_row = outs + DYNC_TENSOR_GAP;
    DYNC_UNROLL
    for (uint32_t f = 0; f < fragments; f++) {
        float *to =
            dync_shared + (group * pixels + pixel + f * 16 + lane / 4) * sum_row + lane % 4 * 2;
        DYNC_UNROLL
        for (uint32_t c = 0; c < columns; c++) {
            to[c * 8] = sum[f][c][0];
            to[c * 8 + 1] = sum[f][c][1];
            to[8 * sum_row + c * 8] = sum[f][c][2];
            to[8 * sum_row + c * 8 + 1] = sum[f][c][3];
        }
    }
    dync_barrier();
    for (uint32_t q = t * 4; q < pixels * outs; q += threads * 4) {
        const float *from = dync_shared + q / outs * sum_row + q % outs;
        float4 total = get4(from);
        DYNC_UNROLL
        for (uint32_t g = 1; g < groups; g++)
            total += get4(from + g * pixels * sum_row);
        finish(a, first_pixel + q / outs, first_out + q % outs, total);
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
