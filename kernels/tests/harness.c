#define _GNU_SOURCE
#include "check.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* splitmix64: any seed is a good one. */
uint64_t random_next(check *c) {
    uint64_t z = c->random += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

size_t random_upto(check *c, size_t most) {
    return 1 + (size_t)(random_next(c) % most);
}

static float random_unit(check *c) {
    return (float)(random_next(c) >> 40) / (float)(1 << 23) - 1.0f; /* [-1, 1) */
}

/* Worst-case data makes sums that cancel over six orders of magnitude. */
float random_value(check *c, data kind) {
    float unit = random_unit(c);
    switch (kind) {
    case DATA_WORST:
        return (random_next(c) & 1 ? 1.0f : -1.0f) * powf(10.0f, 3.0f * unit);
    case DATA_NAN:
        return random_next(c) % 61 == 0 ? NAN : unit;
    case DATA_RANDOM:
    case DATA_CONSTANT:
    case DATA_KINDS:
        break;
    }
    return unit;
}

static size_t page_size(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

buffer buffer_new(check *c, size_t n, size_t slack_bytes, size_t shift) {
    enum { FRONT = 256 };
    size_t page = page_size(), tail = slack_bytes + shift * sizeof(float);
    size_t bytes = (FRONT + n * sizeof(float) + tail + page - 1) / page * page;
    unsigned char *map =
        mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map + bytes, page, PROT_NONE) != 0 ||
        c->used == MAX_BUFFERS) {
        fprintf(stderr, "checkkern: cannot get %zu bytes of guarded memory\n", bytes);
        exit(2);
    }
    memset(map, 0xA5, bytes);
    buffer b = {(float *)(void *)(map + bytes - tail - n * sizeof(float)), n, map, bytes};
    c->buffers[c->used++] = b;
    return b;
}

void buffers_free(check *c) {
    for (size_t i = 0; i < c->used; i++)
        munmap(c->buffers[i].map, c->buffers[i].bytes + page_size());
    c->used = 0;
}

void buffer_fill(check *c, buffer b, data kind) {
    float constant = random_value(c, DATA_RANDOM);
    for (size_t i = 0; i < b.n; i++)
        b.p[i] = kind == DATA_CONSTANT ? constant : random_value(c, kind);
}

void buffer_protect(buffer b) {
    mprotect(b.map, b.bytes, PROT_READ);
}

/* The slack behind a padded input is NaN: whoever uses what it may only read shows it. */
buffer buffer_input(check *c, size_t n, const shape *s, int padded) {
    buffer b = buffer_new(c, n, padded ? DYNK_OVERREAD : 0, s->shift);
    buffer_fill(c, b, s->data);
    memset(b.p + n, 0xFF, (size_t)(b.map + b.bytes - (unsigned char *)(b.p + n)));
    buffer_protect(b);
    return b;
}

buffer buffer_output(check *c, size_t n, const shape *s) {
    buffer b = buffer_new(c, n, 0, s->shift);
    if (c->cases % 2 == 1)
        memset(b.map, 0xFF, b.bytes);
    return b;
}

buffer buffer_clone(check *c, buffer from) {
    size_t front = (size_t)((unsigned char *)from.p - from.map);
    buffer b = buffer_new(c, from.n, from.bytes - front - from.n * sizeof(float), 0);
    memcpy(b.map, from.map, b.bytes);
    return b;
}

buffer buffer_abs(check *c, buffer from) {
    buffer b = buffer_clone(c, from);
    for (size_t i = 0; i < b.n; i++)
        b.p[i] = fabsf(b.p[i]);
    return b;
}

void fault(check *c, const char *format, ...) {
    static char text[256];
    if (c->fault != NULL)
        return; /* the first one is the telling one */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    c->fault = text;
}

void compare(check *c, buffer y, buffer before, layout l, const float *want, const float *magnitude,
             double roundings) {
    const double unit = 0x1p-24, tiny = 0x1p-126, added = l.act == DYNK_ACT_HSIGMOID ? 3 : 0;
    const unsigned char *named = y.map; /* up to here the mapping has been compared */
    for (size_t i = 0; i < l.rows; i++)
        for (size_t j = 0; j < l.cols; j++) {
            const float *got = y.p + i * l.y_row + j * l.y_pix;
            size_t gap = (size_t)((const unsigned char *)got - named),
                   from = (size_t)(named - y.map);
            if (memcmp(named, before.map + from, gap) != 0)
                fault(c, "wrote outside its output, before row %zu, pixel %zu", i, j);
            for (size_t k = 0; k < l.width; k++) {
                size_t at = (i * l.cols + j) * l.width + k;
                double bound = 1.5 * roundings * unit * ((double)magnitude[at] + added) + tiny;
                if (isnan(want[at]) ? !isnan(got[k])
                                    : !(fabs((double)got[k] - (double)want[at]) <= bound))
                    fault(c, "row %zu, pixel %zu, channel %zu is %.9g, reference %.9g +- %.2g", i,
                          j, k, (double)got[k], (double)want[at], bound);
            }
            named = (const unsigned char *)(got + l.width);
        }
    size_t from = (size_t)(named - y.map);
    if (memcmp(named, before.map + from, y.bytes - from) != 0)
        fault(c, "wrote past the end of its output");
}

void compare_bits(check *c, buffer a, buffer b, const char *what) {
    if (memcmp(a.map, b.map, a.bytes) != 0)
        fault(c, "%s gives other bits", what);
}

static sigjmp_buf after_crash;

static void crashed(int signal) {
    siglongjmp(after_crash, signal);
}

int run_guarded(check *c, caller call, const void *args) {
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    struct sigaction catch = {.sa_handler = crashed}, old[4];
    for (size_t i = 0; i < 4; i++)
        sigaction(signals[i], &catch, &old[i]);
    int signal = sigsetjmp(after_crash, 1);
    if (signal == 0)
        call(c->kernel, args);
    for (size_t i = 0; i < 4; i++)
        sigaction(signals[i], &old[i], NULL);
    if (signal != 0)
        fault(c, "crashed with signal %d (%s)", signal, strsignal(signal));
    return signal == 0;
}

void describe(const shape *s, char *text, size_t size) {
    static const char *const acts[] = {"none", "relu", "relu6", "h_swish", "h_sigmoid"};
    static const char *const kinds[] = {"random", "constant", "worst", "nan"};
    int n = 0;
    switch (s->op) {
    case DYNK_OP_STEM:
        n = snprintf(text, size, "%zux%zux%zu-s%u", s->side, s->side, s->out, s->stride);
        break;
    case DYNK_OP_POINTWISE:
        n = snprintf(text, size, "%zux%zux%zu%s%s", s->pixels, s->in, s->out,
                     s->gate ? "-gate" : "",
                     s->residual == 0   ? ""
                     : s->residual == 1 ? "-residual"
                                        : "-inplace");
        break;
    case DYNK_OP_DWCONV:
        n = snprintf(text, size, "%zux%zux%zu-k%us%u%s", s->side, s->side, s->out, s->k, s->stride,
                     s->sums ? "-sums" : "");
        break;
    case DYNK_OP_DENSE:
        n = snprintf(text, size, "%zux%zu%s", s->in, s->out, s->bias ? "-bias" : "");
        break;
    case DYNK_OP_AVERAGE:
        n = snprintf(text, size, "%zux%zu", s->pixels, s->out);
        break;
    case DYNK_OPS:
        break;
    }
    snprintf(text + n, size - (size_t)n, "-%s gap=%zu spare=%zu shift=%zu data=%s", acts[s->act],
             s->gap, s->spare, s->shift, kinds[s->data]);
}

/* Best of many: on a shared machine the minimum is what repeats. */
void time_case(check *c, const shape *s, caller call, const void *args, double flops) {
    enum { SAMPLES = 15 };
    const double sample_seconds = 2e-3;
    double start = now_seconds();
    call(c->kernel, args);
    double once = now_seconds() - start;
    size_t repeats = once < sample_seconds ? (size_t)(sample_seconds / (once + 1e-9)) + 1 : 1;
    double best = INFINITY;
    for (int i = 0; i < SAMPLES; i++) {
        start = now_seconds();
        for (size_t r = 0; r < repeats; r++)
            call(c->kernel, args);
        best = fmin(best, (now_seconds() - start) / (double)repeats);
    }
    char text[256];
    describe(s, text, sizeof text);
    text[strcspn(text, " ")] = '\0';
    printf("BenchmarkKernel/op=%s/isa=%s/kernel=%s/shape=%s %zu %.0f ns/op %.1f GFLOP/s",
           dynk_op_name(s->op), c->isa, c->kernel->name, text, repeats * SAMPLES, best * 1e9,
           flops / best / 1e9);
    if (c->peak > 0)
        printf(" %.1f %%peak", 100 * flops / best / c->peak);
    putchar('\n');
    c->seconds = best;
    c->flops = flops;
}
