#include "check.h"

#include <stdlib.h>

static void call(const dynk_kernel *kernel, const void *args) {
    kernel->fn.dwconv(args);
}

/* Row pointers of a whole map with its padding. */
static void point(const float **rows, size_t count, const float *x, const shape *s, size_t x_row) {
    for (size_t r = 0; r < count; r++) {
        size_t from = r - s->k / 2; /* wraps in the upper padding */
        rows[r] = from < s->side ? x + from * x_row : NULL;
    }
}

void case_dwconv(check *c, const shape *s) {
    size_t side = (s->side - 1) / s->stride + 1, count = (side - 1) * s->stride + s->k;
    size_t x_pix = s->out + s->gap, x_row = s->side * x_pix + s->gap;
    size_t y_pix = s->out + s->gap, y_row = side * y_pix + s->gap;
    size_t taps = (size_t)s->k * s->k;
    buffer x = buffer_input(c, (s->side - 1) * x_row + (s->side - 1) * x_pix + s->out, s, 1);
    buffer weight = buffer_input(c, dynk_packed_size(taps, s->out), s, 0);
    buffer scale = buffer_input(c, s->out, s, 1), shift = buffer_input(c, s->out, s, 1);
    buffer y = buffer_output(c, (side - 1) * y_row + (side - 1) * y_pix + s->out, s);
    buffer sums = buffer_output(c, s->out, s);
    buffer y_before = buffer_clone(c, y), sums_before = buffer_clone(c, sums);
    buffer again = buffer_clone(c, y);
    buffer want = buffer_new(c, side * side * s->out, 0, 0);
    buffer magnitude = buffer_new(c, side * side * s->out, 0, 0);
    buffer want_sums = buffer_new(c, s->out, 0, 0), magnitude_sums = buffer_new(c, s->out, 0, 0);
    const float **rows = malloc(count * sizeof *rows);

    point(rows, count, x.p, s, x_row);
    dynk_dwconv_args a = {
        .rows = rows,
        .weight = weight.p,
        .scale = scale.p,
        .shift = shift.p,
        .width = s->side,
        .out_rows = side,
        .channels = s->out,
        .x_pix = x_pix,
        .k = s->k,
        .stride = s->stride,
        .act = s->act,
    };
    dynk_dwconv_args ref = a;
    ref.y = want.p;
    ref.y_row = side * s->out;
    ref.y_pix = s->out;
    ref.sums = want_sums.p;
    dynk_dwconv_f32_ref(&ref);
    point(rows, count, buffer_abs(c, x).p, s, x_row);
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, scale).p;
    ref.shift = buffer_abs(c, shift).p;
    ref.y = magnitude.p;
    ref.sums = magnitude_sums.p;
    ref.act = DYNK_ACT_NONE;
    dynk_dwconv_f32_ref(&ref);
    point(rows, count, x.p, s, x_row);

    a.y = y.p;
    a.y_row = y_row;
    a.y_pix = y_pix;
    a.sums = s->sums ? sums.p : NULL;
    if (run_guarded(c, call, &a)) {
        const double roundings = (double)(taps + EXTRA_ROUNDINGS);
        layout l = {side, side, s->out, y_row, y_pix, s->act};
        compare(c, y, y_before, l, want.p, magnitude.p, roundings);
        /* A sum of side^2 outputs, each of which already carries its own error. */
        if (s->sums)
            compare(c, sums, sums_before, (layout){1, 1, s->out, s->out, s->out, s->act},
                    want_sums.p, magnitude_sums.p, roundings + (double)(side * side));
        /* The same rows in two calls. */
        dynk_dwconv_args part = a;
        part.sums = NULL;
        part.y = again.p;
        part.out_rows = random_upto(c, side);
        run_guarded(c, call, &part);
        if (part.out_rows < side) {
            part.rows += part.out_rows * s->stride;
            part.y += part.out_rows * y_row;
            part.out_rows = side - part.out_rows;
            run_guarded(c, call, &part);
        }
        compare_bits(c, y, again, "cutting the call into two");
        if (c->bench && c->fault == NULL)
            time_case(c, s, call, &a, 2.0 * (double)(taps * side * side * s->out));
    }
    free(rows);
}

static shape random_shape(check *c) {
    return (shape){
        .op = DYNK_OP_DWCONV,
        .side = random_upto(c, 2 * c->kernel->rows + 1),
        .out = random_upto(c, 2 * c->kernel->cols + 1),
        .k = c->kernel->k,
        .stride = c->kernel->stride,
        .act = (dynk_act)(random_next(c) % DYNK_ACT_HSIGMOID),
        .sums = random_next(c) % 2 == 1,
        .gap = random_next(c) % 2 == 1 ? random_upto(c, 9) : 0,
        .shift = random_next(c) % 2,
        .data = (data)(random_next(c) % DATA_KINDS),
    };
}

void sweep_dwconv(check *c) {
    for (size_t channels = 1; channels <= 2 * (size_t)c->kernel->cols + 1; channels++) {
        shape s = random_shape(c);
        s.out = channels;
        run_case(c, &s);
    }
    for (size_t side = 1; side <= 3 * (size_t)c->kernel->rows + 1; side++) {
        shape s = random_shape(c);
        s.side = side;
        run_case(c, &s);
    }
}
