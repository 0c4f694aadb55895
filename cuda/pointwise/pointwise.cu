/* Pointwise convolution: a matrix product. A block owns a tile of pixels x outputs (block_x x
 * block_y), a thread some of its pixels, PIXEL_THREADS apart, times four outputs. Where a map is
 * too small to fill the device with large tiles, the inputs are shared out as well: a block has
 * `groups` of threads, and each sums its part of every stage of inputs; their sums are added in the
 * order of the groups.
 *
 * A stage is what of x (pixels x inputs) and of the weights (inputs x outputs) is in shared memory.
 * The next one is on its way in registers while one is used.
 * The gate is multiplied in on that way: once an input, not once a product. */
#include "dync_kernel.h"

enum { MOST_PIXELS = 8, MOST_LOADS = 4 };

/* All but `a` are constants where it is used. */
static DYNC_INLINE void pointwise(const dync_pointwise_args *a, const uint32_t pixels,
                                  const uint32_t outs, const uint32_t groups, const uint32_t inputs,
                                  const uint32_t threads) {
    const uint32_t own_pixels = pixels * outs * groups / (4 * threads);
    const uint32_t out_threads = outs / 4, pixel_threads = pixels / own_pixels;
    const uint32_t own_inputs = inputs / groups;
    const uint32_t x_loads = pixels * inputs / 4 / threads, w_loads = inputs * outs / 4 / threads;
    const uint32_t x_row = DYNC_POINTWISE_ROW(inputs), w_panel = (inputs + 1) * DYNK_PANEL;
    const uint32_t stage = DYNC_POINTWISE_STAGE(pixels, outs, inputs);

    const uint32_t t = thread_x(), first_pixel = block_x() * pixels, first_out = block_y() * outs;
    const uint32_t out = t % out_threads, pixel = t / out_threads % pixel_threads;
    const uint32_t group = t / out_threads / pixel_threads;

    /* What the thread brings of each stage: inputs k to k+3 of some pixels, and four weights of
     * some inputs of a panel. Pixels and panels behind the last are the last once more, and nobody
     * stores their sums. Loads are without conditions, so that all are on their way at once: inputs
     * behind the last are the first, and zeroed when they are put down. Gates that would take too
     * many registers are loaded then. */
    float4 next_x[MOST_LOADS], next_gate[MOST_LOADS], next_w[MOST_LOADS];
    const uint32_t x_k = t % (inputs / 4) * 4, w_quads = inputs * DYNC_QUADS;
    const uint32_t x_pixel = t / (inputs / 4), x_step = threads / (inputs / 4);
    const float *x[MOST_LOADS], *gate[MOST_LOADS], *weight[MOST_LOADS];
    DYNC_UNROLL
    for (uint32_t l = 0; l < x_loads; l++) {
        const uint32_t p = least(first_pixel + x_pixel + l * x_step, a->pixels - 1);
        x[l] = a->x + (size_t)p * a->x_pix;
        gate[l] = a->gate == NULL ? NULL : a->gate + (size_t)(p / a->area) * a->gate_image;
    }
    DYNC_UNROLL
    for (uint32_t l = 0; l < w_loads; l++) {
        const uint32_t panel = first_out / DYNK_PANEL + (t + l * threads) / w_quads;
        weight[l] = a->weight + (size_t)least(panel, (a->out - 1) / DYNK_PANEL) * a->w_panel +
                    t % DYNC_QUADS * 4;
    }

    float4 sum[MOST_PIXELS];
    DYNC_UNROLL
    for (uint32_t i = 0; i < own_pixels; i++)
        sum[i] = zero4();

    /* Whom it stores in the end: its own sums, or, if they are shared out, the t-th four of all. */
    const uint32_t last = groups == 1 ? pixel * outs + out * 4 : t * 4;
    const uint32_t last_pixel = first_pixel + last / outs, last_out = first_out + last % outs;

    /* Turn k fetches the stage of inputs from k on, if there is one, and uses the one before. */
    float *fill = dync_shared, *use = dync_shared + (DYNC_POINTWISE_BUFFERS(groups) - 1) * stage;
    for (uint32_t k = 0;; k += inputs) {
        const int more = k < a->in;
        const uint32_t x_at = k + x_k, x_from = x_at < a->in ? x_at : 0;
        if (more) {
            DYNC_UNROLL
            for (uint32_t l = 0; l < x_loads; l++) {
                next_x[l] = dync_load4(x[l] + x_from);
                next_gate[l] = zero4();
                if (a->gate != NULL && x_loads <= 2)
                    next_gate[l] = dync_load4(gate[l] + x_from);
            }
            DYNC_UNROLL
            for (uint32_t l = 0; l < w_loads; l++) {
                const uint32_t at = k + (t + l * threads) % w_quads / DYNC_QUADS;
                next_w[l] = dync_load4(weight[l] + (at < a->in ? at : 0) * DYNK_PANEL);
            }
        }
        /* Groups whose inputs are all behind the last have nothing to add. */
        if (k > 0 && k - inputs + group * own_inputs < a->in) {
            const float *own_x = use + pixel * x_row + group * own_inputs;
            const float *own_w = use + DYNC_POINTWISE_X(pixels, inputs) +
                                 out / DYNC_QUADS * w_panel + group * own_inputs * DYNK_PANEL +
                                 out % DYNC_QUADS * 4;
            DYNC_UNROLL
            for (uint32_t i = 0; i < own_inputs; i += 4) {
                float4 values[MOST_PIXELS];
                DYNC_UNROLL
                for (uint32_t p = 0; p < own_pixels; p++)
                    values[p] = get4(own_x + p * pixel_threads * x_row + i);
                DYNC_UNROLL
                for (uint32_t j = 0; j < 4; j++) {
                    const float4 w = get4(own_w + (i + j) * DYNK_PANEL);
                    DYNC_UNROLL
                    for (uint32_t p = 0; p < own_pixels; p++)
                        sum[p] = scale4(values[p][j], w, sum[p]);
                }
            }
        }
        if (!more)
            break;
        if (DYNC_POINTWISE_BUFFERS(groups) == 1)
            dync_barrier(); /* it has been used */
        DYNC_UNROLL
        for (uint32_t l = 0; l < x_loads; l++) {
            if (a->gate != NULL)
                next_x[l] *= x_loads <= 2 ? next_gate[l] : dync_load4(gate[l] + x_from);
            put4(fill + (x_pixel + l * x_step) * x_row + x_k,
                 first4(next_x[l], x_at < a->in ? a->in - x_at : 0));
        }
        DYNC_UNROLL
        for (uint32_t l = 0; l < w_loads; l++) {
            const uint32_t quad = (t + l * threads) % w_quads, panel = (t + l * threads) / w_quads;
            put4(fill + DYNC_POINTWISE_X(pixels, inputs) + panel * w_panel + quad * 4, next_w[l]);
        }
        dync_barrier();
        float *const used = use;
        use = fill;
        fill = used;
    }
    const uint32_t tile = pixels * outs;
    ending e = {zero4(), zero4(), zero4()};
    if (last < tile)
        e = ending_of(a, last_pixel, last_out);
    if (groups == 1) {
        float4 residual[MOST_PIXELS];
        DYNC_UNROLL
        for (uint32_t i = 0; i < own_pixels; i++)
            residual[i] = residual_of(a, last_pixel + i * pixel_threads, last_out);
        DYNC_UNROLL
        for (uint32_t i = 0; i < own_pixels; i++) {
            e.residual = residual[i];
            finish(a, last_pixel + i * pixel_threads, last_out, sum[i], &e);
        }
        return;
    }
    dync_barrier(); /* the last stage has been used */
    DYNC_UNROLL
    for (uint32_t i = 0; i < own_pixels; i++)
        put4(dync_shared + group * tile + (pixel + i * pixel_threads) * outs + out * 4, sum[i]);
    dync_barrier();
    if (last >= tile)
        return;
    float4 total = get4(dync_shared + last);
    DYNC_UNROLL
    for (uint32_t g = 1; g < groups; g++)
        total += get4(dync_shared + g * tile + last);
    finish(a, last_pixel, last_out, total, &e);
}

#define DYNC_TILE(pixels, outs, groups, inputs, threads)                                           \
    DYNC_ENTRY_BLOCKS(threads, 512 / (threads))                                                    \
    void dync_pointwise_##pixels##x##outs(const dync_pointwise_args a) {                           \
        pointwise(&a, pixels, outs, groups, inputs, threads);                                      \
    }
DYNC_POINTWISE_TILES(DYNC_TILE)
#undef DYNC_TILE
