/* Runs the code of an entry: a warp at a time, from barrier to barrier. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_code.h"
#include "tensor.h"
#include "walk.h"

/* A register of a warp: a value for each lane. Predicates are all ones or zero, numbers of 16 bits
 * the lower half of a word. */
#define WARP(type, bytes) type __attribute__((vector_size(TENSOR_LANES * (bytes)), may_alias))
typedef WARP(uint32_t, 4) words;
typedef WARP(int32_t, 4) signed_words;
typedef WARP(float, 4) floats;
typedef WARP(uint64_t, 8) longs;
typedef WARP(int64_t, 8) signed_longs;

#define TO_LONGS(w) __builtin_convertvector(w, longs)
#define TO_WORDS(l) __builtin_convertvector(l, words)
#define MASK_LONGS(w)                                                                              \
    ((longs) __builtin_convertvector((signed_words)(w), signed_longs)) /* extends the sign */
#define CHOOSE(mask, a, b) (((mask) & (a)) | (~(mask) & (b)))

/* Lane by lane, where vectors have no operator. */
#define LANES(type, value)                                                                         \
    __extension__({                                                                                \
        type lanes;                                                                                \
        for (int l = 0; l < TENSOR_LANES; l++)                                                     \
            lanes[l] = (value);                                                                    \
        lanes;                                                                                     \
    })

enum { WARPS = EMULATOR_THREADS / TENSOR_LANES };

/* Threads of a warp that are at the same place. */
typedef struct group {
    uint32_t at, lanes;
    int waits; /* for the others, at a barrier or a product */
} group;

typedef struct warp {
    words *word;
    longs *longer;
    uint32_t first, lanes; /* its first thread; those it has, a bit each */
    group groups[TENSOR_LANES];
    uint32_t count;
    uint32_t barrier; /* what is behind the one that it waits at, or 0 */
} warp;

/* Who touched a word of shared memory, and since which barrier that counts. */
static const uint32_t several = UINT32_MAX;
typedef struct touched {
    uint64_t written, read;
    uint32_t writer, reader;
} touched;

typedef struct run {
    const ptx_entry *e;
    const unsigned char *args;
    _Alignas(16) unsigned char shared[EMULATOR_SHARED];
    uint32_t shared_bytes;
    touched touched[EMULATOR_SHARED / 4];
    uint64_t since; /* counts barriers */
    ptx_memory memory;
    ptx_counts *counts;
    char fault[200];
    warp warps[WARPS];
} run;

static int fails(run *r, const instruction *in, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int fails(run *r, const instruction *in, const char *format, ...) {
    va_list list;
    const int n =
        snprintf(r->fault, sizeof r->fault, "%s, line %u: ", r->e->name, (unsigned)in->line);
    va_start(list, format);
    vsnprintf(r->fault + n, sizeof r->fault - (size_t)n, format, list);
    va_end(list);
    return 0;
}

/* A word of shared memory is read or written: 0 if another thread did what that forbids. */
static int touch(touched *t, uint64_t since, uint32_t thread, int write) {
    if (t->written == since && t->writer != thread)
        return 0;
    if (write) {
        if (t->read == since && t->reader != thread)
            return 0;
        t->written = since;
        t->writer = thread;
        return 1;
    }
    t->reader = t->read == since && t->reader != thread ? several : thread;
    t->read = since;
    return 1;
}

static void count_instruction(ptx_counts *counts, const instruction *in) {
    counts->instructions++;
    counts->fma += in->code == CODE_fma_rn_f32;
    counts->mma += in->code == CODE_MMA;
    counts->branches += in->code == CODE_BRANCH;
    counts->barriers += in->code == CODE_BARRIER;
}

/* Counts what a warp's addresses ask for. */
static void count_access(ptx_counts *counts, const instruction *in, const longs *address,
                         uint32_t lanes) {
    const uint32_t bytes = in->size * in->count;
    if (in->space == SPACE_GLOBAL) {
        uint64_t sectors[2 * TENSOR_LANES], n = 0, of_lanes = 0;
        for (uint32_t l = 0; l < TENSOR_LANES; l++) {
            if ((lanes >> l & 1) == 0)
                continue;
            const uint64_t sector = (*address)[l] / 32;
            uint64_t s = 0;
            while (s < n && sectors[s] != sector)
                s++;
            sectors[n] = sector;
            n += s == n;
            of_lanes++;
        }
        if (in->code == CODE_LOAD) {
            counts->loads++;
            counts->load_sectors += n;
            counts->load_bytes += of_lanes * bytes;
        } else {
            counts->stores++;
            counts->store_sectors += n;
            counts->store_bytes += of_lanes * bytes;
        }
        return;
    }
    /* So many lanes at a time as banks have bytes for. */
    const uint32_t together = TENSOR_LANES * 4 / bytes;
    counts->shared_requests++;
    for (uint32_t from = 0; from < TENSOR_LANES; from += together) {
        uint32_t distinct[TENSOR_LANES] = {0}, most = 0;
        uint64_t of_bank[TENSOR_LANES][TENSOR_LANES];
        for (uint32_t l = from; l < from + together; l++)
            for (uint32_t i = 0; i < bytes / 4 && (lanes >> l & 1) != 0; i++) {
                const uint64_t word = (*address)[l] / 4 + i;
                const uint32_t bank = word % TENSOR_LANES;
                uint32_t s = 0;
                while (s < distinct[bank] && of_bank[bank][s] != word)
                    s++;
                of_bank[bank][s] = word;
                distinct[bank] += s == distinct[bank];
                most = distinct[bank] > most ? distinct[bank] : most;
            }
        counts->shared_turns += most;
        counts->shared_least += most > 0;
    }
}

/* What a thread may not do at an address. */
static int misplaced(run *r, const instruction *in, uint64_t address, uint32_t thread,
                     const char *why) {
    static const char *const spaces[] = {"parameters", "global memory", "shared memory"};
    return fails(r, in, "thread %u %s %d bytes at 0x%llx of %s, %s", (unsigned)thread,
                 in->code == CODE_STORE ? "writes" : "reads", in->size * in->count,
                 (unsigned long long)address, spaces[in->space], why);
}

static int access(run *r, const warp *w, const instruction *in, uint32_t lanes) {
    const longs addresses = w->longer[in->slot[4]] + (uint64_t)in->offset;
    const uint32_t count = in->count, bytes = in->size * count;
    const int store = in->code == CODE_STORE;
    const space space = (enum space)in->space;
    const uint64_t since = r->since;
    uint32_t *registers[4];
    for (uint32_t i = 0; i < count; i++)
        registers[i] = (uint32_t *)&w->word[in->slot[i]];
    if (r->counts != NULL && space != SPACE_PARAM)
        count_access(r->counts, in, &addresses, lanes);
    for (uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
        const uint32_t l = (uint32_t)__builtin_ctz(rest), thread = w->first + l;
        const uint64_t address = addresses[l];
        const uint64_t end = space == SPACE_SHARED ? r->shared_bytes : r->e->parameters;
        unsigned char *p;
        if ((address & (bytes - 1)) != 0)
            return misplaced(r, in, address, thread, "where they cannot lie");
        if (space == SPACE_GLOBAL) {
            p = r->memory(address, bytes);
            if (p == NULL)
                return misplaced(r, in, address, thread, "no memory of a kernel");
        } else if (address > end || bytes > end - address) {
            return misplaced(r, in, address, thread, "beyond its end");
        } else if (space == SPACE_PARAM) {
            p = (unsigned char *)(uintptr_t)r->args + address;
        } else {
            p = r->shared + address;
            for (uint32_t i = 0; i < count; i++)
                if (!touch(&r->touched[address / 4 + i], since, thread, store))
                    return misplaced(r, in, address, thread,
                                     "as another thread does without a barrier between");
        }
        uint32_t *const values = (uint32_t *)(void *)p;
        if (in->wide) {
            w->longer[in->slot[0]][l] =
                in->size == 4 ? *values : *(const uint64_t *)(const void *)p;
        } else if (store) {
            for (uint32_t i = 0; i < count; i++)
                values[i] = registers[i][l];
        } else {
            for (uint32_t i = 0; i < count; i++)
                registers[i][l] = values[i];
        }
    }
    return 1;
}

static void multiply(const warp *w, const instruction *in) {
    emulator_fragments f[TENSOR_LANES], *at[TENSOR_LANES];
    for (uint32_t l = 0; l < TENSOR_LANES; l++) {
        at[l] = &f[l];
        f[l].halves = in->halves;
        for (uint32_t i = 0; i < 4; i++) {
            f[l].a[i] = w->word[in->slot[4 + i]][l];
            f[l].sum[i] = ((const floats *)w->word)[in->slot[10 + i]][l];
        }
        for (uint32_t i = 0; i < 2; i++)
            f[l].b[i] = w->word[in->slot[8 + i]][l];
    }
    tensor_multiply(at);
    for (uint32_t l = 0; l < TENSOR_LANES; l++)
        for (uint32_t i = 0; i < 4; i++)
            ((floats *)w->word)[in->slot[i]][l] = f[l].sum[i];
}

static void compute(const warp *w, const instruction *in, const words *on, int all) {
#define A  w->word[in->slot[1]]
#define B  w->word[in->slot[2]]
#define C  w->word[in->slot[3]]
#define AL w->longer[in->slot[1]]
#define BL w->longer[in->slot[2]]
#define CL w->longer[in->slot[3]]
#define AF ((const floats *)w->word)[in->slot[1]]
#define BF ((const floats *)w->word)[in->slot[2]]
#define CF ((const floats *)w->word)[in->slot[3]]
#define PUT_w(value)                                                                               \
    const words v = (words)(value);                                                                \
    words *to = &w->word[in->slot[0]];                                                             \
    if (all)                                                                                       \
        *to = v;                                                                                   \
    else                                                                                           \
        *to = CHOOSE(*on, v, *to)
#define PUT_l(value)                                                                               \
    const longs v = (longs)(value);                                                                \
    longs *to = &w->longer[in->slot[0]];                                                           \
    if (all)                                                                                       \
        *to = v;                                                                                   \
    else                                                                                           \
        *to = CHOOSE(MASK_LONGS(*on), v, *to)
    switch (in->code) {
#define OP(id, width, name, operands, value)                                                       \
    case CODE_##id: {                                                                              \
        PUT_##width(value);                                                                        \
        break;                                                                                     \
    }
        COMPUTATIONS(OP)
#undef OP
    }
#undef A
#undef B
#undef C
#undef AL
#undef BL
#undef CL
#undef AF
#undef BF
#undef CF
#undef PUT_w
#undef PUT_l
}

static words lanes_of(uint32_t bits) {
    return LANES(words, bits >> l & 1 ? UINT32_MAX : 0);
}

/* The group that goes on: the one that is behind, joined by those that are where it is. NULL if all
 * wait or have finished. */
static group *next_group(warp *w) {
    for (uint32_t i = 0; i < w->count; i++)
        for (uint32_t j = i + 1; j < w->count;)
            if (w->groups[i].at == w->groups[j].at) {
                w->groups[i].lanes |= w->groups[j].lanes;
                w->groups[i].waits = w->groups[i].waits && w->groups[i].lanes != w->lanes;
                w->groups[j] = w->groups[--w->count];
            } else {
                j++;
            }
    group *g = NULL;
    for (uint32_t i = 0; i < w->count; i++)
        if (!w->groups[i].waits && (g == NULL || w->groups[i].at < g->at))
            g = &w->groups[i];
    return g;
}

/* Before this place no other group can be met that is not waiting. */
static uint32_t until(const warp *w, const group *g) {
    uint32_t at = UINT32_MAX;
    for (uint32_t i = 0; i < w->count; i++)
        if (&w->groups[i] != g && !w->groups[i].waits && w->groups[i].at < at)
            at = w->groups[i].at;
    return at;
}

/* Lanes of those that take a branch. */
static uint32_t taken_by(const warp *w, const instruction *in, uint32_t lanes) {
    if (in->guard == NO_GUARD)
        return lanes;
    uint32_t bits = 0;
    for (uint32_t l = 0; l < TENSOR_LANES; l++)
        bits |= (w->word[in->guard][l] & 1) << l;
    return lanes & (in->negate ? ~bits : bits);
}

/* Runs a group until it parts, may meet another, waits or has finished. */
static int run_group(run *r, warp *w, group *g) {
    const uint32_t stop = until(w, g), lanes = g->lanes;
    const int all = lanes == UINT32_MAX;
    const words on = lanes_of(lanes);
    do {
        const instruction *in = &r->e->code[g->at++];
        uint32_t taken;
        if (r->counts != NULL)
            count_instruction(r->counts, in);
        switch (in->code) {
        default:
            compute(w, in, &on, all);
            break;
        case CODE_LOAD:
        case CODE_STORE:
            if (!access(r, w, in, lanes))
                return 0;
            break;
        case CODE_BRANCH:
            taken = taken_by(w, in, lanes);
            if (taken != 0 && taken != lanes) {
                w->groups[w->count++] = (group){in->target, taken, 0};
                g->lanes &= ~taken;
                return 1;
            }
            g->at = taken == 0 ? g->at : in->target;
            break;
        case CODE_RETURN:
            *g = w->groups[--w->count];
            return 1;
        case CODE_BARRIER:
        case CODE_MMA:
            if (lanes != w->lanes) {
                g->at--;
                g->waits = 1;
                return 1;
            }
            if (in->code == CODE_BARRIER) {
                w->barrier = g->at;
                return 1;
            }
            if (!all)
                return fails(r, in, "a product of less than a warp");
            multiply(w, in);
        }
    } while (g->at < stop);
    return 1;
}

/* Runs a warp up to a barrier or its end. */
static int run_warp(run *r, warp *w) {
    group *g;
    w->barrier = 0;
    while (w->barrier == 0 && (g = next_group(w)) != NULL)
        if (!run_group(r, w, g))
            return 0;
    if (w->barrier != 0 || w->count == 0)
        return 1;
    return fails(r, &r->e->code[w->groups[0].at], "threads wait for others of their warp that %s",
                 w->count == 1 ? "have finished" : "wait elsewhere");
}

/* Runs a block: its warps from barrier to barrier. */
static int run_block(run *r, const walk *order, const uint32_t block[3]) {
    const ptx_entry *e = r->e;
    memset(r->shared, 0xFF, r->shared_bytes);
    for (uint32_t i = 0; i < order->count; i++) {
        warp *w = &r->warps[i];
        for (uint32_t s = 0; s < e->words; s++)
            w->word[s] = (words){0} + (uint32_t)e->word_start[s];
        for (uint32_t s = 0; s < e->longs; s++)
            w->longer[s] = (longs){0} + e->long_start[s];
        w->word[SLOT_THREAD] = LANES(words, w->first + (uint32_t)l);
        for (uint32_t b = 0; b < 3; b++)
            w->word[SLOT_BLOCK_X + b] = (words){0} + block[b];
        w->groups[0] = (group){0, w->lanes, 0};
        w->count = 1;
    }
    do {
        r->since++;
        for (uint32_t i = 0; i < order->count; i++)
            if (!run_warp(r, &r->warps[walk_at(order, i)]))
                return 0;
        for (uint32_t i = 1; i < order->count; i++)
            if (r->warps[i].barrier != r->warps[0].barrier)
                return fails(r, &e->code[e->count - 1],
                             "warps 0 and %u wait at different barriers, or have finished",
                             (unsigned)i);
    } while (r->warps[0].barrier != 0);
    return 1;
}

const char *ptx_launch(const ptx_entry *e, const void *args, const uint32_t grid[3],
                       uint32_t threads, uint32_t shared, emulator_order order, ptx_memory memory,
                       ptx_counts *counts) {
    static run r;
    static char *registers;
    static size_t capacity;
    const char *wrong = emulator_geometry(e->name, grid, threads, shared);
    if (wrong != NULL)
        return wrong;
    r.e = e;
    if (threads > e->most_threads) {
        fails(&r, &e->code[0], "%u threads, of at most %u", (unsigned)threads,
              (unsigned)e->most_threads);
        return r.fault;
    }
    const uint32_t warps = (threads + TENSOR_LANES - 1) / TENSOR_LANES;
    const size_t of_longs = e->longs * sizeof(longs);
    const size_t of_warp = of_longs + (e->words + 1) / 2 * sizeof(longs);
    const size_t bytes = warps * of_warp + sizeof(longs);
    if (bytes > capacity) {
        free(registers);
        registers = malloc(bytes);
        capacity = registers == NULL ? 0 : bytes;
        if (registers == NULL)
            return "no memory for the registers of the emulated threads";
    }
    r.args = args;
    r.shared_bytes = shared;
    r.memory = memory;
    r.counts = counts;
    char *at = registers + sizeof(longs) - (uintptr_t)registers % sizeof(longs);
    for (uint32_t i = 0; i < warps; i++) {
        warp *w = &r.warps[i];
        const uint32_t rest = threads - i * TENSOR_LANES;
        w->first = i * TENSOR_LANES;
        w->lanes = rest >= TENSOR_LANES ? UINT32_MAX : (1U << rest) - 1;
        w->longer = (longs *)(void *)at;
        w->word = (words *)(void *)(at + of_longs);
        at += of_warp;
    }
    const uint32_t blocks = grid[0] * grid[1] * grid[2];
    const walk of_blocks = walk_of(blocks, order), of_warps = walk_of(warps, order);
    for (uint32_t b = 0; b < blocks; b++) {
        const uint32_t i = walk_at(&of_blocks, b);
        const uint32_t block[3] = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
        if (!run_block(&r, &of_warps, block))
            return r.fault;
    }
    return NULL;
}
