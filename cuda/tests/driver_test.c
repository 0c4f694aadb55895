/* The emulated driver itself: a tiny run through a graph with the committed PTX, what is too early,
 * what is out of bounds, and every way it can be made to fail. See ../README.md. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dync.h"

static int failures;
static void *library;

static void expect(long got, long want, const char *what) {
    if (got == want)
        return;
    printf("FAIL %s: %ld, expected %ld\n", what, got, want);
    failures++;
}

/* CALL(cuInit, 0): calls an entry by name; all arguments as what fits an int or a pointer. */
static void *entry(const char *name) {
    void *p = dlsym(library, name);
    if (p == NULL) {
        printf("FAIL there is no %s\n", name);
        exit(1);
    }
    return p;
}
#define CALL(name, types, ...) ((*(int(**) types)(void *[]){entry(#name)})(__VA_ARGS__))
#define OK(name, types, ...)   expect(CALL(name, types, __VA_ARGS__), 0, #name)

static char *read_file(const char *path) {
    FILE *f = fopen(path, "r");
    char *text = calloc(1, 4 << 20);
    if (f == NULL || text == NULL || fread(text, 1, (4 << 20) - 1, f) == 0) {
        printf("FAIL cannot read %s\n", path);
        exit(1);
    }
    fclose(f);
    return text;
}

static void fail_next(const char *plan) {
    setenv("DYNOFA_FAKE_CUDA_FAIL", plan, 1);
}

/* Does the host die of it? */
#define DIES(expression)                                                                           \
    __extension__({                                                                                \
        int status = 0;                                                                            \
        pid_t child = fork();                                                                      \
        if (child == 0)                                                                            \
            _exit((expression) != 0);                                                              \
        waitpid(child, &status, 0);                                                                \
        !WIFEXITED(status);                                                                        \
    })

enum { AREA = 5, CHANNELS = 8 };

int main(int argc, char **argv) {
    library = argc == 4 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (library == NULL) {
        printf("usage: driver_test libcuda.so.1 dync.ptx dync_sm80.ptx: %s\n",
               argc == 4 ? dlerror() : "");
        return 2;
    }
    char *ptx = read_file(argv[2]), *ptx_sm80 = read_file(argv[3]);
    void *context = NULL, *module = NULL, *module_sm80 = NULL, *function = NULL, *stream = NULL,
         *graph = NULL, *exec = NULL, *event[2] = {NULL, NULL};
    int number = 0;
    uint64_t x = 0, y = 0;

    expect(CALL(cuDeviceGetCount, (int *), &number), 3, "cuDeviceGetCount before cuInit");
    setenv("DYNOFA_FAKE_CUDA_DEVICES", "0", 1);
    expect(CALL(cuInit, (unsigned), 0), 100, "cuInit without a device");
    unsetenv("DYNOFA_FAKE_CUDA_DEVICES");
    OK(cuInit, (unsigned), 0);
    setenv("DYNOFA_FAKE_CUDA_VERSION", "10020", 1);
    OK(cuDriverGetVersion, (int *), &number);
    expect(number, 10020, "the version");
    unsetenv("DYNOFA_FAKE_CUDA_VERSION");
    expect(CALL(cuMemAlloc_v2, (uint64_t *, size_t), &x, 16), 201, "cuMemAlloc_v2 without context");
    OK(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    OK(cuCtxPushCurrent_v2, (void *), context);

    /* PTX that does not suit. */
    setenv("DYNOFA_FAKE_CUDA_SM", "50", 1);
    expect(CALL(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, ptx,
                0, NULL, NULL),
           209, "a device that is too old");
    unsetenv("DYNOFA_FAKE_CUDA_SM");
    setenv("DYNOFA_FAKE_CUDA_VERSION", "8000", 1);
    expect(CALL(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, ptx,
                0, NULL, NULL),
           222, "a driver that is too old");
    unsetenv("DYNOFA_FAKE_CUDA_VERSION");
    char log[128] = "";
    int options[] = {5, 6};
    void *values[] = {log, (void *)(uintptr_t)sizeof log};
    expect(CALL(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, "x",
                2, options, values),
           218, "text that is not PTX");
    expect(strstr(log, "not PTX") != NULL, 1, "the log of text that is not PTX");
    OK(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, ptx, 0, NULL,
       NULL);
    setenv("DYNOFA_FAKE_CUDA_SM", "75", 1);
    expect(CALL(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module_sm80,
                ptx_sm80, 0, NULL, NULL),
           209, "a device without tensor cores");
    unsetenv("DYNOFA_FAKE_CUDA_SM");
    OK(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module_sm80,
       ptx_sm80, 0, NULL, NULL);
    static const char *const names[] = {
#define DYNC_KERNEL(op, name, precision) "dync_" #name,
#include "cuda.inc"
#undef DYNC_KERNEL
    };
    for (size_t i = 0; i < DYNC_ENTRIES; i++) /* in the one or in the other */
        expect(CALL(cuModuleGetFunction, (void **, void *, const char *), &function, module,
                    names[i]) +
                   CALL(cuModuleGetFunction, (void **, void *, const char *), &function,
                        module_sm80, names[i]),
               500, names[i]);
    expect(
        CALL(cuModuleGetFunction, (void **, void *, const char *), &function, module, "dync_none"),
        500, "a kernel that is not there");
    OK(cuModuleGetFunction, (void **, void *, const char *), &function, module, "dync_average");

    /* Memory. */
    setenv("DYNOFA_FAKE_CUDA_MEMORY", "1000", 1);
    expect(CALL(cuMemAlloc_v2, (uint64_t *, size_t), &x, 1001), 2, "more than there is");
    unsetenv("DYNOFA_FAKE_CUDA_MEMORY");
    fail_next("cuMemAlloc_v2:2");
    OK(cuMemAlloc_v2, (uint64_t *, size_t), &x, AREA * CHANNELS * sizeof(float));
    expect(CALL(cuMemAlloc_v2, (uint64_t *, size_t), &y, 16), 2, "the second call, to fail");
    OK(cuMemAlloc_v2, (uint64_t *, size_t), &y, CHANNELS * sizeof(float));
    expect((long)(x % 256), 0, "alignment");
    expect(DIES(*(volatile char *)(uintptr_t)x), 1, "a host that reads device memory");
    float *host = NULL, in[AREA * CHANNELS], none[CHANNELS + 1];
    OK(cuMemHostAlloc, (void **, size_t, unsigned), (void **)(void *)&host, sizeof none, 0);
    for (int i = 0; i < AREA * CHANNELS; i++)
        in[i] = (float)(i % CHANNELS);
    expect(CALL(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t), y, none, sizeof none), 1,
           "a copy past the end");
    OK(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t), x, in, sizeof in);

    /* A graph. */
    dync_average_args a = {.n = 1, .area = AREA, .channels = CHANNELS, .x_pix = CHANNELS};
    memcpy(&a.x, &x, sizeof x);
    memcpy(&a.y, &y, sizeof y);
    const dync_launch l = dync_average_launch(&a);
    void *parameters[] = {&a};
    OK(cuStreamCreateWithPriority, (void **, unsigned, int), &stream, 1, 0);
    OK(cuStreamBeginCapture_v2, (void *, unsigned), stream, 1);
    expect(CALL(cuStreamSynchronize, (void *), stream), 900, "waiting for a capture");
    expect(CALL(cuStreamEndCapture, (void *, void **), stream, &graph), 901, "its end");
    OK(cuStreamBeginCapture_v2, (void *, unsigned), stream, 1);
#define LAUNCH(threads)                                                                            \
    CALL(cuLaunchKernel,                                                                           \
         (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,    \
          void **, void **),                                                                       \
         function, l.grid[0], l.grid[1], l.grid[2], threads, 1, 1, l.shared, stream, parameters,   \
         NULL)
    expect(LAUNCH(2 * l.threads), 1, "more threads than the kernel has registers for");
    expect(LAUNCH(l.threads), 0, "cuLaunchKernel");
    OK(cuMemcpyDtoHAsync_v2, (void *, uint64_t, size_t, void *), host, y, CHANNELS * sizeof(float),
       stream);
    OK(cuStreamEndCapture, (void *, void **), stream, &graph);
    OK(cuGraphInstantiateWithFlags, (void **, void *, uint64_t), &exec, graph, 0);
    OK(cuGraphDestroy, (void *), graph);
    OK(cuGraphLaunch, (void *, void *), exec, stream);
    OK(cuStreamSynchronize, (void *), stream);
    expect(host[1] == host[1], 0, "a stream that did not wait for a copy from pages");
    OK(cuStreamSynchronize, (void *), NULL);
    memset(host, 0xFF, sizeof none);
    a.x = (const float *)((const char *)a.x + sizeof *a.x);
    expect(DIES(LAUNCH(l.threads) || CALL(cuStreamSynchronize, (void *), stream)), 1,
           "four floats where they cannot lie");
    memset(&a, 0, sizeof a); /* the launch has its own */
    for (int i = 0; i < 2; i++)
        OK(cuEventCreate, (void **, unsigned), &event[i], 0);
    float milliseconds = -1;
    OK(cuEventRecord, (void *, void *), event[0], stream);
    OK(cuGraphLaunch, (void *, void *), exec, stream);
    OK(cuEventRecord, (void *, void *), event[1], stream);
    expect(host[1] == host[1], 0, "a result before it was waited for");
    expect(CALL(cuEventElapsedTime, (float *, void *, void *), &milliseconds, event[0], event[1]),
           600, "a time before it was waited for");
    OK(cuStreamSynchronize, (void *), stream);
    OK(cuEventElapsedTime, (float *, void *, void *), &milliseconds, event[0], event[1]);
    expect(milliseconds >= 0, 1, "the time");
    for (int i = 0; i < CHANNELS; i++)
        expect((long)host[i], i, "a mean of the graph");

    /* Loss: of a kernel that is given no device memory, and as asked for; a new context mends it.
     */
    setenv("DYNOFA_FAKE_CUDA_LOST", "3", 1);
    OK(cuGraphLaunch, (void *, void *), exec, stream);
    expect(CALL(cuStreamSynchronize, (void *), stream), 719, "the lost device");
    expect(CALL(cuMemAlloc_v2, (uint64_t *, size_t), &x, 16), 719, "any call after that");
    unsetenv("DYNOFA_FAKE_CUDA_LOST");
    CALL(cuModuleUnload, (void *), module);
    CALL(cuModuleUnload, (void *), module_sm80);
    CALL(cuGraphExecDestroy, (void *), exec);
    for (int i = 0; i < 2; i++)
        CALL(cuEventDestroy_v2, (void *), event[i]);
    CALL(cuStreamDestroy_v2, (void *), stream);
    OK(cuCtxPopCurrent_v2, (void **), &context);
    OK(cuDevicePrimaryCtxRelease_v2, (int), 0);
    expect((*(long (**)(void))(void *[]){entry("fake_cuda_live")})(), 0, "what is left");
    OK(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    OK(cuCtxPushCurrent_v2, (void *), context);
    OK(cuMemAlloc_v2, (uint64_t *, size_t), &x, 16);
    OK(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, ptx, 0, NULL,
       NULL);
    OK(cuModuleGetFunction, (void **, void *, const char *), &function, module, "dync_average");
    OK(cuStreamCreateWithPriority, (void **, unsigned, int), &stream, 1, 0);
    a = (dync_average_args){.x = in, .n = 1, .area = AREA, .channels = CHANNELS, .x_pix = CHANNELS};
    expect(LAUNCH(l.threads), 0, "a launch with host memory");
    expect(CALL(cuStreamSynchronize, (void *), stream), 700, "a kernel on host memory");

    /* The PTX, run itself, in a new context. */
    OK(cuDevicePrimaryCtxRelease_v2, (int), 0);
    OK(cuDevicePrimaryCtxRetain, (void **, int), &context, 0);
    OK(cuCtxPushCurrent_v2, (void *), context);
    setenv("DYNOFA_FAKE_CUDA_PTX", "1", 1);
    char *broken = strdup(ptx);
    memcpy(strstr(broken, "bar.sync"), "bar.sink", 8);
    expect(CALL(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module,
                broken, 2, options, values),
           218, "an instruction that there is not");
    expect(strstr(log, "bar.sink is not understood") != NULL, 1, "the log of that");
    free(broken);
    OK(cuModuleLoadDataEx, (void **, const void *, unsigned, int *, void **), &module, ptx, 0, NULL,
       NULL);
    OK(cuModuleGetFunction, (void **, void *, const char *), &function, module, "dync_average");
    OK(cuStreamCreateWithPriority, (void **, unsigned, int), &stream, 1, 0);
    OK(cuMemAlloc_v2, (uint64_t *, size_t), &x, sizeof in);
    OK(cuMemAlloc_v2, (uint64_t *, size_t), &y, CHANNELS * sizeof(float));
    OK(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t), x, in, sizeof in);
    OK(cuStreamSynchronize, (void *), NULL);
    a = (dync_average_args){.n = 1, .area = AREA, .channels = CHANNELS, .x_pix = CHANNELS};
    memcpy(&a.x, &x, sizeof x);
    memcpy(&a.y, &y, sizeof y);
    expect(LAUNCH(l.threads), 0, "a launch of PTX");
    OK(cuMemcpyDtoHAsync_v2, (void *, uint64_t, size_t, void *), in, y, CHANNELS * sizeof(float),
       stream);
    OK(cuStreamSynchronize, (void *), stream);
    for (int i = 0; i < CHANNELS; i++)
        expect((long)in[i], i, "a mean of the PTX");
    a.area++;
    expect(LAUNCH(l.threads), 0, "a launch of PTX past the end");
    expect(CALL(cuStreamSynchronize, (void *), stream), 700, "PTX past the end of memory");
    printf("%s the emulated driver\n", failures == 0 ? "ok" : "FAIL");
    free(ptx);
    free(ptx_sm80);
    return failures > 0;
}
