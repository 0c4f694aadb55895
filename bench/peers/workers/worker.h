/* What every worker of this folder does around its engine: the protocol of ../README.md. An engine
 * is the three functions below; worker.c has main. */
#ifndef DYNOFA_PEERS_WORKER_H
#define DYNOFA_PEERS_WORKER_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct worker_job {
    const char *model; /* file */
    int level;         /* for engines whose file holds several networks */
    int threads;
    const float *image; /* in the engine's own layout */
    size_t image_floats;
    int side; /* of the square image, three channels */
    float *logits;
    size_t classes;
};

/* Loads the model, so that engine_run can be called any number of times. The job outlives it. */
void engine_load(const struct worker_job *job);

/* The version of the engine as it says itself; called after engine_load, valid until the next call.
 */
const char *engine_version(void);

/* One inference from job->image to job->logits. This call is what is timed. */
void engine_run(void);

/* Ends the worker with a sentence that the orchestrator shows. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2), noreturn))
#endif
void worker_fail(const char *format, ...);

#ifdef __cplusplus
}
#endif

#endif
