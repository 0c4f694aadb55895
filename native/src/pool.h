/* A session's threads. The caller of a run goes through its steps; the tiles of a step are shared
 * with whichever threads are awake. No thread waits for one that holds no tile, so a thread that
 * the system has put aside costs nothing but its help. A caller who had to wait for the last tiles
 * longer than it had worked goes on alone for a while, ever longer as that repeats: another process
 * has the core. */
#ifndef DYNOFA_POOL_H
#define DYNOFA_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "internal.h"

/* Tile `tile` of a step, on thread `thread`, 0 being the caller. */
typedef void (*pool_tile)(void *argument, uint32_t thread, uint32_t tile);

typedef struct pool pool;

typedef struct worker {
    pool *owner;
    uint32_t number;
    bool pinned; /* by the caller's choice */
    pthread_t thread;
} worker;

struct pool {
    worker *worker; /* [started], those of threads 1 to started */
    uint32_t started;
    pid_t process; /* that has the threads: the child of a fork has none */
    /* The step in hand. It stands still while any of its tiles is out. */
    pool_tile tile;
    void *argument;
    uint32_t first; /* number of its first tile */
    /* The caller's: until when it works alone, by pool_now, and for how long next time. */
    uint64_t alone_until, alone_for;
    /* Each on a cache line of its own, as threads spin on one and write to another. */
    _Alignas(DYNK_ALIGN)
        atomic_uint_least64_t word;           /* step's number, its tiles, tiles handed out */
    _Alignas(DYNK_ALIGN) atomic_uint step;    /* counts steps; workers wait on it */
    atomic_uint sleepers;                     /* workers that may sleep on step */
    atomic_int caller_cpu;                    /* where the caller was when the run began */
    _Alignas(DYNK_ALIGN) atomic_uint done;    /* tiles of the step; the caller waits on it */
    atomic_uint waiting;                      /* the caller may sleep on done */
    _Alignas(DYNK_ALIGN) atomic_uint threads; /* of a step; those past it wait on it */
    atomic_bool end;
};

/* Starts threads - 1 threads into p->worker, which has room for them. */
dynofa_status pool_start(pool *p, uint32_t threads, uint64_t affinity, failure *f);
void pool_stop(pool *p);

/* Sets the number of threads of the following steps, 1 to those started with. Between steps. */
void pool_set_threads(pool *p, uint32_t threads);

/* Nanoseconds of a steady clock. */
uint64_t pool_now(void);

/* Tells workers where the caller is. */
void pool_begin(pool *p);

/* Does all tiles of a step and returns when they are done. */
void pool_run(pool *p, uint32_t tiles, pool_tile tile, void *argument);

#endif
