package harness

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

// Plan is what a run measures: every combination of its lists.
type Plan struct {
	Scenarios []Scenario
	Levels    []int
	Threads   []int
	Duration  time.Duration // of each row, at least; rows go on until their percentile holds
	QPS       float64       // Server's, 0 for the most that meets the bound, which is searched for
	Bound     time.Duration // Server's p99, 0 for four times the time of one inference
	Layers    bool
	Meter     Meter     // nil: no energy
	System    fs.FS     // root of the machine's file system
	Seed      uint64    // of Server's arrivals
	Done      func()    // after each row
	Note      func(Row) // before each row
}

// slice is the length of a chunk: short enough that a disturbance spoils little, long enough for /proc's ticks.
const slice = 500 * time.Millisecond

// patienceFactor bounds a row that cannot get the queries its percentile needs in Duration.
const patienceFactor = 10

// Run measures a model and appends to w as it goes.
func Run(ctx context.Context, m *Model, p Plan, w *Writer) error {
	defer spareP()()
	for _, scenario := range p.Scenarios {
		for _, level := range p.Levels {
			for _, threads := range p.Threads {
				if err := p.row(ctx, m, scenario, level, threads, w); err != nil {
					return err
				}
				if p.Done != nil {
					p.Done()
				}
			}
		}
	}
	return nil
}

func (p *Plan) row(ctx context.Context, m *Model, scenario Scenario, level, threads int, w *Writer) (err error) {
	perSession := threads
	if scenario == Offline {
		perSession = 1 // whole images side by side need no waiting for each other
	}
	t, err := m.NewTarget(level, perSession)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	single, err := t.warmUp(ctx)
	if err != nil {
		return err
	}
	n := t.Session.Subnet()
	macs, _ := m.Space().Cost(n)
	r := Row{Model: m.Name, SHA256: m.SHA256, Data: m.Data, Scenario: scenario, Level: level, Subnet: m.Space().Text(n),
		Resolution: n.Resolution, MACs: macs, Backend: m.Backend(), Threads: threads}
	if scenario == Server {
		if err := p.serverRow(ctx, t, single, &r); err != nil {
			return err
		}
	}
	if p.Note != nil {
		p.Note(r)
	}
	id, err := w.row(&r)
	if err != nil {
		return err
	}
	c := &chunker{id: id, images: scenario.imagesPerQuery(), plan: p, write: func(c *Chunk) error { return w.write(line{Chunk: c}) }}
	switch scenario {
	case Server:
		err = p.server(ctx, t, r.QPS, c)
	case Offline:
		err = p.offline(ctx, m, level, threads, c)
	default:
		err = p.stream(ctx, t, c)
	}
	if err != nil {
		return err
	}
	if p.Layers {
		l, err := t.measureLayers(ctx, p.Duration)
		if err != nil {
			return err
		}
		l.Row = id
		if err := w.write(line{Layers: l}); err != nil {
			return err
		}
	}
	return w.write(line{End: &end{id}})
}

// warmUp runs blocks until the medians of two in a row are within 2 %, or for a second on a machine where they
// never are. It returns the last median.
func (t *Target) warmUp(ctx context.Context) (time.Duration, error) {
	const block = 9
	var before, now time.Duration
	for began := time.Now(); ; before = now {
		var times [block]int64
		for i := range times {
			start := time.Now()
			if err := t.Run(ctx); err != nil {
				return 0, err
			}
			times[i] = time.Since(start).Nanoseconds()
		}
		now = time.Duration(median(times[:]))
		if d := (now - before).Abs(); d <= before/50 || time.Since(began) > time.Second {
			return now, nil
		}
	}
}

// chunker gathers latencies and writes them a slice of time at a time.
type chunker struct {
	id     int
	images int
	plan   *Plan
	write  func(*Chunk) error

	ns     []int64
	total  int
	began  time.Time
	watch  func() (Watch, []string)
	energy func() *float64
}

func (c *chunker) start() {
	c.watch, c.energy = guard(c.plan.System), spender(c.plan.Meter)
	c.energy()
	c.began = time.Now()
}

// add notes a value and, every so often, writes. idle is for how long no query is due: writing takes up to a
// millisecond, which must not make one late.
func (c *chunker) add(ns int64, idle time.Duration) error {
	c.ns = append(c.ns, max(1, ns))
	c.total++
	if age := time.Since(c.began); age < slice || age < 4*slice && idle < 2*time.Millisecond {
		return nil
	}
	return c.flush()
}

func (c *chunker) flush() error {
	if len(c.ns) == 0 {
		return nil
	}
	chunk := &Chunk{Row: c.id, Images: c.images, NS: c.ns, Seconds: time.Since(c.began).Seconds(), EnergyMJ: c.energy()}
	chunk.Watch, chunk.Dirty = c.watch()
	err := c.write(chunk)
	c.ns, c.began = c.ns[:0], time.Now()
	return err
}

// enough tells whether a row may end: its time is over and its percentile holds, or it cannot be helped.
func (p *Plan) enough(elapsed time.Duration, queries int, percentile float64) bool {
	return elapsed >= p.Duration && queries >= MinQueries(1, percentile) || elapsed >= patienceFactor*p.Duration
}

// stream issues the next query when the last is answered.
func (p *Plan) stream(ctx context.Context, t *Target, c *chunker) error {
	percentile := SingleStream.percentile()
	if c.images > 1 {
		percentile = MultiStream.percentile()
	}
	began := time.Now()
	for c.start(); !p.enough(time.Since(began), c.total, percentile); {
		t.Yield()
		start := time.Now()
		for range c.images {
			if err := t.Run(ctx); err != nil {
				return err
			}
		}
		if err := c.add(time.Since(start).Nanoseconds(), time.Hour); err != nil {
			return err
		}
	}
	return c.flush()
}

// server issues queries at random times, a Poisson process, and answers them in order. A latency begins when the
// query was to be issued, so a late start counts.
func (p *Plan) server(ctx context.Context, t *Target, qps float64, c *chunker) error {
	arrivals := rand.New(rand.NewPCG(p.Seed, 1))
	began := time.Now()
	gap := func() time.Duration { return time.Duration(min(arrivals.ExpFloat64()/qps*1e9, longest)) }
	due := gap()
	for c.start(); !p.enough(due, c.total, Server.percentile()); {
		t.Yield()
		waitUntil(ctx, began.Add(due))
		if err := t.Run(ctx); err != nil {
			return err
		}
		latency := time.Since(began) - due
		due += gap()
		if err := c.add(latency.Nanoseconds(), time.Until(began.Add(due))); err != nil {
			return err
		}
	}
	return c.flush()
}

// waitUntil sleeps while there is time and spins at the end: a sleep alone comes back late by some 60 µs, more
// than an inference of a small network takes. An interrupt ends the waiting within a tenth of a second.
func waitUntil(ctx context.Context, t time.Time) {
	const spin = 500 * time.Microsecond
	for rest := time.Until(t); rest > 2*spin; rest = time.Until(t) {
		if ctx.Err() != nil {
			return
		}
		time.Sleep(min(rest-spin, 100*time.Millisecond))
	}
	for time.Until(t) > 0 { //nolint:revive // looking at the clock is the work
	}
}

// serverRow settles the bound and the rate of a Server row: the given ones, or the highest rate of which the p99
// meets the bound, found as LoadGen does, by doubling and then bisection.
func (p *Plan) serverRow(ctx context.Context, t *Target, single time.Duration, r *Row) error {
	bound := p.Bound
	if bound == 0 {
		bound = 4 * single
	}
	r.BoundMS = float64(bound.Nanoseconds()) / 1e6
	if r.QPS = p.QPS; r.QPS > 0 {
		return nil
	}
	meets := func(qps float64) (bool, error) {
		probe := &chunker{images: 1, plan: p, write: func(*Chunk) error { return nil }}
		var all []int64
		probe.write = func(c *Chunk) error { all = append(all, c.NS...); return nil }
		short := *p
		short.Duration = min(p.Duration, time.Second)
		if err := short.server(ctx, t, qps, probe); err != nil {
			return false, err
		}
		return serverPasses(all, bound.Nanoseconds()), nil
	}
	low, high := 0.0, 0.1/single.Seconds()
	for high < 2/single.Seconds() {
		ok, err := meets(high)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		low, high = high, 2*high
	}
	for range 5 {
		middle := (low + high) / 2
		ok, err := meets(middle)
		if err != nil {
			return err
		}
		if ok {
			low = middle
		} else {
			high = middle
		}
	}
	if low == 0 {
		low = high // no rate met the bound; the row says so
	}
	r.QPS = low
	return nil
}

// serverPasses is LoadGen's rule for Server: few enough queries over the bound for their number.
func serverPasses(ns []int64, bound int64) bool {
	over := 0
	for _, v := range ns {
		if v > bound {
			over++
		}
	}
	return len(ns) >= MinQueries(over, Server.percentile())
}

// offline has all images there from the beginning: as many sessions of one thread as there are threads take the
// next one each. A value is the time of one image on one session.
func (p *Plan) offline(ctx context.Context, m *Model, level, threads int, c *chunker) error {
	targets := make([]*Target, threads)
	for i := range targets {
		t, err := m.NewTarget(level, 1)
		if err != nil {
			return err
		}
		defer t.Close()
		targets[i] = t
	}
	single, err := targets[0].warmUp(ctx)
	if err != nil {
		return err
	}
	// The query is issued in parts of a slice of time, so that a killed run has something.
	c.images = max(1, int(float64(threads)*slice.Seconds()/single.Seconds()))
	began := time.Now()
	for c.start(); time.Since(began) < p.Duration; {
		start := time.Now()
		if err := side(ctx, targets, c.images); err != nil {
			return err
		}
		c.ns = append(c.ns, time.Since(start).Nanoseconds())
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// side runs n images on all targets side by side.
func side(ctx context.Context, targets []*Target, n int) error {
	var next atomic.Int64
	errs := make([]error, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() {
			for next.Add(1) <= int64(n) && errs[i] == nil {
				t.Yield()
				errs[i] = t.Run(ctx)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measureLayers alternates inferences with and without timed parts, for half of the row's time, at least 20 each.
// The row's own values come from untimed inferences only.
func (t *Target) measureLayers(ctx context.Context, duration time.Duration) (*Layers, error) {
	const least = 20
	var plain, timed []int64
	var parts [][]int64
	var layers []dynofa.LayerTime
	for began := time.Now(); len(plain) < least || time.Since(began) < duration/2 && len(plain) < mostRuns; {
		start := workTime(began)
		if err := t.Run(ctx); err != nil {
			return nil, err
		}
		middle := workTime(began)
		var err error
		if layers, err = t.Profile(ctx); err != nil {
			return nil, err
		}
		plain, timed = append(plain, middle-start), append(timed, workTime(began)-middle)
		if parts == nil {
			parts = make([][]int64, len(layers))
		}
		if len(parts) != len(layers) {
			return nil, fmt.Errorf("harness: an inference had %d parts, the next %d, expected the same", len(parts), len(layers))
		}
		for i, l := range layers {
			parts[i] = append(parts[i], l.Time.Nanoseconds())
		}
	}
	// Others' work only ever adds: the lower tails differ by what timing costs.
	slices.Sort(plain)
	slices.Sort(timed)
	out := &Layers{Runs: len(plain), Overhead: float64(quantile(timed, 0.1))/float64(max(1, quantile(plain, 0.1))) - 1}
	kernels, traffic := t.model.kernelsOf(t.Session), t.model.traffic(t.Session)
	for i, l := range layers {
		bytes, padded := traffic(l)
		out.Parts = append(out.Parts, Part{Name: l.Name, Kernel: kernels(l), Stage: stageOf(t.model.Space(), l.Block), Block: l.Block,
			MACs: l.MACs, Bytes: bytes, Padded: padded, NS: median(parts[i])})
	}
	return out, nil
}

// workTime is processor time in nanoseconds, or what has passed since a moment where the system does not tell it. Two
// kinds of inferences that are each preempted compare by nothing else.
func workTime(since time.Time) int64 {
	if cpu := processTime(); cpu > 0 {
		return cpu
	}
	return time.Since(since).Nanoseconds()
}
