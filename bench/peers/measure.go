package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
)

// A block begins with runs that do not count: the engines before it have taken the caches.
const unsettled = 2

// tolerance is how far logits may be from ours, relative to the largest: rounding makes a few 1e-6, a wrong weight,
// activation or precision far more.
const tolerance = 1e-4

// seat is an engine at work on one network with a number of threads.
type seat struct {
	engine  *engine
	threads int
	worker  *worker
	blocks  []block
}

// measured is what one engine did on one network: the blocks of every round, by number of threads.
type measured struct {
	Version      string          `json:"version"`
	Disagreement float64         `json:"disagreement"` // of the logits with ours, the worse of both numbers of threads
	Blocks       map[int][]block `json:"blocks"`
	Failure      string          `json:"failure,omitempty"` // why it is not ranked
	Wrong        bool            `json:"wrong,omitempty"`   // its logits are why
}

// plan is how much is measured.
type plan struct {
	engines      []*engine // ours first
	programs     map[*engine][]string
	rounds, runs int
	threads      []int
	peak         *worker           // nil: not measured
	progress     func()            // called after each round
	warn         func(text string) // what is left out, and why
}

// measure lets the engines take turns on one network. An engine that fails is left out with its reason; ours may
// not. peaks are FLOP/s of every round by number of threads.
func measure(s *shop, n *network, p plan) (map[string]*measured, map[int][]float64, error) {
	results := map[string]*measured{}
	var seats []*seat
	defer func() {
		for _, t := range seats {
			_ = t.worker.close() // whatever it still says, its times are in
		}
	}()
	fail := func(e *engine, err error) error {
		if e == p.engines[0] {
			return err
		}
		results[e.name].Failure = s.reason(err)
		p.warn(s.reason(err))
		return nil
	}
	want := []float64(nil)
	for _, e := range p.engines {
		results[e.name] = &measured{Blocks: map[int][]block{}}
		for _, threads := range p.threads {
			t, version, logits, err := sit(s, n, e, p.programs[e], threads)
			if t != nil {
				seats = append(seats, t)
			}
			if err == nil {
				if want == nil {
					want = logits
				}
				results[e.name].Version = version
				d := disagreement(logits, want)
				results[e.name].Disagreement = max(results[e.name].Disagreement, d)
				if !(d <= tolerance) {
					results[e.name].Wrong = true
					err = fmt.Errorf("%s: WRONG: logits differ by %.2g of the largest, at most %.0g is rounding", t.worker.name, d, tolerance)
				}
			}
			if err != nil {
				if err := fail(e, err); err != nil {
					return nil, nil, err
				}
				break
			}
		}
	}
	failed := func(t *seat) bool { return results[t.engine.name].Failure != "" }

	peaks := map[int][]float64{}
	order := slices.DeleteFunc(slices.Clone(seats), failed)
	rng := rand.New(rand.NewPCG(1, 1))
	for range p.rounds {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, t := range order {
			if failed(t) {
				continue
			}
			b, err := t.worker.run(unsettled + p.runs)
			if err != nil {
				if err := fail(t.engine, err); err != nil {
					return nil, nil, err
				}
				continue
			}
			t.worker.quiet()
			t.blocks = append(t.blocks, block{b.Wall[unsettled:], b.CPU[unsettled:]})
		}
		if p.peak != nil {
			for _, threads := range p.threads {
				flops, err := p.peak.peak(threads)
				if err != nil {
					return nil, nil, err
				}
				peaks[threads] = append(peaks[threads], flops)
			}
		}
		p.progress()
	}
	for _, t := range order {
		results[t.engine.name].Blocks[t.threads] = t.blocks
	}
	return results, peaks, nil
}

// sit starts an engine on a network, warms it up and returns its logits. The seat is to be closed even if there is
// an error.
func sit(s *shop, n *network, e *engine, program []string, threads int) (*seat, string, []float64, error) {
	model, err := s.model(e, n)
	if err != nil {
		return nil, "", nil, fmt.Errorf("%s on %s: %w", e.title, n.name, err)
	}
	argv := append(slices.Clone(program), model, strconv.Itoa(n.level), n.images[e.layout], strconv.Itoa(n.classes), strconv.Itoa(threads))
	w, err := start(fmt.Sprintf("%s on %s, %d threads", e.title, n.name, threads), argv)
	if err != nil {
		return nil, "", nil, err
	}
	t := &seat{engine: e, threads: threads, worker: w}
	version, err := w.version()
	if err != nil {
		return t, "", nil, err
	}
	if err := warmUp(w); err != nil {
		return t, "", nil, err
	}
	logits, err := w.logits(n.classes)
	w.quiet()
	return t, version, logits, err
}

// warmUp runs until the medians of two blocks in a row are within 3 %, which on a busy machine may never be.
func warmUp(w *worker) error {
	before := 0.0
	for range 20 {
		b, err := w.run(5)
		if err != nil {
			return err
		}
		now := median(b.CPU)
		if before > 0 && now > 0.97*before && now < 1.03*before {
			return nil
		}
		before = now
	}
	return nil
}
