//go:build cgo && linux && (amd64 || arm64)

package capitest

/*
#cgo CFLAGS: -std=c11 -D_POSIX_C_SOURCE=200809L -I${SRCDIR}/../../../../native/include
#include <stdlib.h>
#include <time.h>

#include "dynofa.h"

typedef struct loop {
    dynofa_model *model;
    dynofa_session *session;
    dynofa_session_info info;
    float *image, *logits;
    size_t classes;
} loop;

static dynofa_status loop_open(loop *l, const void *bundle, size_t size, uint32_t level) {
    dynofa_model_info model = {.struct_size = sizeof model};
    l->info.struct_size = sizeof l->info;
    dynofa_status status = dynofa_model_open_memory(bundle, size, NULL, &l->model);
    if (status == DYNOFA_OK)
        status = dynofa_session_new(l->model, NULL, &l->session);
    if (status == DYNOFA_OK)
        status = dynofa_session_select(l->session, level);
    if (status == DYNOFA_OK)
        status = dynofa_session_describe(l->session, &l->info);
    if (status == DYNOFA_OK)
        status = dynofa_model_describe(l->model, &model);
    l->classes = model.classes;
    l->image = calloc(l->info.image_floats, sizeof *l->image);
    l->logits = calloc(l->classes, sizeof *l->logits);
    return status;
}

static double loop_run(loop *l, uint32_t runs) {
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (uint32_t i = 0; i < runs; i++)
        if (dynofa_session_run(l->session, l->image, l->info.image_floats, l->logits, l->classes) !=
            DYNOFA_OK)
            return -1;
    clock_gettime(CLOCK_MONOTONIC, &to);
    return ((double)(to.tv_sec - from.tv_sec) * 1e9 + (double)(to.tv_nsec - from.tv_nsec)) / runs;
}

static void loop_close(loop *l) {
    free(l->image);
    free(l->logits);
    dynofa_session_free(&l->session);
    dynofa_model_free(&l->model);
}
*/
import "C"

import (
	"errors"
	"unsafe"

	_ "github.com/dynofa/dynofa/native" // the engine itself
)

// Loop runs a level of a bundle again and again in C.
type Loop struct{ c *C.loop }

// Open makes a Loop, to be closed.
func Open(bundle []byte, level int) (*Loop, error) {
	l := &Loop{(*C.loop)(C.calloc(1, C.sizeof_loop))}
	if C.loop_open(l.c, unsafe.Pointer(unsafe.SliceData(bundle)), C.size_t(len(bundle)), C.uint32_t(level)) != C.DYNOFA_OK {
		l.Close()
		return nil, errors.New("capitest: the loop cannot be set up")
	}
	return l, nil
}

// Nanoseconds runs that often and returns the time of one run, negative if a run failed.
func (l *Loop) Nanoseconds(runs int) float64 { return float64(C.loop_run(l.c, C.uint32_t(runs))) }

// Close frees what Open made.
func (l *Loop) Close() {
	C.loop_close(l.c)
	C.free(unsafe.Pointer(l.c))
}
