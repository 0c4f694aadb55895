/* Reads PTX as clang writes it: one statement a line. */
#define _GNU_SOURCE
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptx_code.h"

static const struct {
    const char *name, *operands;
} computations[] = {
#define OP(id, width, name, operands, value) {name, operands},
    COMPUTATIONS(OP)
#undef OP
};
enum { COMPUTATION_COUNT = sizeof computations / sizeof computations[0] };

typedef struct registers { /* %name0 to %name<count - 1> */
    char name[8];
    int wide;
    uint32_t first, count;
} registers;

typedef struct label {
    char name[NAME];
    uint32_t at;
} label;

struct ptx_module {
    ptx_entry *entries;
};

enum { MOST_SETS = 16, MOST_SLOTS = 8192, MOST_LABELS = 4096 };

typedef struct reader {
    char *why;
    size_t why_size;
    int failed;
    uint32_t line;
    char shared[NAME];
    ptx_entry *e; /* the one being read */
    registers sets[MOST_SETS];
    uint32_t set_count, label_count, capacity;
    uint32_t registers[2]; /* slots of registers, of words and of longs */
    label *labels;         /* MOST_LABELS */
    char (*jumps)[NAME];   /* of each instruction: the label it goes to */
} reader;

static void refuse(reader *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void refuse(reader *r, const char *format, ...) {
    char text[160];
    if (r->failed)
        return;
    r->failed = 1;
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(r->why, r->why_size, "line %u: %s", (unsigned)r->line, text);
}

static int begins(const char *text, const char *with) {
    return strncmp(text, with, strlen(with)) == 0;
}

static uint16_t new_slot(reader *r, int wide, uint64_t value) {
    uint32_t *count = wide ? &r->e->longs : &r->e->words;
    if (*count == MOST_SLOTS) {
        refuse(r, "more than %d registers and constants", MOST_SLOTS);
        return 0;
    }
    (wide ? r->e->long_start : r->e->word_start)[*count] = value;
    return (uint16_t)(*count)++;
}

/* The set of a register %name12, and its number. */
static const registers *set_of(const reader *r, const char *token, uint32_t *number) {
    const size_t letters = strcspn(token, "0123456789");
    for (uint32_t i = 0; i < r->set_count; i++) {
        const registers *s = &r->sets[i];
        if (strlen(s->name) == letters && strncmp(s->name, token, letters) == 0) {
            char *end;
            const unsigned long n = strtoul(token + letters, &end, 10);
            *number = (uint32_t)n;
            return token[letters] != '\0' && *end == '\0' && n < s->count ? s : NULL;
        }
    }
    return NULL;
}

/* Constants are behind all registers, and there once. */
static uint16_t constant(reader *r, int wide, uint64_t value) {
    const uint64_t *start = wide ? r->e->long_start : r->e->word_start;
    const uint32_t count = wide ? r->e->longs : r->e->words;
    uint32_t at = r->registers[wide];
    while (at < count && start[at] != value)
        at++;
    return at < count ? (uint16_t)at : new_slot(r, wide, value);
}

/* The slot of a register or of a constant: a number, the bits of a float, or an address of shared
 * memory or of parameters, both of which begin at 0. */
static uint16_t slot_of(reader *r, const char *token, char width) {
    const int wide = width == 'l';
    static const char *const special[] = {"%tid.x", "%ctaid.x", "%ctaid.y", "%ctaid.z"};
    uint32_t number;
    const registers *set = set_of(r, token, &number);
    if (set != NULL && set->wide == wide)
        return (uint16_t)(set->first + number);
    for (uint16_t i = 0; i < SPECIAL_SLOTS && !wide; i++)
        if (strcmp(token, special[i]) == 0)
            return i;
    if (wide && (strcmp(token, r->shared) == 0 || strcmp(token, r->e->parameter) == 0))
        return constant(r, wide, 0);
    char *end = NULL;
    if (begins(token, "0f"))
        number = (uint32_t)strtoul(token + 2, &end, 16);
    else
        number = (uint32_t)strtoll(token, &end, 0);
    if (*token == '\0' || end == token || *end != '\0') {
        refuse(r, "%s is no operand of %d bits that is known", token, wide ? 64 : 32);
        return 0;
    }
    if (width == 'h')
        number &= 0xFFFF;
    return constant(r, wide, wide ? (uint64_t)strtoll(token, NULL, 0) : number);
}

/* The slot of a register that is written. */
static uint16_t result_of(reader *r, const char *token, char width) {
    const uint16_t slot = slot_of(r, token, width);
    if (slot >= r->registers[width == 'l'] || (width != 'l' && slot < SPECIAL_SLOTS))
        refuse(r, "%s is no register", token);
    return slot;
}

/* Splits "{%f1, %f2}, [%rd3+4]" into %f1, %f2, [%rd3+4]. */
static uint32_t split(char *text, char *tokens[MOST_OPERANDS + 1]) {
    uint32_t n = 0;
    char *rest = text, *token;
    while (n <= MOST_OPERANDS && (token = strtok_r(rest, "{}, \t", &rest)) != NULL)
        tokens[n++] = token;
    return n;
}

/* [%rd3+4] or [name+4]: the slot of its base, and the offset. */
static void read_address(reader *r, instruction *in, char *token, uint16_t *slot) {
    const size_t length = strlen(token);
    if (length < 3 || token[0] != '[' || token[length - 1] != ']') {
        refuse(r, "%s is no address", token);
        return;
    }
    token[length - 1] = '\0';
    char *plus = strchr(token, '+');
    if (plus != NULL) {
        *plus = '\0';
        in->offset = strtoll(plus + 1, NULL, 10);
    }
    *slot = slot_of(r, token + 1, 'l');
}

/* ld.global.nc.v4.f32 and its like: what is behind "ld." or "st.". */
static void read_access(reader *r, instruction *in, char *name, char **operand, uint32_t count) {
    static const struct {
        const char *name;
        space space;
    } spaces[] = {{"param.", SPACE_PARAM},
                  {"global.nc.", SPACE_GLOBAL},
                  {"global.", SPACE_GLOBAL},
                  {"shared.", SPACE_SHARED}};
    const char *at = name + 3;
    size_t i = 0;
    while (i < 4 && !begins(at, spaces[i].name))
        i++;
    if (i == 4) {
        refuse(r, "%s is not understood", name);
        return;
    }
    at += strlen(spaces[i].name);
    in->space = (uint8_t)spaces[i].space;
    in->count = 1;
    if (begins(at, "v2.") || begins(at, "v4.")) {
        in->count = (uint8_t)(at[1] - '0');
        at += 3;
    }
    in->size = strcmp(at, "u64") == 0                             ? 8
               : strcmp(at, "u32") == 0 || strcmp(at, "f32") == 0 ? 4
                                                                  : 0;
    if (in->size == 0 || in->size * in->count > 16 || (in->size == 8 && in->code == CODE_STORE) ||
        (in->space == SPACE_PARAM && in->code == CODE_STORE)) {
        refuse(r, "%s is not understood", name);
        return;
    }
    if (count != in->count + 1U) {
        refuse(r, "%s takes %d operands, not %u", name, in->count + 1, (unsigned)count);
        return;
    }
    const uint32_t address = in->code == CODE_LOAD ? in->count : 0, first = in->code == CODE_STORE;
    read_address(r, in, operand[address], &in->slot[4]);
    for (uint32_t o = 0; o < in->count; o++) {
        uint32_t number;
        const registers *set = set_of(r, operand[first + o], &number);
        in->wide = in->size == 8 || (set != NULL && set->wide); /* a word may go into 64 bits */
        if (in->wide && (in->code == CODE_STORE || in->count != 1))
            refuse(r, "%s with registers of 64 bits is not understood", name);
        in->slot[o] = (in->code == CODE_LOAD ? result_of : slot_of)(r, operand[first + o],
                                                                    in->wide ? 'l' : 'w');
    }
}

static void read_instruction(reader *r, char *text) {
    ptx_entry *e = r->e;
    if (e->count == r->capacity) {
        const uint32_t more = r->capacity == 0 ? 1024 : 2 * r->capacity;
        instruction *code = realloc(e->code, more * sizeof *code);
        e->code = code == NULL ? e->code : code;
        char(*jumps)[NAME] = realloc(r->jumps, more * sizeof *jumps);
        r->jumps = jumps == NULL ? r->jumps : jumps;
        if (code == NULL || jumps == NULL) {
            refuse(r, "out of memory");
            return;
        }
        r->capacity = more;
    }
    instruction *in = &e->code[e->count];
    memset(in, 0, sizeof *in);
    in->guard = NO_GUARD;
    in->line = r->line;
    r->jumps[e->count++][0] = '\0';

    char *rest = text, *name = strtok_r(text, " \t", &rest);
    if (name != NULL && name[0] == '@') {
        in->negate = name[1] == '!';
        in->guard = slot_of(r, name + 1 + in->negate, 'w');
        name = strtok_r(NULL, " \t", &rest);
        if (name == NULL || !begins(name, "bra"))
            refuse(r, "only branches may depend on a predicate");
    }
    char *operand[MOST_OPERANDS + 1];
    const uint32_t count = split(rest, operand);
    if (r->failed || name == NULL) {
        refuse(r, "no instruction");
    } else if (strcmp(name, "bra") == 0 || strcmp(name, "bra.uni") == 0) {
        in->code = CODE_BRANCH;
        if (count != 1 || strlen(operand[0]) >= NAME)
            refuse(r, "a branch to no label");
        else
            memcpy(r->jumps[e->count - 1], operand[0], strlen(operand[0]) + 1);
    } else if (strcmp(name, "ret") == 0) {
        in->code = CODE_RETURN;
    } else if (strcmp(name, "bar.sync") == 0) {
        in->code = CODE_BARRIER;
        if (count != 1 || strcmp(operand[0], "0") != 0)
            refuse(r, "a barrier other than 0");
    } else if (begins(name, "mma.sync.aligned.m16n8k")) {
        in->code = CODE_MMA;
        in->halves = strcmp(name + 23, "16.row.col.f32.f16.f16.f32") == 0;
        if ((!in->halves && strcmp(name + 23, "8.row.col.f32.tf32.tf32.f32") != 0) ||
            count != MOST_OPERANDS)
            refuse(r, "%s of %u operands is not understood", name, (unsigned)count);
        for (uint32_t i = 0; i < MOST_OPERANDS && !r->failed; i++)
            in->slot[i] = (i < 4 ? result_of : slot_of)(r, operand[i], 'w');
    } else if (begins(name, "ld.") || begins(name, "st.")) {
        in->code = name[0] == 'l' ? CODE_LOAD : CODE_STORE;
        read_access(r, in, name, operand, count);
    } else {
        uint16_t i = 0;
        while (i < COMPUTATION_COUNT && strcmp(name, computations[i].name) != 0)
            i++;
        in->code = FIRST_COMPUTATION + i;
        if (i == COMPUTATION_COUNT)
            refuse(r, "%s is not understood", name);
        else if (strlen(computations[i].operands) != count)
            refuse(r, "%s takes %zu operands, not %u", name, strlen(computations[i].operands),
                   (unsigned)count);
        for (uint32_t o = 0; o < count && !r->failed; o++)
            in->slot[o] =
                (o == 0 ? result_of : slot_of)(r, operand[o], computations[i].operands[o]);
    }
}

/* .reg .b32 %r<19> */
static void read_registers(reader *r, const char *text) {
    char type[8], name[8];
    unsigned count;
    if (sscanf(text, ".reg .%7[a-z0-9] %7[%%a-z]<%u>", type, name, &count) != 3 ||
        count > MOST_SLOTS || r->set_count == MOST_SETS) {
        refuse(r, "%s is not understood", text);
        return;
    }
    registers *s = &r->sets[r->set_count++];
    *s = (registers){.wide = strstr(type, "64") != NULL, .count = count};
    memcpy(s->name, name, sizeof name);
    s->first = s->wide ? r->e->longs : r->e->words;
    if (r->e->count > 0)
        refuse(r, "registers behind instructions");
    for (unsigned i = 0; i < count && !r->failed; i++)
        new_slot(r, s->wide, UINT64_MAX);
    r->registers[s->wide] = s->wide ? r->e->longs : r->e->words;
}

static void begin_entry(reader *r, ptx_module *m, const char *text) {
    ptx_entry *e = calloc(1, sizeof *e);
    if (e == NULL) {
        refuse(r, "out of memory");
        return;
    }
    e->next = m->entries;
    m->entries = r->e = e;
    r->set_count = r->label_count = r->capacity = 0;
    e->words = r->registers[0] = SPECIAL_SLOTS;
    r->registers[1] = 0;
    e->most_threads = EMULATOR_THREADS;
    e->word_start = calloc(MOST_SLOTS, sizeof *e->word_start);
    e->long_start = calloc(MOST_SLOTS, sizeof *e->long_start);
    if (e->word_start == NULL || e->long_start == NULL)
        refuse(r, "out of memory");
    if (sscanf(text, ".visible .entry %63[A-Za-z0-9_](", e->name) != 1)
        refuse(r, "an entry without a name");
}

/* Labels of branches become places. Nothing may run behind the end. */
static void end_entry(reader *r) {
    ptx_entry *e = r->e;
    const instruction *last = e->count == 0 ? NULL : &e->code[e->count - 1];
    if (last == NULL ||
        (last->code != CODE_RETURN && (last->code != CODE_BRANCH || last->guard != NO_GUARD)))
        refuse(r, "%s does not end with ret or bra", e->name);
    for (uint32_t i = 0; i < e->count && !r->failed; i++) {
        if (e->code[i].code != CODE_BRANCH)
            continue;
        uint32_t l = 0;
        while (l < r->label_count && strcmp(r->labels[l].name, r->jumps[i]) != 0)
            l++;
        r->line = e->code[i].line;
        if (l == r->label_count || r->labels[l].at >= e->count)
            refuse(r, "there is no label %s", r->jumps[i]);
        else
            e->code[i].target = r->labels[l].at;
    }
    r->e = NULL;
}

/* A line without its comment and the blanks around it. */
static void read_line(reader *r, ptx_module *m, char *text) {
    static const char *const nothing[] = {".version ", ".target ", ".address_size ", ")",
                                          "{",         ".pragma ", ".minnctapersm "};
    const size_t length = strlen(text);
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++)
        if (begins(text, nothing[i]))
            return;
    unsigned number;
    if (begins(text, ".extern .shared ")) {
        if (sscanf(text, ".extern .shared .align %u .b8 %63[A-Za-z0-9_][];", &number, r->shared) !=
            2)
            refuse(r, "%s is not understood", text);
    } else if (begins(text, ".visible .entry ")) {
        begin_entry(r, m, text);
    } else if (r->e == NULL) {
        refuse(r, "%s is not understood", text);
    } else if (begins(text, ".param ")) {
        if (sscanf(text, ".param .align %u .b8 %63[A-Za-z0-9_][%zu]", &number, r->e->parameter,
                   &r->e->parameters) != 3)
            refuse(r, "%s is not understood", text);
    } else if (begins(text, ".maxntid ")) {
        r->e->most_threads = (uint32_t)strtoul(text + 9, NULL, 10);
    } else if (begins(text, ".reg ")) {
        read_registers(r, text);
    } else if (strcmp(text, "}") == 0) {
        end_entry(r);
    } else if (text[length - 1] == ':') {
        if (r->label_count == MOST_LABELS || length > NAME) {
            refuse(r, "too many labels, or too long a one");
            return;
        }
        label *l = &r->labels[r->label_count++];
        l->at = r->e->count;
        snprintf(l->name, sizeof l->name, "%.*s", (int)length - 1, text);
    } else if (text[length - 1] == ';') {
        text[length - 1] = '\0';
        read_instruction(r, text);
    } else {
        refuse(r, "%s is not understood", text);
    }
}

ptx_module *ptx_read(const char *text, char *why, size_t size) {
    reader r = {.why = why, .why_size = size};
    ptx_module *m = calloc(1, sizeof *m);
    r.labels = calloc(MOST_LABELS, sizeof *r.labels);
    if (m == NULL || r.labels == NULL)
        refuse(&r, "out of memory");
    while (!r.failed && *text != '\0') {
        char line[512];
        const size_t length = strcspn(text, "\n");
        r.line++;
        snprintf(line, sizeof line, "%.*s", (int)(length < sizeof line ? length : sizeof line - 1),
                 text);
        text += length + (text[length] == '\n');
        char *from = line + strspn(line, " \t"), *comment = strstr(from, "//");
        size_t end = comment == NULL ? strlen(from) : (size_t)(comment - from);
        while (end > 0 && isspace((unsigned char)from[end - 1]))
            end--;
        from[end] = '\0';
        if (end > 0)
            read_line(&r, m, from);
    }
    if (r.e != NULL)
        refuse(&r, "%s does not end", r.e->name);
    free(r.labels);
    free(r.jumps);
    if (!r.failed)
        return m;
    ptx_free(m);
    return NULL;
}

void ptx_free(ptx_module *m) {
    if (m == NULL)
        return;
    while (m->entries != NULL) {
        ptx_entry *e = m->entries;
        m->entries = e->next;
        free(e->code);
        free(e->word_start);
        free(e->long_start);
        free(e);
    }
    free(m);
}

const ptx_entry *ptx_find(const ptx_module *m, const char *name) {
    const ptx_entry *e = m->entries;
    while (e != NULL && strcmp(e->name, name) != 0)
        e = e->next;
    return e;
}
