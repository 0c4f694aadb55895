package profile

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// Engine is what runs networks. It belongs to the goroutine that calls [Run].
type Engine interface {
	// Configure makes a network of the space the current one.
	Configure(n ofa.Subnet) error
	// Run classifies one image, [r][r][3], into one logit a class. Its latency is what the table predicts.
	Run(ctx context.Context, image, logits []float32) error
	// Profile is Run that also measures its parts, in order, into times, and says how many there are.
	Profile(ctx context.Context, image, logits []float32, parts []Part) (int, error)
}

// Part is a part of a run as an Engine cuts it: of a block of the supernet, or of number -1 and named stem, head, pool,
// features or classifier.
type Part struct {
	Name  string
	Block int
	Time  time.Duration
}

// Options says what to measure. Fields without a remark that zero is good have to be given.
type Options struct {
	Engine      Engine
	Space       *ofa.Space
	Dir         string        // of the table, made if need be
	Resolutions []int         // some of the space's; none: all
	Limit       time.Duration // of measuring layers; 0: 200 s
	Networks    int           // that the table proves itself on; 0: 40
	Seed        uint64        // of what is drawn

	// Provenance; Bundle, Backend, Device and Threads also tell whether an unfinished run may go on.
	Bundle  string // SHA-256 of the supernet
	Backend string
	Device  string // what a backend beside the CPU computes on, empty for others
	Threads int
	Dynofa  string // version
	Command string

	Machine  Machine                       // zero: this one
	Now      func() time.Time              // nil: the clock
	Progress func(what string, of float64) // nil: nobody looks; of the whole, 0 to 1
}

// Report is a table and how it proved itself.
type Report struct {
	Table    *latency.Table `json:"-"`
	Dir      string         `json:"dir"`
	Backend  string         `json:"backend"`
	Threads  int            `json:"threads"`
	Keys     int            `json:"keys"`
	Rounds   int            `json:"rounds"`
	Seconds  float64        `json:"seconds"` // of measuring, the proof included
	Dirty    float64        `json:"dirty"`   // share of the measurements that were disturbed
	Tight    float64        `json:"tight"`   // share of the keys with an interval as narrow as asked for
	Proof    latency.Proof  `json:"proof"`
	Networks []Compared     `json:"networks"`
}

// Compared is a network's predicted and measured latency in milliseconds; Low to High is the measurement's 95 %
// confidence interval.
type Compared struct {
	Subnet    string  `json:"subnet"`
	Predicted float64 `json:"predicted_ms"`
	Measured  float64 `json:"measured_ms"`
	Low       float64 `json:"low_ms"`
	High      float64 `json:"high_ms"`
}

// How much is measured.
const (
	minRounds    = 6 // whatever the limit; fewer make no interval
	maxRounds    = 100
	blockTime    = 3 * time.Millisecond // a turn takes at least this long, and at least one run of each kind
	mostRepeats  = 3                    // of a disturbed turn in a round
	longRun      = time.Millisecond     // so long that looking at the kernel's files does not matter
	maxRuns      = 50                   // in a turn
	proofRounds  = 12                   // at least
	proofPart    = 4                    // the proof may take a quarter of the limit, until all intervals are narrow
	layersPart   = 0.8                  // of the progress: all but that
	proofWidth   = 0.01                 // of an interval to either side
	anchorsAPass = 4                    // at least, in a round
	saveEvery    = 10 * time.Second     // and look at the intervals
)

// Run measures a table, saves it in o.Dir and compares it with networks it was not made from. It stops measuring
// when all intervals are narrow, or at o.Limit if the least number of rounds is done; the proof comes after that. If
// ctx ends or the process is killed, what was measured is in the directory and the next Run with the same options
// goes on; other options are an error. Nothing else is written before the end.
func Run(ctx context.Context, o Options) (*Report, error) {
	r, err := run(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return r, nil
}

func run(ctx context.Context, o Options) (*Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string, float64) {}
	}
	if o.Limit == 0 {
		o.Limit = 200 * time.Second
	}
	if o.Networks == 0 {
		o.Networks = 40
	}
	if len(o.Resolutions) == 0 {
		o.Resolutions = o.Space.Resolutions
	}
	o.Resolutions = slices.Compact(slices.Sorted(slices.Values(o.Resolutions)))
	for _, r := range o.Resolutions {
		if !slices.Contains(o.Space.Resolutions, r) {
			return nil, &ofa.FieldError{Field: "resolution", Value: r, Legal: fmt.Sprintf("one of %v", o.Space.Resolutions)}
		}
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	id := identity{o.Bundle, o.Backend, o.Device, o.Threads, o.Machine.cpu(), o.Resolutions, o.Seed}
	p, err := resume(o.Dir, o.Space, id)
	if err == nil && len(p.Rounds) == 0 { // what goes on has been here before
		err = free(o.Dir, id)
	}
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread() // its waiting is looked at, and its caches are its own
	defer runtime.UnlockOSThread()
	m := &meter{o: o, anchor: anchor(o.Space, o.Resolutions), logits: make([]float32, o.Space.Classes), parts: make([]Part, 1024)}
	m.image = make([]float32, 3*slices.Max(o.Resolutions)*slices.Max(o.Resolutions))
	rng := rand.New(rand.NewPCG(o.Seed, 0))
	for i := range m.image {
		m.image[i] = float32(rng.NormFloat64())
	}
	if err := m.warmUp(ctx); err != nil {
		return nil, err
	}
	a, err := m.table(ctx, p)
	if err != nil {
		return nil, unfinished(err, len(p.Rounds))
	}
	correction, err := correct(o.Space, a)
	if err != nil {
		return nil, err
	}
	profile := latency.Profile{
		Dynofa: o.Dynofa, Command: o.Command, CPU: id.CPU, CPUs: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
		Backend: o.Backend, Device: o.Device, Threads: o.Threads, Bundle: o.Bundle, Seed: o.Seed,
		Space:  fmt.Sprintf("%s, width %v, %d classes", o.Space.Family, o.Space.Width, o.Space.Classes),
		Rounds: len(p.Rounds), Dirty: a.dirty, Tight: a.tight, Correction: correction, Spread: a.spread,
	}
	t, err := latency.NewProfiled(a.sides, profile)
	if err != nil {
		return nil, err
	}
	begin := o.Now()
	proof, networks, err := m.prove(ctx, t, p)
	if err != nil {
		return nil, unfinished(err, len(p.Rounds))
	}
	profile.Proof, profile.Seconds, profile.Date = proof, p.Seconds+o.Now().Sub(begin).Seconds(), o.Now().UTC().Format(time.RFC3339)
	if t, err = latency.NewProfiled(a.sides, profile); err != nil {
		return nil, err
	}
	if err := t.Save(o.Dir); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(o.Dir, partialName)); err != nil {
		return nil, err
	}
	keys := 0
	for _, entries := range a.sides {
		keys += len(entries)
	}
	return &Report{t, o.Dir, o.Backend, o.Threads, keys, len(p.Rounds), profile.Seconds, a.dirty, a.tight, *proof, networks}, nil
}

// unfinished says what became of the rounds.
func unfinished(err error, rounds int) error {
	if errors.Is(err, context.Canceled) {
		err = fmt.Errorf("stopped: %w", context.Canceled)
	}
	return fmt.Errorf("%w; %d rounds are kept in %s, the same command goes on from there", err, rounds, partialName)
}

// free says whether a directory has room for a table: it may hold none, or an older one of the same kind.
func free(dir string, id identity) error {
	t, err := latency.Load(dir)
	switch {
	case errors.Is(err, latency.ErrNoTables):
		files, err := os.ReadDir(dir)
		if err == nil && len(files) > 0 {
			err = fmt.Errorf("%s holds %s and no tables, expected an empty directory", dir, files[0].Name())
		}
		return err
	case err != nil:
		return fmt.Errorf("%w; name another directory, or empty this one", err)
	case t.Profile() == nil:
		return fmt.Errorf("%s holds tables without a profile, expected an empty directory or one of this profile", dir)
	}
	p := t.Profile()
	if p.Bundle != id.Bundle || p.Backend != id.Backend || p.Device != id.Device || p.Threads != id.Threads || !slices.Equal(t.Resolutions(), id.Resolutions) {
		return fmt.Errorf("%s holds a table of %.40s%s, threads %d, resolutions %v, bundle %.12s; expected an empty directory or one of %s%s, threads %d, resolutions %v, bundle %.12s",
			dir, p.Backend, on(p.Device), p.Threads, t.Resolutions(), p.Bundle, id.Backend, on(id.Device), id.Threads, id.Resolutions, id.Bundle)
	}
	return nil
}

// on names a device where there is one.
func on(device string) string {
	if device == "" {
		return ""
	}
	return fmt.Sprintf(" on %.100s", device)
}

// meter measures networks.
type meter struct {
	o      Options
	anchor ofa.Subnet
	image  []float32
	logits []float32
	parts  []Part
}

// wall is the duration of one run, in nanoseconds.
func (m *meter) wall(ctx context.Context, r int) (int64, error) {
	start := m.o.Now()
	err := m.o.Engine.Run(ctx, m.image[:3*r*r], m.logits)
	return m.o.Now().Sub(start).Nanoseconds(), err
}

// measure gives a network its turn: one run to settle in the caches, then plain ones and, if asked for, as many with
// their layers timed, in turns.
func (m *meter) measure(ctx context.Context, n ofa.Subnet, layered bool) (block, error) {
	b := block{Subnet: m.o.Space.Text(n)}
	if err := m.o.Engine.Configure(n); err != nil {
		return b, err
	}
	settle, err := m.wall(ctx, n.Resolution)
	if err != nil {
		return b, err
	}
	kinds := int64(1)
	var l *layers
	if layered {
		kinds = 2
		if l, err = newLayers(m.o.Space, n); err != nil {
			return b, err
		}
	}
	// A long run that is interrupted would be lost; how long its thread waited is known.
	lost := func() int64 { return 0 }
	if m.o.Threads == 1 && settle > longRun.Nanoseconds() {
		lost = func() int64 { return m.o.Machine.waitedHere().Nanoseconds() }
	}
	runs := int(min(maxRuns, 1+blockTime.Nanoseconds()/max(1, kinds*settle)))
	var whole []float64
	var times [][]int64
	before, start := m.o.Machine.read(), m.o.Now()
	for range runs {
		waited := lost()
		ns, err := m.wall(ctx, n.Resolution)
		if err != nil {
			return b, err
		}
		whole = append(whole, float64(max(1, ns-(lost()-waited))))
		if !layered {
			continue
		}
		count, err := m.o.Engine.Profile(ctx, m.image[:3*n.Resolution*n.Resolution], m.logits, m.parts)
		if err == nil && count > len(m.parts) {
			err = fmt.Errorf("%d parts in a run, expected at most %d", count, len(m.parts))
		}
		if err != nil {
			return b, err
		}
		ns2, err := l.sum(m.parts[:count])
		if err != nil {
			return b, err
		}
		times = append(times, ns2)
	}
	took := m.o.Now().Sub(start)
	b.Dirt = between(before, m.o.Machine.read(), took)
	slices.Sort(whole)
	b.Whole = int64(median(whole))
	if layered {
		b.Layers = make([]int64, len(l.keys))
		column := make([]float64, len(times))
		for i := range b.Layers {
			for j := range times {
				column[j] = float64(times[j][i])
			}
			slices.Sort(column)
			b.Layers[i] = int64(median(column))
		}
	}
	return b, nil
}

// warmUp runs the anchor until its latency has converged: clocks rise, pages come in.
func (m *meter) warmUp(ctx context.Context) error {
	const window, most, settled = 10, 30, 0.01
	last := math.Inf(1)
	for range most {
		var v []float64
		for range window {
			b, err := m.measure(ctx, m.anchor, false)
			if err != nil {
				return err
			}
			v = append(v, float64(b.Whole))
		}
		slices.Sort(v)
		now := median(v)
		if math.Abs(now-last) <= settled*last {
			return nil
		}
		last = now
	}
	return nil // a restless machine; the anchors say how restless
}

// task is a network that waits for its turn in a round.
type task struct {
	n       ofa.Subnet
	layered bool
	again   int // turns that were disturbed
}

// turns measures tasks in order, disturbed ones again at the end, and the anchor in between.
func (m *meter) turns(ctx context.Context, tasks []task, done func()) (round, error) {
	var r round
	repeats := len(tasks) / 2 // where most turns are disturbed, repeating helps no more than the next round
	every := max(1, min(len(tasks)/anchorsAPass, 9))
	for i := 0; i < len(tasks); i++ {
		t := tasks[i]
		if i%every == 0 {
			a, err := m.measure(ctx, m.anchor, false)
			if err != nil {
				return r, err
			}
			r.Anchors = append(r.Anchors, a)
		}
		b, err := m.measure(ctx, t.n, t.layered)
		if err != nil {
			return r, err
		}
		if b.Dirt == disturbed && t.again < mostRepeats && repeats > 0 {
			t.again++
			repeats--
			tasks = append(tasks, t)
			continue
		}
		b.Again = t.again
		r.Blocks = append(r.Blocks, b)
		done()
	}
	return r, nil
}

// table measures rounds until it is enough.
func (m *meter) table(ctx context.Context, p *partial) (*analysis, error) {
	o := &m.o
	start, before := o.Now(), p.Seconds
	looked := start
	for {
		if n := len(p.Rounds); n >= minRounds && (n >= maxRounds || p.Seconds >= o.Limit.Seconds()) {
			break
		}
		if now := o.Now(); now.Sub(looked) >= saveEvery {
			looked = now
			if err := p.save(o.Dir); err != nil {
				return nil, err
			}
			if len(p.Rounds) >= minRounds {
				a, err := analyse(o.Space, p)
				if err != nil || a.tight == 1 {
					return a, err
				}
			}
		}
		rng := rand.New(rand.NewPCG(o.Seed, 2+uint64(len(p.Rounds))))
		var tasks []task
		sides := slices.Clone(o.Resolutions)
		rng.Shuffle(len(sides), func(i, j int) { sides[i], sides[j] = sides[j], sides[i] })
		for _, side := range sides {
			for _, n := range design(o.Space, side, len(p.Rounds), rng) {
				tasks = append(tasks, task{n: n, layered: true})
			}
		}
		whole, ready := float64(len(tasks)), 0.0
		r, err := m.turns(ctx, tasks, func() {
			ready++
			p.Seconds = before + o.Now().Sub(start).Seconds()
			o.Progress("layers", layersPart*min(1, p.Seconds/o.Limit.Seconds(), (float64(len(p.Rounds))+ready/whole)/minRounds))
		})
		if err != nil {
			return nil, errors.Join(err, p.save(o.Dir))
		}
		p.Rounds = append(p.Rounds, r)
		p.Seconds = before + o.Now().Sub(start).Seconds()
	}
	if err := p.save(o.Dir); err != nil {
		return nil, err
	}
	return analyse(o.Space, p)
}

// prove compares the table with networks that it was not made from.
func (m *meter) prove(ctx context.Context, t *latency.Table, p *partial) (*latency.Proof, []Compared, error) {
	o := &m.o
	known := map[string]bool{}
	for _, r := range p.Rounds {
		for _, b := range r.Blocks {
			known[b.Subnet] = true
		}
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	networks := unseen(o.Space, o.Resolutions, o.Networks, known, rng)
	if len(networks) == 0 {
		return &latency.Proof{Drift: 1}, nil, nil // the table knows them all
	}
	reference, start, limit := anchorTime(p.Rounds), o.Now(), o.Limit/proofPart
	var rounds []round
	var samples map[string][]sample
	for {
		var tasks []task
		for _, k := range rng.Perm(len(networks)) {
			tasks = append(tasks, task{n: networks[k]})
		}
		ready := 0.0
		r, err := m.turns(ctx, tasks, func() {
			ready++
			of := min(1, (float64(len(rounds))+ready/float64(len(networks)))/proofRounds, float64(o.Now().Sub(start))/float64(limit))
			o.Progress("proof", layersPart+(1-layersPart)*of)
		})
		if err != nil {
			return nil, nil, err
		}
		rounds = append(rounds, r)
		if len(rounds) < proofRounds {
			continue
		}
		if samples = byNetwork(rounds, reference); narrow(samples) || len(rounds) == maxRounds || o.Now().Sub(start) >= limit {
			break
		}
	}
	proof := &latency.Proof{Networks: len(networks), Drift: anchorTime(rounds) / reference}
	var compared []Compared
	var predictions, measurements []float64
	for _, n := range networks {
		predicted, err := t.Predict(o.Space, n)
		if err != nil {
			return nil, nil, err
		}
		text := o.Space.Text(n)
		v := usable(samples[text])
		low, high, _ := interval(v)
		measured := median(v)
		compared = append(compared, Compared{text, predicted, measured, low, high})
		predictions, measurements = append(predictions, predicted), append(measurements, measured)
		e := math.Abs(predicted-measured) / measured
		proof.MeanError += e / float64(len(networks))
		proof.Worst = max(proof.Worst, e)
	}
	proof.Rank = predictor.Spearman(predictions, measurements)
	return proof, compared, nil
}

// byNetwork is what rounds measured of every network in milliseconds, with the machine's speed divided out.
func byNetwork(rounds []round, reference float64) map[string][]sample {
	samples := map[string][]sample{}
	slow := speeds(rounds, reference)
	for i, r := range rounds {
		for _, b := range r.Blocks {
			samples[b.Subnet] = append(samples[b.Subnet], sample{float64(b.Whole) / ms / slow[i], b.Dirt})
		}
	}
	return samples
}

// narrow says whether the interval of every network is.
func narrow(samples map[string][]sample) bool {
	for _, list := range samples {
		v := usable(list)
		low, high, ok := interval(v)
		if middle := median(v); !ok || max(high-middle, middle-low) > proofWidth*middle {
			return false
		}
	}
	return true
}
