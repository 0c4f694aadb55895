/* Tensor cores: two formats, and the product of a warp. */
#include <math.h>
#include <string.h>

#include "tensor.h"

static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

enum { TF32_DROPPED = (1 << 13) - 1 };

/* Halfway away from zero: half of the last place is added, and a carry moves into the exponent, at
 * the end to infinity. */
uint32_t emulator_tf32(float v) {
    if (isnan(v))
        return 0x7FFFFFFF & ~(uint32_t)TF32_DROPPED;
    return isinf(v) ? bits_of(v) : (bits_of(v) + (TF32_DROPPED + 1) / 2) & ~(uint32_t)TF32_DROPPED;
}

/* Halfway to even. Below 2^-14 halves are multiples of 2^-24. */
uint32_t emulator_fp16(float v) {
    const uint32_t sign = bits_of(v) >> 16 & 0x8000, bits = bits_of(v) & 0x7FFFFFFF;
    if (isnan(v))
        return 0x7FFF;
    if (bits < 0x38800000) /* 2^-14: adding 2^-1 leaves 24 bits behind the point, rounded */
        return sign | (bits_of(float_of(bits) + 0.5F) - bits_of(0.5F));
    const uint32_t rounded = bits + 0xFFF + (bits >> 13 & 1);
    return sign | (rounded >= 0x47800000 ? 0x7C00 : (rounded - 0x38000000) >> 13);
}

static float of_tf32(uint32_t word) {
    return word & TF32_DROPPED ? NAN : float_of(word);
}

static float of_fp16(uint32_t bits) {
    const uint32_t sign = (bits & 0x8000) << 16, rest = (bits & 0x7FFF) << 13;
    if (rest >= 0xF800000) /* infinity or NaN */
        return float_of(sign | 0x70000000 | rest);
    if (rest >= 0x800000)
        return float_of(sign | (rest + 0x38000000));
    return copysignf((float)(bits & 0x3FF) * 0x1p-24F, float_of(sign));
}

enum { ROWS = 16, COLUMNS = 8, MOST_INPUTS = 16 };

void tensor_multiply(emulator_fragments *const lane[TENSOR_LANES]) {
    const int halves = lane[0]->halves, word = halves ? 2 : 1;
    float a[ROWS][MOST_INPUTS], b[MOST_INPUTS][COLUMNS], sum[ROWS][COLUMNS];
    for (int l = 0; l < TENSOR_LANES; l++) {
        const int group = l / 4, k = l % 4 * word;
        for (int i = 0; i < 4; i++) {
            const uint32_t bits = lane[l]->a[i];
            float *to = &a[group + i % 2 * 8][k + i / 2 * 4 * word];
            to[0] = halves ? of_fp16(bits & 0xFFFF) : of_tf32(bits);
            if (halves)
                to[1] = of_fp16(bits >> 16);
            sum[group + i / 2 * 8][l % 4 * 2 + i % 2] = lane[l]->sum[i];
        }
        for (int i = 0; i < 2; i++) {
            const uint32_t bits = lane[l]->b[i];
            float(*to)[COLUMNS] = &b[k + i * 4 * word];
            to[0][group] = halves ? of_fp16(bits & 0xFFFF) : of_tf32(bits);
            if (halves)
                to[1][group] = of_fp16(bits >> 16);
        }
    }
    for (int row = 0; row < ROWS; row++)
        for (int k = 0; k < 8 * word; k++)
            for (int column = 0; column < COLUMNS; column++)
                sum[row][column] += a[row][k] * b[k][column];
    for (int l = 0; l < TENSOR_LANES; l++)
        for (int i = 0; i < 4; i++)
            lane[l]->sum[i] = sum[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2];
}
