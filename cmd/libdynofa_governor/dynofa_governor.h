/* The governor of dynofa for programs in C: which level to run next, so that deadlines hold.
 *
 *   dynofa_governor g = 0;
 *   char why[200];
 *   if (dynofa_governor_new(&config, &g, why, sizeof why) != DYNOFA_GOVERNOR_OK) puts(why);
 *   for (;;) {
 *       int32_t level = dynofa_governor_next(g);
 *       dynofa_session_select(session, (uint32_t)level);
 *       ... run and measure ...
 *       dynofa_governor_observe(g, milliseconds);
 *   }
 *   dynofa_governor_free(&g);
 *
 * next, next_within and observe of one governor are called by one thread at a time; the other calls
 * by any. The library holds a Go runtime, with threads and signal handlers of its own: what that
 * means for signals, fork and dlclose is in the README. */
#ifndef DYNOFA_GOVERNOR_H
#define DYNOFA_GOVERNOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A governor; 0 is none. Handles are not used again. */
typedef uint64_t dynofa_governor;

/* New values are appended, old ones keep theirs. */
enum {
    DYNOFA_GOVERNOR_OK = 0,
    DYNOFA_GOVERNOR_E_HANDLE = -1, /* no such governor */
    DYNOFA_GOVERNOR_E_ARGUMENT = -2,
    DYNOFA_GOVERNOR_E_STATE = -3 /* nothing to observe: no decision since the last observation */
};

/* What was measured of a level, on the undisturbed machine. Levels may come in any order. */
typedef struct {
    double accuracy;   /* percent */
    double latency_ms; /* median */
} dynofa_governor_level;

/* struct_size tells which fields the caller knows: later ones count as 0, and those that a later
 * header has are not looked at. */
typedef struct {
    uint32_t struct_size; /* sizeof(dynofa_governor_config), at least 8 */
    uint32_t level_count;
    const dynofa_governor_level *levels; /* read during the call only */
    double deadline_ms;
    double probability;  /* that an inference meets the deadline; 0 for 0.95 */
    double min_accuracy; /* percent; 0 for none */
    const char *policy;  /* NULL for the project's own, "steady" */
    uint32_t threads;    /* of the inferences; 0 for 1 */
    uint32_t sensors;    /* 1: read this machine's sensors in the background */
} dynofa_governor_config;

/* What one of several models on a device asks of it. */
typedef struct {
    dynofa_governor governor;
    double period_ms; /* between its inferences; 0 for its deadline */
    int32_t priority; /* higher goes first */
} dynofa_governor_claim;

#ifndef DYNOFA_GOVERNOR_TYPES_ONLY /* the library's own source gets them from Go */

/* Makes a governor. On an error it returns DYNOFA_GOVERNOR_E_ARGUMENT, *out is 0, and error holds a
 * sentence, cut to error_size bytes with its NUL. error may be NULL, here and below. */
int32_t dynofa_governor_new(const dynofa_governor_config *config, dynofa_governor *out, char *error,
                            size_t error_size);

/* The level to run now, or DYNOFA_GOVERNOR_E_HANDLE. Allocates nothing. */
int32_t dynofa_governor_next(dynofa_governor g);

/* The same for a frame that has waited: left_ms is what remains until its answer is late, and below
 * zero if it is late already. NaN and more than a day are DYNOFA_GOVERNOR_E_ARGUMENT. */
int32_t dynofa_governor_next_within(dynofa_governor g, double left_ms);

/* Takes in how long the inference took that the last call of next decided. Allocates nothing.
 * Anything but a time above zero, up to a day, is DYNOFA_GOVERNOR_E_ARGUMENT, and a second time
 * without next in between is DYNOFA_GOVERNOR_E_STATE; neither is taken in. A decision that ran
 * nothing needs no observation: call next again. */
int32_t dynofa_governor_observe(dynofa_governor g, double latency_ms);

/* The constraint that the last decision had to give up: 0 none, 1 power, 2 accuracy, 3 latency. */
int32_t dynofa_governor_gave_up(dynofa_governor g);

/* Changes what is asked for, from the next call of next on. All three are set, 0 standing for what
 * it does in the config. On an error all stays as it was. */
int32_t dynofa_governor_constrain(dynofa_governor g, double deadline_ms, double probability,
                                  double min_accuracy, char *error, size_t error_size);

/* Divides one device among models: limits_ms[i] is what an inference of claims[i] may take, for
 * next_within, so that all together are busy for no more than the share budget of the time, 1 for
 * one device. First each gets its cheapest level that keeps its accuracy floor, then the rest goes
 * by priority. A limit of 0 means that nothing is left for this one: leave its inferences out. For
 * once in a while, not for every frame; no other call may use these governors meanwhile. Returns
 * DYNOFA_GOVERNOR_OK, E_HANDLE, or E_ARGUMENT (a NULL, no claim or more than 1024, a period or a
 * budget below zero); on an error no limit is written. */
int32_t dynofa_governor_share(const dynofa_governor_claim *claims, uint32_t count, double budget,
                              double *limits_ms, char *error, size_t error_size);

/* Ends a governor and its sensors, and sets *g to 0. NULL and 0 are fine. */
void dynofa_governor_free(dynofa_governor *g);

#endif

#ifdef __cplusplus
}
#endif
#endif
