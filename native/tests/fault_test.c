/* What the system refuses: fault_test BUNDLE. Linked with --wrap, so that the n-th call of a
 * function fails, for every n; nothing may leak, and what was there goes on working. */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dynofa.h"
#include "test.h"

/* ---- The functions, and the call of each that fails -------------------------------------------*/

typedef struct fault {
    int calls, fail_at; /* from 1; 0 for none */
} fault;

static fault of_thread, of_pin, of_map, of_heap, of_read;
static long live; /* blocks of mmap and the heap */

static int fails(fault *f) {
    return ++f->calls == f->fail_at;
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *x) {
    return fails(&of_thread) ? EAGAIN : __real_pthread_create(t, a, f, x);
}

int __real_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *set);
int __wrap_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *set);
int __wrap_pthread_setaffinity_np(pthread_t t, size_t n, const cpu_set_t *set) {
    return fails(&of_pin) ? EINVAL : __real_pthread_setaffinity_np(t, n, set);
}

void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset) {
    errno = ENOMEM;
    return fails(&of_map) ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}

void *__real_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size) {
    if (fails(&of_heap))
        return NULL;
    live++;
    return __real_aligned_alloc(align, size);
}

void __real_free(void *p);
void __wrap_free(void *p);
void __wrap_free(void *p) {
    live -= p != NULL;
    __real_free(p);
}

/* Short reads and interruptions are no failures. */
ssize_t __real_pread(int fd, void *into, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *into, size_t size, off_t at);
ssize_t __wrap_pread(int fd, void *into, size_t size, off_t at) {
    if (fails(&of_read)) {
        errno = EIO;
        return -1;
    }
    if (of_read.calls % 3 == 1) {
        errno = EINTR;
        return -1;
    }
    return __real_pread(fd, into, size > 1000 ? 1000 : size, at);
}

static int threads_now(void) {
    DIR *d = opendir("/proc/self/task");
    int n = 0;
    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n - 2;
}

/* ---- Tests ------------------------------------------------------------------------------------*/

/* Opening fails with this status for the first failing calls one by one, then for ever rarer ones,
 * until it needs no more of them. */
static void test_open(const char *path, fault *f, dynofa_status expected, int at_least) {
    int at = 1;
    dynofa_status status;
    do {
        dynofa_model *m = NULL;
        long before = live;
        *f = (fault){0, at};
        status = dynofa_model_open(path, NULL, &m);
        bool failed = f->calls >= at;
        f->fail_at = 0;
        CHECK((m != NULL) == (status == DYNOFA_OK));
        CHECK(status == (failed ? expected : DYNOFA_OK));
        dynofa_model_free(&m);
        CHECK(live == before);
        at += 1 + at / 32;
    } while (status != DYNOFA_OK && at < 100000);
    CHECK(at > at_least);
}

static void test_session(const char *path, fault *f, dynofa_status expected, uint64_t affinity) {
    enum { THREADS = 4 };
    dynofa_model *m = NULL;
    CHECK_OK(dynofa_model_open(path, NULL, &m));
    dynofa_config config;
    dynofa_config_init(&config);
    config.threads = THREADS;
    config.affinity = affinity;
    for (int at = 1; at < THREADS; at++) {
        dynofa_session *s = NULL;
        long before = live;
        *f = (fault){0, at};
        CHECK_IS(dynofa_session_new(m, &config, &s), expected);
        f->fail_at = 0;
        CHECK(s == NULL && strstr(dynofa_error(), "thread") != NULL);
        CHECK(live == before && threads_now() == 1);
    }
    dynofa_session *s = NULL;
    CHECK_OK(dynofa_session_new(m, &config, &s));
    CHECK(threads_now() == THREADS);
    dynofa_session_info now = {.struct_size = sizeof now};
    dynofa_model_info info = {.struct_size = sizeof info};
    CHECK_OK(dynofa_session_describe(s, &now));
    CHECK_OK(dynofa_model_describe(m, &info));
    float *image = calloc(now.image_floats, sizeof *image);
    float *logits = calloc(info.classes, sizeof *logits);
    CHECK_OK(dynofa_session_run(s, image, now.image_floats, logits, info.classes));
    dynofa_session_free(&s);
    CHECK(threads_now() == 1);
    dynofa_model_free(&m);
    free(image);
    free(logits);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: fault_test BUNDLE\n");
        return 2;
    }
    test_open(argv[1], &of_read, DYNOFA_E_FILE, 100);
    test_open(argv[1], &of_heap, DYNOFA_E_MEMORY, 4);
    test_open(argv[1], &of_map, DYNOFA_E_MEMORY, 0);
    test_session(argv[1], &of_thread, DYNOFA_E_THREAD, 0);
    uint64_t cpus = 0;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int i = 0; i < 64; i++)
            cpus |= CPU_ISSET(i, &set) ? UINT64_C(1) << i : 0;
    test_session(argv[1], &of_pin, DYNOFA_E_THREAD, cpus);
    return test_result();
}
