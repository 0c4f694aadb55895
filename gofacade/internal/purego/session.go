package purego

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A step smaller than this many multiply-adds is not worth waking another goroutine for.
const parallelMACs = 100_000

// Session executes plans, one image at a time, on the caller's goroutine and threads-1 of its own. It belongs
// to one goroutine at a time.
type Session struct {
	gemm    gemmFunc[float32]
	frame   *frame[float32]
	scratch [][]float32 // one a thread
	plan    *Plan[float32]

	threads int            // that take part, the caller's goroutine included
	step    *step[float32] // what the workers work on
	next    atomic.Int64   // the next tile of it
	wake    []chan struct{}
	busy    sync.WaitGroup
}

// NewSession makes a session whose arena holds every Subnet up to the given resolution. It starts threads-1
// goroutines, which Close ends; all of them take part until SetThreads says otherwise. An arena beyond maxValues is an
// error.
func (m *Model) NewSession(threads, resolution int) (*Session, error) {
	f, err := newFrame[float32](m.space, resolution)
	if err != nil {
		return nil, err
	}
	s := &Session{gemm: m.w.gemm, threads: threads, frame: f}
	for i := range threads {
		s.scratch = append(s.scratch, make([]float32, scratchSize(m.space)))
		if i > 0 {
			wake := make(chan struct{})
			s.wake = append(s.wake, wake)
			go func() {
				for range wake {
					s.work(s.scratch[i])
					s.busy.Done()
				}
			}()
		}
	}
	return s, nil
}

// Close ends the session's goroutines. The session must not be used again.
func (s *Session) Close() {
	for _, wake := range s.wake {
		close(wake)
	}
	s.wake = nil
}

// SetThreads makes the following runs use n threads, 1 to those of NewSession.
func (s *Session) SetThreads(n int) { s.threads = n }

// Use makes p the plan of the following runs.
func (s *Session) Use(p *Plan[float32]) { s.plan = p }

// Run classifies one image, [r][r][3], into one logit a class. It looks at ctx between steps and allocates
// nothing. times is nil, or gets the time of each of the plan's parts.
func (s *Session) Run(ctx context.Context, image, out []float32, times []time.Duration) error {
	s.frame.image = image
	defer func() { s.frame.image = nil }()
	for i := range s.plan.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if times == nil {
			s.execute(&s.plan.steps[i])
			continue
		}
		start := time.Now()
		s.execute(&s.plan.steps[i])
		times[i] = time.Since(start)
	}
	copy(out, s.frame.buf[logits][:s.plan.classes])
	return nil
}

func (s *Session) execute(st *step[float32]) {
	s.step = st
	s.next.Store(0)
	if st.tiles > 1 && st.part.MACs >= parallelMACs {
		others := s.wake[:s.threads-1]
		s.busy.Add(len(others))
		for _, wake := range others {
			wake <- struct{}{}
		}
	}
	s.work(s.scratch[0])
	s.busy.Wait()
}

func (s *Session) work(scratch []float32) {
	for {
		i := int(s.next.Add(1)) - 1
		if i >= s.step.tiles {
			return
		}
		s.step.conv(s.gemm, s.frame, scratch, i)
		s.step.finish(s.frame, i)
	}
}
