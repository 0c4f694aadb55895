package dynofa

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/internal/purego"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Number of configured sub-networks whose plans a session remembers.
const rememberedPlans = 32

// goModel is the pure-Go engine.
type goModel struct {
	space  *ofa.Space
	model  *purego.Model
	levels []goPlan
}

type goPlan struct {
	*purego.Plan[float32]
	id uint64
}

// openPurego packs a bundle. Plans point to the levels' normalisations, which must not change.
func openPurego(b *bundle.Bundle, levels []bundle.Level) *goModel {
	m := &goModel{space: b.Space(), model: purego.New(b.Space(), b.Tensor)}
	for i, l := range levels {
		m.levels = append(m.levels, m.plan(l.Subnet, l.Norms, uint64(i)+1))
	}
	return m
}

func (m *goModel) plan(n ofa.Subnet, norms []ofa.Affine, tag uint64) goPlan {
	return goPlan{m.model.Plan(n, norms), planID(m.space, n, tag)}
}

func (m *goModel) name() string { return purego.Name }

func (m *goModel) device() Device { return Device{} }

func (m *goModel) kernels() []string { return nil }

func (m *goModel) close() {}

func (m *goModel) newSession(c Config) (runner, error) {
	if len(c.Affinity) > 0 {
		return nil, errors.New("affinity with backend purego, whose goroutines are the scheduler's to place, expected none")
	}
	s, err := m.model.NewSession(c.MaxThreads, c.MaxResolution)
	if err != nil {
		return nil, err
	}
	s.SetThreads(c.Threads)
	return &goSession{model: m, session: s}, nil
}

type goSession struct {
	model      *goModel
	session    *purego.Session
	current    goPlan
	ran        uint64
	remembered []goPlan // configured without norms, most recent last
	times      []time.Duration
}

func (s *goSession) use(p goPlan) {
	s.current = p
	s.session.Use(p.Plan)
}

func (s *goSession) selectLevel(level int) error {
	s.use(s.model.levels[level])
	return nil
}

func (s *goSession) configure(n ofa.Subnet, norms []ofa.Affine) error {
	if norms != nil {
		var tag uint64
		for _, a := range norms {
			for _, v := range [...][]float32{a.Scale, a.Shift} {
				for _, x := range v {
					tag = mix(tag, uint64(math.Float32bits(x)))
				}
			}
		}
		s.use(s.model.plan(n, copied(norms), tag|1<<63))
		return nil
	}
	for i := len(s.remembered) - 1; i >= 0; i-- {
		if p := s.remembered[i]; s.equal(p.Subnet, n) {
			copy(s.remembered[i:], s.remembered[i+1:])
			s.remembered[len(s.remembered)-1] = p
			s.use(p)
			return nil
		}
	}
	if len(s.remembered) == rememberedPlans {
		s.remembered = slices.Delete(s.remembered, 0, 1)
	}
	s.remembered = append(s.remembered, s.model.plan(n, nil, 0))
	s.use(s.remembered[len(s.remembered)-1])
	return nil
}

// equal tells, without allocating, whether n is the network whose canonical form is c.
func (s *goSession) equal(c, n ofa.Subnet) bool {
	if c.Resolution != n.Resolution || !slices.Equal(c.Depths, n.Depths) {
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

func (s *goSession) prepare(int) error { return nil } // plans are all there is

func (s *goSession) run(ctx context.Context, n int, images, logits []float32) error {
	in, out := len(images)/n, len(logits)/n
	for i := range n {
		if err := s.session.Run(ctx, images[i*in:(i+1)*in], logits[i*out:(i+1)*out], nil); err != nil {
			return err
		}
	}
	s.ran = s.current.id
	return nil
}

func (s *goSession) profile(ctx context.Context, image, logits []float32, times []LayerTime) (int, error) {
	n := s.current.Parts()
	s.times = slices.Grow(s.times[:0], n)[:n]
	if err := s.session.Run(ctx, image, logits, s.times); err != nil {
		return 0, err
	}
	s.ran = s.current.id
	for i := range min(n, len(times)) {
		p := s.current.Part(i)
		times[i] = LayerTime{p.Name, p.Block, int64(p.MACs), s.times[i]}
	}
	return n, nil
}

func (s *goSession) plan() uint64 { return s.ran }

func (s *goSession) setThreads(n int) error {
	s.session.SetThreads(n)
	return nil
}

func (s *goSession) close() { s.session.Close() }
