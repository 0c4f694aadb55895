/* Average of the pixels of each image. A thread owns four channels of every
 * DYNC_AVERAGE_PIXELS-th pixel, a block 4 * DYNC_AVERAGE_QUADS channels (block_x) of an image
 * (block_y). */
#include "dync_kernel.h"

DYNC_ENTRY(DYNC_AVERAGE_QUADS *DYNC_AVERAGE_PIXELS) void dync_average(const dync_average_args a) {
    const uint32_t width = DYNC_AVERAGE_QUADS * 4, t = thread_x(), image = block_y();
    const uint32_t first = block_x() * width, c = first + t % DYNC_AVERAGE_QUADS * 4;
    float4 sum = zero4();
    if (c < a.channels)
        for (uint32_t p = t / DYNC_AVERAGE_QUADS; p < a.area; p += DYNC_AVERAGE_PIXELS)
            sum += dync_load4(a.x + ((size_t)image * a.area + p) * a.x_pix + c);
    put4(dync_shared + t * 4, sum);
    dync_barrier();
    if (t >= width || first + t >= a.channels)
        return;
    float total = dync_shared[t];
    for (uint32_t p = 1; p < DYNC_AVERAGE_PIXELS; p++)
        total += dync_shared[p * width + t];
    a.y[(size_t)image * a.y_image + first + t] = total / (float)a.area;
}
