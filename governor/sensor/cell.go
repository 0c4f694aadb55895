package sensor

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
)

// cell hands the latest merged readings from one writer at a time to any number of readers. There is no lock: the
// writer fills the slot after the latest one and then moves latest on, so a reader always finds a complete slot, also
// while the writer is suspended halfway. A reader that is itself suspended until the writer has come round again
// notices by the slot's version and takes the then latest one. Every word is atomic, which keeps this
// free of data races also by the rules of Go's memory model.
type cell struct {
	latest atomic.Uint32
	slots  [4]slot
}

type slot struct {
	version atomic.Uint64 // odd while it is written
	words   [source.Fields][4]atomic.Uint64
}

func (c *cell) store(p *[source.Fields]published) {
	next := (c.latest.Load() + 1) % uint32(len(c.slots))
	s := &c.slots[next]
	s.version.Add(1)
	for i := range p {
		w := &s.words[i]
		w[0].Store(math.Float64bits(p[i].Value))
		w[1].Store(uint64(p[i].At))
		w[2].Store(uint64(p[i].until))
		w[3].Store(uint64(p[i].Condition))
	}
	s.version.Add(1)
	c.latest.Store(next)
}

func (c *cell) load(p *[source.Fields]published) {
	for {
		s := &c.slots[c.latest.Load()]
		version := s.version.Load()
		for i := range p {
			w := &s.words[i]
			p[i].Value = math.Float64frombits(w[0].Load())
			p[i].At = time.Duration(w[1].Load())
			p[i].until = time.Duration(w[2].Load())
			p[i].Condition = governor.Condition(w[3].Load())
		}
		if version%2 == 0 && s.version.Load() == version {
			return
		}
	}
}
