package dynofa

import (
	"context"
	"fmt"
	"slices"

	"github.com/dynofa/dynofa/gofacade/internal/purego"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Number of configured sub-networks whose plans a session remembers.
const rememberedPlans = 32

// Session is one thread of execution: an arena and the selected sub-network. It belongs to one goroutine at a
// time; make one session per goroutine, they share the model's weights.
type Session struct {
	model      *Model
	engine     *purego.Session
	current    *purego.Plan[float32]
	level      int
	threads    int
	resolution int
	configured []*purego.Plan[float32] // most recent last
	closed     bool
}

// Select makes a level of the library the current sub-network, from the next run on. It allocates nothing and
// copies no weights. On [ErrLevel] the old sub-network stays.
func (s *Session) Select(level int) error {
	if s.closed {
		return fmt.Errorf("dynofa: select: session: %w", ErrClosed)
	}
	if len(s.model.plans) == 0 {
		return fmt.Errorf("dynofa: select level %d: %w, the model has no library", level, ErrLevel)
	}
	if level < 0 || level >= len(s.model.plans) {
		return fmt.Errorf("dynofa: select level %d: %w, expected 0 to %d", level, ErrLevel, len(s.model.plans)-1)
	}
	if p := s.model.plans[level]; p.Subnet.Resolution > s.resolution {
		return s.tooLarge(p.Subnet.Resolution)
	}
	s.use(s.model.plans[level], level)
	return nil
}

// Configure makes any sub-network of the Space the current one, at any resolution up to the session's
// MaxResolution, with the supernet's own batch normalisation. A sub-network that was never calibrated loses much
// of its accuracy that way: see [Model.Calibrate] and ConfigureNorms. The plan is remembered: configuring one of the
// last 32 again allocates nothing. On an error, which names the illegal field, the old sub-network stays.
func (s *Session) Configure(n ofa.Subnet) error {
	for i := len(s.configured) - 1; i >= 0 && !s.closed; i-- {
		if p := s.configured[i]; s.same(p.Subnet, n) {
			copy(s.configured[i:], s.configured[i+1:])
			s.configured[len(s.configured)-1] = p
			s.use(p, -1)
			return nil
		}
	}
	p, err := s.prepare(n, nil)
	if err != nil {
		return err
	}
	if len(s.configured) == rememberedPlans {
		s.configured = slices.Delete(s.configured, 0, 1)
	}
	s.configured = append(s.configured, p)
	s.use(p, -1)
	return nil
}

// ConfigureNorms is Configure with batch normalisations of the caller's, in the order of Space.Norms, such as
// those of a [Calibration]. Its plan is not remembered; norms must not change while it is current.
func (s *Session) ConfigureNorms(n ofa.Subnet, norms []ofa.Affine) error {
	p, err := s.prepare(n, norms)
	if err != nil {
		return err
	}
	s.use(p, -1)
	return nil
}

func (s *Session) prepare(n ofa.Subnet, norms []ofa.Affine) (*purego.Plan[float32], error) {
	if s.closed {
		return nil, fmt.Errorf("dynofa: configure: session: %w", ErrClosed)
	}
	if n.Resolution > s.resolution {
		return nil, s.tooLarge(n.Resolution)
	}
	p, err := s.model.plan(n, norms)
	if err != nil {
		return nil, fmt.Errorf("dynofa: configure: %w", err)
	}
	return p, nil
}

func (s *Session) tooLarge(r int) error {
	return fmt.Errorf("dynofa: resolution %d exceeds the session's MaxResolution %d: %w", r, s.resolution, ErrSize)
}

func (s *Session) use(p *purego.Plan[float32], level int) {
	s.current, s.level = p, level
	s.engine.Use(p)
}

// same tells, without allocating, whether n is the network whose canonical form is c.
func (s *Session) same(c, n ofa.Subnet) bool {
	if c.Resolution != n.Resolution || !slices.Equal(c.Depths, n.Depths) ||
		len(c.Kernels) != len(n.Kernels) || len(c.Expands) != len(n.Expands) {
		return false
	}
	slot := 0
	for i := range s.model.space.Stages {
		for j := range n.Depths[i] {
			if c.Kernels[slot+j] != n.Kernels[slot+j] || c.Expands[slot+j] != n.Expands[slot+j] {
				return false
			}
		}
		slot += s.model.space.Stages[i].MaxDepth()
	}
	return true
}

// Run classifies one preprocessed image. image is [r][r][3] in the order R, G, B, r the current sub-network's
// resolution; logits has one value a class. It allocates nothing unless it fails. ctx is looked at between
// layers; after its error the logits are undefined and the session is as before. [ErrState] without a
// sub-network, [ErrSize] for slices that do not fit.
func (s *Session) Run(ctx context.Context, image, logits []float32) error {
	if err := s.check(len(image), len(logits), 1); err != nil {
		return err
	}
	if err := s.engine.Run(ctx, image, logits); err != nil {
		return fmt.Errorf("dynofa: run: %w", err)
	}
	return nil
}

// RunBatch is Run for n images, [n][r][r][3], one after another; logits is [n][classes].
func (s *Session) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	if err := s.check(len(images), len(logits), n); err != nil {
		return err
	}
	for i := range n {
		in, out := len(images)/n, len(logits)/n
		if err := s.engine.Run(ctx, images[i*in:(i+1)*in], logits[i*out:(i+1)*out]); err != nil {
			return fmt.Errorf("dynofa: run image %d of %d: %w", i, n, err)
		}
	}
	return nil
}

func (s *Session) check(image, logits, n int) error {
	if s.closed {
		return fmt.Errorf("dynofa: run: session: %w", ErrClosed)
	}
	if s.current == nil {
		return fmt.Errorf("dynofa: run: %w, call Select or Configure first", ErrState)
	}
	if n < 1 {
		return fmt.Errorf("dynofa: run: %d images: %w, expected at least 1", n, ErrSize)
	}
	r := s.current.Subnet.Resolution
	if want := r * r * 3; image/n != want || image%n != 0 {
		return fmt.Errorf("dynofa: run: %d values for %d images: %w, expected %d each (%d x %d x 3)", image, n, ErrSize, want, r, r)
	}
	if want := n * s.model.space.Classes; logits != want {
		return fmt.Errorf("dynofa: run: %d logits: %w, expected %d", logits, ErrSize, want)
	}
	return nil
}

// Subnet is the current sub-network in canonical form: what Run executes. It must not be changed. Before the
// first Select or Configure it is the zero value.
func (s *Session) Subnet() ofa.Subnet {
	if s.current == nil {
		return ofa.Subnet{}
	}
	return s.current.Subnet
}

// Level is the current level of the library, or -1 where none is.
func (s *Session) Level() int { return s.level }

// Threads is the number of threads that Run uses.
func (s *Session) Threads() int { return s.threads }

// Backend names the engine, such as "purego".
func (s *Session) Backend() string { return purego.Name }

// Close ends the session's threads. It may be called again; other calls after it answer [ErrClosed].
func (s *Session) Close() error {
	if !s.closed {
		s.closed = true
		s.engine.Close()
	}
	return nil
}
