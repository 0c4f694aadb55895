/* A session's threads. They spin for a moment where they wait, then sleep; one job at a time. */
#ifndef DYNOFA_POOL_H
#define DYNOFA_POOL_H

#include <pthread.h>
#include <stdatomic.h>

#include "internal.h"

typedef void (*pool_job)(void *argument, uint32_t thread);

typedef struct pool pool;

typedef struct worker {
    /* Its own cache line: the caller writes go, and only this thread spins on it. */
    _Alignas(DYNK_ALIGN) atomic_uint go; /* counts jobs */
    atomic_uint asleep;
    pool *owner;
    uint32_t number;
    pthread_t thread;
} worker;

struct pool {
    worker *worker; /* [started], those of threads 1 to started */
    uint32_t started, threads;
    pool_job job;
    void *argument;
    bool end;
    _Alignas(DYNK_ALIGN) atomic_uint claimed; /* tiles handed out since the last barrier */
    _Alignas(DYNK_ALIGN) atomic_uint arrived;
    _Alignas(DYNK_ALIGN) atomic_uint passed; /* counts barriers */
    atomic_uint sleepers;
};

/* Starts threads - 1 threads into p->worker, which has room for them. */
dynofa_status pool_start(pool *p, uint32_t threads, uint64_t affinity, failure *f);
void pool_stop(pool *p);

/* Calls job for threads 0 (the caller) to threads - 1 at once. It ends with a barrier. */
void pool_run(pool *p, uint32_t threads, pool_job job, void *argument);

/* Inside a job: waits for all threads of it, and starts tiles anew. */
void pool_barrier(pool *p);

/* Inside a job: the next tile that no thread has. */
static inline uint32_t pool_claim(pool *p) {
    if (p->threads == 1) { /* no other thread: save the locked instruction */
        uint32_t tile = atomic_load_explicit(&p->claimed, memory_order_relaxed);
        atomic_store_explicit(&p->claimed, tile + 1, memory_order_relaxed);
        return tile;
    }
    return atomic_fetch_add_explicit(&p->claimed, 1, memory_order_relaxed);
}

#endif
