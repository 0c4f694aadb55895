#include "driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

/* The first driver with cuGraphInstantiateWithFlags; JetPack 5 has it, too. */
enum { OLDEST = 11040 };

static const char library[] = "libcuda.so.1";

dynofa_status cuda_failed(const cuda_driver *d, failure *f, const char *what, cu_result result) {
    const char *name = NULL, *text = NULL;
    if (d->error_name(result, &name) != 0 || name == NULL)
        name = "unknown error";
    if (d->error_text(result, &text) != 0 || text == NULL)
        text = "no description";
    return fail(f, result == CU_OUT_OF_MEMORY ? DYNOFA_E_MEMORY : DYNOFA_E_DEVICE,
                "CUDA: %.120s: %s (%d): %.100s", what, name, result, text);
}

static bool look_up(void *loaded, void *into, const char *entry, failure *f) {
    void *at = dlsym(loaded, entry);
    if (at == NULL) {
        fail(f, DYNOFA_E_DEVICE,
             "the CUDA driver has no %s, expected the entry points of CUDA %d.%d or newer", entry,
             OLDEST / 1000, OLDEST % 1000 / 10);
        return false;
    }
    memcpy(into, &at, sizeof at);
    return true;
}

static bool load(cuda_driver *d, void *loaded, failure *f) {
    int version = 0;
    cu_result r;
    /* Before the rest: an old driver lacks entry points. */
    if (!look_up(loaded, &d->version, "cuDriverGetVersion", f) ||
        !look_up(loaded, &d->error_name, "cuGetErrorName", f) ||
        !look_up(loaded, &d->error_text, "cuGetErrorString", f))
        return false;
    if ((r = d->version(&version)) != 0)
        return cuda_failed(d, f, "the version of the driver", r), false;
    if (version < OLDEST) {
        fail(f, DYNOFA_E_DEVICE, "CUDA driver %d.%d is too old, need %d.%d or newer",
             version / 1000, version % 1000 / 10, OLDEST / 1000, OLDEST % 1000 / 10);
        return false;
    }
#define CUDA_LOOK_UP(name, entry, parameters)                                                      \
    if (!look_up(loaded, &d->name, #entry, f))                                                     \
        return false;
    CUDA_CALLS(CUDA_LOOK_UP)
    d->supports = version;
    enum { NO_DEVICE = 100 };
    if ((r = d->init(0)) != 0 && r != NO_DEVICE)
        return cuda_failed(d, f, "initialising the driver", r), false;
    if (r == 0 && (r = d->device_count(&d->devices)) != 0 && r != NO_DEVICE)
        return cuda_failed(d, f, "counting devices", r), false;
    if (r == NO_DEVICE || d->devices < 1) {
        fail(f, DYNOFA_E_DEVICE, "no CUDA device: the driver (%d.%d) sees none", version / 1000,
             version % 1000 / 10);
        return false;
    }
    return true;
}

const cuda_driver *cuda_driver_get(failure *f) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static cuda_driver driver;
    static bool loaded;
    pthread_mutex_lock(&mutex);
    if (!loaded) {
        void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL)
            fail(f, DYNOFA_E_DEVICE, "no CUDA driver: %.200s", dlerror());
        else
            loaded = load(&driver, handle, f); /* never closed: a driver has threads of its own */
    }
    bool ready = loaded;
    pthread_mutex_unlock(&mutex);
    return ready ? &driver : NULL;
}
