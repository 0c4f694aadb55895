#define _GNU_SOURCE /* affinity, syscall */

#include "pool.h"

#include <sched.h>
#include <string.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* About 50 us: longer than the parts of a run, so that a sleep means a run that is over or a core
 * that is not ours. */
enum { SPINS = 4000 };

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#ifdef __linux__
static void sleep_on(atomic_uint *word, unsigned value) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void wake_all(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}
#else
static void sleep_on(atomic_uint *word, unsigned value) {
    (void)word, (void)value;
    sched_yield();
}

static void wake_all(atomic_uint *word) {
    (void)word;
}
#endif

/* Waits until *word is no longer value. The waiter announces itself in *asleep before it looks a
 * last time, and the other side writes *word before it looks at *asleep, all in one total order, so
 * one of them sees the other. */
static void wait_change(atomic_uint *word, unsigned value, atomic_uint *asleep) {
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value)
            return;
        relax();
    }
    atomic_fetch_add(asleep, 1);
    while (atomic_load(word) == value)
        sleep_on(word, value);
    atomic_fetch_sub(asleep, 1);
}

static void *work(void *argument) {
    worker *w = argument;
    for (unsigned seen = 0;; seen++) {
        wait_change(&w->go, seen, &w->asleep);
        if (w->owner->end)
            return NULL;
        w->owner->job(w->owner->argument, w->number);
        pool_barrier(w->owner);
    }
}

static void send(worker *w) {
    atomic_fetch_add(&w->go, 1);
    if (atomic_load(&w->asleep) != 0)
        wake_all(&w->go);
}

#ifdef __linux__
/* The CPU of thread i, 1 and up: the set bits of the mask in turn. */
static int pin(pthread_t thread, uint64_t mask, uint32_t i) {
    cpu_set_t set;
    uint32_t bits = 0, cpu = 0;
    for (uint64_t m = mask; m != 0; m &= m - 1)
        bits++;
    for (uint32_t left = (i - 1) % bits;; cpu++)
        if (mask >> cpu & 1 && left-- == 0)
            break;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(thread, sizeof set, &set);
}
#else
static int pin(pthread_t thread, uint64_t mask, uint32_t i) {
    (void)thread, (void)mask, (void)i;
    return 0;
}
#endif

dynofa_status pool_start(pool *p, uint32_t threads, uint64_t affinity, failure *f) {
    p->threads = 1;
    for (uint32_t i = 1; i < threads; i++) {
        worker *w = &p->worker[i - 1];
        w->owner = p;
        w->number = i;
        int error = pthread_create(&w->thread, NULL, work, w);
        if (error == 0)
            p->started++;
        if (error == 0 && affinity != 0)
            error = pin(w->thread, affinity, i);
        if (error != 0) {
            pool_stop(p);
            return fail(f, DYNOFA_E_THREAD, "thread %u of %u cannot be started or pinned: error %d",
                        (unsigned)i, (unsigned)threads, error);
        }
    }
    return DYNOFA_OK;
}

void pool_stop(pool *p) {
    p->end = true;
    for (uint32_t i = 0; i < p->started; i++)
        send(&p->worker[i]);
    for (uint32_t i = 0; i < p->started; i++)
        pthread_join(p->worker[i].thread, NULL);
    p->started = 0;
}

void pool_barrier(pool *p) {
    /* Read first: once this thread has arrived, the caller may be past the last barrier of a run
     * and at the next, with another number of threads. */
    const uint32_t threads = p->threads;
    if (threads == 1) {
        atomic_store_explicit(&p->claimed, 0, memory_order_relaxed);
        return;
    }
    unsigned passed = atomic_load_explicit(&p->passed, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&p->arrived, 1, memory_order_acq_rel) + 1 < threads) {
        wait_change(&p->passed, passed, &p->sleepers);
        return;
    }
    atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&p->claimed, 0, memory_order_relaxed);
    atomic_store(&p->passed, passed + 1);
    if (atomic_load(&p->sleepers) != 0)
        wake_all(&p->passed);
}

void pool_run(pool *p, uint32_t threads, pool_job job, void *argument) {
    p->threads = threads;
    p->job = job;
    p->argument = argument;
    for (uint32_t i = 1; i < threads; i++)
        send(&p->worker[i - 1]);
    job(argument, 0);
    pool_barrier(p);
}
