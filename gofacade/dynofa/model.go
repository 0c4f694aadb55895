package dynofa

import (
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

// What callers branch on, with errors.Is.
var (
	ErrClosed = errors.New("closed")        // the Model or Session has been closed
	ErrLevel  = errors.New("no such level") // the library has no level of that number
	ErrState  = errors.New("nothing is selected")
	ErrSize   = errors.New("wrong size") // an image or a slice of logits does not fit the network
)

// Config holds what may be chosen when a Model or a Session is made. The zero value, and nil, are good defaults.
type Config struct {
	// Backend is the engine: "" for the best there is, or "purego". Models and sessions read it.
	Backend string
	// Threads is the number of threads, 0 for one. Only sessions read it.
	Threads int
	// MaxResolution is the largest image side that has to fit, 0 for the largest of the Space and its library.
	// Only sessions read it: their arena is sized for it.
	MaxResolution int
}

// Model is a supernet with its library, ready to run. It is immutable and may be shared by goroutines.
type Model struct {
	engine *purego.Model
	space  *ofa.Space
	levels []bundle.Level
	plans  []*purego.Plan[float32] // one a level

	closing sync.RWMutex // held for reading while the tensors are in use
	tensor  func(string) []float32
	bundle  *bundle.Bundle // nil where the tensors are in memory
	closed  bool
}

// Open opens a bundle. Errors name the file, what is wrong with it and what was expected.
func Open(path string, cfg *Config) (*Model, error) {
	b, err := bundle.Open(path)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	m, err := newModel(b.Space(), b.Tensor, b.Levels(), cfg)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("dynofa: %s: %w", path, err), b.Close())
	}
	m.bundle = b
	return m, nil
}

// New makes a Model of a supernet in memory, which must not change afterwards.
func New(c *bundle.Contents, cfg *Config) (*Model, error) {
	m, err := newModel(c.Space, c.Tensor, c.Levels, cfg)
	if err != nil {
		return nil, fmt.Errorf("dynofa: %w", err)
	}
	return m, nil
}

func newModel(space *ofa.Space, tensor func(string) []float32, levels []bundle.Level, cfg *Config) (*Model, error) {
	if err := checkBackend(cfg); err != nil {
		return nil, err
	}
	m := &Model{engine: purego.New(space, tensor), space: space, levels: slices.Clone(levels), tensor: tensor}
	for i := range m.levels {
		l := &m.levels[i]
		l.Norms = copied(l.Norms) // plans point there, and they outlive the bundle's file
		p, err := m.plan(l.Subnet, l.Norms)
		if err != nil {
			return nil, fmt.Errorf("level %d: %w", i, err)
		}
		m.plans = append(m.plans, p)
	}
	return m, nil
}

func copied(norms []ofa.Affine) []ofa.Affine {
	out := make([]ofa.Affine, len(norms))
	for i, a := range norms {
		out[i] = ofa.Affine{Scale: slices.Clone(a.Scale), Shift: slices.Clone(a.Shift)}
	}
	return out
}

func checkBackend(cfg *Config) error {
	if cfg != nil && cfg.Backend != "" && cfg.Backend != purego.Name {
		return fmt.Errorf("no backend %q in this build, expected one of %q", cfg.Backend, Backends())
	}
	return nil
}

// Backends lists the engines of this build, best first.
func Backends() []string { return []string{purego.Name} }

func (m *Model) plan(n ofa.Subnet, norms []ofa.Affine) (*purego.Plan[float32], error) {
	if err := m.space.CheckArch(n); err != nil {
		return nil, err
	}
	return m.engine.Plan(n, norms)
}

// Space is the supernet's shape. It must not be changed.
func (m *Model) Space() *ofa.Space { return m.space }

// Classes is the length of the logits.
func (m *Model) Classes() int { return m.space.Classes }

// Levels is the library, fast to accurate. It must not be changed.
func (m *Model) Levels() []bundle.Level { return m.levels }

// Close releases the bundle. Sessions keep working; what needs the stored tensors afterwards (Calibrate) and
// new sessions answer [ErrClosed]. It waits for a running Calibrate and may be called again.
func (m *Model) Close() error {
	m.closing.Lock()
	defer m.closing.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.tensor = nil
	if m.bundle == nil {
		return nil
	}
	return m.bundle.Close()
}

// NewSession makes a session. Its memory is sized once, here; Run, Select and Configure need no more.
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
	if err := checkBackend(cfg); err != nil {
		return nil, fmt.Errorf("dynofa: new session: %w", err)
	}
	if c.Threads == 0 {
		c.Threads = 1
	}
	if c.MaxResolution == 0 {
		c.MaxResolution = m.space.MaxResolution()
		for _, l := range m.levels {
			c.MaxResolution = max(c.MaxResolution, l.Subnet.Resolution)
		}
	}
	n := m.space.Largest()
	n.Resolution = c.MaxResolution
	if err := m.space.CheckArch(n); err != nil {
		return nil, fmt.Errorf("dynofa: new session: MaxResolution: %w", err)
	}
	if limit := 8 * runtime.NumCPU(); c.Threads < 1 || c.Threads > limit {
		return nil, fmt.Errorf("dynofa: new session: %d threads, expected 0 to %d (0 is one)", c.Threads, limit)
	}
	return &Session{
		model: m, engine: m.engine.NewSession(c.Threads, c.MaxResolution),
		level: -1, threads: c.Threads, resolution: c.MaxResolution,
	}, nil
}

// Calibration is the statistics of a sub-network's batch normalisations, in the order of Space.Norms.
type Calibration struct {
	Subnet ofa.Subnet
	Images int
	// Mean and Var hold one slice a normalisation with one value a channel.
	Mean, Var [][]float64
	// Norms is the same folded with the supernet's BN weight and bias: what a level stores.
	Norms []ofa.Affine
}

// Calibrate re-estimates the batch normalisation statistics of a sub-network from images, as OFA does after
// extracting one: each batch is normalised with its own mean and biased variance over images, height and width,
// and the batches' statistics are averaged with the number of their images as weight. The sums are in float64.
// A batch is one or more preprocessed images, [images][r][r][3], of the sub-network's resolution; memory grows
// with the largest one. It uses all processors and looks at ctx between layers.
func (m *Model) Calibrate(ctx context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) (*Calibration, error) {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if m.closed {
		return nil, fmt.Errorf("dynofa: calibrate: model: %w", ErrClosed)
	}
	if err := m.space.CheckArch(n); err != nil {
		return nil, fmt.Errorf("dynofa: calibrate: %w", err)
	}
	c := &Calibration{Subnet: m.space.Canonical(n)}
	counted := func(yield func([]float32, error) bool) {
		for batch, err := range batches {
			c.Images += len(batch) / (n.Resolution * n.Resolution * 3)
			if !yield(batch, err) {
				return
			}
		}
	}
	stats, err := purego.Calibrate(ctx, m.space, m.tensor, n, counted)
	if err != nil {
		return nil, fmt.Errorf("dynofa: calibrate: %w", err)
	}
	for i, norm := range m.space.Norms(n) {
		c.Mean, c.Var = append(c.Mean, stats[i].Mean), append(c.Var, stats[i].Var)
		part := func(suffix string) []float32 { return m.tensor(norm.Name + suffix)[:norm.Channels] }
		c.Norms = append(c.Norms, ofa.Fold(part(".weight"), part(".bias"), stats[i].Mean, stats[i].Var, m.space.BNEps))
	}
	return c, nil
}

// Classify orders the classes by logit, best first, and returns the first k of them.
func Classify(logits []float32, k int) []int {
	order := make([]int, len(logits))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	return order[:min(k, len(order))]
}
