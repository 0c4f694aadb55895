/* Dense layer of one image (block_y). A block owns a panel of outputs (block_x), a thread four of
 * them and every DYNC_DENSE_LANES-th input: a warp reads 512 bytes of weights in one piece, and
 * each weight is read once. */
#include "dync_kernel.h"

/* Input i, being the mean of the rows. */
static DYNC_INLINE float mean(const dync_dense_args *a, const float *x, uint32_t i) {
    float sum = dync_load(x + i);
    for (uint32_t r = 1; r < a->rows; r++)
        sum += dync_load(x + (size_t)r * a->x_row + i);
    return a->count == 1 ? sum : sum / (float)a->count;
}

DYNC_ENTRY(DYNC_DENSE_THREADS) void dync_dense(const dync_dense_args a) {
    enum { PARTS = DYNC_DENSE_THREADS / DYNK_PANEL, PART = DYNC_DENSE_LANES / PARTS };
    const uint32_t t = thread_x(), quad = t % DYNC_QUADS, lane = t / DYNC_QUADS;
    const float *x = a.x + (size_t)block_y() * a.x_image;
    const float *weight = a.weight + (size_t)block_x() * a.w_panel + quad * 4;
    float4 sum = zero4();
    for (uint32_t i = lane; i < a.in; i += DYNC_DENSE_LANES)
        sum = scale4(mean(&a, x, i), dync_load4(weight + (size_t)i * DYNK_PANEL), sum);
    put4(dync_shared + t * 4, sum);
    dync_barrier();

    /* PART lanes a thread, then PARTS of those. */
    const uint32_t o = t % DYNK_PANEL, part = t / DYNK_PANEL;
    float total = dync_shared[part * PART * DYNK_PANEL + o];
    DYNC_UNROLL
    for (uint32_t l = 1; l < PART; l++)
        total += dync_shared[(part * PART + l) * DYNK_PANEL + o];
    dync_barrier();
    dync_shared[t] = total;
    dync_barrier();
    const uint32_t out = block_x() * DYNK_PANEL + t;
    if (t >= DYNK_PANEL || out >= a.out)
        return;
    total = dync_shared[t];
    DYNC_UNROLL
    for (uint32_t p = 1; p < PARTS; p++)
        total += dync_shared[p * DYNK_PANEL + t];
    if (a.bias != NULL)
        total += dync_load(a.bias + out);
    const float4 y = {total, 0, 0, 0};
    a.y[(size_t)block_y() * a.y_image + out] = activate4(y, a.act)[0];
}
