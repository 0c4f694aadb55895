package dynofa

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/internal/purego"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// engine is a bundle as one backend has packed it. Goroutines may share it, apart from close.
type engine interface {
	// name is the backend's, such as "native/avx2".
	name() string
	// device is zero where the CPU computes.
	device() Device
	// kernels names what it calls, nil where there is nothing to tell.
	kernels() []string
	// newSession gets a Config without zeroes.
	newSession(c Config) (runner, error)
	// close gives it up; sessions keep what they need.
	close()
}

// runner is what a backend does for a Session, which has checked all arguments. On an error the old sub-network
// stays.
type runner interface {
	selectLevel(level int) error
	// configure gets norms that fit, or nil for the supernet's own. It keeps n only as a copy.
	configure(n ofa.Subnet, norms []ofa.Affine) error
	// prepare makes the following runs of so many images, 1 to Config.Batch, fast.
	prepare(images int) error
	// run gets n images, 1 to Config.Batch.
	run(ctx context.Context, n int, images, logits []float32) error
	profile(ctx context.Context, image, logits []float32, times []LayerTime) (int, error)
	// plan is Ran.Plan of the last run that succeeded.
	plan() uint64
	setThreads(n int) error
	close()
}

// Device is the accelerator that a Model computes on, zero for the CPU.
type Device struct {
	Name       string `json:"name"`
	Driver     string `json:"driver"`     // the CUDA version that its driver supports, such as "12.4"
	Capability string `json:"capability"` // compute capability, such as "8.7"
}

// String is all of it in one line, empty for the zero Device.
func (d Device) String() string {
	if d == (Device{}) {
		return ""
	}
	return fmt.Sprintf("%s, compute capability %s, CUDA %s", d.Name, d.Capability, d.Driver)
}

// LayerTime is one part of a run, as Profile measured it. Backends divide a run differently.
type LayerTime struct {
	Name  string        // such as "depthwise"
	Block int           // number of the block in the supernet, -1 outside blocks
	MACs  int64         // multiply-adds
	Time  time.Duration // wall clock
}

const (
	nativePrefix = "native/"
	cuda         = "cuda"
)

// Backends lists the engines of this build and machine: "native/" with each instruction set, best first, where cgo
// and the platform (Linux on amd64 or arm64) allow it; "cuda", "cuda:1" and so on for the devices of NVIDIA's driver,
// which it loads to see them, and for those with tensor cores of compute capability 8.0 or newer also "cuda/tf32" and
// "cuda/fp16" ("cuda/tf32:1"), whose pointwise convolutions round their factors to 11 significant bits; and "purego".
func Backends() []string {
	var names []string
	for _, isa := range nativeISAs() {
		names = append(names, nativePrefix+isa)
	}
	return append(append(names, cudaBackends()...), purego.Name)
}

// CheckBackend is nil if Config.Backend may name this engine in this build on this machine, else an error with the
// reason, such as a missing driver for "cuda". Any goroutine may call it.
func CheckBackend(backend string) error {
	switch native := len(nativeISAs()) > 0; {
	case backend == "" || backend == purego.Name || native && backend == "native":
		return nil
	case onCUDA(backend):
		return checkCUDA(backend)
	case strings.HasPrefix(backend, nativePrefix) && slices.Contains(nativeISAs(), strings.TrimPrefix(backend, nativePrefix)):
		return nil
	}
	err := fmt.Errorf("no backend %q in this build on this CPU, expected one of %q", backend, Backends())
	if why := checkCUDA(cuda); why != nil {
		return fmt.Errorf("%w, and no %s: %w", err, cuda, why)
	}
	return err
}

// SignificantBits is how many bits of their factors a backend's pointwise convolutions keep: float32's 24, or 11 with the
// tensor cores of "cuda/tf32" and "cuda/fp16". Any goroutine may call it.
func SignificantBits(backend string) int {
	if strings.HasPrefix(backend, cuda+"/") {
		return 11
	}
	return 24
}

// DeviceNumber is the number of the device that a backend computes on, as 1 of "cuda:1" and 0 of "cuda/tf32"; false for
// engines on the CPU. It reads the name: CheckBackend says whether there is such a backend. Any goroutine may call it.
func DeviceNumber(backend string) (number int, ok bool) {
	engine, text, _ := strings.Cut(backend, ":")
	if engine != cuda && !strings.HasPrefix(engine, cuda+"/") {
		return 0, false
	}
	number, _ = strconv.Atoi(text) // none is the first; CheckBackend refuses what is no number
	return number, true
}

func onCUDA(backend string) bool {
	_, ok := DeviceNumber(backend)
	return ok
}

// openEngine makes the engine that Config.Backend asks for.
func openEngine(backend string, b *bundle.Bundle, levels []bundle.Level) (engine, error) {
	if err := CheckBackend(backend); err != nil {
		return nil, err
	}
	switch {
	case backend == purego.Name || backend == "" && len(nativeISAs()) == 0:
		return openPurego(b, levels), nil
	case onCUDA(backend):
		return openCUDA(backend, b)
	case backend == "native":
		backend = ""
	}
	return openNative(strings.TrimPrefix(backend, nativePrefix), b)
}

// same says whether Config.Backend of a session asks for the engine that the model has.
func same(backend string, e engine) bool {
	return backend == "" || backend == e.name() || backend == "native" && strings.HasPrefix(e.name(), nativePrefix)
}

// planID is equal for equal sub-networks with equally chosen batch normalisation, whatever the backend: FNV-1a
// over the numbers of the canonical form, begun with a tag for the normalisation. native/src/plan.c has the same.
func planID(s *ofa.Space, n ofa.Subnet, tag uint64) uint64 {
	h := mix(fnvOffset^tag, uint64(n.Resolution))
	for _, list := range [...]struct{ given, legal []int }{{n.Kernels, s.Kernels}, {n.Expands, s.Expands}} {
		slot := 0
		for i := range s.Stages {
			for j := range s.Stages[i].MaxDepth() {
				v := list.legal[0]
				if j < n.Depths[i] {
					v = list.given[slot]
				}
				h = mix(h, uint64(v))
				slot++
			}
		}
	}
	for _, d := range n.Depths {
		h = mix(h, uint64(d))
	}
	return h
}

const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

func mix(h, v uint64) uint64 { return (h ^ v) * fnvPrime }
