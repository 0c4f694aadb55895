#include "check.h"

static void call(const dynk_kernel *kernel, const void *args) {
    kernel->fn.dense(args);
}

void case_dense(check *c, const shape *s) {
    size_t stored = s->in + s->spare;
    buffer x = buffer_input(c, s->in, s, 0);
    buffer weight = buffer_input(c, dynk_packed_size(stored, s->out + s->spare), s, 0);
    buffer bias = buffer_input(c, s->out, s, 1);
    buffer y = buffer_output(c, s->out, s);
    buffer before = buffer_clone(c, y), again = buffer_clone(c, y);
    buffer want = buffer_new(c, s->out, 0, 0), magnitude = buffer_new(c, s->out, 0, 0);

    dynk_dense_args a = {
        .x = x.p,
        .weight = weight.p,
        .bias = s->bias ? bias.p : NULL,
        .in = s->in,
        .out = s->out,
        .w_panel = stored * DYNK_PANEL,
        .act = s->act,
    };
    dynk_dense_args ref = a;
    ref.y = want.p;
    dynk_dense_f32_ref(&ref);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.bias = s->bias ? buffer_abs(c, bias).p : NULL;
    ref.y = magnitude.p;
    ref.act = DYNK_ACT_NONE;
    dynk_dense_f32_ref(&ref);

    a.y = y.p;
    if (!run_guarded(c, call, &a))
        return;
    layout l = {1, 1, s->out, s->out, s->out, s->act};
    compare(c, y, before, l, want.p, magnitude.p, (double)(s->in + EXTRA_ROUNDINGS));
    /* The same outputs in two calls, cut between two panels. */
    dynk_dense_args part = a;
    part.y = again.p;
    part.out = random_upto(c, (s->out + DYNK_PANEL - 1) / DYNK_PANEL) * DYNK_PANEL;
    part.out = part.out < s->out ? part.out : s->out;
    run_guarded(c, call, &part);
    if (part.out < s->out) {
        part.y += part.out;
        part.weight += part.out / DYNK_PANEL * part.w_panel;
        if (part.bias != NULL)
            part.bias += part.out;
        part.out = s->out - part.out;
        run_guarded(c, call, &part);
    }
    compare_bits(c, y, again, "cutting the call into two");
    if (c->bench && c->fault == NULL)
        time_case(c, s, call, &a, 2.0 * (double)(s->in * s->out));
}

static shape random_shape(check *c) {
    return (shape){
        .op = DYNK_OP_DENSE,
        .in = random_upto(c, 40),
        .out = random_upto(c, 2 * c->kernel->cols + 1),
        .act = (dynk_act)(random_next(c) % 5),
        .bias = random_next(c) % 2 == 1,
        .spare = random_next(c) % 2 == 1 ? random_upto(c, 40) : 0,
        .shift = random_next(c) % 2,
        .data = (data)(random_next(c) % DATA_KINDS),
    };
}

void sweep_dense(check *c) {
    for (size_t out = 1; out <= 2 * (size_t)c->kernel->cols + 1; out++) {
        shape s = random_shape(c);
        s.out = out;
        run_case(c, &s);
    }
    for (size_t in = 1; in <= 40; in++) {
        shape s = random_shape(c);
        s.in = in;
        run_case(c, &s);
    }
}
