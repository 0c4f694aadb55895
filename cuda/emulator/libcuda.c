/* A libcuda.so.1 over the emulator: the part of the driver API that the host half uses, strict
 * where a real driver or device would only sometimes fail.
 *
 *   - Work is done when the host waits for it, not before: whoever reads a result, or reuses a
 *     buffer, too early finds out. So is a copy from memory that is not pinned, once the driver has
 *     read that.
 *   - Device memory cannot be touched by the host: addresses that it is given are of a mapping
 *     without access, and the kernels' own lies elsewhere. New memory is NaN, each allocation ends
 *     at a page that nothing may touch, and its addresses are not used again.
 *   - PTX has to suit the driver and the device by version and target; an entry takes as many bytes
 *     of parameters as the emulated kernel that is run in its place. Others do nothing.
 *
 * The environment makes it fail; it is read at each call.
 *   DYNOFA_FAKE_CUDA_FAIL        NAME:N[:CODE],...: call N of the function, counted from when the
 *                                variable was set, returns CODE (cuMemAlloc_v2 2, others 999)
 *   DYNOFA_FAKE_CUDA_LOST        N: the device is lost at the N-th kernel of the process
 *   DYNOFA_FAKE_CUDA_MEMORY      bytes of the device, 4 GiB
 *   DYNOFA_FAKE_CUDA_VERSION     of the driver, 12040
 *   DYNOFA_FAKE_CUDA_DEVICES     how many, 1
 *   DYNOFA_FAKE_CUDA_SM          compute capability, 87
 *   DYNOFA_FAKE_CUDA_INTEGRATED  1: the device shares the host's memory
 *   DYNOFA_FAKE_CUDA_ORDER       0, 1, 2: threads ascending, descending, permuted
 *   DYNOFA_FAKE_CUDA_PTX         1: modules that are loaded run their PTX, by ptx.h
 *   DYNOFA_FAKE_CUDA_COUNTS      FILE: what each kernel so run asks for, a JSON object a launch */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "emulator.h"
#include "ptx.h"

#define EXPORT __attribute__((visibility("default")))

/* The driver's numbers. */
#define RESULTS(R)                                                                                 \
    R(0, SUCCESS, "no error")                                                                      \
    R(1, INVALID_VALUE, "invalid argument")                                                        \
    R(2, OUT_OF_MEMORY, "out of memory")                                                           \
    R(3, NOT_INITIALIZED, "initialization error")                                                  \
    R(100, NO_DEVICE, "no CUDA-capable device is detected")                                        \
    R(101, INVALID_DEVICE, "invalid device ordinal")                                               \
    R(201, INVALID_CONTEXT, "invalid device context")                                              \
    R(209, NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device")          \
    R(218, INVALID_PTX, "a PTX JIT compilation failed")                                            \
    R(222, UNSUPPORTED_PTX_VERSION,                                                                \
      "the provided PTX was compiled with an unsupported toolchain.")                              \
    R(400, INVALID_HANDLE, "invalid resource handle")                                              \
    R(401, ILLEGAL_STATE, "the operation cannot be performed in the present state")                \
    R(500, NOT_FOUND, "named symbol not found")                                                    \
    R(600, NOT_READY, "device not ready")                                                          \
    R(700, ILLEGAL_ADDRESS, "an illegal memory access was encountered")                            \
    R(719, LAUNCH_FAILED, "unspecified launch failure")                                            \
    R(900, STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing")         \
    R(901, STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture")  \
    R(999, UNKNOWN, "unknown error")

typedef enum result {
#define R(value, name, text) name = value,
    RESULTS(R)
#undef R
} result;

typedef uint64_t address; /* CUdeviceptr */

typedef struct allocation {
    struct allocation *next;
    unsigned char *given, *real; /* what the host knows, what a kernel gets; equal if pinned */
    size_t bytes, mapped;        /* asked for; of whole pages from the mapping's beginning */
    int pinned;
} allocation;

typedef struct event {
    int recorded, pending;
    double at; /* seconds */
} event;

typedef enum op_kind { OP_TO_DEVICE, OP_TO_HOST, OP_COPY, OP_SET, OP_KERNEL, OP_RECORD } op_kind;

typedef struct function {
    const emulator_kernel *kernel;
    const ptx_entry *ptx; /* to be run instead, or NULL */
    uint32_t most_shared, most_threads;
} function;

typedef struct op {
    struct op *next;
    op_kind kind;
    address device, from;
    void *host;
    size_t bytes;
    int staged; /* host is the driver's own copy */
    unsigned char value;
    event *event;
    const function *function;
    uint32_t grid[3], threads, shared;
    _Alignas(16) unsigned char args[256];
} op;

typedef struct queue {
    op *first, **last;
} queue;

typedef struct stream {
    struct stream *next;
    queue work, captured;
    int capturing, invalid, non_blocking;
    unsigned mode;
} stream;

enum { MOST_KERNELS = 64 };
typedef struct module {
    char *text;
    ptx_module *ptx; /* or NULL */
    function functions[MOST_KERNELS];
} module;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int ready;
    unsigned retained;
    result lost; /* what every call returns since the device failed */
    unsigned long kernels;
    int stray; /* the last address of a kernel was of no memory */
    allocation *allocations;
    stream *streams;
    size_t used;
    unsigned char *given, *real; /* the two mappings of device memory */
    size_t taken;
    long live; /* modules, streams, events, graphs, allocations */
} fake;

static _Thread_local struct {
    void *stack[8];
    int depth;
} contexts;
static char the_context;

/* ---- Settings ---------------------------------------------------------------------------------*/

static unsigned long setting(const char *name, unsigned long otherwise) {
    const char *text = getenv(name);
    return text == NULL || text[0] == '\0' ? otherwise : strtoul(text, NULL, 0);
}

/* Is this call to fail? Counts it. */
static result planned(const char *name) {
    enum { MOST = 16 };
    static char plan[512];
    static unsigned long calls[MOST];
    const char *text = getenv("DYNOFA_FAKE_CUDA_FAIL");
    if (text == NULL)
        text = "";
    if (strncmp(text, plan, sizeof plan - 1) != 0) {
        snprintf(plan, sizeof plan, "%s", text);
        memset(calls, 0, sizeof calls);
    }
    result found = SUCCESS;
    const char *at = plan;
    for (int i = 0; i < MOST && *at != '\0'; i++) {
        char wanted[64];
        unsigned long call = 0, code = strcmp(name, "cuMemAlloc_v2") == 0 ? OUT_OF_MEMORY : UNKNOWN;
        if (sscanf(at, "%63[^:,]:%lu:%lu", wanted, &call, &code) >= 2 &&
            strcmp(wanted, name) == 0 && ++calls[i] == call)
            found = (result)code;
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return found;
}

/* Every entry begins with one of these, holding the lock; leave() gives it back. */
static result enter_uninitialised(const char *name) {
    pthread_mutex_lock(&lock);
    return planned(name);
}

static result enter_device(const char *name) {
    result r = enter_uninitialised(name);
    return r != SUCCESS ? r : fake.ready ? SUCCESS : NOT_INITIALIZED;
}

static result enter(const char *name) {
    result r = enter_device(name);
    if (r == SUCCESS && contexts.depth == 0)
        r = INVALID_CONTEXT;
    return r != SUCCESS ? r : fake.lost;
}

static int leave(result r) {
    pthread_mutex_unlock(&lock);
    return (int)r;
}

/* ---- Memory -----------------------------------------------------------------------------------*/

static const size_t span = (size_t)64 << 30;

static size_t round_up(size_t n, size_t to) {
    return (n + to - 1) / to * to;
}

static allocation *allocation_of(const unsigned char *given, size_t bytes) {
    for (allocation *a = fake.allocations; a != NULL; a = a->next)
        if (given >= a->given && given < a->given + a->bytes)
            return bytes <= (size_t)(a->given + a->bytes - given) ? a : NULL;
    return NULL;
}

/* The host's own view of device memory, or NULL. */
static unsigned char *real_of(address given, size_t bytes) {
    unsigned char *p = (unsigned char *)(uintptr_t)given;
    allocation *a = allocation_of(p, bytes);
    return a == NULL ? NULL : a->real + (p - a->given);
}

static allocation *keep(unsigned char *given, unsigned char *real, size_t bytes, size_t mapped,
                        int pinned) {
    allocation *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    *a = (allocation){fake.allocations, given, real, bytes, mapped, pinned};
    memset(real, 0xFF, bytes);
    fake.allocations = a;
    fake.live++;
    return a;
}

static result allocate(address *out, size_t bytes) {
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), aligned = round_up(bytes, 256);
    const size_t mapped = round_up(aligned, page);
    if (bytes == 0)
        return INVALID_VALUE;
    if (fake.given == NULL) {
        void *given =
            mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        void *real =
            mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (given == MAP_FAILED || real == MAP_FAILED)
            return OUT_OF_MEMORY;
        fake.given = given;
        fake.real = real;
    }
    if (bytes > span || bytes > setting("DYNOFA_FAKE_CUDA_MEMORY", 4UL << 30) - fake.used ||
        mapped + page > span - fake.taken)
        return OUT_OF_MEMORY;
    unsigned char *real = fake.real + fake.taken;
    const size_t into = fake.taken + mapped - aligned;
    if (mprotect(real, mapped, PROT_READ | PROT_WRITE) != 0 ||
        keep(fake.given + into, fake.real + into, bytes, mapped, 0) == NULL)
        return OUT_OF_MEMORY;
    fake.taken += mapped + page;
    fake.used += bytes;
    *out = (address)(uintptr_t)(fake.given + into);
    return SUCCESS;
}

static result release(const void *given, int pinned) {
    for (allocation **at = &fake.allocations; *at != NULL; at = &(*at)->next) {
        allocation *a = *at;
        if (a->given != given || a->pinned != pinned)
            continue;
        if (pinned) {
            munmap(a->real, a->mapped);
        } else {
            const size_t page = (size_t)sysconf(_SC_PAGESIZE);
            unsigned char *map = (unsigned char *)((uintptr_t)a->real / page * page);
            madvise(map, a->mapped, MADV_DONTNEED);
            mprotect(map, a->mapped, PROT_NONE);
            fake.used -= a->bytes;
        }
        *at = a->next;
        free(a);
        fake.live--;
        return SUCCESS;
    }
    return INVALID_VALUE;
}

/* ---- Work -------------------------------------------------------------------------------------*/

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void op_free(op *o) {
    if (o->staged)
        free(o->host);
    free(o);
}

static void queue_clear(queue *q) {
    while (q->first != NULL) {
        op *o = q->first;
        q->first = o->next;
        op_free(o);
    }
    q->last = &q->first;
}

static result queue_add(queue *q, const op *o) {
    op *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return OUT_OF_MEMORY;
    *copy = *o;
    copy->next = NULL;
    *q->last = copy;
    q->last = &copy->next;
    return SUCCESS;
}

static result queue_add_all(queue *to, const queue *from) {
    for (const op *o = from->first; o != NULL; o = o->next)
        if (queue_add(to, o) != SUCCESS)
            return OUT_OF_MEMORY;
    return SUCCESS;
}

/* Of device memory, and of what is mapped for it. */
static void *for_kernels(uint64_t address, size_t bytes) {
    static const allocation *last;
    static unsigned long since; /* freed allocations do not count */
    unsigned char *p = (unsigned char *)(uintptr_t)address;
    if (since != fake.kernels || last == NULL || p < last->given ||
        (size_t)(p - last->given) > last->bytes - bytes || last->bytes < bytes) {
        last = allocation_of(p, bytes);
        since = fake.kernels;
    }
    fake.stray = last == NULL;
    return last == NULL ? NULL : last->real + (p - last->given);
}

static void write_counts(const char *path, const op *o, const ptx_counts *c) {
    FILE *f = fopen(path, "a");
    if (f == NULL) {
        fprintf(stderr, "fake libcuda: cannot write %s\n", path);
        return;
    }
    fprintf(f, "{\"kernel\":\"%s\",\"grid\":[%u,%u,%u],\"threads\":%u,\"shared\":%u",
            o->function->kernel->name, (unsigned)o->grid[0], (unsigned)o->grid[1],
            (unsigned)o->grid[2], (unsigned)o->threads, (unsigned)o->shared);
#define COUNT(name) fprintf(f, ",\"" #name "\":%llu", (unsigned long long)c->name);
    PTX_COUNTS(COUNT)
#undef COUNT
    fputs("}\n", f);
    fclose(f);
}

static result run_ptx(const op *o, emulator_order order) {
    const char *path = getenv("DYNOFA_FAKE_CUDA_COUNTS");
    ptx_counts counts = {0};
    const char *wrong = ptx_launch(o->function->ptx, o->args, o->grid, o->threads, o->shared, order,
                                   for_kernels, path == NULL ? NULL : &counts);
    if (wrong != NULL)
        fprintf(stderr, "fake libcuda: %s\n", wrong);
    else if (path != NULL)
        write_counts(path, o, &counts);
    return wrong == NULL ? SUCCESS : fake.stray ? ILLEGAL_ADDRESS : LAUNCH_FAILED;
}

/* Pointers that a kernel is given become the emulator's. */
static result run_kernel(const op *o) {
    _Alignas(16) unsigned char args[sizeof o->args];
    const emulator_order order =
        (emulator_order)(setting("DYNOFA_FAKE_CUDA_ORDER", 0) % EMULATOR_ORDERS);
    memcpy(args, o->args, sizeof args);
    for (size_t i = 0; i < o->function->kernel->pointers; i++) {
        uintptr_t given, real;
        memcpy(&given, args + i * sizeof given, sizeof given);
        real = (uintptr_t)real_of(given, 1);
        if (given != 0 && real == 0) {
            fprintf(stderr, "fake libcuda: %s: pointer %zu is no device memory\n",
                    o->function->kernel->name, i);
            return ILLEGAL_ADDRESS;
        }
        memcpy(args + i * sizeof real, &real, sizeof real);
    }
    if (++fake.kernels == setting("DYNOFA_FAKE_CUDA_LOST", 0))
        return LAUNCH_FAILED;
    if (o->function->ptx != NULL)
        return run_ptx(o, order);
    if (o->function->kernel->call == NULL)
        return SUCCESS;
    const char *wrong =
        emulator_launch(o->function->kernel, args, o->grid, o->threads, o->shared, order);
    if (wrong != NULL)
        fprintf(stderr, "fake libcuda: %s\n", wrong);
    return wrong == NULL ? SUCCESS : LAUNCH_FAILED;
}

static result run_op(const op *o) {
    unsigned char *device = NULL;
    const unsigned char *from = NULL;
    if (o->kind != OP_KERNEL && o->kind != OP_RECORD) {
        device = real_of(o->device, o->bytes);
        from = o->kind == OP_COPY ? real_of(o->from, o->bytes) : device;
        if (device == NULL || from == NULL)
            return ILLEGAL_ADDRESS;
    }
    switch (o->kind) {
    case OP_TO_DEVICE:
        memcpy(device, o->host, o->bytes);
        break;
    case OP_TO_HOST:
        memcpy(o->host, device, o->bytes);
        break;
    case OP_COPY:
        memcpy(device, from, o->bytes);
        break;
    case OP_SET:
        memset(device, o->value, o->bytes);
        break;
    case OP_KERNEL:
        return run_kernel(o);
    case OP_RECORD:
        o->event->pending--;
        o->event->at = seconds();
        break;
    }
    return SUCCESS;
}

/* The default stream: copies that are on their way from the driver's memory. */
static stream legacy = {.work = {NULL, &legacy.work.first}};

/* Does what a stream has been given; the first failure loses the device. */
static result finish(stream *s) {
    if (s != &legacy && !s->non_blocking)
        finish(&legacy);
    for (op *o; (o = s->work.first) != NULL;) {
        if (fake.lost == SUCCESS)
            fake.lost = run_op(o);
        s->work.first = o->next;
        if (s->work.first == NULL)
            s->work.last = &s->work.first;
        op_free(o);
    }
    return fake.lost;
}

/* What the default stream waits for: all streams that were not made to be left alone. */
static result finish_all(int non_blocking_too) {
    finish(&legacy);
    for (stream *s = fake.streams; s != NULL; s = s->next)
        if (non_blocking_too || !s->non_blocking)
            finish(s);
    return fake.lost;
}

static stream *stream_of(void *handle) {
    for (stream *s = fake.streams; s != NULL; s = s->next)
        if (s == handle)
            return s;
    return NULL;
}

static result submit(void *handle, const op *o) {
    stream *s = stream_of(handle);
    if (s == NULL)
        return INVALID_HANDLE; /* the default stream is not emulated */
    return queue_add(s->capturing ? &s->captured : &s->work, o);
}

/* Calls that may wait or allocate end a capture, unless it is relaxed. */
static result while_capturing(void) {
    result r = SUCCESS;
    for (stream *s = fake.streams; s != NULL; s = s->next)
        if (s->capturing && s->mode != 2) {
            s->invalid = 1;
            r = STREAM_CAPTURE_UNSUPPORTED;
        }
    return r;
}

/* ---- The API: start and device ----------------------------------------------------------------*/

EXPORT int cuInit(unsigned flags);
EXPORT int cuInit(unsigned flags) {
    result r = enter_uninitialised("cuInit");
    if (r == SUCCESS && flags != 0)
        r = INVALID_VALUE;
    if (r == SUCCESS && setting("DYNOFA_FAKE_CUDA_DEVICES", 1) == 0)
        r = NO_DEVICE;
    if (r == SUCCESS)
        fake.ready = 1;
    return leave(r);
}

#define API(name, ...)                                                                             \
    EXPORT int name(__VA_ARGS__);                                                                  \
    EXPORT int name(__VA_ARGS__)

API(cuDriverGetVersion, int *version) {
    result r = enter_uninitialised("cuDriverGetVersion");
    *version = (int)setting("DYNOFA_FAKE_CUDA_VERSION", 12040);
    return leave(r);
}

static const char *const texts[][2] = {
#define R(value, name, text) {"CUDA_ERROR_" #name, text},
    RESULTS(R)
#undef R
};
static const int values[] = {
#define R(value, name, text) value,
    RESULTS(R)
#undef R
};

static int describe(int error, int which, const char **text) {
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++)
        if (values[i] == error) {
            *text = error == 0 && which == 0 ? "CUDA_SUCCESS" : texts[i][which];
            return SUCCESS;
        }
    *text = NULL;
    return INVALID_VALUE;
}

API(cuGetErrorName, int error, const char **text) {
    return describe(error, 0, text);
}
API(cuGetErrorString, int error, const char **text) {
    return describe(error, 1, text);
}

API(cuDeviceGetCount, int *count) {
    result r = enter_device("cuDeviceGetCount");
    *count = (int)setting("DYNOFA_FAKE_CUDA_DEVICES", 1);
    return leave(r);
}

static int no_device(int device) {
    return device < 0 || (unsigned long)device >= setting("DYNOFA_FAKE_CUDA_DEVICES", 1);
}

API(cuDeviceGet, int *device, int ordinal) {
    result r = enter_device("cuDeviceGet");
    if (r == SUCCESS && no_device(ordinal))
        r = INVALID_DEVICE;
    if (r == SUCCESS)
        *device = ordinal;
    return leave(r);
}

API(cuDeviceGetName, char *name, int length, int device) {
    result r = enter_device("cuDeviceGetName");
    if (r == SUCCESS && no_device(device))
        r = INVALID_DEVICE;
    if (r == SUCCESS)
        snprintf(name, (size_t)length, "emulated device %d", device);
    return leave(r);
}

API(cuDeviceGetAttribute, int *value, int attribute, int device) {
    result r = enter_device("cuDeviceGetAttribute");
    const int sm = (int)setting("DYNOFA_FAKE_CUDA_SM", 87);
    if (r == SUCCESS && no_device(device))
        r = INVALID_DEVICE;
    if (r == SUCCESS)
        switch (attribute) {
        case 1: /* threads of a block */
            *value = EMULATOR_THREADS;
            break;
        case 8: /* shared memory of a block */
            *value = EMULATOR_SHARED;
            break;
        case 10: /* threads of a warp */
            *value = 32;
            break;
        case 16: /* multiprocessors */
            *value = 8;
            break;
        case 18: /* integrated */
            *value = (int)setting("DYNOFA_FAKE_CUDA_INTEGRATED", 0);
            break;
        case 19: /* can map host memory */
        case 41: /* unified addressing */
            *value = 1;
            break;
        case 38: /* bytes of the second-level cache */
            *value = 4 << 20;
            break;
        case 75:
            *value = sm / 10;
            break;
        case 76:
            *value = sm % 10;
            break;
        default:
            r = INVALID_VALUE;
        }
    return leave(r);
}

API(cuDevicePrimaryCtxRetain, void **context, int device) {
    result r = enter_device("cuDevicePrimaryCtxRetain");
    if (r == SUCCESS && no_device(device))
        r = INVALID_DEVICE;
    if (r == SUCCESS) {
        fake.retained++;
        *context = &the_context;
    }
    return leave(r);
}

/* A lost device is whole again in a new context; memory and streams of the old one are gone. */
API(cuDevicePrimaryCtxRelease_v2, int device) {
    result r = enter_device("cuDevicePrimaryCtxRelease_v2");
    if (r == SUCCESS && (no_device(device) || fake.retained == 0))
        r = INVALID_DEVICE;
    if (r == SUCCESS && --fake.retained == 0) {
        while (fake.streams != NULL) {
            stream *s = fake.streams;
            fake.streams = s->next;
            queue_clear(&s->work);
            queue_clear(&s->captured);
            free(s);
        }
        queue_clear(&legacy.work);
        while (fake.allocations != NULL)
            release(fake.allocations->given, fake.allocations->pinned);
        fake.lost = SUCCESS;
    }
    return leave(r);
}

API(cuCtxPushCurrent_v2, void *context) {
    result r = enter_device("cuCtxPushCurrent_v2");
    if (r == SUCCESS && (context != &the_context || contexts.depth == 8 || fake.retained == 0))
        r = INVALID_CONTEXT;
    if (r == SUCCESS)
        contexts.stack[contexts.depth++] = context;
    return leave(r);
}

API(cuCtxPopCurrent_v2, void **context) {
    result r = enter_device("cuCtxPopCurrent_v2");
    if (r == SUCCESS && contexts.depth == 0)
        r = INVALID_CONTEXT;
    if (r == SUCCESS) {
        void *popped = contexts.stack[--contexts.depth];
        if (context != NULL)
            *context = popped;
    }
    return leave(r);
}

API(cuCtxSetCurrent, void *context) {
    result r = enter_device("cuCtxSetCurrent");
    if (r == SUCCESS && context != NULL && (context != &the_context || fake.retained == 0))
        r = INVALID_CONTEXT;
    if (r == SUCCESS) {
        contexts.depth = context == NULL ? 0 : 1;
        contexts.stack[0] = context;
    }
    return leave(r);
}

API(cuCtxGetStreamPriorityRange, int *low, int *high) {
    result r = enter("cuCtxGetStreamPriorityRange");
    if (low != NULL)
        *low = 0;
    if (high != NULL)
        *high = -5;
    return leave(r);
}

/* ---- Modules ----------------------------------------------------------------------------------*/

/* What the driver of the PTX version would be: the CUDA release that brought it. */
static int driver_of(int major, int minor) {
    if (major >= 7)
        return (major + 4) * 1000 + minor * 10;
    return major < 6 ? 8000 : minor < 3 ? 9000 + minor * 10 : 10000 + (minor - 3) * 10;
}

/* Where an entry begins, or NULL. */
static const char *entry_of(const char *text, const char *name) {
    char entry[128];
    snprintf(entry, sizeof entry, ".visible .entry %s(", name);
    return strstr(text, entry);
}

/* Bytes of parameters of an entry, 0 if there is no such entry. */
static size_t parameters_of(const char *text, const char *name) {
    char parameter[128];
    snprintf(parameter, sizeof parameter, "%s_param_0[", name);
    const char *at = entry_of(text, name);
    at = at == NULL ? NULL : strstr(at, parameter);
    return at == NULL ? 0 : strtoul(at + strlen(parameter), NULL, 10);
}

/* The threads that registers are there for. */
static uint32_t threads_of(const char *entry) {
    const char *at = strstr(entry, ".maxntid "), *body = strchr(entry, '{');
    return at == NULL || at > body ? EMULATOR_THREADS : (uint32_t)strtoul(at + 9, NULL, 10);
}

static result check_ptx(const char *text, char *why, size_t size) {
    int major = 0, minor = 0, target = 0;
    const char *version = strstr(text, ".version "), *sm = strstr(text, ".target sm_");
    if (version == NULL || sm == NULL || sscanf(version, ".version %d.%d", &major, &minor) != 2 ||
        sscanf(sm, ".target sm_%d", &target) != 1) {
        snprintf(why, size, "no .version and .target: not PTX");
        return INVALID_PTX;
    }
    if (driver_of(major, minor) > (int)setting("DYNOFA_FAKE_CUDA_VERSION", 12040)) {
        snprintf(why, size, "PTX version %d.%d is newer than this driver", major, minor);
        return UNSUPPORTED_PTX_VERSION;
    }
    if (target > (int)setting("DYNOFA_FAKE_CUDA_SM", 87)) {
        snprintf(why, size, "target sm_%d is newer than this device", target);
        return NO_BINARY_FOR_GPU;
    }
    const emulator_kernel *k;
    for (size_t i = 0; (k = emulator_kernel_at(i)) != NULL; i++) {
        size_t bytes = parameters_of(text, k->name);
        if (bytes != 0 && bytes != k->size) {
            snprintf(why, size, "%s takes %zu bytes of parameters, the emulated kernel %zu",
                     k->name, bytes, k->size);
            return INVALID_PTX;
        }
    }
    return SUCCESS;
}

API(cuModuleLoadDataEx, void **out, const void *image, unsigned count, const int *options,
    void **option_values) {
    result r = enter("cuModuleLoadDataEx");
    char why[160] = "";
    if (r == SUCCESS)
        r = while_capturing();
    if (r == SUCCESS)
        r = check_ptx(image, why, sizeof why);
    ptx_module *ptx = NULL;
    if (r == SUCCESS && setting("DYNOFA_FAKE_CUDA_PTX", 0) != 0) {
        ptx = ptx_read(image, why, sizeof why);
        r = ptx == NULL ? INVALID_PTX : SUCCESS;
    }
    module *m = r == SUCCESS ? calloc(1, sizeof *m) : NULL;
    if (m != NULL && (m->text = strdup(image)) != NULL) {
        m->ptx = ptx;
        fake.live++;
        *out = m;
    } else if (r == SUCCESS) {
        ptx_free(ptx);
        free(m);
        r = OUT_OF_MEMORY;
    }
    /* CU_JIT_ERROR_LOG_BUFFER is 5, its size 6. */
    char *log = NULL;
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == 5)
            log = option_values[i];
        if (options[i] == 6)
            size = (size_t)(uintptr_t)option_values[i];
    }
    if (log != NULL && size > 0)
        snprintf(log, size, "%s", why);
    return leave(r);
}

API(cuModuleGetFunction, void **out, module *m, const char *name) {
    static const emulator_kernel nothing = {.name = "nothing"};
    result r = enter("cuModuleGetFunction");
    const char *entry = r == SUCCESS ? entry_of(m->text, name) : NULL;
    if (entry == NULL)
        return leave(r == SUCCESS ? NOT_FOUND : r);
    const emulator_kernel *k;
    size_t i = 0;
    while ((k = emulator_kernel_at(i)) != NULL && strcmp(k->name, name) != 0)
        i++;
    m->functions[i] = (function){k == NULL ? &nothing : k,
                                 k == NULL || m->ptx == NULL ? NULL : ptx_find(m->ptx, name),
                                 EMULATOR_SHARED, threads_of(entry)};
    *out = &m->functions[i];
    return leave(SUCCESS);
}

API(cuModuleUnload, module *m) {
    result r = enter("cuModuleUnload");
    if (r == SUCCESS)
        r = finish_all(1);
    if (m != NULL && (r == SUCCESS || r == fake.lost)) {
        free(m->text);
        ptx_free(m->ptx);
        free(m);
        fake.live--;
    }
    return leave(r);
}

API(cuFuncSetAttribute, function *f, int attribute, int value) {
    result r = enter("cuFuncSetAttribute");
    const int most_shared = 8;
    if (r == SUCCESS && attribute == most_shared && (value < 0 || value > EMULATOR_SHARED))
        r = INVALID_VALUE;
    else if (r == SUCCESS && attribute == most_shared)
        f->most_shared = (uint32_t)value;
    return leave(r);
}

/* ---- Memory -----------------------------------------------------------------------------------*/

API(cuMemGetInfo_v2, size_t *available, size_t *total) {
    result r = enter("cuMemGetInfo_v2");
    *total = setting("DYNOFA_FAKE_CUDA_MEMORY", 4UL << 30);
    *available = *total - fake.used;
    return leave(r);
}

API(cuMemAlloc_v2, address *out, size_t bytes) {
    result r = enter("cuMemAlloc_v2");
    if (r == SUCCESS)
        r = while_capturing();
    return leave(r == SUCCESS ? allocate(out, bytes) : r);
}

/* Waits for the device, as the real one does. */
API(cuMemFree_v2, address device) {
    result r = enter("cuMemFree_v2");
    if (r == SUCCESS)
        r = while_capturing();
    if (r == SUCCESS)
        r = finish_all(1);
    return leave(r == SUCCESS ? release((void *)(uintptr_t)device, 0) : r);
}

API(cuMemHostAlloc, void **out, size_t bytes, unsigned flags) {
    result r = enter("cuMemHostAlloc");
    (void)flags;
    if (r == SUCCESS)
        r = bytes == 0 ? INVALID_VALUE : while_capturing();
    if (r == SUCCESS) {
        const size_t mapped = round_up(bytes, (size_t)sysconf(_SC_PAGESIZE));
        unsigned char *p =
            mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || keep(p, p, bytes, mapped, 1) == NULL)
            r = OUT_OF_MEMORY;
        else
            *out = p;
    }
    return leave(r);
}

API(cuMemFreeHost, void *p) {
    result r = enter("cuMemFreeHost");
    if (r == SUCCESS)
        r = finish_all(1);
    return leave(r == SUCCESS ? release(p, 1) : r);
}

API(cuMemHostGetDevicePointer_v2, address *out, void *p, unsigned flags) {
    result r = enter("cuMemHostGetDevicePointer_v2");
    if (r == SUCCESS && (flags != 0 || allocation_of(p, 1) == NULL))
        r = INVALID_VALUE;
    if (r == SUCCESS)
        *out = (address)(uintptr_t)p;
    return leave(r);
}

static result copy_now(const op *o) {
    result r = while_capturing();
    if (r == SUCCESS)
        r = finish_all(0);
    if (r == SUCCESS && real_of(o->device, o->bytes) == NULL)
        return INVALID_VALUE;
    return r == SUCCESS ? run_op(o) : r;
}

/* Ends when the driver has read the host's memory. */
static result stage(const op *o) {
    op copy = *o;
    result r = while_capturing();
    if (r == SUCCESS)
        r = finish_all(0);
    if (r == SUCCESS && real_of(o->device, o->bytes) == NULL)
        return INVALID_VALUE;
    if (r == SUCCESS && (copy.host = malloc(o->bytes)) == NULL)
        return OUT_OF_MEMORY;
    if (r != SUCCESS)
        return r;
    memcpy(copy.host, o->host, o->bytes);
    copy.staged = 1;
    return queue_add(&legacy.work, &copy);
}

API(cuMemcpyHtoD_v2, address device, const void *host, size_t bytes) {
    result r = enter("cuMemcpyHtoD_v2");
    const op o = {
        .kind = OP_TO_DEVICE, .device = device, .host = (void *)(uintptr_t)host, .bytes = bytes};
    const allocation *a = r == SUCCESS ? allocation_of(host, bytes) : NULL;
    if (r == SUCCESS)
        r = a != NULL && a->pinned ? copy_now(&o) : stage(&o);
    return leave(r);
}

API(cuMemcpyDtoH_v2, void *host, address device, size_t bytes) {
    result r = enter("cuMemcpyDtoH_v2");
    const op o = {.kind = OP_TO_HOST, .device = device, .host = host, .bytes = bytes};
    return leave(r == SUCCESS ? copy_now(&o) : r);
}

static result submit_checked(void *handle, const op *o) {
    return real_of(o->device, o->bytes) == NULL ? INVALID_VALUE : submit(handle, o);
}

API(cuMemcpyHtoDAsync_v2, address device, const void *host, size_t bytes, void *handle) {
    result r = enter("cuMemcpyHtoDAsync_v2");
    const op o = {
        .kind = OP_TO_DEVICE, .device = device, .host = (void *)(uintptr_t)host, .bytes = bytes};
    return leave(r == SUCCESS ? submit_checked(handle, &o) : r);
}

API(cuMemcpyDtoHAsync_v2, void *host, address device, size_t bytes, void *handle) {
    result r = enter("cuMemcpyDtoHAsync_v2");
    const op o = {.kind = OP_TO_HOST, .device = device, .host = host, .bytes = bytes};
    return leave(r == SUCCESS ? submit_checked(handle, &o) : r);
}

API(cuMemcpyDtoDAsync_v2, address device, address from, size_t bytes, void *handle) {
    result r = enter("cuMemcpyDtoDAsync_v2");
    const op o = {.kind = OP_COPY, .device = device, .from = from, .bytes = bytes};
    if (r == SUCCESS && real_of(from, bytes) == NULL)
        r = INVALID_VALUE;
    return leave(r == SUCCESS ? submit_checked(handle, &o) : r);
}

API(cuMemsetD8Async, address device, unsigned char value, size_t bytes, void *handle) {
    result r = enter("cuMemsetD8Async");
    const op o = {.kind = OP_SET, .device = device, .value = value, .bytes = bytes};
    return leave(r == SUCCESS ? submit_checked(handle, &o) : r);
}

/* ---- Streams, events, graphs ------------------------------------------------------------------*/

API(cuStreamCreateWithPriority, void **out, unsigned flags, int priority) {
    result r = enter("cuStreamCreateWithPriority");
    (void)priority; /* any is taken into the range */
    stream *s = r == SUCCESS ? calloc(1, sizeof *s) : NULL;
    if (s == NULL)
        return leave(r == SUCCESS ? OUT_OF_MEMORY : r);
    s->next = fake.streams;
    s->non_blocking = flags & 1;
    s->work.last = &s->work.first;
    s->captured.last = &s->captured.first;
    fake.streams = s;
    fake.live++;
    *out = s;
    return leave(SUCCESS);
}

API(cuStreamDestroy_v2, void *handle) {
    result r = enter("cuStreamDestroy_v2");
    stream *s = stream_of(handle);
    if (s == NULL)
        return leave(r == SUCCESS ? INVALID_HANDLE : r);
    if (r == SUCCESS)
        finish(s);
    for (stream **at = &fake.streams; *at != NULL; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            break;
        }
    queue_clear(&s->work);
    queue_clear(&s->captured);
    free(s);
    fake.live--;
    return leave(r);
}

API(cuStreamSynchronize, void *handle) {
    result r = enter("cuStreamSynchronize");
    if (handle == NULL) {
        if (r == SUCCESS)
            r = while_capturing();
        return leave(r == SUCCESS ? finish_all(0) : r);
    }
    stream *s = stream_of(handle);
    if (r == SUCCESS && s == NULL)
        r = INVALID_HANDLE;
    if (r == SUCCESS && s->capturing) {
        s->invalid = 1;
        r = STREAM_CAPTURE_UNSUPPORTED;
    }
    return leave(r == SUCCESS ? finish(s) : r);
}

API(cuCtxSynchronize, void) {
    result r = enter("cuCtxSynchronize");
    if (r == SUCCESS)
        r = while_capturing();
    return leave(r == SUCCESS ? finish_all(1) : r);
}

API(cuStreamBeginCapture_v2, void *handle, unsigned mode) {
    result r = enter("cuStreamBeginCapture_v2");
    stream *s = stream_of(handle);
    if (r == SUCCESS && s == NULL)
        r = INVALID_HANDLE;
    if (r == SUCCESS && (s->capturing || mode > 2))
        r = s->capturing ? ILLEGAL_STATE : INVALID_VALUE;
    if (r == SUCCESS) {
        s->capturing = 1;
        s->invalid = 0;
        s->mode = mode;
    }
    return leave(r);
}

/* A graph, or one that has been instantiated: work to be given to a stream. */
static result graph_new(void **out, const queue *work) {
    queue *g = calloc(1, sizeof *g);
    if (g == NULL)
        return OUT_OF_MEMORY;
    g->last = &g->first;
    if (queue_add_all(g, work) != SUCCESS) {
        queue_clear(g);
        free(g);
        return OUT_OF_MEMORY;
    }
    fake.live++;
    *out = g;
    return SUCCESS;
}

API(cuStreamEndCapture, void *handle, void **out) {
    result r = enter("cuStreamEndCapture");
    stream *s = stream_of(handle);
    *out = NULL;
    if (r == SUCCESS && s == NULL)
        r = INVALID_HANDLE;
    if (r == SUCCESS && !s->capturing)
        r = ILLEGAL_STATE;
    if (r == SUCCESS && s->invalid)
        r = STREAM_CAPTURE_INVALIDATED;
    if (r == SUCCESS)
        r = graph_new(out, &s->captured);
    if (s != NULL) {
        s->capturing = 0;
        queue_clear(&s->captured);
    }
    return leave(r);
}

API(cuGraphInstantiateWithFlags, void **out, queue *graph, uint64_t flags) {
    result r = enter("cuGraphInstantiateWithFlags");
    if (r == SUCCESS && (graph == NULL || flags != 0))
        r = INVALID_VALUE;
    return leave(r == SUCCESS ? graph_new(out, graph) : r);
}

API(cuGraphUpload, queue *graph, void *handle) {
    result r = enter("cuGraphUpload");
    stream *s = stream_of(handle);
    if (r == SUCCESS && (s == NULL || graph == NULL))
        r = INVALID_HANDLE;
    if (r == SUCCESS && s->capturing) {
        s->invalid = 1;
        r = STREAM_CAPTURE_UNSUPPORTED;
    }
    return leave(r);
}

API(cuGraphLaunch, queue *graph, void *handle) {
    result r = enter("cuGraphLaunch");
    stream *s = stream_of(handle);
    if (r == SUCCESS && (s == NULL || graph == NULL))
        r = INVALID_HANDLE;
    if (r == SUCCESS)
        r = queue_add_all(s->capturing ? &s->captured : &s->work, graph);
    return leave(r);
}

static int graph_free(const char *name, queue *graph) {
    result r = enter(name);
    if (graph == NULL)
        return leave(INVALID_VALUE);
    queue_clear(graph);
    free(graph);
    fake.live--;
    return leave(r);
}

API(cuGraphDestroy, queue *graph) {
    return graph_free("cuGraphDestroy", graph);
}
API(cuGraphExecDestroy, queue *graph) {
    return graph_free("cuGraphExecDestroy", graph);
}

API(cuEventCreate, event **out, unsigned flags) {
    result r = enter("cuEventCreate");
    (void)flags;
    event *e = r == SUCCESS ? calloc(1, sizeof *e) : NULL;
    if (e == NULL)
        return leave(r == SUCCESS ? OUT_OF_MEMORY : r);
    fake.live++;
    *out = e;
    return leave(SUCCESS);
}

API(cuEventDestroy_v2, event *e) {
    result r = enter("cuEventDestroy_v2");
    if (e == NULL)
        return leave(INVALID_HANDLE);
    if (r == SUCCESS && e->pending > 0)
        finish_all(1);
    free(e);
    fake.live--;
    return leave(r);
}

API(cuEventRecord, event *e, void *handle) {
    result r = enter("cuEventRecord");
    stream *s = stream_of(handle);
    const op o = {.kind = OP_RECORD, .event = e};
    if (r == SUCCESS && (e == NULL || s == NULL))
        r = INVALID_HANDLE;
    if (r == SUCCESS && s->capturing)
        return leave(STREAM_CAPTURE_UNSUPPORTED); /* would be a dependency, which is not emulated */
    if (r == SUCCESS)
        r = submit(handle, &o);
    if (r == SUCCESS) {
        e->recorded = 1;
        e->pending++;
    }
    return leave(r);
}

API(cuEventSynchronize, event *e) {
    result r = enter("cuEventSynchronize");
    if (r == SUCCESS)
        r = while_capturing();
    return leave(r == SUCCESS && e->pending > 0 ? finish_all(1) : r);
}

API(cuEventElapsedTime, float *milliseconds, event *from, event *to) {
    result r = enter("cuEventElapsedTime");
    if (r == SUCCESS && (!from->recorded || !to->recorded))
        r = INVALID_HANDLE;
    if (r == SUCCESS && (from->pending > 0 || to->pending > 0))
        r = NOT_READY;
    if (r == SUCCESS)
        *milliseconds = (float)((to->at - from->at) * 1e3);
    return leave(r);
}

API(cuLaunchKernel, function *f, unsigned grid_x, unsigned grid_y, unsigned grid_z,
    unsigned block_x, unsigned block_y, unsigned block_z, unsigned shared, void *handle,
    void **parameters, void **extra) {
    result r = enter("cuLaunchKernel");
    op o = {.kind = OP_KERNEL,
            .function = f,
            .grid = {grid_x, grid_y, grid_z},
            .threads = block_x,
            .shared = (uint32_t)round_up(shared, 16)};
    if (r == SUCCESS && (f == NULL || f->kernel == NULL))
        r = INVALID_HANDLE;
    if (r == SUCCESS &&
        (parameters == NULL || extra != NULL || grid_x == 0 || grid_y == 0 || grid_z == 0 ||
         grid_y > 65535 || grid_z > 65535 || block_x == 0 || block_x > f->most_threads ||
         block_y != 1 || block_z != 1 || shared > f->most_shared))
        r = INVALID_VALUE;
    if (r == SUCCESS) {
        memcpy(o.args, parameters[0], f->kernel->size);
        r = submit(handle, &o);
    }
    return leave(r);
}

/* For tests: what has been made and not yet destroyed, contexts among it. */
EXPORT long fake_cuda_live(void);
EXPORT long fake_cuda_live(void) {
    pthread_mutex_lock(&lock);
    long live = fake.live + (long)fake.retained;
    pthread_mutex_unlock(&lock);
    return live;
}
