#include "oracle.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct oracle {
    const bundle *b;
    int level;
    const float *norms;
} oracle;

__attribute__((format(printf, 2, 3))) static const float *numbers(const oracle *o,
                                                                  const char *format, ...) {
    char name[200];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    for (size_t i = 0; i < o->b->count; i++)
        if (span_is(o->b->tensors[i].name, name))
            return (const float *)(const void *)(o->b->from.bytes + o->b->tensors[i].at);
    if (strstr(name, "_matrix") != NULL)
        return NULL;
    fprintf(stderr, "oracle: no tensor %s\n", name);
    exit(1);
}

static double act_of(dynk_act act, double v) {
    switch (act) {
    case DYNK_ACT_RELU:
        return fmax(v, 0);
    case DYNK_ACT_RELU6:
        return fmin(fmax(v, 0), 6);
    case DYNK_ACT_HSWISH:
        return v * fmin(fmax(v + 3, 0), 6) / 6;
    case DYNK_ACT_HSIGMOID:
        return fmin(fmax(v + 3, 0), 6) / 6;
    default:
        return v;
    }
}

static void normalise(oracle *o, const char *name, double *y, size_t pixels, size_t channels,
                      dynk_act act) {
    for (size_t c = 0; c < channels; c++) {
        double scale, shift;
        if (o->level >= 0) {
            scale = numbers(o, "library/%d/%s/scale", o->level, name)[c];
            shift = numbers(o, "library/%d/%s/shift", o->level, name)[c];
        } else if (o->norms != NULL) {
            scale = o->norms[c];
            shift = o->norms[channels + c];
        } else {
            scale = numbers(o, "%s.weight", name)[c] /
                    sqrt(numbers(o, "%s.running_var", name)[c] + o->b->space->bn_eps);
            shift = numbers(o, "%s.bias", name)[c] - numbers(o, "%s.running_mean", name)[c] * scale;
        }
        for (size_t p = 0; p < pixels; p++)
            y[p * channels + c] = act_of(act, y[p * channels + c] * scale + shift);
    }
    if (o->norms != NULL)
        o->norms += 2 * channels;
}

static double *zeros(size_t n) {
    double *p = calloc(n, sizeof *p);
    if (p == NULL)
        exit(1);
    return p;
}

/* y [out] = w [out][stride] x [in] */
static void product(const double *x, size_t in, const float *w, size_t stride, const float *bias,
                    double *y, size_t out) {
    for (size_t i = 0; i < out; i++) {
        y[i] = bias == NULL ? 0 : bias[i];
        for (size_t j = 0; j < in; j++)
            y[i] += w[i * stride + j] * x[j];
    }
}

static double *pointwise(const double *x, size_t pixels, size_t in, const float *w, size_t stride,
                         size_t out) {
    double *y = zeros(pixels * out);
    for (size_t p = 0; p < pixels; p++)
        product(x + p * in, in, w, stride, NULL, y + p * out, out);
    return y;
}

/* The kernel [k*k] of a channel, from the stored one by the transforms. */
static void kernel_of(const oracle *o, const block *b, const char *prefix, const float *stored,
                      uint32_t c, double *out) {
    const few *sizes = &o->b->space->kernels;
    uint32_t size = b->expand ? o->b->space->max_kernel : 3;
    double now[49], next[49];
    for (uint32_t i = 0; i < size * size; i++)
        now[i] = stored[c * size * size + i];
    for (uint32_t i = sizes->count; size > b->kernel;) {
        while (sizes->value[i - 1] >= size)
            i--;
        uint32_t to = sizes->value[i - 1], gap = (size - to) / 2;
        const float *m =
            numbers(o, "%s.depth_conv.conv.%uto%u_matrix", prefix, (unsigned)size, (unsigned)to);
        for (uint32_t t = 0; t < to * to; t++) {
            next[t] = m == NULL ? now[(t / to + gap) * size + t % to + gap] : 0;
            for (uint32_t j = 0; m != NULL && j < to * to; j++)
                next[t] += m[t * to * to + j] * now[(j / to + gap) * size + j % to + gap];
        }
        memcpy(now, next, sizeof now);
        size = to;
    }
    memcpy(out, now, size * size * sizeof *out);
}

static double *depthwise(const oracle *o, const block *b, const char *prefix, const double *x) {
    const float *stored =
        numbers(o, "%s.depth_conv%s.conv.weight", prefix, b->expand ? ".conv" : "");
    int in = (int)b->in_side, out = (int)b->out_side, k = (int)b->kernel, s = (int)b->stride;
    double *y = zeros((size_t)out * out * b->mid), w[49];
    for (uint32_t c = 0; c < b->mid; c++) {
        kernel_of(o, b, prefix, stored, c, w);
        for (int i = 0; i < out; i++)
            for (int j = 0; j < out; j++)
                for (int u = 0; u < k; u++)
                    for (int v = 0; v < k; v++) {
                        int row = i * s + u - k / 2, col = j * s + v - k / 2;
                        if (row >= 0 && row < in && col >= 0 && col < in)
                            y[((size_t)i * out + j) * b->mid + c] +=
                                w[u * k + v] * x[((size_t)row * in + col) * b->mid + c];
                    }
    }
    return y;
}

static void squeeze_excite(const oracle *o, const block *b, const char *p, double *x) {
    size_t pixels = (size_t)b->out_side * b->out_side;
    double *mean = zeros(b->mid), *tight = zeros(b->squeeze), *gate = zeros(b->mid);
    for (size_t i = 0; i < pixels * b->mid; i++)
        mean[i % b->mid] += x[i] / (double)pixels;
    product(mean, b->mid, numbers(o, "%s.depth_conv.se.fc.reduce.weight", p), b->max_mid,
            numbers(o, "%s.depth_conv.se.fc.reduce.bias", p), tight, b->squeeze);
    for (uint32_t i = 0; i < b->squeeze; i++)
        tight[i] = act_of(DYNK_ACT_RELU, tight[i]);
    product(tight, b->squeeze, numbers(o, "%s.depth_conv.se.fc.expand.weight", p), b->max_squeeze,
            numbers(o, "%s.depth_conv.se.fc.expand.bias", p), gate, b->mid);
    for (size_t i = 0; i < pixels * b->mid; i++)
        x[i] *= act_of(DYNK_ACT_HSIGMOID, gate[i % b->mid]);
    free(mean);
    free(tight);
    free(gate);
}

static double *run_block(oracle *o, const block *b, double *x) {
    char p[80], name[160];
    const char *bn = b->expand ? ".bn.bn" : ".bn";
    size_t in = (size_t)b->in_side * b->in_side, out = (size_t)b->out_side * b->out_side;
    double *wide = x;
    snprintf(p, sizeof p, "blocks.%u.conv", (unsigned)b->index);
    if (b->expand) {
        wide = pointwise(x, in, b->in, numbers(o, "%s.inverted_bottleneck.conv.conv.weight", p),
                         b->in, b->mid);
        snprintf(name, sizeof name, "%s.inverted_bottleneck.bn.bn", p);
        normalise(o, name, wide, in, b->mid, b->act);
    }
    double *filtered = depthwise(o, b, p, wide);
    snprintf(name, sizeof name, "%s.depth_conv%s", p, bn);
    normalise(o, name, filtered, out, b->mid, b->act);
    if (b->squeeze > 0)
        squeeze_excite(o, b, p, filtered);
    double *y =
        pointwise(filtered, out, b->mid,
                  numbers(o, "%s.point_linear%s.weight", p, b->expand ? ".conv.conv" : ".conv"),
                  b->max_mid, b->out);
    snprintf(name, sizeof name, "%s.point_linear%s", p, bn);
    normalise(o, name, y, out, b->out, DYNK_ACT_NONE);
    for (size_t i = 0; b->residual && i < out * b->out; i++)
        y[i] += x[i];
    if (b->expand)
        free(wide);
    free(filtered);
    free(x);
    return y;
}

static double *stem(oracle *o, const float *image, int side) {
    const space *s = o->b->space;
    const float *w = numbers(o, "first_conv.conv.weight");
    int stride = (int)s->stem_stride, out = (int)strided((uint32_t)side, s->stem_stride);
    size_t channels = s->stem_channels, at = 0;
    double *y = zeros((size_t)out * out * channels);
    for (int i = 0; i < out; i++)
        for (int j = 0; j < out; j++)
            for (size_t c = 0; c < channels; c++, at++)
                for (int t = 0; t < 27; t++) {
                    int row = i * stride + t / 3 % 3 - 1, col = j * stride + t % 3 - 1;
                    if (row >= 0 && row < side && col >= 0 && col < side)
                        y[at] += w[c * 27 + t] * image[((size_t)row * side + col) * 3 + t / 9];
                }
    normalise(o, "first_conv.bn", y, (size_t)out * out, channels, s->stem_act);
    return y;
}

void oracle_run(const bundle *b, const subnet *n, int level, const float *norms, const float *image,
                double *logits) {
    oracle o = {b, level, norms};
    const space *s = b->space;
    double *x = stem(&o, image, (int)n->resolution);
    block_walk w = {.s = s, .n = n};
    while (block_next(&w))
        x = run_block(&o, &w.b, x);
    size_t pixels = (size_t)w.b.out_side * w.b.out_side;
    size_t wide = s->head_expand > 0 ? s->head_expand : s->head_features;
    const char *first = s->head_expand > 0 ? "final_expand_layer" : "feature_mix_layer";
    char name[64];
    double *y = pointwise(x, pixels, w.b.out, numbers(&o, "%s.conv.weight", first), w.b.out, wide);
    snprintf(name, sizeof name, "%s.bn", first);
    normalise(&o, name, y, pixels, wide, s->head_act);
    double *mean = zeros(wide), *features = zeros(s->head_features);
    for (size_t i = 0; i < pixels * wide; i++)
        mean[i % wide] += y[i] / (double)pixels;
    if (s->head_expand > 0) {
        product(mean, wide, numbers(&o, "feature_mix_layer.conv.weight"), wide, NULL, features,
                s->head_features);
        for (uint32_t i = 0; i < s->head_features; i++)
            features[i] = act_of(s->head_act, features[i]);
    } else {
        memcpy(features, mean, wide * sizeof *mean);
    }
    product(features, s->head_features, numbers(&o, "classifier.linear.weight"), s->head_features,
            numbers(&o, "classifier.linear.bias"), logits, s->classes);
    free(x);
    free(y);
    free(mean);
    free(features);
}
