#define _GNU_SOURCE /* affinity, syscall */

#include "pool.h"

#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
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

enum { MOST_TILES = UINT16_MAX / 2 };

/* The word: 32 bits of the step's number, so that a word of an old step is never taken for one of
 * the next; 16 of its tiles; 16 of those handed out, with room for one vain claim a thread. */
static uint32_t tiles_of(uint64_t word) {
    return (uint32_t)(word >> 16) & UINT16_MAX;
}
static uint32_t next_of(uint64_t word) {
    return (uint32_t)word & UINT16_MAX;
}

/* Does tiles until none is left to take. */
static void help(pool *p, uint32_t thread) {
    for (;;) {
        uint64_t word = atomic_load_explicit(&p->word, memory_order_relaxed);
        if (next_of(word) >= tiles_of(word))
            return;
        /* Between load and add the step may have changed: what counts is what the add found. */
        word = atomic_fetch_add_explicit(&p->word, 1, memory_order_acquire);
        if (next_of(word) >= tiles_of(word))
            return;
        p->tile(p->argument, thread, p->first + next_of(word));
        if (atomic_fetch_add(&p->done, 1) + 1 == tiles_of(word) && atomic_load(&p->waiting) != 0)
            wake_all(&p->done);
    }
}

void pool_begin(pool *p) {
#ifdef __linux__
    atomic_store_explicit(&p->caller_cpu, sched_getcpu(), memory_order_relaxed);
#else
    (void)p;
#endif
}

#ifdef __linux__
/* Systems that do not know which cores share a cache (virtual machines often) wake a thread on the
 * core of the one that woke it, though others are idle; there it could only take the caller's time.
 */
static void keep_away(const worker *w, const cpu_set_t *inherited) {
    int cpu = atomic_load_explicit(&w->owner->caller_cpu, memory_order_relaxed);
    if (w->pinned || cpu < 0 || sched_getcpu() != cpu)
        return;
    cpu_set_t allowed = *inherited;
    CPU_CLR((unsigned)cpu, &allowed);
    if (CPU_COUNT(&allowed) > 0)
        (void)pthread_setaffinity_np(pthread_self(), sizeof allowed, &allowed);
}
#endif

static void *work(void *argument) {
    worker *w = argument;
    pool *p = w->owner;
#ifdef __linux__
    cpu_set_t inherited;
    if (pthread_getaffinity_np(pthread_self(), sizeof inherited, &inherited) != 0)
        CPU_ZERO(&inherited);
#endif
    for (;;) {
        unsigned step = atomic_load_explicit(&p->step, memory_order_acquire);
        unsigned threads = atomic_load_explicit(&p->threads, memory_order_acquire);
        if (atomic_load_explicit(&p->end, memory_order_acquire))
            return NULL;
        if (w->number >= threads) {
            sleep_on(&p->threads, threads);
            continue;
        }
#ifdef __linux__
        keep_away(w, &inherited);
#endif
        help(p, w->number);
        wait_change(&p->step, step, &p->sleepers);
    }
}

/* Makes what was stored before visible to workers, asleep or not. */
static void announce(pool *p) {
    atomic_fetch_add(&p->step, 1);
    if (atomic_load(&p->sleepers) != 0)
        wake_all(&p->step);
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
    atomic_store(&p->threads, 1);
    atomic_store(&p->caller_cpu, -1);
    p->process = getpid();
    for (uint32_t i = 1; i < threads; i++) {
        worker *w = &p->worker[i - 1];
        w->owner = p;
        w->number = i;
        w->pinned = affinity != 0;
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
    atomic_store(&p->end, true);
    pool_set_threads(p, p->started + 2); /* another number, so that nobody goes on sleeping on it */
    announce(p);
    for (uint32_t i = 0; i < p->started && p->process == getpid(); i++)
        pthread_join(p->worker[i].thread, NULL);
    p->started = 0;
}

void pool_set_threads(pool *p, uint32_t threads) {
    if (atomic_exchange(&p->threads, threads) != threads && p->started > 0)
        wake_all(&p->threads);
}

uint64_t pool_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Between 10 ms, a few slices of the scheduler, and 1 s. */
enum { ALONE_LEAST = 10000000, ALONE_MOST = 1000000000, PATIENCE = 100000 };

/* What the wait for the last tiles tells of the other cores. */
static void judge(pool *p, uint64_t began, uint64_t waited_from) {
    uint64_t now = pool_now(), waited = now - waited_from;
    if (waited > PATIENCE && waited > waited_from - began) {
        p->alone_for = size_min(size_max(2 * p->alone_for, ALONE_LEAST), ALONE_MOST);
        p->alone_until = now + p->alone_for;
    } else {
        p->alone_for -= p->alone_for / 256; /* forgets within some runs */
    }
}

/* At most MOST_TILES tiles from first on. */
static void share(pool *p, uint64_t began, uint32_t first, uint32_t tiles, pool_tile tile,
                  void *argument) {
    unsigned step = atomic_load_explicit(&p->step, memory_order_relaxed);
    p->tile = tile;
    p->argument = argument;
    p->first = first;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    atomic_store_explicit(&p->word, (uint64_t)step << 32 | (uint64_t)tiles << 16,
                          memory_order_release);
    announce(p);
    help(p, 0);
    uint64_t waited_from = pool_now();
    for (unsigned done; (done = atomic_load_explicit(&p->done, memory_order_acquire)) < tiles;)
        wait_change(&p->done, done, &p->waiting);
    judge(p, began, waited_from);
}

void pool_run(pool *p, uint32_t tiles, pool_tile tile, void *argument) {
    uint32_t i = 0;
    if (tiles > 1 && atomic_load_explicit(&p->threads, memory_order_relaxed) > 1)
        for (uint64_t now; i < tiles && (now = pool_now()) >= p->alone_until; i += MOST_TILES)
            share(p, now, i, (uint32_t)size_min(MOST_TILES, tiles - i), tile, argument);
    for (; i < tiles; i++)
        tile(argument, 0, i);
}
