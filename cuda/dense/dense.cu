/* Dense layer. A block owns a panel of outputs (block_x) of one or some images (block_y), a thread
 * four of them and every DYNC_DENSE_LANES-th input: a warp reads 512 bytes of weights in one piece,
 * and a block reads each of its weights once. */
#include "dync_kernel.h"

/* Inputs of a thread that are on their way at once. */
enum { AHEAD = 4 };

/* Input i of those that a thread takes from `from` on, or one that is there. */
static DYNC_INLINE uint32_t input(const dync_dense_args *a, uint32_t from, uint32_t i) {
    const uint32_t at = from + i * DYNC_DENSE_LANES;
    return at < a->in ? at : from;
}

/* Inputs, being the means of the rows. */
static DYNC_INLINE void means(const dync_dense_args *a, const float *x, uint32_t from,
                              float values[AHEAD]) {
    DYNC_UNROLL
    for (uint32_t i = 0; i < AHEAD; i++)
        values[i] = dync_load(x + input(a, from, i));
    for (uint32_t r = 1; r < a->rows; r++) {
        DYNC_UNROLL
        for (uint32_t i = 0; i < AHEAD; i++)
            values[i] += dync_load(x + (size_t)r * a->x_row + input(a, from, i));
    }
    DYNC_UNROLL
    for (uint32_t i = 0; i < AHEAD; i++)
        values[i] *= a->share;
}

/* images is a constant where it is used. */
static DYNC_INLINE void dense(const dync_dense_args *a, const uint32_t images) {
    enum { PARTS = DYNC_DENSE_LANES / DYNC_DENSE_PART, TOTALS = (PARTS + 1) * DYNK_PANEL };
    const uint32_t t = thread_x(), quad = t % DYNC_QUADS, lane = t / DYNC_QUADS;
    const uint32_t first = block_y() * images;
    const uint32_t there = images == 1 ? 1 : least(images, a->n - first);
    const float *x = a->x + (size_t)first * a->x_image;
    const float *weight = a->weight + (size_t)block_x() * a->w_panel + quad * 4;
    float4 sum[DYNC_DENSE_IMAGES];
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        sum[m] = zero4();
    for (uint32_t from = lane; from < a->in; from += AHEAD * DYNC_DENSE_LANES) {
        float4 w[AHEAD];
        DYNC_UNROLL
        for (uint32_t i = 0; i < AHEAD; i++)
            w[i] = dync_load4(weight + (size_t)input(a, from, i) * DYNK_PANEL);
        DYNC_UNROLL
        for (uint32_t m = 0; m < images; m++) {
            float values[AHEAD];
            if (m >= there)
                continue;
            means(a, x + (size_t)m * a->x_image, from, values);
            DYNC_UNROLL
            for (uint32_t i = 0; i < AHEAD; i++)
                if (from + i * DYNC_DENSE_LANES < a->in)
                    sum[m] = scale4(values[i], w[i], sum[m]);
        }
    }
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        put4(dync_shared + m * DYNC_DENSE_SUMS + lane / DYNC_DENSE_PART * DYNK_PANEL + t * 4,
             sum[m]);
    const uint32_t o = t % DYNK_PANEL, part = t / DYNK_PANEL, out = block_x() * DYNK_PANEL + o;
    const float bias = a->bias == NULL ? 0.0f : dync_load(a->bias + least(out, a->out - 1));
    dync_barrier();

    /* DYNC_DENSE_PART lanes a thread, then PARTS of those. */
    float total[DYNC_DENSE_IMAGES];
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++) {
        const float *from =
            dync_shared + m * DYNC_DENSE_SUMS + part * (DYNC_DENSE_PART + 1) * DYNK_PANEL + o;
        total[m] = from[0];
        DYNC_UNROLL
        for (uint32_t l = 1; l < DYNC_DENSE_PART; l++)
            total[m] += from[l * DYNK_PANEL];
    }
    dync_barrier();
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        dync_shared[m * TOTALS + t] = total[m];
    dync_barrier();
    const uint32_t image = part;
    if (image >= there || out >= a->out)
        return;
    const float *from = dync_shared + image * TOTALS + o;
    float4 y = {from[0], 0, 0, 0};
    DYNC_UNROLL
    for (uint32_t p = 1; p < PARTS; p++)
        y[0] += from[p * DYNK_PANEL];
    if (a->bias != NULL)
        y[0] += bias;
    a->y[(size_t)(first + image) * a->y_image + out] = activate4(y, a->act)[0];
}

/* Left to itself, ptxas keeps a few registers less than it needs, for a block more. */
DYNC_ENTRY_BLOCKS(DYNC_DENSE_THREADS, 4) void dync_dense_x1(const dync_dense_args a) {
    dense(&a, 1);
}
DYNC_ENTRY_BLOCKS(DYNC_DENSE_THREADS, 2) void dync_dense_x4(const dync_dense_args a) {
    dense(&a, DYNC_DENSE_IMAGES);
}
