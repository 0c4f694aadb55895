/* Packing and the kernel transform run once at load and have one version, so they are checked
 * against their definition: packing against the index formula of dynk.h, the transform against
 * transforms whose result is known. */
#include "check.h"

#include <math.h>
#include <stdio.h>

static size_t report(const char *what, uint64_t seed, size_t wrong) {
    if (wrong > 0)
        printf("FAIL %s: %zu elements differ; checkkern --op load --seed %llu\n", what, wrong,
               (unsigned long long)seed);
    return wrong > 0;
}

static size_t check_pack(check *c, size_t in, size_t out) {
    const shape s = {.data = DATA_RANDOM};
    buffer src = buffer_input(c, in * out, &s, 0);
    buffer dst = buffer_new(c, dynk_packed_size(in, out), 0, 0);
    dynk_pack_f32(dst.p, src.p, in, out);
    size_t wrong = 0;
    for (size_t o = 0; o < dst.n / in; o++)
        for (size_t i = 0; i < in; i++) {
            float want = o < out ? src.p[o * in + i] : 0;
            size_t panel = o / DYNK_PANEL, lane = o % DYNK_PANEL;
            wrong += dst.p[panel * in * DYNK_PANEL + i * DYNK_PANEL + lane] != want;
        }
    buffers_free(c);
    return report("pack", c->seed, wrong);
}

/* The stem's reference on packed weights must be the convolution that PyTorch's layout means: an
 * image with a single 1 under the centre of an output picks out one weight. */
static size_t check_pack_stem(check *c, size_t out) {
    const shape s = {.data = DATA_RANDOM};
    buffer src = buffer_input(c, out * 27, &s, 0);
    buffer dst = buffer_new(c, dynk_packed_size(27, out), 0, 0);
    dynk_pack_stem_f32(dst.p, src.p, out);
    float one[32], zero[32], y[32];
    for (size_t o = 0; o < 32; o++) {
        one[o] = 1;
        zero[o] = 0;
    }
    size_t wrong = 0;
    for (size_t u = 0; u < 3; u++)
        for (size_t v = 0; v < 3; v++)
            for (size_t channel = 0; channel < 3; channel++) {
                float image[3][9] = {{0}};
                image[u][v * 3 + channel] = 1;
                const float *rows[3] = {image[0], image[1], image[2]};
                float all[3 * 32];
                dynk_stem_args a = {.rows = rows,
                                    .weight = dst.p,
                                    .scale = one,
                                    .shift = zero,
                                    .y = all,
                                    .width = 3,
                                    .out_rows = 1,
                                    .channels = out,
                                    .w_panel = (size_t)27 * DYNK_PANEL,
                                    .y_row = 96,
                                    .y_pix = 32,
                                    .stride = 1};
                dynk_stem_f32_ref(&a);
                for (size_t o = 0; o < out; o++) {
                    y[o] = all[32 + o]; /* the middle of three outputs */
                    wrong += y[o] != src.p[o * 27 + channel * 9 + u * 3 + v];
                }
            }
    buffers_free(c);
    return report("pack_stem", c->seed, wrong);
}

/* A matrix that reverses the taps, with one element doubled, has a result known without sums. */
static size_t check_ktransform(check *c, size_t channels, unsigned from, unsigned to) {
    const shape s = {.data = DATA_RANDOM};
    size_t taps = (size_t)to * to, wrong = 0, margin = (from - to) / 2;
    buffer src = buffer_input(c, channels * from * from, &s, 0);
    buffer dst = buffer_new(c, channels * taps, 0, 0), matrix = buffer_new(c, taps * taps, 0, 0);
    for (size_t i = 0; i < taps * taps; i++)
        matrix.p[i] = i % taps == taps - 1 - i / taps ? (i / taps == 1 ? 2.0f : 1.0f) : 0.0f;
    for (int with_matrix = 0; with_matrix < 2; with_matrix++) {
        dynk_ktransform_f32(dst.p, src.p, with_matrix ? matrix.p : NULL, channels, from, to);
        for (size_t ch = 0; ch < channels; ch++)
            for (size_t t = 0; t < taps; t++) {
                size_t at = with_matrix ? taps - 1 - t : t;
                size_t row = at / to + margin, col = at % to + margin;
                float want = src.p[(ch * from + row) * from + col];
                wrong += dst.p[ch * taps + t] != (with_matrix && t == 1 ? 2 * want : want);
            }
    }
    buffers_free(c);
    return report("ktransform", c->seed, wrong);
}

size_t check_load(uint64_t seed) {
    check c = {.seed = seed, .random = seed};
    size_t failures = 0;
    for (size_t out = 1; out <= 2 * DYNK_PANEL + 1; out++)
        failures += check_pack(&c, random_upto(&c, 20), out);
    for (size_t out = 1; out <= 32; out++)
        failures += check_pack_stem(&c, out);
    failures += check_ktransform(&c, 5, 7, 5) + check_ktransform(&c, 5, 5, 3);
    failures += check_ktransform(&c, 3, 7, 3);
    return failures;
}
