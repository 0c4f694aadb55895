/* Backward pass of a depthwise k x k convolution on NHWC data, for training on a CPU.
 *
 *   dx[n,y,x,c]  = sum over outputs (i,j) and taps (u,v) with i*s+u-p = y, j*s+v-p = x of
 *                  w[u,v,c] * dy[n,i,j,c]
 *   dw[u,v,c]    = sum over n,i,j of x[n,i*s+u-p,j*s+v-p,c] * dy[n,i,j,c],   p = k/2
 *
 * torch 2 has no fast kernel for dw here (a 7x7 one takes longer than the rest of its block), so
 * this file is worth about half of the training time. Sums are float; x, dy and dx are bfloat16.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16

static inline float widen(uint16_t h) {
    union { uint32_t u; float f; } b = {(uint32_t)h << 16};
    return b.f;
}

/* Rounds to nearest even; the values are finite. */
static inline uint16_t narrow(float f) {
    union { float f; uint32_t u; } b = {f};
    return (uint16_t)((b.u + 0x7fff + (b.u >> 16 & 1)) >> 16);
}

typedef float vec __attribute__((vector_size(LANES * sizeof(float))));

/* One image, LANES channels. xp, dxp: padded input planes [hp][wp]; dyp: [ho][wo]. The taps of a
 * kernel row stay in registers while the row runs over the image. */
#define DEFINE_PLANE(K)                                                                           \
    static void plane_##K(const vec *restrict xp, const vec *restrict dyp, vec *restrict dxp,     \
                          const vec *restrict w, vec *restrict dw, int wp, int ho, int wo,        \
                          int s) {                                                                \
        for (int u = 0; u < K; u++) {                                                             \
            vec acc[K], wu[K];                                                                    \
            _Pragma("GCC unroll 7") for (int v = 0; v < K; v++) {                                 \
                acc[v] = (vec){0};                                                                \
                wu[v] = w[u * K + v];                                                             \
            }                                                                                     \
            for (int i = 0; i < ho; i++) {                                                        \
                const vec *xr = xp + (i * s + u) * wp;                                            \
                vec *dxr = dxp + (i * s + u) * wp;                                                \
                const vec *dyr = dyp + i * wo;                                                    \
                for (int j = 0; j < wo; j++) {                                                    \
                    const vec d = dyr[j];                                                         \
                    _Pragma("GCC unroll 7") for (int v = 0; v < K; v++) {                         \
                        acc[v] += xr[j * s + v] * d;                                              \
                        dxr[j * s + v] += wu[v] * d;                                              \
                    }                                                                             \
                }                                                                                 \
            }                                                                                     \
            _Pragma("GCC unroll 7") for (int v = 0; v < K; v++) dw[u * K + v] += acc[v];          \
        }                                                                                         \
    }
DEFINE_PLANE(3)
DEFINE_PLANE(5)
DEFINE_PLANE(7)

/* x, dx [n][h][w][c]; dy [n][ho][wo][c]; wt and dwt [c][k][k]; c a multiple of 8. */
int depthwise_backward(const uint16_t *x, const uint16_t *dy, const float *wt, uint16_t *dx,
                       float *dwt, int n, int h, int w, int c, int k, int s) {
    const int p = k / 2, ho = (h - 1) / s + 1, wo = (w - 1) / s + 1;
    const int hp = h + 2 * p, wp = w + 2 * p, groups = (c + LANES - 1) / LANES;
    int failed = 0;
    memset(dwt, 0, sizeof(float) * (size_t)c * k * k);
#pragma omp parallel
    {
        size_t plane = (size_t)hp * wp * LANES, out = (size_t)ho * wo * LANES;
        float *buf = aligned_alloc(64, sizeof(float) * (2 * plane + out));
        float wg[49 * LANES] __attribute__((aligned(64)));
        float *dwg = aligned_alloc(64, sizeof(float) * groups * 49 * LANES);
        if (!buf || !dwg) {
#pragma omp atomic write
            failed = 1;
        } else {
            float *xp = buf, *dxp = buf + plane, *dyp = buf + 2 * plane;
            memset(dwg, 0, sizeof(float) * groups * 49 * LANES);
            memset(buf, 0, sizeof(float) * (2 * plane + out));
            for (int g = 0; g < groups; g++) {
                const int c0 = g * LANES, m = c - c0 < LANES ? c - c0 : LANES;
                memset(wg, 0, sizeof wg);
                for (int q = 0; q < k * k; q++)
                    for (int l = 0; l < m; l++) wg[q * LANES + l] = wt[(size_t)(c0 + l) * k * k + q];
                if (m < LANES) memset(buf, 0, sizeof(float) * (2 * plane + out));
#pragma omp for schedule(static) nowait
                for (int b = 0; b < n; b++) {
                    for (int i = 0; i < h; i++)
                        for (int j = 0; j < w; j++) {
                            const uint16_t *src = x + (((size_t)b * h + i) * w + j) * c + c0;
                            float *dst = xp + ((size_t)(i + p) * wp + j + p) * LANES;
                            if (m == LANES)
                                for (int l = 0; l < LANES; l++) dst[l] = widen(src[l]);
                            else
                                for (int l = 0; l < m; l++) dst[l] = widen(src[l]);
                        }
                    for (int q = 0; q < ho * wo; q++) {
                        const uint16_t *src = dy + ((size_t)b * ho * wo + q) * c + c0;
                        if (m == LANES)
                            for (int l = 0; l < LANES; l++) dyp[q * LANES + l] = widen(src[l]);
                        else
                            for (int l = 0; l < m; l++) dyp[q * LANES + l] = widen(src[l]);
                    }
                    memset(dxp, 0, sizeof(float) * plane);
                    float *dw = dwg + (size_t)g * 49 * LANES;
                    if (k == 3) plane_3((vec *)xp, (vec *)dyp, (vec *)dxp, (vec *)wg, (vec *)dw, wp, ho, wo, s);
                    if (k == 5) plane_5((vec *)xp, (vec *)dyp, (vec *)dxp, (vec *)wg, (vec *)dw, wp, ho, wo, s);
                    if (k == 7) plane_7((vec *)xp, (vec *)dyp, (vec *)dxp, (vec *)wg, (vec *)dw, wp, ho, wo, s);
                    for (int i = 0; i < h; i++)
                        for (int j = 0; j < w; j++) {
                            uint16_t *dst = dx + (((size_t)b * h + i) * w + j) * c + c0;
                            const float *src = dxp + ((size_t)(i + p) * wp + j + p) * LANES;
                            if (m == LANES)
                                for (int l = 0; l < LANES; l++) dst[l] = narrow(src[l]);
                            else
                                for (int l = 0; l < m; l++) dst[l] = narrow(src[l]);
                        }
                }
            }
#pragma omp critical
            for (int g = 0; g < groups; g++)
                for (int q = 0; q < k * k; q++)
                    for (int l = 0; l < LANES && g * LANES + l < c; l++)
                        dwt[(size_t)(g * LANES + l) * k * k + q] +=
                            dwg[((size_t)g * 49 + q) * LANES + l];
        }
        free(buf);
        free(dwg);
    }
    return failed;
}
