#include "check.h"

static void call(const dynk_kernel *kernel, const void *args) {
    kernel->fn.average(args);
}

void case_average(check *c, const shape *s) {
    size_t x_row = s->out + s->gap;
    buffer x = buffer_input(c, (s->pixels - 1) * x_row + s->out, s, 1);
    buffer y = buffer_output(c, s->out, s);
    buffer before = buffer_clone(c, y);
    buffer want = buffer_new(c, s->out, 0, 0), magnitude = buffer_new(c, s->out, 0, 0);

    dynk_average_args a = {
        .x = x.p, .rows = s->pixels, .channels = s->out, .x_row = x_row, .count = 3 * s->pixels};
    dynk_average_args ref = a;
    ref.y = want.p;
    dynk_average_f32_ref(&ref);
    ref.x = buffer_abs(c, x).p;
    ref.y = magnitude.p;
    dynk_average_f32_ref(&ref);

    a.y = y.p;
    if (!run_guarded(c, call, &a))
        return;
    layout l = {1, 1, s->out, s->out, s->out, DYNK_ACT_NONE};
    compare(c, y, before, l, want.p, magnitude.p, (double)(s->pixels + EXTRA_ROUNDINGS));
    if (c->bench && c->fault == NULL)
        time_case(c, s, call, &a, (double)(s->pixels * s->out));
}

void sweep_average(check *c) {
    for (size_t channels = 1; channels <= 2 * (size_t)c->kernel->cols + 1; channels++) {
        shape s = {
            .op = DYNK_OP_AVERAGE,
            .pixels = random_upto(c, 20),
            .out = channels,
            .gap = random_next(c) % 2 == 1 ? random_upto(c, 9) : 0,
            .shift = random_next(c) % 2,
            .data = (data)(random_next(c) % DATA_KINDS),
        };
        run_case(c, &s);
    }
}
