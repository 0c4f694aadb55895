//go:build cgo && linux && (amd64 || arm64)

package capi

/*
#cgo CFLAGS: -std=c11 -I${SRCDIR}/../../../native/include -I${SRCDIR}/../../../kernels/include

#cgo noescape run
#cgo nocallback run
#cgo noescape run_timed
#cgo nocallback run_timed
#cgo noescape dynofa_session_select
#cgo nocallback dynofa_session_select
#cgo noescape dynofa_session_configure
#cgo nocallback dynofa_session_configure
#cgo noescape dynofa_session_set_threads
#cgo nocallback dynofa_session_set_threads

#include <stdlib.h>

#include "dynk.h"
#include "dynofa.h"

// What a session needs beside the engine's own memory, so that no call allocates or pins: the arrays that
// subnet points to lie behind it.
typedef struct scratch {
    dynofa_session_info ran;
    dynofa_subnet subnet;
    size_t parts;
    uint32_t choices[];
} scratch;

static scratch *scratch_new(uint32_t slots, uint32_t stages) {
    scratch *s = calloc(1, sizeof *s + (2 * (size_t)slots + stages) * sizeof(uint32_t));
    if (s == NULL)
        return NULL;
    s->ran.struct_size = sizeof s->ran;
    s->subnet = (dynofa_subnet){
        .struct_size = sizeof s->subnet,
        .slots = slots,
        .stages = stages,
        .kernels = s->choices,
        .expands = s->choices + slots,
        .depths = s->choices + 2 * (size_t)slots,
    };
    return s;
}

// A run and what it ran, in one crossing.
static dynofa_status run(dynofa_session *s, size_t count, const float *images, size_t image_floats, float *logits,
                         size_t logit_floats, scratch *sc) {
    dynofa_status status = dynofa_session_run_batch(s, count, images, image_floats, logits, logit_floats);
    return status != DYNOFA_OK ? status : dynofa_session_describe(s, &sc->ran);
}

static dynofa_status run_timed(dynofa_session *s, const float *image, size_t image_floats, float *logits,
                               size_t logit_floats, dynofa_layer_time *times, size_t capacity, scratch *sc) {
    dynofa_status status = dynofa_session_run_timed(s, image, image_floats, logits, logit_floats, times,
                                                    capacity, &sc->parts);
    return status != DYNOFA_OK ? status : dynofa_session_describe(s, &sc->ran);
}
*/
import "C"

import (
	"runtime"
	"unsafe"

	_ "github.com/dynofa/dynofa/cuda"   // the engine on a device
	_ "github.com/dynofa/dynofa/native" // the engine itself
)

// Error is a failed call.
type Error struct {
	Status string // such as DYNOFA_E_LEVEL
	Text   string // the engine's sentence
}

func (e *Error) Error() string { return e.Text }

func failure(status C.dynofa_status, text *C.char) error {
	return &Error{C.GoString(C.dynofa_status_name(status)), C.GoString(text)}
}

// ISA is an instruction set of this build.
type ISA struct {
	Name    string
	Present bool // this CPU has it
}

// ISAs lists the instruction sets of this build in ascending rank.
func ISAs() []ISA {
	var all []ISA
	var isa C.dynk_isa
	for i := C.size_t(0); C.dynk_isa_at(i, &isa) != 0; i++ {
		all = append(all, ISA{C.GoString(isa.name), isa.present != 0})
	}
	return all
}

// Config is dynofa_config. Zero fields are the defaults of dynofa_config_init.
type Config struct {
	ISA, Backend                       string
	Threads, MaxThreads, MaxResolution uint32
	Batch                              uint32
	Affinity                           uint64
}

func (c *Config) read(out *C.dynofa_config) (release func()) {
	C.dynofa_config_init(out)
	if c.Threads != 0 {
		out.threads = C.uint32_t(c.Threads)
	}
	if c.Batch != 0 {
		out.batch = C.uint32_t(c.Batch)
	}
	out.max_threads, out.max_resolution = C.uint32_t(c.MaxThreads), C.uint32_t(c.MaxResolution)
	out.affinity = C.uint64_t(c.Affinity)
	if c.ISA != "" {
		out.isa = C.CString(c.ISA)
	}
	if c.Backend != "" {
		out.backend = C.CString(c.Backend)
	}
	return func() {
		C.free(unsafe.Pointer(out.isa))
		C.free(unsafe.Pointer(out.backend))
	}
}

// CheckBackend is dynofa_backend_check.
func CheckBackend(name string) error {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	runtime.LockOSThread() // dynofa_error is the thread's
	defer runtime.UnlockOSThread()
	if status := C.dynofa_backend_check(text); status != C.DYNOFA_OK {
		return failure(status, C.dynofa_error())
	}
	return nil
}

// Model is a dynofa_model. Goroutines may share it, apart from Free.
type Model struct {
	c    *C.dynofa_model
	info C.dynofa_model_info
}

// OpenMemory is dynofa_model_open_memory. bundle must stay as it is during the call.
func OpenMemory(bundle []byte, cfg Config) (*Model, error) {
	var c C.dynofa_config
	defer cfg.read(&c)()
	m := &Model{}
	runtime.LockOSThread() // dynofa_error is the thread's
	defer runtime.UnlockOSThread()
	status := C.dynofa_model_open_memory(unsafe.Pointer(unsafe.SliceData(bundle)), C.size_t(len(bundle)), &c, &m.c)
	if status != C.DYNOFA_OK {
		return nil, failure(status, C.dynofa_error())
	}
	m.info.struct_size = C.sizeof_dynofa_model_info
	if status := C.dynofa_model_describe(m.c, &m.info); status != C.DYNOFA_OK {
		panic(C.GoString(C.dynofa_error())) // only a NULL can fail
	}
	return m, nil
}

// Free is dynofa_model_free. Sessions keep what they need.
func (m *Model) Free() { C.dynofa_model_free(&m.c) }

// ISA is the highest instruction set in use.
func (m *Model) ISA() string { return C.GoString(m.info.isa) }

// Device says what dynofa_model_info says of the device; an empty name stands for this CPU.
func (m *Model) Device() (name string, driver, capability int) {
	return C.GoString(m.info.device), int(m.info.device_driver), int(m.info.device_capability)
}

// Kernels are the names of the kernels that the model calls.
func (m *Model) Kernels() []string {
	var names []string
	for i := C.uint32_t(0); ; i++ {
		name := C.dynofa_model_kernel(m.c, i)
		if name == nil {
			return names
		}
		names = append(names, C.GoString(name))
	}
}

// SessionBytes is dynofa_session_bytes.
func (m *Model) SessionBytes(cfg Config) (uint64, error) {
	var c C.dynofa_config
	defer cfg.read(&c)()
	var bytes C.size_t
	runtime.LockOSThread() // dynofa_error is the thread's
	defer runtime.UnlockOSThread()
	if status := C.dynofa_session_bytes(m.c, &c, &bytes); status != C.DYNOFA_OK {
		return 0, failure(status, C.dynofa_error())
	}
	return uint64(bytes), nil
}

// Session is a dynofa_session. It belongs to one goroutine at a time.
type Session struct {
	c                        *C.dynofa_session
	scratch                  *C.scratch
	kernels, expands, depths []C.uint32_t // in scratch
}

// NewSession is dynofa_session_new.
func (m *Model) NewSession(cfg Config) (*Session, error) {
	var c C.dynofa_config
	defer cfg.read(&c)()
	s := &Session{scratch: C.scratch_new(m.info.slots, m.info.stages)}
	if s.scratch == nil {
		return nil, &Error{"DYNOFA_E_MEMORY", "no memory for a session"}
	}
	array := func(p *C.uint32_t, n C.uint32_t) []C.uint32_t { return unsafe.Slice(p, n) }
	s.kernels = array(s.scratch.subnet.kernels, m.info.slots)
	s.expands = array(s.scratch.subnet.expands, m.info.slots)
	s.depths = array(s.scratch.subnet.depths, m.info.stages)
	runtime.LockOSThread() // dynofa_error is the thread's
	defer runtime.UnlockOSThread()
	if status := C.dynofa_session_new(m.c, &c, &s.c); status != C.DYNOFA_OK {
		C.free(unsafe.Pointer(s.scratch))
		return nil, failure(status, C.dynofa_error())
	}
	return s, nil
}

// Free is dynofa_session_free. The session must not be used again.
func (s *Session) Free() {
	C.dynofa_session_free(&s.c)
	C.free(unsafe.Pointer(s.scratch))
	s.scratch = nil
}

// check turns the status of a call of this session into an error.
func (s *Session) check(status C.dynofa_status) error {
	switch status {
	case C.DYNOFA_OK:
		return nil
	case C.DYNOFA_E_STATE: // its sentence may be another thread's
		return &Error{"DYNOFA_E_STATE", "nothing is selected, or another goroutine uses the session"}
	}
	return failure(status, C.dynofa_session_error(s.c))
}

// Select is dynofa_session_select.
func (s *Session) Select(level uint32) error {
	return s.check(C.dynofa_session_select(s.c, C.uint32_t(level)))
}

// Configure is dynofa_session_configure. The values are at most 2^32 - 1, the lists as long as the space's
// slots and stages; norms are scales and shifts one after the other, or nil.
func (s *Session) Configure(resolution int, kernels, expands, depths []int, norms []float32) error {
	narrow(s.kernels, kernels)
	narrow(s.expands, expands)
	narrow(s.depths, depths)
	s.scratch.subnet.resolution = C.uint32_t(resolution)
	return s.check(C.dynofa_session_configure(s.c, &s.scratch.subnet,
		(*C.float)(unsafe.SliceData(norms)), C.size_t(len(norms))))
}

func narrow(to []C.uint32_t, from []int) {
	for i := range to {
		to[i] = C.uint32_t(from[i])
	}
}

// Prepare is dynofa_session_prepare.
func (s *Session) Prepare(images int) error {
	return s.check(C.dynofa_session_prepare(s.c, C.size_t(images)))
}

// SetThreads is dynofa_session_set_threads.
func (s *Session) SetThreads(n uint32) error {
	return s.check(C.dynofa_session_set_threads(s.c, C.uint32_t(n)))
}

// Run is dynofa_session_run_batch for n images.
func (s *Session) Run(n int, images, logits []float32) error {
	return s.check(C.run(s.c, C.size_t(n), (*C.float)(unsafe.SliceData(images)), C.size_t(len(images)),
		(*C.float)(unsafe.SliceData(logits)), C.size_t(len(logits)), s.scratch))
}

// LayerTime is dynofa_layer_time.
type LayerTime struct {
	Kind              uint32
	Block             int32
	MACs, Nanoseconds uint64
}

var _ = [unsafe.Sizeof(LayerTime{})]byte([C.sizeof_dynofa_layer_time]byte{}) // of the same size

var kinds = [...]string{
	C.DYNOFA_LAYER_STEM:             "stem",
	C.DYNOFA_LAYER_EXPAND_DEPTHWISE: "expand, depthwise",
	C.DYNOFA_LAYER_SQUEEZE:          "squeeze",
	C.DYNOFA_LAYER_EXCITE:           "excite",
	C.DYNOFA_LAYER_PROJECT:          "project",
	C.DYNOFA_LAYER_HEAD:             "head",
	C.DYNOFA_LAYER_FEATURES:         "features",
	C.DYNOFA_LAYER_CLASSIFIER:       "classifier",
}

// Name names the kind.
func (t *LayerTime) Name() string {
	if int(t.Kind) < len(kinds) {
		return kinds[t.Kind]
	}
	return "unknown"
}

// RunTimed is dynofa_session_run_timed; it returns the number of parts.
func (s *Session) RunTimed(image, logits []float32, times []LayerTime) (int, error) {
	status := C.run_timed(s.c, (*C.float)(unsafe.SliceData(image)), C.size_t(len(image)),
		(*C.float)(unsafe.SliceData(logits)), C.size_t(len(logits)),
		(*C.dynofa_layer_time)(unsafe.Pointer(unsafe.SliceData(times))), C.size_t(len(times)), s.scratch)
	return int(s.scratch.parts), s.check(status)
}

// Ran is dynofa_session_describe's account of the last Run that succeeded: its plan and its level, -1 for none.
func (s *Session) Ran() (plan uint64, level int) {
	return uint64(s.scratch.ran.plan), int(s.scratch.ran.level)
}
