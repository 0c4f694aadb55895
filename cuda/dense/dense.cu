/* Dense layer. A block owns a panel of outputs (block_x) of one or some images (block_y), a thread
 * four of them and every DYNC_DENSE_LANES-th input: a warp reads 512 bytes of weights in one piece,
 * and a block reads each of its weights once. */
#include "dync_kernel.h"

/* Input i, being the mean of the rows. */
static DYNC_INLINE float mean(const dync_dense_args *a, const float *x, uint32_t i) {
    float sum = dync_load(x + i);
    for (uint32_t r = 1; r < a->rows; r++)
        sum += dync_load(x + (size_t)r * a->x_row + i);
    return a->count == 1 ? sum : sum / (float)a->count;
}

/* images is a constant where it is used. */
static DYNC_INLINE void dense(const dync_dense_args *a, const uint32_t images) {
    enum { PARTS = DYNC_DENSE_THREADS / DYNK_PANEL, PART = DYNC_DENSE_LANES / PARTS };
    const uint32_t t = thread_x(), quad = t % DYNC_QUADS, lane = t / DYNC_QUADS;
    const uint32_t first = block_y() * images;
    const uint32_t there = images == 1 ? 1 : least(images, a->n - first);
    const float *x = a->x + (size_t)first * a->x_image;
    const float *weight = a->weight + (size_t)block_x() * a->w_panel + quad * 4;
    float4 sum[DYNC_DENSE_IMAGES];
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        sum[m] = zero4();
    for (uint32_t i = lane; i < a->in; i += DYNC_DENSE_LANES) {
        const float4 w = dync_load4(weight + (size_t)i * DYNK_PANEL);
        DYNC_UNROLL
        for (uint32_t m = 0; m < images; m++)
            if (m < there)
                sum[m] = scale4(mean(a, x + (size_t)m * a->x_image, i), w, sum[m]);
    }
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        put4(dync_shared + (m * DYNC_DENSE_THREADS + t) * 4, sum[m]);
    dync_barrier();

    /* PART lanes a thread, then PARTS of those. */
    const uint32_t o = t % DYNK_PANEL, part = t / DYNK_PANEL;
    float total[DYNC_DENSE_IMAGES];
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++) {
        const float *from = dync_shared + m * DYNC_DENSE_THREADS * 4 + part * PART * DYNK_PANEL + o;
        total[m] = from[0];
        DYNC_UNROLL
        for (uint32_t l = 1; l < PART; l++)
            total[m] += from[l * DYNK_PANEL];
    }
    dync_barrier();
    DYNC_UNROLL
    for (uint32_t m = 0; m < images; m++)
        dync_shared[m * DYNC_DENSE_THREADS + t] = total[m];
    dync_barrier();
    const uint32_t image = part, out = block_x() * DYNK_PANEL + o;
    if (image >= there || out >= a->out)
        return;
    const float *from = dync_shared + image * DYNC_DENSE_THREADS + o;
    float4 y = {from[0], 0, 0, 0};
    DYNC_UNROLL
    for (uint32_t p = 1; p < PARTS; p++)
        y[0] += from[p * DYNK_PANEL];
    if (a->bias != NULL)
        y[0] += dync_load(a->bias + out);
    a->y[(size_t)(first + image) * a->y_image + out] = activate4(y, a->act)[0];
}

DYNC_ENTRY(DYNC_DENSE_THREADS) void dync_dense_x1(const dync_dense_args a) {
    dense(&a, 1);
}
DYNC_ENTRY(DYNC_DENSE_THREADS) void dync_dense_x4(const dync_dense_args a) {
    dense(&a, DYNC_DENSE_IMAGES);
}
