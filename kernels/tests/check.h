/* checkkern compares every kernel with its reference, element by element, in guarded memory.
 *
 * Tolerance. A sum of n products, in any order and with or without fused multiply-add, is within
 * n * u * sum|products| of the exact value, u = 2^-24 (Higham, Accuracy and Stability of Numerical
 * Algorithms, 3.1). Scale, shift, gate, activation, residual and the final rounding add at most
 * EXTRA_ROUNDINGS more, of numbers no larger than the magnitude below, and no activation is steeper
 * than h_swish, 1.5. So an element may differ by
 *
 *     1.5 * (n + EXTRA_ROUNDINGS) * u * magnitude
 *
 * where magnitude is the reference itself, run on the absolute values of all inputs without
 * activation, plus the 3 that h_sigmoid adds to its sum. Nothing is compared as a norm: one wrong
 * lane would hide in it. */
#ifndef CHECK_H
#define CHECK_H

#include "dynk.h"

enum { EXTRA_ROUNDINGS = 8, MAX_BUFFERS = 32 };

/* Kinds of data. */
typedef enum data { DATA_RANDOM, DATA_CONSTANT, DATA_WORST, DATA_NAN, DATA_KINDS } data;

/* Memory of one operand: n floats that end, with the slack that the contract allows, at a page that
 * cannot be touched. */
typedef struct buffer {
    float *p;
    size_t n;
    unsigned char *map; /* the readable part of the mapping */
    size_t bytes;
} buffer;

/* One case: the dimensions that its operator uses, and how its memory is laid out. */
typedef struct shape {
    dynk_op op;
    size_t side;   /* stem, dwconv: width and height of the input */
    size_t pixels; /* pointwise: pixels; average: rows */
    size_t in, out;
    unsigned k, stride;
    dynk_act act;
    int gate, residual, sums, bias; /* optional operands; residual 2: in place */
    size_t gap;                     /* elements between pixels, and between rows */
    size_t spare;                   /* inputs and outputs stored beyond those used */
    size_t shift;                   /* elements by which bases are moved off their alignment */
    data data;
} shape;

typedef struct check {
    const dynk_kernel *kernel;
    const char *isa;
    uint64_t seed, random;
    size_t cases, failures;
    const char *fault; /* why the current case fails, or NULL */
    buffer buffers[MAX_BUFFERS];
    size_t used;
    int bench, silent;
    double peak;           /* FLOP/s of the instruction set, 0 if not measured */
    const char *shapes;    /* file of real layers, or NULL */
    double seconds, flops; /* of the last case timed */
} check;

/* harness.c */
uint64_t random_next(check *c);
size_t random_upto(check *c, size_t most);                               /* 1..most */
float random_value(check *c, data kind);                                 /* an operand's element */
buffer buffer_new(check *c, size_t n, size_t slack_bytes, size_t shift); /* bytes 0xA5 */
buffer buffer_input(check *c, size_t n, const shape *s, int padded);     /* filled, read-only */
buffer buffer_output(check *c, size_t n, const shape *s);                /* 0xA5 or NaN */
buffer buffer_clone(check *c, buffer from); /* same bytes, same place in its mapping */
buffer buffer_abs(check *c, buffer from);
void buffer_fill(check *c, buffer b, data kind);
void buffer_protect(buffer b);
void buffers_free(check *c);
void fault(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Compares row by row: rows * cols elements `width` long, y_row and y_pix apart, named by the
 * contract, with want and bound [rows][cols][width], and all other bytes of the mapping with the
 * pre-fill. */
typedef struct layout {
    size_t rows, cols, width, y_row, y_pix;
    dynk_act act;
} layout;
void compare(check *c, buffer y, buffer before, layout l, const float *want, const float *magnitude,
             double roundings);
void compare_bits(check *c, buffer a, buffer b, const char *what);

/* Runs call(kernel, args), turning a crash into a fault of the case. Returns 0 after a crash. */
typedef void (*caller)(const dynk_kernel *kernel, const void *args);
int run_guarded(check *c, caller call, const void *args);
void time_case(check *c, const shape *s, caller call, const void *args, double flops);

void describe(const shape *s, char *text, size_t size);

/* check_<op>.c: every case that the operator is checked on, and one case. */
void sweep_stem(check *c);
void sweep_pointwise(check *c);
void sweep_dwconv(check *c);
void sweep_dense(check *c);
void sweep_average(check *c);
void case_stem(check *c, const shape *s);
void case_pointwise(check *c, const shape *s);
void case_dwconv(check *c, const shape *s);
void case_dense(check *c, const shape *s);
void case_average(check *c, const shape *s);
size_t check_load(uint64_t seed); /* packing and kernel transform; returns failures */

/* Runs one case of any operator and reports it. */
void run_case(check *c, const shape *s);

/* peak.c: FLOP/s of independent fused multiply-adds, 0 if the instruction set has no loop there. */
double peak_flops(const char *isa);
/* Bytes a second that are read of so many, by one thread; 0 as above, or without memory. */
double peak_read(const char *isa, size_t bytes);
double now_seconds(void);

/* selftest.c: kernels with planted faults must fail. Returns the number that did not. */
size_t self_test(uint64_t seed);

/* The reference, by direct call. */
#define DYNK_KERNEL(op, type, function, ...) void function(const dynk_##op##_args *);
#include "../ref/ref.inc"
#undef DYNK_KERNEL

#endif
