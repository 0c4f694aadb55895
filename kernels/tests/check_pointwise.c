#include "check.h"

static void call(const dynk_kernel *kernel, const void *args) {
    kernel->fn.pointwise(args);
}

/* The same product in four calls, cut between two pixels and between two panels. */
static void cut(check *c, const dynk_pointwise_args *whole, float *y) {
    size_t pixels = random_upto(c, whole->pixels) - 1;
    size_t out = (random_upto(c, (whole->out + DYNK_PANEL - 1) / DYNK_PANEL) - 1) * DYNK_PANEL;
    for (int part = 0; part < 4; part++) {
        dynk_pointwise_args a = *whole;
        size_t p = part & 1 ? pixels : 0, o = part & 2 ? out : 0;
        a.pixels = part & 1 ? whole->pixels - pixels : pixels;
        a.out = part & 2 ? whole->out - out : out;
        if (a.pixels == 0 || a.out == 0)
            continue;
        a.x += p * a.x_pix;
        a.weight += o / DYNK_PANEL * a.w_panel;
        a.scale += o;
        a.shift += o;
        if (a.residual != NULL)
            a.residual += p * a.r_pix + o;
        a.y = y + p * a.y_pix + o;
        run_guarded(c, call, &a);
    }
}

void case_pointwise(check *c, const shape *s) {
    size_t stored = s->in + s->spare, x_pix = s->in + s->gap, y_pix = s->out + s->gap;
    buffer x = buffer_input(c, (s->pixels - 1) * x_pix + s->in, s, 1);
    buffer weight = buffer_input(c, dynk_packed_size(stored, s->out + s->spare), s, 0);
    buffer scale = buffer_input(c, s->out, s, 1), shift = buffer_input(c, s->out, s, 1);
    buffer gate = buffer_input(c, s->in, s, 0);
    size_t y_size = (s->pixels - 1) * y_pix + s->out;
    buffer residual = buffer_input(c, y_size, s, 1);
    buffer y = s->residual == 2 ? buffer_clone(c, residual) : buffer_output(c, y_size, s);
    buffer before = buffer_clone(c, y), again = buffer_clone(c, y);
    buffer scratch = buffer_new(c, DYNK_POINTWISE_SCRATCH(s->in), 0, s->shift);
    buffer want = buffer_new(c, s->pixels * s->out, 0, 0);
    buffer magnitude = buffer_new(c, s->pixels * s->out, 0, 0);

    dynk_pointwise_args a = {
        .x = x.p,
        .weight = weight.p,
        .scale = scale.p,
        .shift = shift.p,
        .gate = s->gate ? gate.p : NULL,
        .residual = s->residual == 0 ? NULL : residual.p,
        .scratch = s->gate ? scratch.p : NULL,
        .pixels = s->pixels,
        .in = s->in,
        .out = s->out,
        .x_pix = x_pix,
        .r_pix = y_pix,
        .w_panel = stored * DYNK_PANEL,
        .act = s->act,
    };
    dynk_pointwise_args ref = a;
    ref.y = want.p;
    ref.y_pix = s->out;
    dynk_pointwise_f32_ref(&ref);
    ref.x = buffer_abs(c, x).p;
    ref.weight = buffer_abs(c, weight).p;
    ref.scale = buffer_abs(c, scale).p;
    ref.shift = buffer_abs(c, shift).p;
    ref.gate = s->gate ? buffer_abs(c, gate).p : NULL;
    ref.residual = s->residual == 0 ? NULL : buffer_abs(c, residual).p;
    ref.y = magnitude.p;
    ref.act = DYNK_ACT_NONE;
    dynk_pointwise_f32_ref(&ref);

    a.y = y.p;
    a.y_pix = y_pix;
    if (s->residual == 2)
        a.residual = y.p;
    if (!run_guarded(c, call, &a))
        return;
    layout l = {1, s->pixels, s->out, y_size, y_pix, s->act};
    compare(c, y, before, l, want.p, magnitude.p, (double)(s->in + EXTRA_ROUNDINGS));
    dynk_pointwise_args parts = a;
    if (s->residual == 2)
        parts.residual = again.p;
    cut(c, &parts, again.p);
    compare_bits(c, y, again, "cutting the call into four");
    if (c->bench && c->fault == NULL)
        time_case(c, s, call, &a, 2.0 * (double)s->pixels * (double)s->in * (double)s->out);
}

static shape random_shape(check *c) {
    return (shape){
        .op = DYNK_OP_POINTWISE,
        .pixels = random_upto(c, 2 * c->kernel->rows + 1),
        .in = random_upto(c, 40),
        .out = random_upto(c, 2 * c->kernel->cols + 1),
        .act = (dynk_act)(random_next(c) % DYNK_ACT_HSIGMOID),
        .gate = random_next(c) % 2 == 1,
        .residual = (int)(random_next(c) % 3),
        .gap = random_next(c) % 2 == 1 ? random_upto(c, 9) : 0,
        .spare = random_next(c) % 2 == 1 ? random_upto(c, 40) : 0,
        .shift = random_next(c) % 2,
        .data = (data)(random_next(c) % DATA_KINDS),
    };
}

void sweep_pointwise(check *c) {
    for (size_t out = 1; out <= 2 * (size_t)c->kernel->cols + 1; out++) {
        shape s = random_shape(c);
        s.out = out;
        run_case(c, &s);
    }
    for (size_t pixels = 1; pixels <= 2 * (size_t)c->kernel->rows + 1; pixels++)
        for (size_t panels = 1; panels <= 3; panels++) {
            shape s = random_shape(c);
            s.pixels = pixels;
            s.out = panels * DYNK_PANEL - (random_next(c) % 3 == 0 ? 8 : 0);
            run_case(c, &s);
        }
    for (size_t in = 1; in <= 9; in++) {
        shape s = random_shape(c);
        s.in = in;
        run_case(c, &s);
    }
}
