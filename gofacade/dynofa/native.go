//go:build cgo && linux && (amd64 || arm64)

package dynofa

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/internal/capi"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// nativeISAs lists the instruction sets that the native engine can use here, best first.
func nativeISAs() []string {
	var names []string
	for _, isa := range capi.ISAs() {
		if isa.Present {
			names = append(names, isa.Name)
		}
	}
	slices.Reverse(names)
	return names
}

// cModel is the native engine, on this CPU or on a device.
type cModel struct {
	model   *capi.Model
	backend string
}

// openNative packs a bundle for the given instruction set, or for the best.
func openNative(isa string, b *bundle.Bundle) (engine, error) {
	m, err := capi.OpenMemory(b.Bytes(), capi.Config{ISA: isa})
	if err != nil {
		return nil, err
	}
	return &cModel{m, nativePrefix + m.ISA()}, nil
}

// openCUDA packs a bundle and copies it to the device of that backend, such as "cuda" or "cuda/tf32:1".
func openCUDA(backend string, b *bundle.Bundle) (engine, error) {
	m, err := capi.OpenMemory(b.Bytes(), capi.Config{Backend: backend})
	if err != nil {
		return nil, err
	}
	return &cModel{m, backend}, nil
}

// checkCUDA says why there is no such backend on a device.
func checkCUDA(backend string) error { return capi.CheckBackend(backend) }

// cudaBackends lists the backends on devices, as many as this machine has, each in the precisions it has.
func cudaBackends() []string {
	var names []string
	for device, number := 0, ""; capi.CheckBackend(cuda+number) == nil; number = fmt.Sprintf(":%d", device) {
		for _, precision := range []string{"", "/tf32", "/fp16"} {
			if name := cuda + precision + number; capi.CheckBackend(name) == nil {
				names = append(names, name)
			}
		}
		device++
	}
	return names
}

func (m *cModel) name() string { return m.backend }

func (m *cModel) device() Device {
	name, driver, capability := m.model.Device()
	if name == "" {
		return Device{}
	}
	return Device{
		Name: name, Driver: fmt.Sprintf("%d.%d", driver/1000, driver%1000/10),
		Capability: fmt.Sprintf("%d.%d", capability/10, capability%10),
	}
}

func (m *cModel) kernels() []string { return m.model.Kernels() }

func (m *cModel) close() { m.model.Free() }

// maxSession is purego's bound, for the same reason: a file of 50 kB can describe wider maps, and a system that has less
// memory than it promised ends the process.
const maxSession = 4 << 30

func (m *cModel) newSession(c Config) (runner, error) {
	var mask uint64
	for _, cpu := range c.Affinity {
		if cpu < 0 || cpu > 63 {
			return nil, fmt.Errorf("affinity to CPU %d, expected 0 to 63", cpu)
		}
		mask |= 1 << cpu
	}
	cfg := capi.Config{
		Threads: uint32(c.Threads), MaxThreads: uint32(c.MaxThreads), MaxResolution: uint32(c.MaxResolution), Batch: uint32(c.Batch), Affinity: mask,
	}
	bytes, err := m.model.SessionBytes(cfg)
	if err != nil {
		return nil, err
	}
	if bytes > maxSession {
		return nil, fmt.Errorf("images of %d x %d need memory for %d bytes, expected at most %d", c.MaxResolution, c.MaxResolution, bytes, int64(maxSession))
	}
	s, err := m.model.NewSession(cfg)
	if err != nil {
		return nil, err
	}
	return &cSession{session: s}, nil
}

type cSession struct {
	session *capi.Session
	norms   []float32
	times   []capi.LayerTime
}

func (s *cSession) selectLevel(level int) error { return s.session.Select(uint32(level)) }

func (s *cSession) configure(n ofa.Subnet, norms []ofa.Affine) error {
	s.norms = s.norms[:0]
	for _, a := range norms {
		s.norms = append(append(s.norms, a.Scale...), a.Shift...)
	}
	flat := s.norms
	if norms == nil {
		flat = nil
	}
	return s.session.Configure(n.Resolution, n.Kernels, n.Expands, n.Depths, flat)
}

func (s *cSession) prepare(images int) error { return s.session.Prepare(images) }

func (s *cSession) run(ctx context.Context, n int, images, logits []float32) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.session.Run(n, images, logits)
}

func (s *cSession) profile(ctx context.Context, image, logits []float32, times []LayerTime) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if len(s.times) < len(times) || s.times == nil {
		s.times = make([]capi.LayerTime, max(1, len(times)))
	}
	n, err := s.session.RunTimed(image, logits, s.times)
	if err != nil {
		return 0, err
	}
	for i := range min(n, len(times)) {
		t := &s.times[i]
		times[i] = LayerTime{t.Name(), int(t.Block), int64(t.MACs), time.Duration(t.Nanoseconds)}
	}
	return n, nil
}

func (s *cSession) plan() uint64 {
	plan, _ := s.session.Ran()
	return plan
}

func (s *cSession) setThreads(n int) error { return s.session.SetThreads(uint32(n)) }

func (s *cSession) close() { s.session.Free() }
