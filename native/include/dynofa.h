/* dynofa: a runtime for Once-for-All supernets. The C interface.
 *
 *   dynofa_model *model = NULL;
 *   dynofa_session *session = NULL;
 *   if (dynofa_model_open("net.dofa", NULL, &model) != DYNOFA_OK ||
 *       dynofa_session_new(model, NULL, &session) != DYNOFA_OK) {
 *       puts(dynofa_error());
 *       return 1;
 *   }
 *   dynofa_session_select(session, 0);
 *   dynofa_session_run(session, image, image_floats, logits, classes);
 *   dynofa_session_free(&session);
 *   dynofa_model_free(&model);
 *
 * A model is a bundle opened: the supernet's weights packed once, and its library of levels. It is
 * immutable and shared by threads. A session is one thread of execution with its own memory and its
 * own choice of sub-network; it belongs to one thread at a time, and any number of sessions of one
 * model may run at once. Selecting a sub-network copies no weights.
 *
 * Images are [height = r][width = r][3] floats, channels last and already preprocessed, r being the
 * resolution of the sub-network. Sizes of float buffers are given in floats. Nothing here exits,
 * prints, or touches signals. Apart from dynofa_model_open, which reads its file, and creation of
 * threads, no call has effects outside the objects it is given. After a fork between two runs, the
 * child's sessions work on the calling thread alone. */
#ifndef DYNOFA_H
#define DYNOFA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define DYNOFA_API __attribute__((visibility("default")))
#else
#define DYNOFA_API
#endif

#define DYNOFA_VERSION_MAJOR 0
#define DYNOFA_VERSION_MINOR 1
#define DYNOFA_VERSION_PATCH 0
#define DYNOFA_VERSION                                                                             \
    (DYNOFA_VERSION_MAJOR * 10000 + DYNOFA_VERSION_MINOR * 100 + DYNOFA_VERSION_PATCH)

/* The version of the library that is linked, in the form of DYNOFA_VERSION. Any thread. */
DYNOFA_API uint32_t dynofa_version(void);

/* The result of a call. Values are never reused; new ones may be added, so treat an unknown one as
 * a failure. */
typedef enum dynofa_status {
    DYNOFA_OK = 0,

    DYNOFA_E_ARGUMENT = 10,   /* a NULL, a size or a setting that is not legal */
    DYNOFA_E_LEVEL = 11,      /* the library has no such level */
    DYNOFA_E_SUBNET = 12,     /* the space has no such sub-network */
    DYNOFA_E_SIZE = 13,       /* a buffer does not have the expected number of floats */
    DYNOFA_E_RESOLUTION = 14, /* larger than the session was made for */

    DYNOFA_E_STATE = 20, /* a run is in progress, or nothing was selected yet */

    DYNOFA_E_FILE = 30,    /* the file cannot be opened or read */
    DYNOFA_E_FORMAT = 31,  /* the bundle contradicts its format or its own space */
    DYNOFA_E_VERSION = 32, /* the bundle is of a newer version */

    DYNOFA_E_MEMORY = 40, /* an allocation failed */
    DYNOFA_E_THREAD = 41, /* a thread could not be started or pinned */

    DYNOFA_E_DEVICE = 50 /* the backend's driver or device is missing, too old, lost or refuses */
} dynofa_status;

/* The name of a status, such as "DYNOFA_E_LEVEL", or "unknown status". A constant; any thread. */
DYNOFA_API const char *dynofa_status_name(dynofa_status status);

/* What went wrong in the last failed call of this thread that had no session to keep the text:
 * open, new, queries of a model, functions given a NULL session, and calls refused because another
 * thread was using the session. Empty if there was none. It belongs to the thread and stays until
 * its next such failure. */
DYNOFA_API const char *dynofa_error(void);

typedef struct dynofa_model dynofa_model;
typedef struct dynofa_session dynofa_session;

/* Where memory comes from. alloc returns size bytes aligned to align (a power of two), or NULL;
 * release gets the same size back. Both may be called from several threads at once, and are not
 * called by select and run. Threads get their stacks from the system. */
typedef struct dynofa_allocator {
    void *(*alloc)(void *context, size_t size, size_t align);
    void (*release)(void *context, void *memory, size_t size);
    void *context;
} dynofa_allocator;

/* Settings of a model and of a session; every function takes NULL for the values that
 * dynofa_config_init sets. struct_size tells which fields the caller knows. */
typedef struct dynofa_config {
    uint32_t struct_size;
    /* Session: threads that a run uses at most, the caller's own included. While other processes
     * keep their cores busy, a run goes on without them. 1 */
    uint32_t threads;
    /* Session: the most that dynofa_session_set_threads may ask for; 0 for as many as threads. 0 */
    uint32_t max_threads;
    /* Session: the largest image side it can run; 0 for the largest of the space. 0 */
    uint32_t max_resolution;
    /* Session: CPUs 0 to 63 for the session's own threads, one each in ascending order and again
     * from the lowest; 0 leaves them to the system. The calling thread is never moved, so leave its
     * CPU out. 0 */
    uint64_t affinity;
    /* Model: the highest instruction set to use ("ref", "neon", "avx2", "avx512"); NULL for what
     * the environment's DYNOFA_ISA says, and if that is unset, the best of this CPU. NULL */
    const char *isa;
    /* Both: where memory comes from; all zero for the system. Zero */
    dynofa_allocator allocator;
    /* Model: what runs it: "cuda" or "cuda:1" for the first or second device of NVIDIA's driver, in
     * a build that has it; NULL or "native" for this CPU. "cuda/tf32" and "cuda/fp16" (and
     * "cuda/tf32:1" ...) are the same with 1x1 convolutions on tensor cores, from compute
     * capability 8.0 on: their factors are rounded to tf32 or to half precision, both 11
     * significant bits, and summed in float32; beyond 65504 a half is infinite. Sessions on a
     * device take no affinity and run the same with any number of threads. NULL */
    const char *backend;
    /* Session: the images that a device takes in one pass, 1 to 64: dynofa_session_run_batch makes
     * passes of so many, and the session's memory on the device is sized for them. This CPU runs
     * image after image, whatever it says. 1 */
    uint32_t batch;
} dynofa_config;

/* Fills in the default values. Any thread. Does nothing if config is NULL. */
DYNOFA_API void dynofa_config_init(dynofa_config *config);

/* Whether a model can be opened with this config.backend here. The first question about "cuda"
 * loads the driver. Any thread. Returns DYNOFA_OK, E_ARGUMENT (this build has no such backend) or
 * E_DEVICE. */
DYNOFA_API dynofa_status dynofa_backend_check(const char *backend);

/* A sub-network of a space. Slot i of kernels and expands belongs to the i-th stored block of the
 * elastic stages; slots that the depth cuts off are checked and have no effect. */
typedef struct dynofa_subnet {
    uint32_t struct_size;    /* sizeof(dynofa_subnet) */
    uint32_t resolution;     /* image side in pixels */
    uint32_t slots;          /* length of kernels and expands */
    uint32_t stages;         /* length of depths */
    const uint32_t *kernels; /* depthwise kernel sizes */
    const uint32_t *expands; /* expand ratios */
    const uint32_t *depths;  /* blocks per stage */
} dynofa_subnet;

typedef struct dynofa_model_info {
    uint32_t struct_size; /* set by the caller */
    uint32_t classes;     /* floats of the logits */
    uint32_t levels;      /* of the library */
    uint32_t slots;       /* of a sub-network */
    uint32_t stages;
    uint32_t max_resolution;    /* the largest trained image side */
    uint64_t supernet_bytes;    /* packed weights and the supernet's own batch normalisation */
    uint64_t library_bytes;     /* plans and batch normalisation of all levels */
    const char *isa;            /* the highest instruction set in use, or "cuda", "cuda/tf32",
                                   "cuda/fp16"; lives as long as the program */
    const char *device;         /* the name of the device; NULL for this CPU; lives as long as the
                                   model */
    uint32_t device_driver;     /* 1000 * major + 10 * minor of the CUDA version that its driver
                                   supports, as 12040; 0 for this CPU */
    uint32_t device_capability; /* compute capability, 10 * major + minor; 0 for this CPU */
} dynofa_model_info;

/* Opens a bundle (.dofa) and packs it. The file is read, not mapped, and closed again; one that
 * gets shorter meanwhile is E_FILE. config may be NULL. On success *model is the caller's, to be
 * freed with dynofa_model_free; else it is NULL and dynofa_error says what, where and what was
 * expected. Any thread. Returns DYNOFA_OK, E_ARGUMENT (a NULL, an unknown instruction set or
 * backend, half an allocator), E_FILE, E_FORMAT, E_VERSION, E_MEMORY or E_DEVICE. */
DYNOFA_API dynofa_status dynofa_model_open(const char *path, const dynofa_config *config,
                                           dynofa_model **model);

/* dynofa_model_open for a bundle in memory: bytes [size], not needed after the call. E_FILE does
 * not occur. */
DYNOFA_API dynofa_status dynofa_model_open_memory(const void *bytes, size_t size,
                                                  const dynofa_config *config,
                                                  dynofa_model **model);

/* Gives the model up and sets *model to NULL; NULL and *model == NULL are fine. Sessions keep what
 * they need of it, so the order in which model and sessions are freed does not matter. Any thread,
 * if no other uses this handle. */
DYNOFA_API void dynofa_model_free(dynofa_model **model);

/* Fills in info up to its struct_size. Any thread. Returns DYNOFA_OK or E_ARGUMENT (a NULL, a
 * struct_size below 8). */
DYNOFA_API dynofa_status dynofa_model_describe(const dynofa_model *model, dynofa_model_info *info);

/* The sub-network of a level, in canonical form: slots that the depth cuts off hold the smallest
 * values. The arrays belong to the model. subnet->struct_size must be set. Any thread. Returns
 * DYNOFA_OK, E_ARGUMENT or E_LEVEL. */
DYNOFA_API dynofa_status dynofa_model_level(const dynofa_model *model, uint32_t level,
                                            dynofa_subnet *subnet);

/* The name of the i-th kernel that the model calls, NULL past the last. It lives as long as the
 * program. Any thread. */
DYNOFA_API const char *dynofa_model_kernel(const dynofa_model *model, uint32_t i);

/* How many floats the batch normalisations of a sub-network have: for each in order of execution
 * (stem; depthwise and pointwise of the first block; expanding, depthwise and projecting
 * convolution of every other; head) its scales, one per channel, then its shifts. Any thread.
 * Returns DYNOFA_OK, E_ARGUMENT or E_SUBNET. */
DYNOFA_API dynofa_status dynofa_model_norm_floats(const dynofa_model *model,
                                                  const dynofa_subnet *subnet, size_t *floats);

/* The bytes that a session with this config takes, without its threads' stacks and what lies on a
 * device; SIZE_MAX if no size_t can hold it. Any thread. Returns DYNOFA_OK or E_ARGUMENT. */
DYNOFA_API dynofa_status dynofa_session_bytes(const dynofa_model *model,
                                              const dynofa_config *config, size_t *bytes);

/* Makes a session: one block of memory for any sub-network up to max_resolution, already touched,
 * and its threads. The last level that fits is selected, or nothing if none does. On success
 * *session is the caller's, to be freed with dynofa_session_free; else it is NULL and dynofa_error
 * says why. On a device it also prepares every level that fits, for one image and for a
 * batch. Any thread. Returns DYNOFA_OK, E_ARGUMENT, E_MEMORY, E_THREAD or E_DEVICE. */
DYNOFA_API dynofa_status dynofa_session_new(dynofa_model *model, const dynofa_config *config,
                                            dynofa_session **session);

/* Ends the session's threads, frees its memory and sets *session to NULL; NULL and *session == NULL
 * are fine. Any thread, if no other uses the session. */
DYNOFA_API void dynofa_session_free(dynofa_session **session);

/* What went wrong in the last failed call on this session; empty if there was none. It belongs to
 * the session and stays until its next failed call. Given NULL it is dynofa_error. One thread per
 * session. */
DYNOFA_API const char *dynofa_session_error(const dynofa_session *session);

/* Selects a level of the library for the following runs: no allocation, no lock, no copy. One
 * thread per session. Returns DYNOFA_OK, or with the old sub-network kept E_ARGUMENT (NULL),
 * E_LEVEL, E_RESOLUTION or E_STATE (run in progress). */
DYNOFA_API dynofa_status dynofa_session_select(dynofa_session *session, uint32_t level);

/* Takes any sub-network of the space for the following runs, at any image side up to the session's
 * largest. norms [norm_floats] are its batch normalisations as dynofa_model_norm_floats describes,
 * copied into the session; NULL and 0 stand for the supernet's own. No allocation. One thread per
 * session. Returns DYNOFA_OK, or with the old sub-network kept E_ARGUMENT, E_SUBNET, E_SIZE,
 * E_RESOLUTION, E_STATE (run in progress) or E_DEVICE. */
DYNOFA_API dynofa_status dynofa_session_configure(dynofa_session *session,
                                                  const dynofa_subnet *subnet, const float *norms,
                                                  size_t norm_floats);

/* Makes the following runs of the current sub-network with passes of so many images, 1 to
 * config.batch, as fast as a device can: it records them, which takes time and memory of the device
 * once, and then a pass is one launch. Runs are right without it, only slower. A session
 * keeps 32 such recordings beside those of its levels, and gives up the one that was used the
 * longest ago; choosing the sub-network again, with any batch normalisations of the same kind (the
 * caller's or the supernet's), finds its recording. No allocation but the driver's. On this CPU,
 * and for what is prepared already, it does nothing. One thread per session. Returns DYNOFA_OK, or
 * with the session as it was E_ARGUMENT, E_STATE (run in progress, or nothing selected), E_MEMORY
 * or E_DEVICE. */
DYNOFA_API dynofa_status dynofa_session_prepare(dynofa_session *session, size_t images);

/* Classifies one image [r][r][3] into one logit a class. Both buffers are the caller's, with
 * image_floats = 3*r*r and logit_floats = classes. No allocation; the same bits for any number of
 * threads. One thread per session. Returns DYNOFA_OK, E_ARGUMENT, E_SIZE, E_STATE (run in
 * progress, or nothing selected) or E_DEVICE: a session that lost its device stays without. */
DYNOFA_API dynofa_status dynofa_session_run(dynofa_session *session, const float *image,
                                            size_t image_floats, float *logits,
                                            size_t logit_floats);

/* dynofa_session_run for `count` >= 1 images, one behind the other, into logits [count][classes];
 * image_floats and logit_floats are those of all images. A device takes them in passes of
 * config.batch and one of what is left, and a pass of several images may sum in another order than
 * one of a single image: both are within 1e-5 of the largest logit of exact arithmetic, and need
 * not be equal. A failure ends it; what was written is that of the passes before. Thread rule and
 * statuses are those of dynofa_session_run. */
DYNOFA_API dynofa_status dynofa_session_run_batch(dynofa_session *session, size_t count,
                                                  const float *images, size_t image_floats,
                                                  float *logits, size_t logit_floats);

/* What a part of a run does. */
typedef enum dynofa_layer_kind {
    DYNOFA_LAYER_STEM = 0,
    DYNOFA_LAYER_EXPAND_DEPTHWISE =
        1,                     /* expanding pointwise, if the block has one, and depthwise */
    DYNOFA_LAYER_SQUEEZE = 2,  /* average and first half of squeeze-excitation */
    DYNOFA_LAYER_EXCITE = 3,   /* its second half */
    DYNOFA_LAYER_PROJECT = 4,  /* projecting pointwise, with gate and residual */
    DYNOFA_LAYER_HEAD = 5,     /* last pointwise and global average */
    DYNOFA_LAYER_FEATURES = 6, /* feature mixing */
    DYNOFA_LAYER_CLASSIFIER = 7
} dynofa_layer_kind;

typedef struct dynofa_layer_time {
    uint32_t kind;        /* a dynofa_layer_kind */
    int32_t block;        /* number of the block in the supernet, -1 outside blocks */
    uint64_t macs;        /* multiply-adds */
    uint64_t nanoseconds; /* wall clock on the calling thread, or of the device */
} dynofa_layer_time;

/* dynofa_session_run that also times its parts, in order, into times [capacity], the caller's.
 * *count is the number of parts; those past capacity are not written. Thread rule and statuses are
 * those of dynofa_session_run; E_ARGUMENT also if times or count is NULL. */
DYNOFA_API dynofa_status dynofa_session_run_timed(dynofa_session *session, const float *image,
                                                  size_t image_floats, float *logits,
                                                  size_t logit_floats, dynofa_layer_time *times,
                                                  size_t capacity, size_t *count);

/* Sets the number of threads of the following runs, 1 to max_threads of the session's config. No
 * allocation. One thread per session. Returns DYNOFA_OK, E_ARGUMENT or E_STATE (run in progress).
 */
DYNOFA_API dynofa_status dynofa_session_set_threads(dynofa_session *session, uint32_t threads);

typedef struct dynofa_session_info {
    uint32_t struct_size; /* set by the caller */
    int32_t level;        /* selected, -1 if the sub-network was configured or there is none */
    uint32_t threads;
    uint32_t max_threads;
    uint32_t max_resolution;
    uint32_t resolution; /* of the sub-network; 0 if there is none */
    uint64_t plan;       /* equal for equal sub-networks with equally chosen batch normalisation */
    uint64_t bytes;      /* what dynofa_session_bytes says */
    uint64_t macs;       /* multiply-adds of a run */
    uint64_t image_floats;
    const char *isa; /* as dynofa_model_info */
} dynofa_session_info;

/* Fills in info up to its struct_size. One thread per session. Returns DYNOFA_OK or E_ARGUMENT (a
 * NULL, a struct_size below 8). */
DYNOFA_API dynofa_status dynofa_session_describe(const dynofa_session *session,
                                                 dynofa_session_info *info);

/* The sub-network of the following runs, in canonical form. The arrays belong to the session or its
 * model and hold until the next select, configure or free. subnet->struct_size must be set. One
 * thread per session. Returns DYNOFA_OK, E_ARGUMENT or E_STATE (nothing selected). */
DYNOFA_API dynofa_status dynofa_session_subnet(const dynofa_session *session,
                                               dynofa_subnet *subnet);

#ifdef __cplusplus
}
#endif

#endif
