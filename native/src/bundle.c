#define _POSIX_C_SOURCE 200809L

#include "bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tensors: a few hundred for the supernet and about 130 a level. */
enum { MAX_HEADER = 100000000, MAX_TENSORS = 1 << 17, BUNDLE_VERSION = 1 };

/* ---- The file ---------------------------------------------------------------------------------*/

dynofa_status source_open(source *s, const char *path, failure *f) {
    struct stat info;
    *s = (source){NULL, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), 0};
    if (s->fd < 0)
        return fail(f, DYNOFA_E_FILE, "%s", strerror(errno));
    dynofa_status status = DYNOFA_OK;
    if (fstat(s->fd, &info) != 0)
        status = fail(f, DYNOFA_E_FILE, "%s", strerror(errno));
    else if (!S_ISREG(info.st_mode) || info.st_size <= 0 || (uint64_t)info.st_size > SIZE_MAX / 4)
        status = fail(f, DYNOFA_E_FILE, "expected a regular file that is not empty");
    else
        s->size = (size_t)info.st_size;
    if (status != DYNOFA_OK)
        source_close(s);
    return status;
}

void source_close(source *s) {
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* Bytes that lie within the source. */
static dynofa_status source_read(const source *s, size_t at, void *into, size_t size, failure *f) {
    if (s->fd < 0) {
        memcpy(into, s->bytes + at, size);
        return DYNOFA_OK;
    }
    for (char *to = into; size > 0;) {
        ssize_t n = pread(s->fd, to, size, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(f, DYNOFA_E_FILE, "reading at byte %zu: %s", at, strerror(errno));
        if (n == 0)
            return fail(f, DYNOFA_E_FILE, "the file ends at byte %zu, expected %zu as it had", at,
                        s->size);
        to += n;
        at += (size_t)n;
        size -= (size_t)n;
    }
    return DYNOFA_OK;
}

/* ---- The header -------------------------------------------------------------------------------*/

static dynofa_status bad_header(const json *j, failure *f) {
    return fail(f, DYNOFA_E_FORMAT, "header at byte %zu: expected %s",
                (size_t)(j->at - j->start) + 8, j->wrong);
}

/* FNV-1a */
static uint64_t hash_of(const char *at, size_t size) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)at[i]) * 0x100000001b3u;
    return h;
}

/* The place of a name in the table: its own, or the free one where it would go. */
static size_t place_of(const bundle *b, const char *at, size_t size) {
    size_t mask = b->table_size - 1, i = (size_t)hash_of(at, size) & mask;
    for (; b->table[i] != 0; i = (i + 1) & mask) {
        const span *name = &b->tensors[b->table[i] - 1].name;
        if (name->size == size && memcmp(name->at, at, size) == 0)
            break;
    }
    return i;
}

static tensor *find(const bundle *b, const char *name) {
    uint32_t found = b->table[place_of(b, name, strlen(name))];
    return found == 0 ? NULL : &b->tensors[found - 1];
}

/* One entry of the header. More than four dimensions are no shape of ours; they are read over, and
 * the rank tells. */
static bool read_tensor(json *j, tensor *t, uint64_t offsets[2], uint32_t *offset_count) {
    json_fields seen = {0};
    span key, dtype;
    *offset_count = 0;
    if (!json_open(j, '{'))
        return false;
    while (json_field(j, &seen, &key)) {
        bool item = true;
        int64_t v;
        if (span_is(key, "dtype")) {
            if (json_string(j, &dtype))
                t->f32 = span_is(dtype, "F32");
        } else if (span_is(key, "shape")) {
            t->rank = 0;
            if (json_open(j, '['))
                while (json_item(j, &item) && json_integer(j, &v)) {
                    if (v < 0 || v > UINT32_MAX) {
                        j->wrong = "a dimension of 0 to 2^32 - 1";
                        return false;
                    }
                    if (t->rank < 4)
                        t->shape[t->rank] = (uint32_t)v;
                    t->rank += t->rank < 5;
                }
        } else if (span_is(key, "data_offsets")) {
            *offset_count = 0;
            if (json_open(j, '['))
                while (json_item(j, &item) && json_integer(j, &v)) {
                    if (v < 0) {
                        j->wrong = "an offset of at least 0";
                        return false;
                    }
                    if (*offset_count < 2)
                        offsets[*offset_count] = (uint64_t)v;
                    *offset_count += *offset_count < 3;
                }
        } else {
            json_skip(j);
        }
    }
    return j->wrong == NULL;
}

/* The bytes of a tensor of F32 with this shape, SIZE_MAX if they do not fit. */
static size_t shape_bytes(const tensor *t) {
    uint64_t n = sizeof(float);
    if (t->rank > 4)
        return SIZE_MAX;
    for (uint32_t i = 0; i < t->rank; i++)
        if (t->shape[i] != 0 && n > SIZE_MAX / 2 / t->shape[i])
            return SIZE_MAX;
        else
            n *= t->shape[i];
    return (size_t)n;
}

static dynofa_status take_tensor(bundle *b, json *j, span name, size_t body, size_t body_size,
                                 failure *f) {
    tensor *t = &b->tensors[b->count];
    uint64_t offsets[2] = {0, 0};
    uint32_t offset_count;
    int shown = (int)size_min(name.size, 120);
    *t = (tensor){.name = name};
    if (!read_tensor(j, t, offsets, &offset_count))
        return bad_header(j, f);
    if (memchr(name.at, '\\', name.size) != NULL)
        return fail(f, DYNOFA_E_FORMAT, "tensor \"%.*s\": expected a name without escapes", shown,
                    name.at);
    if (offset_count != 2 || offsets[0] > offsets[1] || offsets[1] > body_size)
        return fail(
            f, DYNOFA_E_FORMAT,
            "tensor %.*s: data_offsets [%llu %llu], expected begin and end within %zu bytes", shown,
            name.at, (unsigned long long)offsets[0], (unsigned long long)offsets[1], body_size);
    t->at = body + (size_t)offsets[0];
    t->bytes = (size_t)(offsets[1] - offsets[0]);
    if (!t->f32 || shape_bytes(t) != t->bytes)
        return fail(
            f, DYNOFA_E_FORMAT,
            "tensor %.*s: expected F32 and a shape of at most four dimensions with its %zu bytes",
            shown, name.at, t->bytes);
    size_t place = place_of(b, name.at, name.size);
    if (b->table[place] != 0)
        return fail(f, DYNOFA_E_FORMAT, "tensor %.*s is there twice", shown, name.at);
    b->table[place] = (uint32_t)++b->count;
    return DYNOFA_OK;
}

static void sift(uint32_t *heap, size_t root, size_t count, const tensor *t) {
    for (size_t child; (child = 2 * root + 1) < count; root = child) {
        const tensor *c = &t[heap[child]];
        if (child + 1 < count) {
            const tensor *d = &t[heap[child + 1]];
            if (d->at > c->at || (d->at == c->at && d->bytes > c->bytes)) {
                child++;
                c = d;
            }
        }
        const tensor *r = &t[heap[root]];
        if (r->at > c->at || (r->at == c->at && r->bytes >= c->bytes))
            return;
        uint32_t other = heap[root];
        heap[root] = heap[child];
        heap[child] = other;
    }
}

/* Tensors have to cover the body without gap and overlap. Sorted here because qsort may allocate
 * behind the caller's back. */
static dynofa_status check_layout(const bundle *b, size_t body, failure *f) {
    size_t end = body, bytes = b->count * sizeof(uint32_t);
    if (b->count > 0) {
        uint32_t *order = memory_new(b->mem, bytes);
        if (order == NULL)
            return fail(f, DYNOFA_E_MEMORY, "no memory for %zu tensor entries", b->count);
        for (size_t i = 0; i < b->count; i++)
            order[i] = (uint32_t)i;
        for (size_t i = b->count / 2; i-- > 0;)
            sift(order, i, b->count, b->tensors);
        for (size_t n = b->count - 1; n > 0; n--) {
            uint32_t last = order[n];
            order[n] = order[0];
            order[0] = last;
            sift(order, 0, n, b->tensors);
        }
        for (size_t i = 0; i < b->count && b->tensors[order[i]].at == end; i++)
            end += b->tensors[order[i]].bytes;
        memory_free(b->mem, order, bytes);
    }
    if (end != b->from.size)
        return fail(
            f, DYNOFA_E_FORMAT,
            "no tensor begins at byte %zu of the data, expected them to cover all %zu bytes "
            "without gaps and overlaps",
            end - body, b->from.size - body);
    return DYNOFA_OK;
}

/* Counts the tensors and finds the metadata. */
static dynofa_status scan_header(json j, size_t *count, span *metadata, failure *f) {
    bool first = true, found = false;
    span key, value;
    *count = 0;
    *metadata = (span){NULL, 0};
    if (j.at == j.end || *j.at != '{')
        j.wrong = "{ as the first byte";
    json_open(&j, '{');
    while (json_key(&j, &first, &key)) {
        if (!span_is(key, "__metadata__")) {
            json_skip(&j);
            ++*count;
            continue;
        }
        if (found)
            return fail(f, DYNOFA_E_FORMAT, "__metadata__ is there twice");
        found = true;
        json_fields seen = {0};
        if (json_open(&j, '{'))
            while (json_field(&j, &seen, &key) && json_string(&j, &value))
                if (span_is(key, "dynofa"))
                    *metadata = value;
    }
    if (!json_end(&j))
        return bad_header(&j, f);
    if (metadata->at == NULL)
        return fail(f, DYNOFA_E_FORMAT,
                    "no metadata \"dynofa\", expected a bundle; a checkpoint has to "
                    "be imported first");
    return DYNOFA_OK;
}

static dynofa_status read_metadata(bundle *b, span escaped, failure *f) {
    b->text_room = size_max(escaped.size, 1);
    b->text = memory_new(b->mem, b->text_room);
    b->space = memory_new(b->mem, sizeof *b->space);
    if (b->text == NULL || b->space == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for %zu bytes of metadata", b->text_room);
    b->text_size = span_decode(escaped, b->text);
    json j = json_of(b->text, b->text_size), space_at = {0};
    bool has_space = false;
    json_fields seen = {0};
    int64_t version = 0;
    span key;
    json_open(&j, '{');
    while (json_field(&j, &seen, &key)) {
        json before = j;
        if (span_is(key, "version")) {
            json_integer(&j, &version);
            continue;
        }
        json_skip(&j);
        if (span_is(key, "space")) {
            has_space = true;
            space_at = before;
        } else if (span_is(key, "library") && !json_null(&before)) {
            b->library = (span){before.at, (size_t)(j.at - before.at)};
        }
    }
    if (!json_end(&j))
        return fail(f, DYNOFA_E_FORMAT, "metadata at byte %zu: expected %s",
                    (size_t)(j.at - j.start), j.wrong);
    if (version > BUNDLE_VERSION)
        return fail(f, DYNOFA_E_VERSION, "metadata version is %lld, expected 1 to %d",
                    (long long)version, BUNDLE_VERSION);
    if (version < 1)
        return fail(f, DYNOFA_E_FORMAT, "metadata version is %lld, expected 1 to %d",
                    (long long)version, BUNDLE_VERSION);
    if (!has_space)
        return fail(f, DYNOFA_E_FORMAT, "metadata: no space");
    return space_read(b->space, &space_at, f);
}

/* Finds the header: its length first, then the text. */
static dynofa_status read_header(bundle *b, failure *f) {
    uint64_t length;
    const size_t size = b->from.size;
    if (size < sizeof length)
        return fail(f, DYNOFA_E_FORMAT, "%zu bytes, expected a header length of 8", size);
    dynofa_status status = source_read(&b->from, 0, &length, sizeof length, f);
    if (status != DYNOFA_OK)
        return status;
    size_t limit = size_min(size - sizeof length, MAX_HEADER);
    if (length > limit)
        return fail(f, DYNOFA_E_FORMAT, "header length is %llu, expected at most %zu in %zu bytes",
                    (unsigned long long)length, limit, size);
    b->header_size = (size_t)length;
    if (b->from.fd < 0 || length == 0)
        return DYNOFA_OK;
    b->header = memory_new(b->mem, b->header_size);
    if (b->header == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for a header of %zu bytes", b->header_size);
    return source_read(&b->from, sizeof length, b->header, b->header_size, f);
}

dynofa_status bundle_read(bundle *b, const memory *mem, source from, failure *f) {
    size_t count;
    *b = (bundle){.mem = mem, .from = from, .library = {"", 0}};
    dynofa_status status = read_header(b, f);
    if (status != DYNOFA_OK)
        return status;
    const size_t body = sizeof(uint64_t) + b->header_size;
    json j = json_of(b->header != NULL ? b->header : (const char *)from.bytes + sizeof(uint64_t),
                     b->header_size);
    span metadata;
    status = scan_header(j, &count, &metadata, f);
    if (status != DYNOFA_OK)
        return status;
    if (count > MAX_TENSORS)
        return fail(f, DYNOFA_E_FORMAT, "%zu tensors, expected at most %d", count, MAX_TENSORS);
    for (b->table_size = 8; b->table_size < 2 * count;)
        b->table_size *= 2;
    b->tensors = memory_new(mem, size_max(count, 1) * sizeof *b->tensors);
    b->count = count; /* so that a failure frees what was asked for */
    b->table = memory_new(mem, b->table_size * sizeof *b->table);
    if (b->tensors == NULL || b->table == NULL)
        return fail(f, DYNOFA_E_MEMORY, "no memory for %zu tensor entries", count);
    memset(b->table, 0, b->table_size * sizeof *b->table);
    b->count = 0;
    bool first = true;
    span key;
    json_open(&j, '{');
    while (status == DYNOFA_OK && json_key(&j, &first, &key)) {
        if (span_is(key, "__metadata__"))
            json_skip(&j);
        else
            status = take_tensor(b, &j, key, body, from.size - body, f);
    }
    if (status == DYNOFA_OK)
        status = check_layout(b, body, f);
    b->count = count;
    if (status == DYNOFA_OK)
        status = read_metadata(b, metadata, f);
    return status;
}

void bundle_close(bundle *b) {
    memory_free(b->mem, b->header, b->header_size);
    memory_free(b->mem, b->tensors, size_max(b->count, 1) * sizeof *b->tensors);
    memory_free(b->mem, b->table, b->table_size * sizeof *b->table);
    memory_free(b->mem, b->text, b->text_room);
    memory_free(b->mem, b->space, sizeof *b->space);
}

/* ---- Tensors ----------------------------------------------------------------------------------*/

bool bundle_has(const bundle *b, const char *name) {
    return find(b, name) != NULL;
}

static void print_shape(char *out, size_t room, uint32_t rank, const uint32_t *shape) {
    static const char digits[] = "0123456789";
    size_t n = 0;
    out[n++] = '[';
    for (uint32_t i = 0; i < rank && n + 14 < room; i++) {
        char text[12];
        size_t length = 0;
        for (uint32_t v = shape[i]; v > 0 || length == 0; v /= 10)
            text[length++] = digits[v % 10];
        if (i > 0)
            out[n++] = ' ';
        while (length > 0)
            out[n++] = text[--length];
    }
    out[n++] = ']';
    out[n] = '\0';
}

dynofa_status bundle_expect(bundle *b, const char *name, uint32_t rank, const uint32_t *shape,
                            failure *f) {
    char want[64], got[64];
    tensor *t = find(b, name);
    print_shape(want, sizeof want, rank, shape);
    if (t == NULL)
        return fail(f, DYNOFA_E_FORMAT, "missing tensor %s %s", name, want);
    if (t->rank != rank || memcmp(t->shape, shape, rank * sizeof *shape) != 0) {
        print_shape(got, sizeof got, t->rank, t->shape);
        return fail(f, DYNOFA_E_FORMAT, "tensor %s is F32 %s, expected F32 %s", name, got, want);
    }
    t->used = true;
    return DYNOFA_OK;
}

/* Infinities and NaN have an exponent of all ones. Without an early way out, so that it runs on
 * vectors. */
static bool all_finite(const float *v, size_t n) {
    uint32_t worst = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        worst |= (uint32_t)((bits & 0x7f800000u) == 0x7f800000u);
    }
    return worst == 0;
}

static dynofa_status bad_value(const char *name, const float *v, size_t n, size_t before,
                               bool variance, failure *f) {
    size_t i = 0;
    while (i + 1 < n && isfinite(v[i]) && !(variance && v[i] < 0))
        i++;
    return fail(f, DYNOFA_E_FORMAT, "tensor %s: [%zu] is %g, expected a finite number%s", name,
                before + i, (double)v[i], variance ? " of at least 0" : "");
}

/* Numbers are read and checked while they are in the first-level cache. */
enum { CHUNK = 4096 };

dynofa_status bundle_values(const bundle *b, const char *name, float *into, failure *f) {
    const tensor *t = find(b, name);
    const char suffix[] = ".running_var";
    size_t length = strlen(name), tail = sizeof suffix - 1;
    bool variance = length >= tail && strcmp(name + length - tail, suffix) == 0;
    for (size_t at = 0, all = t->bytes / sizeof(float); at < all; at += CHUNK) {
        float *v = into + at;
        size_t n = size_min(all - at, CHUNK);
        dynofa_status status =
            source_read(&b->from, t->at + at * sizeof(float), v, n * sizeof(float), f);
        if (status != DYNOFA_OK)
            return status;
        bool good = all_finite(v, n);
        for (size_t i = 0; variance && good && i < n; i++)
            good = v[i] >= 0;
        if (!good)
            return bad_value(name, v, n, at, variance, f);
    }
    return DYNOFA_OK;
}

size_t bundle_largest(const bundle *b) {
    size_t largest = 0;
    for (size_t i = 0; i < b->count; i++)
        largest = size_max(largest, b->tensors[i].bytes);
    return largest / sizeof(float);
}

dynofa_status bundle_all_used(const bundle *b, failure *f) {
    for (size_t i = 0; i < b->count; i++)
        if (!b->tensors[i].used)
            return fail(f, DYNOFA_E_FORMAT, "unexpected tensor %.*s",
                        (int)size_min(b->tensors[i].name.size, 120), b->tensors[i].name.at);
    return DYNOFA_OK;
}

/* ---- The library ------------------------------------------------------------------------------*/

level_walk library_of(const bundle *b) {
    level_walk w = {json_of(b->library.at, b->library.size), true, 0};
    if (b->library.size > 0)
        json_open(&w.j, '[');
    return w;
}

/* A list of exactly count small integers. */
static bool read_values(json *j, uint32_t *out, uint32_t count) {
    bool first = true;
    uint32_t n = 0;
    int64_t v;
    if (json_open(j, '['))
        while (json_item(j, &first) && json_integer(j, &v)) {
            if (n == count || v < 0 || v > UINT16_MAX) {
                j->wrong = "as many values as the space has slots or stages, 0 to 65535";
                return false;
            }
            out[n++] = (uint32_t)v;
        }
    if (j->wrong == NULL && n != count)
        j->wrong = "as many values as the space has slots or stages";
    return j->wrong == NULL;
}

static bool read_subnet(json *j, const space *s, subnet *n, unsigned *seen) {
    json_fields fields = {0};
    span key;
    int64_t v;
    if (json_open(j, '{'))
        while (json_field(j, &fields, &key)) {
            if (span_is(key, "ks") && read_values(j, n->kernels, s->slots)) {
                *seen |= 1;
            } else if (span_is(key, "e") && read_values(j, n->expands, s->slots)) {
                *seen |= 2;
            } else if (span_is(key, "d") && read_values(j, n->depths, s->stages)) {
                *seen |= 4;
            } else if (span_is(key, "r")) {
                json list = *j;
                if (json_open(&list, '[')) { /* [224] as OFA's tools write it */
                    if (read_values(j, &n->resolution, 1))
                        *seen |= 8;
                } else if (json_integer(j, &v)) {
                    n->resolution = v < 0 || v > MAX_RESOLUTION ? 0 : (uint32_t)v;
                    *seen |= 8;
                }
            } else {
                json_skip(j);
            }
        }
    return j->wrong == NULL;
}

bool library_next(level_walk *w, const bundle *b, subnet *n, dynofa_status *status, failure *f) {
    json *j = &w->j;
    *status = DYNOFA_OK;
    if (b->library.size == 0)
        return false;
    json_fields fields = {0};
    unsigned seen = 0;
    int64_t macs = -1, params = -1;
    span key;
    if (json_item(j, &w->first)) {
        if (json_open(j, '{'))
            while (json_field(j, &fields, &key)) {
                if (span_is(key, "subnet"))
                    read_subnet(j, b->space, n, &seen);
                else if (span_is(key, "macs"))
                    json_integer(j, &macs);
                else if (span_is(key, "params"))
                    json_integer(j, &params);
                else
                    json_skip(j);
            }
    } else if (j->wrong == NULL) {
        return false;
    }
    unsigned number = w->number++;
    if (j->wrong != NULL) {
        *status = fail(f, DYNOFA_E_FORMAT, "level %u at byte %zu of the metadata: expected %s",
                       number, (size_t)(j->at - b->text), j->wrong);
        return false;
    }
    if (seen != 15) {
        *status = fail(f, DYNOFA_E_FORMAT, "level %u: subnet lacks one of ks, e, d, r", number);
        return false;
    }
    dynofa_subnet read = {sizeof read, n->resolution, b->space->slots, b->space->stages,
                          n->kernels,  n->expands,    n->depths};
    failure inner;
    if (subnet_read(b->space, &read, false, n, &inner) != DYNOFA_OK) {
        *status = fail(f, DYNOFA_E_FORMAT, "level %u: %.250s", number, inner.text);
        return false;
    }
    uint64_t want_macs, want_params;
    space_cost(b->space, n, &want_macs, &want_params);
    if ((uint64_t)macs != want_macs || (uint64_t)params != want_params) {
        *status = fail(f, DYNOFA_E_FORMAT,
                       "level %u: macs and params are %lld and %lld, expected %llu and %llu",
                       number, (long long)macs, (long long)params, (unsigned long long)want_macs,
                       (unsigned long long)want_params);
        return false;
    }
    return true;
}
