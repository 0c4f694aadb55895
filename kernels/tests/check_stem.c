#include "check.h"

#include <stdlib.h>

static void call(const dynk_kernel *kernel, const void *args) {
    kernel->fn.stem(args);
}

/* Row pointers of a whole image with its padding. Every row is memory of its own, that ends where
 * no read is allowed: an image is the caller's. */
static void point(const float **rows, size_t count, const buffer *image, size_t side) {
    for (size_t r = 0; r < count; r++) {
        size_t from = r - 1; /* wraps in the upper padding */
        rows[r] = from < side ? image[from % 3].p : NULL;
    }
}

void case_stem(check *c, const shape *s) {
    size_t side = (s->side - 1) / s->stride + 1, count = (side - 1) * s->stride + 3;
    size_t y_pix = s->out + s->gap, y_row = side * y_pix + s->gap;
    buffer image[3], magnitudes[3]; /* three rows that repeat */
    for (size_t r = 0; r < 3; r++)
        image[r] = buffer_input(c, s->side * 3, s, 0);
    buffer weight = buffer_input(c, dynk_packed_size(27, s->out + s->spare), s, 0);
    buffer scale = buffer_input(c, s->out, s, 1), shift = buffer_input(c, s->out, s, 1);
    buffer y = buffer_output(c, (side - 1) * y_row + (side - 1) * y_pix + s->out, s);
    buffer before = buffer_clone(c, y), again = buffer_clone(c, y);
    buffer want = buffer_new(c, side * side * s->out, 0, 0);
    buffer magnitude = buffer_new(c, side * side * s->out, 0, 0);
    const float **rows = malloc(count * sizeof *rows);

    point(rows, count, image, s->side);
    dynk_stem_args a = {
        .rows = rows,
        .weight = weight.p,
        .scale = scale.p,
        .shift = shift.p,
        .width = s->side,
        .out_rows = side,
        .channels = s->out,
        .w_panel = (size_t)27 * DYNK_PANEL,
        .stride = s->stride,
        .act = s->act,
    };
    dynk_stem_args ref = a;
    ref.y = want.p;
    ref.y_row = side * s->out;
    ref.y_pix = s->out;
    dynk_stem_f32_ref(&ref);
    for (size_t r = 0; r < 3; r++)
        magnitudes[r] = buffer_abs(c, image[r]);
    point(rows, count, magnitudes, s->side);
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, scale).p;
    ref.shift = buffer_abs(c, shift).p;
    ref.y = magnitude.p;
    ref.act = DYNK_ACT_NONE;
    dynk_stem_f32_ref(&ref);
    point(rows, count, image, s->side);

    a.y = y.p;
    a.y_row = y_row;
    a.y_pix = y_pix;
    if (run_guarded(c, call, &a)) {
        layout l = {side, side, s->out, y_row, y_pix, s->act};
        compare(c, y, before, l, want.p, magnitude.p, 27 + EXTRA_ROUNDINGS);
        /* The same rows in two calls. */
        dynk_stem_args part = a;
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
            time_case(c, s, call, &a, 2.0 * 27 * (double)(side * side * s->out));
    }
    free(rows);
}

static shape random_shape(check *c) {
    return (shape){
        .op = DYNK_OP_STEM,
        .side = random_upto(c, 2 * c->kernel->rows + 1),
        .out = random_upto(c, 2 * c->kernel->cols + 1),
        .stride = c->kernel->stride,
        .act = (dynk_act)(random_next(c) % DYNK_ACT_HSIGMOID),
        .gap = random_next(c) % 2 == 1 ? random_upto(c, 9) : 0,
        .spare = random_next(c) % 2 == 1 ? random_upto(c, 40) : 0,
        .shift = random_next(c) % 2,
        .data = (data)(random_next(c) % DATA_KINDS),
    };
}

void sweep_stem(check *c) {
    for (size_t channels = 1; channels <= 2 * (size_t)c->kernel->cols + 1; channels++) {
        shape s = random_shape(c);
        s.out = channels;
        run_case(c, &s);
    }
    for (size_t side = 1; side <= 4 * (size_t)c->kernel->rows + 3; side++) {
        shape s = random_shape(c);
        s.side = side;
        run_case(c, &s);
    }
}
