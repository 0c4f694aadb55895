/* checkkern: every kernel of this build against the reference. See ../README.md. */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct options {
    const char *op, *isa, *shapes;
    uint64_t seed;
    int bench, self_test, roof;
} options;

static const char usage[] =
    "usage: checkkern [--op NAME] [--isa NAME] [--seed N] [--shapes FILE [--bench]] [--self-test] "
    "[--roof]\n"
    "  --op         stem, pointwise, dwconv, dense, average, load (packing); default all\n"
    "  --isa        ref, avx2, avx512, neon; default all of this build\n"
    "  --seed       replays a run; default from the clock\n"
    "  --shapes     also the layers of FILE\n"
    "  --bench      times the layers of FILE that have just passed\n"
    "  --self-test  checks the checker: kernels with planted faults have to fail\n"
    "  --roof       checks nothing: this CPU's FMA peak and read bandwidth, a line of JSON a set\n";

static const struct {
    void (*sweep)(check *);
    void (*one)(check *, const shape *);
} operators[DYNK_OPS] = {
    [DYNK_OP_STEM] = {sweep_stem, case_stem},
    [DYNK_OP_POINTWISE] = {sweep_pointwise, case_pointwise},
    [DYNK_OP_DWCONV] = {sweep_dwconv, case_dwconv},
    [DYNK_OP_DENSE] = {sweep_dense, case_dense},
    [DYNK_OP_AVERAGE] = {sweep_average, case_average},
};

void run_case(check *c, const shape *s) {
    c->fault = NULL;
    operators[s->op].one(c, s);
    buffers_free(c);
    c->cases++;
    if (c->fault == NULL)
        return;
    c->failures++;
    if (c->silent)
        return;
    char text[256];
    describe(s, text, sizeof text);
    printf("FAIL %s: %s: %s\n     checkkern --op %s --isa %s --seed %llu%s%s\n", c->kernel->name,
           text, c->fault, dynk_op_name(s->op), c->isa, (unsigned long long)c->seed,
           c->shapes == NULL ? "" : " --shapes ", c->shapes == NULL ? "" : c->shapes);
}

/* Reads the next layer of a shapes file, whose form is in shapes/README.md. Returns how often the
 * network has it, 0 at the end. */
static unsigned next_shape(FILE *file, shape *s) {
    char line[256], op[32], act[32];
    while (fgets(line, sizeof line, file) != NULL) {
        unsigned count = 0;
        int at = 0;
        *s = (shape){.op = DYNK_OPS};
        if (line[0] == '#' || sscanf(line, "%u %31s %n", &count, op, &at) != 2)
            continue;
        const char *rest = line + at;
        int fields = 0;
        act[0] = '\0';
        if (strcmp(op, "stem") == 0) {
            s->op = DYNK_OP_STEM;
            fields = sscanf(rest, "%zu %u %zu %31s", &s->side, &s->stride, &s->out, act) == 4;
        } else if (strcmp(op, "pointwise") == 0) {
            s->op = DYNK_OP_POINTWISE;
            fields = sscanf(rest, "%zu %zu %zu %31s %d %d", &s->pixels, &s->in, &s->out, act,
                            &s->gate, &s->residual) == 6;
        } else if (strcmp(op, "dwconv") == 0) {
            s->op = DYNK_OP_DWCONV;
            fields = sscanf(rest, "%zu %u %u %zu %31s %d", &s->side, &s->k, &s->stride, &s->out,
                            act, &s->sums) == 6;
        } else if (strcmp(op, "dense") == 0) {
            s->op = DYNK_OP_DENSE;
            fields = sscanf(rest, "%zu %zu %31s %d", &s->in, &s->out, act, &s->bias) == 4;
        } else if (strcmp(op, "average") == 0) {
            s->op = DYNK_OP_AVERAGE;
            fields = sscanf(rest, "%zu %zu", &s->pixels, &s->out) == 2;
        }
        static const char *const acts[] = {"none", "relu", "relu6", "h_swish", "h_sigmoid"};
        for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++)
            if (strcmp(act, acts[i]) == 0)
                s->act = (dynk_act)i;
        if (!fields) {
            fprintf(stderr, "checkkern: cannot read the layer: %s", line);
            exit(2);
        }
        return count;
    }
    return 0;
}

/* The layers of the file that this kernel serves. Adds to the time and work of the network. */
static void run_shapes(check *c, double *seconds, double *flops) {
    enum { CHECKED_PIXELS = 61 }; /* pixels are all alike, and the reference is slow */
    FILE *file = fopen(c->shapes, "r");
    if (file == NULL) {
        fprintf(stderr, "checkkern: cannot open %s\n", c->shapes);
        exit(2);
    }
    shape s;
    for (unsigned count; (count = next_shape(file, &s)) > 0;) {
        if (s.op != c->kernel->op || (c->kernel->k != 0 && s.k != c->kernel->k) ||
            (c->kernel->stride != 0 && s.stride != c->kernel->stride))
            continue;
        if (!c->bench && s.op == DYNK_OP_POINTWISE && s.pixels > CHECKED_PIXELS)
            s.pixels = CHECKED_PIXELS;
        c->seconds = c->flops = 0;
        run_case(c, &s);
        *seconds += count * c->seconds;
        *flops += count * c->flops;
    }
    fclose(file);
}

/* The reference serves every kernel size and stride, so its sweeps fix them one by one. */
static void sweep(check *c) {
    dynk_kernel kernel = *c->kernel;
    const dynk_kernel *listed = c->kernel;
    c->kernel = &kernel;
    if (kernel.rows == 0) {
        kernel.rows = 8;
        kernel.cols = DYNK_PANEL;
    }
    int sized = kernel.op == DYNK_OP_DWCONV, strided = sized || kernel.op == DYNK_OP_STEM;
    for (unsigned k = 3; k <= (sized ? 7U : 3U); k += 2)
        for (unsigned stride = 1; stride <= (strided ? 2U : 1U); stride++) {
            if ((sized && listed->k != 0 && listed->k != k) ||
                (strided && listed->stride != 0 && listed->stride != stride))
                continue;
            kernel.k = sized ? k : 0;
            kernel.stride = strided ? stride : 0;
            operators[kernel.op].sweep(c);
        }
    c->kernel = listed;
}

static size_t run_isa(const options *o, const dynk_isa *isa) {
    size_t failures = 0, cases = 0;
    double peak = o->bench ? peak_flops(isa->name) : 0, seconds = 0, flops = 0;
    if (peak > 0)
        printf("# %s: FMA peak of one core %.1f GFLOP/s\n", isa->name, peak / 1e9);
    for (size_t i = 0; i < isa->count; i++) {
        const dynk_kernel *kernel = &isa->kernels[i];
        if (o->op != NULL && strcmp(o->op, dynk_op_name(kernel->op)) != 0)
            continue;
        check c = {.kernel = kernel,
                   .isa = isa->name,
                   .seed = o->seed,
                   .random = o->seed,
                   .bench = 0,
                   .peak = peak,
                   .shapes = o->shapes};
        sweep(&c);
        c.bench = o->bench && c.failures == 0;
        if (o->shapes != NULL)
            run_shapes(&c, &seconds, &flops);
        printf("%s %s: %zu cases\n", c.failures == 0 ? "ok" : "FAIL", kernel->name, c.cases);
        failures += c.failures;
        cases += c.cases;
    }
    if (seconds > 0)
        printf("BenchmarkKernels/isa=%s/shapes=%s 1 %.0f ns/op %.1f GFLOP/s %.1f %%peak\n",
               isa->name, o->shapes, seconds * 1e9, flops / seconds / 1e9,
               peak > 0 ? 100 * flops / seconds / peak : 0);
    printf("%s: %zu cases, %zu failed\n", isa->name, cases, failures);
    return failures;
}

static const char *value_of(int argc, char **argv, int *i) {
    if (*i + 1 == argc) {
        fputs(usage, stderr);
        exit(2);
    }
    return argv[++*i];
}

/* One thread, of sizes that first and second level caches hold, and no cache. */
static int roof(const options *o) {
    static const size_t sizes[] = {16 << 10, 256 << 10, 256 << 20};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    dynk_isa isa;
    for (size_t i = 0; dynk_isa_at(i, &isa); i++) {
        double flops = 0;
        if (isa.present && (o->isa == NULL || strcmp(o->isa, isa.name) == 0))
            flops = peak_flops(isa.name);
        if (flops == 0)
            continue;
        printf("{\"isa\":\"%s\",\"gflops\":%.2f,\"reads\":[", isa.name, flops / 1e9);
        for (size_t k = 0; k < SIZES; k++)
            printf("%s{\"bytes\":%zu,\"gbs\":%.2f}", k == 0 ? "" : ",", sizes[k],
                   peak_read(isa.name, sizes[k]) / 1e9);
        puts("]}");
    }
    return 0;
}

int main(int argc, char **argv) {
    options o = {.seed = (uint64_t)time(NULL)};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--op") == 0)
            o.op = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--isa") == 0)
            o.isa = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--seed") == 0)
            o.seed = strtoull(value_of(argc, argv, &i), NULL, 10);
        else if (strcmp(argv[i], "--shapes") == 0)
            o.shapes = value_of(argc, argv, &i);
        else if (strcmp(argv[i], "--bench") == 0)
            o.bench = 1;
        else if (strcmp(argv[i], "--self-test") == 0)
            o.self_test = 1;
        else if (strcmp(argv[i], "--roof") == 0)
            o.roof = 1;
        else {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (o.bench && o.shapes == NULL) {
        fputs("checkkern: --bench needs --shapes\n", stderr);
        return 2;
    }
    if (o.roof)
        return roof(&o);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("# seed %llu\n", (unsigned long long)o.seed);
    if (o.self_test)
        return self_test(o.seed) > 0;

    size_t failures = 0, run = 0, skipped = 0;
    if (o.isa == NULL || strcmp(o.isa, "ref") == 0)
        if (o.op == NULL || strcmp(o.op, "load") == 0) {
            size_t wrong = check_load(o.seed);
            printf("%s packing and kernel transform\n", wrong == 0 ? "ok" : "FAIL");
            failures += wrong;
        }
    dynk_isa isa;
    for (size_t i = 0; dynk_isa_at(i, &isa); i++) {
        if (o.isa != NULL && strcmp(o.isa, isa.name) != 0)
            continue;
        if (isa.present) {
            failures += run_isa(&o, &isa);
            run++;
        } else {
            printf("skipped %s: this CPU does not have it\n", isa.name);
            skipped++;
        }
    }
    if (run + skipped == 0) {
        fprintf(stderr, "checkkern: this build has no instruction set \"%s\"\n", o.isa);
        return 2;
    }
    printf("%zu instruction sets checked, %zu skipped, %zu failures\n", run, skipped, failures);
    return failures > 0;
}
