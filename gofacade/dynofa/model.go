package dynofa

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/internal/purego"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Errors to test for with errors.Is.
var (
	ErrClosed = errors.New("closed")              // the Model or Session has been closed
	ErrLevel  = errors.New("no such level")       // the library has no level of that number
	ErrState  = errors.New("nothing is selected") // there was no Select or Configure yet
	ErrSize   = errors.New("wrong size")          // an image or a slice of logits does not fit the network
)

// Config holds what may be chosen when a Model or a Session is made. The zero value, and nil, are good defaults.
type Config struct {
	// Backend is the engine: one of [Backends], "native" for the best of the native ones, or "" for the best of
	// those on the CPU. The environment's DYNOFA_ISA (ref, avx2, avx512 or neon) caps what "" and "native" take.
	// "cuda" computes in float32; "cuda/tf32" and "cuda/fp16" trade digits for tensor cores. Models read it; for a
	// session it can only be its model's.
	Backend string
	// Threads is the number of threads, 0 for one, at most 256 and eight a CPU. Only sessions read it.
	Threads int
	// MaxThreads is the most that SetThreads may ask for, 0 for as many as Threads. Only sessions read it.
	MaxThreads int
	// Affinity names CPUs, 0 to 63, for the session's own threads: one each, in ascending order and again from
	// the lowest. The goroutine that calls Run is never moved, so leave its CPU out. None leaves the threads to
	// the system. Only sessions of native backends read it; for others it is an error.
	Affinity []int
	// MaxResolution is the largest image side that has to fit, 0 for the largest of the Space. Only sessions
	// read it: their arena is sized for it.
	MaxResolution int
	// Batch is the number of images that RunBatch takes in one pass, 1 to 64, 0 for one. A device computes the images
	// of a pass together, in an arena of that size; other engines run one after another. Only sessions read it.
	Batch int
}

// Model is a supernet with its library, ready to run. It is immutable and may be shared by goroutines.
type Model struct {
	engine engine
	device Device
	space  *ofa.Space
	levels []bundle.Level
	ids    []uint64 // Ran.Subnet of the levels

	closing sync.RWMutex // held for reading while the bundle or the engine is in use
	bundle  *bundle.Bundle
	closed  bool
}

// Open opens a bundle, which must be closed. Errors name the file, what is wrong with it and what was expected. The file
// must not be truncated meanwhile: a native engine reads it in C, where that fault ends the process.
func Open(path string, cfg *Config) (*Model, error) {
	b, err := bundle.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	m, err := newModel(b, cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dynofa: %s: %w", path, err), b.Close())
	}
	return m, nil
}

// New makes a Model of a supernet in memory, of which it keeps a copy. The Model must be closed.
func New(c *bundle.Contents, cfg *Config) (*Model, error) {
	data, err := bundle.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	b, err := bundle.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	m, err := newModel(b, cfg)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	return m, nil
}

func newModel(b *bundle.Bundle, cfg *Config) (*Model, error) {
	m := &Model{space: b.Space(), levels: b.Levels(), bundle: b}
	for i := range m.levels {
		l := &m.levels[i]
		l.Norms = copied(l.Norms) // sessions and callers outlive the bundle's file
		m.ids = append(m.ids, planID(m.space, l.Subnet, 0))
	}
	backend := ""
	if cfg != nil {
		backend = cfg.Backend
	}
	var err error
	if m.engine, err = openEngine(backend, b, m.levels); err != nil {
		return nil, err
	}
	m.device = m.engine.device() // a closed model has one, too
	return m, nil
}

func copied(norms []ofa.Affine) []ofa.Affine {
	out := make([]ofa.Affine, len(norms))
	for i, a := range norms {
		out[i] = ofa.Affine{Scale: slices.Clone(a.Scale), Shift: slices.Clone(a.Shift)}
	}
	return out
}

// Backend names the engine, such as "native/avx2" or "purego".
func (m *Model) Backend() string { return m.engine.name() }

// Device says what a backend on a device computes on. It is zero for engines on the CPU.
func (m *Model) Device() Device { return m.device }

// Kernels names the kernels that a native engine chose for this CPU. It is nil for others, and after Close.
func (m *Model) Kernels() []string {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if m.closed {
		return nil
	}
	return m.engine.kernels()
}

// Space is the supernet's shape. It must not be changed.
func (m *Model) Space() *ofa.Space { return m.space }

// Classes is the length of the logits.
func (m *Model) Classes() int { return m.space.Classes }

// Levels is the library, fast to accurate. It must not be changed.
func (m *Model) Levels() []bundle.Level { return m.levels }

// Close releases the bundle. Sessions keep working; new sessions, and what needs the stored tensors (Calibrate),
// return [ErrClosed] from then on. Close waits for a running Calibrate or CalibrateBatches, so it must not be called from
// within their batches. It may be called again.
func (m *Model) Close() error {
	m.closing.Lock()
	defer m.closing.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.engine.close()
	return m.bundle.Close()
}

// NewSession makes a session, which must be closed. Its memory is sized once, here, 4 GiB at most; Run, Select and
// Configure need no more. nil stands for the zero Config. Errors name the field of cfg, its value and what was expected, or
// say what the system refused; [ErrClosed] after Close. Any goroutine may call it.
func (m *Model) NewSession(cfg *Config) (*Session, error) {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if m.closed {
		return nil, fmt.Errorf("dynofa: new session: model: %w", ErrClosed)
	}
	c := Config{}
	if cfg != nil {
		c = *cfg
	}
	if !same(c.Backend, m.engine) {
		return nil, fmt.Errorf("dynofa: new session: no backend %q in this model, expected %q", c.Backend, m.engine.name())
	}
	if c.Threads == 0 {
		c.Threads = 1
	}
	if c.MaxThreads == 0 {
		c.MaxThreads = c.Threads
	}
	if c.MaxResolution == 0 {
		c.MaxResolution = m.space.MaxResolution()
	}
	if c.Batch == 0 {
		c.Batch = 1
	}
	if c.Batch < 1 || c.Batch > maxBatch {
		return nil, fmt.Errorf("dynofa: new session: Batch is %d, expected 0 to %d (0 is one)", c.Batch, maxBatch)
	}
	n := m.space.Largest()
	n.Resolution = c.MaxResolution
	if err := m.space.CheckArch(n); err != nil {
		return nil, fmt.Errorf("dynofa: new session: MaxResolution: %w", err)
	}
	limit := min(8*runtime.NumCPU(), maxThreads)
	if c.Threads < 1 || c.Threads > limit {
		return nil, fmt.Errorf("dynofa: new session: %d threads, expected 0 to %d (0 is one)", c.Threads, limit)
	}
	if c.MaxThreads < c.Threads || c.MaxThreads > limit {
		return nil, fmt.Errorf("dynofa: new session: MaxThreads is %d, expected 0 or %d (Threads) to %d", c.MaxThreads, c.Threads, limit)
	}
	r, err := m.engine.newSession(c)
	if err != nil {
		return nil, fmt.Errorf("dynofa: new session: %w", err)
	}
	none := Ran{Level: -1}
	return &Session{
		model: m, engine: r, own: m.space.Smallest(), chosen: none, ran: none,
		threads: c.Threads, maxThreads: c.MaxThreads, resolution: c.MaxResolution, batch: c.Batch,
	}, nil
}

// The native engine's own limits.
const (
	maxThreads = 256
	maxBatch   = 64
)

// Calibration is the statistics of a sub-network's batch normalisations, in the order of Space.Norms.
type Calibration struct {
	Subnet ofa.Subnet
	Images int
	// Mean and Var hold one slice a normalisation with one value a channel.
	Mean, Var [][]float64
	// Norms is the same folded with the supernet's BN weight and bias: what a level stores.
	Norms []ofa.Affine
}

// BatchStatistics is what one batch of images says of a sub-network's batch normalisations, in the order of
// Space.Norms: one slice a normalisation with one value a channel.
type BatchStatistics struct {
	Images    int
	Mean, Var [][]float64
}

// Calibrate re-estimates the batch normalisation statistics of a sub-network from images, as OFA does after
// extracting one: each batch is normalised with its own mean and biased variance over images, height and width,
// and the batches' statistics are averaged with the number of their images as weight. The sums are in float64.
// A batch is one or more preprocessed images, [images][r][r][3], of the sub-network's resolution; memory grows
// with the largest one. It uses all processors and looks at ctx between layers.
func (m *Model) Calibrate(ctx context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) (*Calibration, error) {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if err := m.calibrates(n); err != nil {
		return nil, err
	}
	stats, images, err := purego.Average(m.space, n, purego.Batches(ctx, m.space, m.bundle.Tensor, n, batches))
	if err != nil {
		return nil, fmt.Errorf("dynofa: calibrate: %w", err)
	}
	return m.calibration(n, stats, images), nil
}

// CalibrateBatches is the first half of Calibrate: the statistics of one batch after another. No batch depends on
// another, so different processes may measure different ones. The first error ends the sequence. As [Model.Close] waits
// for its end, make no session of this Model within the loop.
func (m *Model) CalibrateBatches(ctx context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) iter.Seq2[BatchStatistics, error] {
	return func(yield func(BatchStatistics, error) bool) {
		m.closing.RLock()
		defer m.closing.RUnlock()
		if err := m.calibrates(n); err != nil {
			yield(BatchStatistics{}, err)
			return
		}
		for b, err := range purego.Batches(ctx, m.space, m.bundle.Tensor, n, batches) {
			if err != nil {
				yield(BatchStatistics{}, fmt.Errorf("dynofa: calibrate: %w", err))
				return
			}
			s := BatchStatistics{Images: b.Images}
			for _, stat := range b.Stats {
				s.Mean, s.Var = append(s.Mean, stat.Mean), append(s.Var, stat.Var)
			}
			if !yield(s, nil) {
				return
			}
		}
	}
}

// AverageBatches is the second half of Calibrate. The same batches in the same order give the same bits, wherever
// they were measured.
func (m *Model) AverageBatches(n ofa.Subnet, batches []BatchStatistics) (*Calibration, error) {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if err := m.calibrates(n); err != nil {
		return nil, err
	}
	norms := m.space.Norms(n)
	stats, images, err := purego.Average(m.space, n, func(yield func(purego.Batch, error) bool) {
		for i, s := range batches {
			b := purego.Batch{Images: s.Images}
			if err := checkStatistics(norms, s); err != nil {
				yield(b, fmt.Errorf("batch %d: %w", i, err))
				return
			}
			for i := range s.Mean {
				b.Stats = append(b.Stats, purego.Statistics{Mean: s.Mean[i], Var: s.Var[i]})
			}
			if !yield(b, nil) {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("dynofa: calibrate: %w", err)
	}
	return m.calibration(n, stats, images), nil
}

// calibration folds statistics with the supernet's weights and biases.
func (m *Model) calibration(n ofa.Subnet, stats []purego.Statistics, images int) *Calibration {
	c := &Calibration{Subnet: m.space.Canonical(n), Images: images}
	for i, norm := range m.space.Norms(n) {
		c.Mean, c.Var = append(c.Mean, stats[i].Mean), append(c.Var, stats[i].Var)
		part := func(suffix string) []float32 { return m.bundle.Tensor(norm.Name + suffix)[:norm.Channels] }
		c.Norms = append(c.Norms, ofa.Fold(part(".weight"), part(".bias"), stats[i].Mean, stats[i].Var, m.space.BNEps))
	}
	return c
}

// calibrates says why a sub-network cannot be calibrated.
func (m *Model) calibrates(n ofa.Subnet) error {
	if m.closed {
		return fmt.Errorf("dynofa: calibrate: model: %w", ErrClosed)
	}
	if err := m.space.CheckArch(n); err != nil {
		return fmt.Errorf("dynofa: calibrate: %w", err)
	}
	return nil
}

func checkStatistics(norms []ofa.Norm, s BatchStatistics) error {
	if s.Images < 1 || len(s.Mean) != len(norms) || len(s.Var) != len(norms) {
		return fmt.Errorf("%d images, %d means and %d variances, expected at least one image and %d of both", s.Images, len(s.Mean), len(s.Var), len(norms))
	}
	for i, norm := range norms {
		if len(s.Mean[i]) != norm.Channels || len(s.Var[i]) != norm.Channels {
			return fmt.Errorf("%s has %d means and %d variances, expected %d", norm.Name, len(s.Mean[i]), len(s.Var[i]), norm.Channels)
		}
		for ch, v := range s.Var[i] {
			if mean := s.Mean[i][ch]; mean-mean != 0 || v-v != 0 || v < 0 {
				return fmt.Errorf("%s: channel %d has mean %g and variance %g, expected finite numbers and no negative variance", norm.Name, ch, mean, v)
			}
		}
	}
	return nil
}

// Classify orders the classes by logit, best first and NaN last, and returns the first k of them, at most all.
func Classify(logits []float32, k int) []int {
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(logits[b], logits[a]) })
	return order[:max(0, min(k, len(order)))]
}
