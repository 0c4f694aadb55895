package regress

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
)

// Pairs and rounds of a comparison. What differs between two processes of one program (where its pages lie) is
// larger than the noise within one, so a round has fresh processes and few pairs. It gets one more where the two bursts
// of a side disagree: then none may have been undisturbed.
const (
	fewPairs    = 2 // of a round
	manyPairs   = 3 // of a round
	disagree    = 0.01
	mostPairs   = 60 // of a row
	leastRounds = 8
	firstPairs  = 20 // of a row, before it is settled or suspicious
	burst       = 10 * time.Millisecond
	leastRuns   = 6
	mostRuns    = 4000
	// lower is the quantile of a burst's wall times that stands for it. Others' work only ever adds time, so that
	// the lower tail is what the code takes; README.md says what else was tried.
	lower = 0.1
)

// MostRounds of a comparison; it has far fewer where nothing changed.
const MostRounds = mostPairs / fewPairs

// Options is what a comparison does.
type Options struct {
	Limits
	Levels  []int // none: all
	Kernels bool  // a row for each part of the network, too
	Seed    uint64
	Done    func() // after each round; may be nil
}

// Comparison is the outcome of comparing two sides.
type Comparison struct {
	A       string  `json:"a"`
	B       string  `json:"b"`
	Backend string  `json:"backend"`
	Threads int     `json:"threads"`
	Effect  float64 `json:"effect"`
	Alpha   float64 `json:"alpha"`
	Rows    []Row   `json:"rows"`
	// Governed is only of result files, as is Missing: rows of A that B does not have, of which nobody knows whether
	// they are the same.
	Governed []Governed `json:"governed,omitempty"`
	Missing  []string   `json:"missing,omitempty"`
	Verdict  Verdict    `json:"verdict"`
	Seconds  float64    `json:"seconds"`
}

// series gathers the rounds of one row.
type series struct {
	row           Row
	level         int
	part          string // empty: the whole inference
	first, second sample // before and after it looked changed
	pairs         int    // of bursts
	dirty         int    // bursts
}

// comparer is a comparison at work.
type comparer struct {
	Options
	names  [2]string
	start  func(side int) (asked, error) // afresh
	rng    *rand.Rand
	runs   map[int]int // per burst, by level
	series []*series   // in the order of the rows
	hello  [2]harness.Hello
	rounds int // begun
}

// Compare runs both sides in turn and says which rows changed.
func Compare(ctx context.Context, a, b *Side, o Options) (*Comparison, error) {
	sides := [2]*Side{a, b}
	c := &comparer{Options: o, names: [2]string{a.Name, b.Name}, start: func(i int) (asked, error) { return sides[i].start(ctx) }}
	return c.compare()
}

func (c *comparer) compare() (*Comparison, error) {
	began := time.Now()
	c.rng, c.runs = rand.New(rand.NewPCG(c.Seed, 1)), map[int]int{}
	if err := c.phase(nil, firstPairs); err != nil {
		return nil, err
	}
	suspects := map[*series]bool{}
	for _, s := range c.series {
		if !s.row.within(c.Limits) {
			suspects[s] = true
		}
	}
	if len(suspects) > 0 {
		if err := c.phase(suspects, mostPairs); err != nil {
			return nil, err
		}
	}
	out := &Comparison{A: c.names[0], B: c.names[1], Backend: c.hello[0].Backend, Threads: c.hello[0].Threads, Effect: c.Effect, Alpha: c.Alpha}
	if other := c.hello[1].Backend; other != out.Backend {
		out.Backend += " and " + other
	}
	again := make([]Row, len(c.series))
	for i, s := range c.series {
		if suspects[s] {
			s.second.estimate(&again[i], c.Limits)
			s.row.Checked = true
		}
		s.row.Pairs, s.row.Dirty = s.pairs, float64(s.dirty)/float64(2*s.pairs)
		out.Rows = append(out.Rows, s.row)
	}
	correct(out.Rows)
	for i := range out.Rows {
		out.Rows[i].judge(c.Limits)
		out.Rows[i].confirm(&again[i], c.Limits)
	}
	out.Verdict = out.overall()
	out.Seconds = time.Since(began).Seconds()
	return out, nil
}

func correct(rows []Row) {
	p := make([]float64, len(rows))
	for i := range rows {
		p[i] = rows[i].P
	}
	for i, v := range holm(p) {
		rows[i].P = v
	}
}

// phase adds rounds until every row is precise, within its limits. suspects are the rows that are looked at again;
// nil is the first look at all of them. No row gets more than so many pairs.
func (c *comparer) phase(suspects map[*series]bool, most int) error {
	for round := 1; c.mostPairs()+fewPairs <= most; round++ {
		// Further pairs may not take those that the least number of rounds needs.
		spare := most - c.mostPairs() - fewPairs*max(1, leastRounds-round+1)
		if err := c.round(suspects, min(manyPairs, fewPairs+spare)); err != nil {
			return err
		}
		if c.Done != nil {
			c.Done()
		}
		if round < leastRounds {
			continue
		}
		precise := true
		for _, s := range c.series {
			if suspects == nil || suspects[s] {
				all := sample{slices.Concat(s.first.d, s.second.d), slices.Concat(s.first.a, s.second.a), slices.Concat(s.first.b, s.second.b)}
				all.estimate(&s.row, c.Limits)
				precise = precise && s.row.precise(c.Limits, len(c.series))
			}
		}
		if precise {
			break
		}
	}
	return nil
}

// mostPairs are those of the row that has most.
func (c *comparer) mostPairs() int {
	pairs := 0
	for _, s := range c.series {
		pairs = max(pairs, s.pairs)
	}
	return pairs
}

// round starts both sides afresh and lets them take turns, with up to so many pairs.
func (c *comparer) round(only map[*series]bool, manyPairs int) (err error) {
	c.rounds++
	var workers [2]asked
	defer func() {
		for i, w := range workers {
			if w != nil {
				if e := w.close(); e != nil && err == nil {
					err = fmt.Errorf("%s: the worker ended badly: %w", c.names[i], e)
				}
			}
		}
	}()
	for _, i := range c.rng.Perm(2) {
		w, err := c.start(i)
		if err != nil {
			return err
		}
		workers[i], c.hello[i] = w, w.greeting()
	}
	if err := c.agree(); err != nil {
		return err
	}
	for _, level := range c.levels(only) {
		for _, w := range workers { // caches and branch predictors learn the level
			warm, err := w.burst(level, leastRuns, c.Kernels)
			if err != nil {
				return err
			}
			if c.runs[level] == 0 {
				n := int(float64(burst.Nanoseconds()) / decile(warm.Wall))
				c.runs[level] = min(max(n, leastRuns), mostRuns)
			}
		}
		best := [2]map[string]*pair{{}, {}}
		pairs, dirty := 0, 0
		for pairs < fewPairs || pairs < manyPairs && !(best[0][""].agree() && best[1][""].agree()) {
			pairs++
			for _, i := range c.rng.Perm(2) {
				b, err := workers[i].burst(level, c.runs[level], c.Kernels)
				if err != nil {
					return err
				}
				if b.Dirty() {
					dirty++
				}
				if err := c.note(level, b, best[i]); err != nil {
					return fmt.Errorf("%s: %w", c.names[i], err)
				}
			}
		}
		for _, s := range c.series {
			if s.level != level || only != nil && !only[s] {
				continue
			}
			a, b := best[0][s.part].value(), best[1][s.part].value()
			if a <= 0 || b <= 0 {
				return fmt.Errorf("level %d: part %q takes %g ns in %s and %g ns in %s, expected both to have it: compare without --kernels",
					level, s.part, a, c.names[0], b, c.names[1])
			}
			to := &s.first
			if only != nil {
				to = &s.second
			}
			to.a, to.b, to.d = append(to.a, a), append(to.b, b), append(to.d, math.Log(b/a))
			s.pairs, s.dirty = s.pairs+pairs, s.dirty+dirty
		}
	}
	return nil
}

// agree checks that both sides measure the same things, and makes the rows once.
func (c *comparer) agree() error {
	a, b := c.hello[0], c.hello[1]
	if len(a.Levels) != len(b.Levels) {
		return fmt.Errorf("%s has %d levels, %s has %d, expected as many", c.names[0], len(a.Levels), c.names[1], len(b.Levels))
	}
	if len(c.series) > 0 {
		return nil
	}
	levels := c.Levels
	if levels == nil {
		for i := range a.Levels {
			levels = append(levels, i)
		}
	}
	for _, level := range levels {
		if level < 0 || level >= len(a.Levels) {
			return fmt.Errorf("%s has no level %d, expected 0 to %d", c.names[0], level, len(a.Levels)-1)
		}
		s := &series{level: level}
		s.row.Name = fmt.Sprintf("level=%d/subnet=%s", level, a.Levels[level])
		if a.Levels[level] != b.Levels[level] {
			s.row.Note = "B has " + b.Levels[level]
		}
		c.series = append(c.series, s)
	}
	if len(c.series) == 0 {
		return errors.New("the bundle has no levels, expected at least one")
	}
	return nil
}

// levels are those that have a row to measure.
func (c *comparer) levels(only map[*series]bool) []int {
	var list []int
	for _, s := range c.series {
		if (only == nil || only[s]) && !slices.Contains(list, s.level) {
			list = append(list, s.level)
		}
	}
	return list
}

// note keeps the burst's times if they are better than those before, and makes rows of parts that are new.
func (c *comparer) note(level int, b *harness.Burst, best map[string]*pair) error {
	keep := func(part string, ns []int64) {
		if best[part] == nil {
			best[part] = &pair{math.Inf(1), math.Inf(1)}
		}
		best[part].add(decile(ns))
	}
	keep("", b.Wall)
	names := make([]string, 0, len(b.Parts))
	for name, ns := range b.Parts {
		if len(ns) != len(b.Wall) || slices.Min(ns) < 0 {
			return fmt.Errorf("part %q has %d times, expected %d that are not negative", name, len(ns), len(b.Wall))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		ns := b.Parts[name]
		keep(name, ns)
		if c.rounds == 1 && decile(ns) >= shortestPart && !slices.ContainsFunc(c.series, func(s *series) bool { return s.level == level && s.part == name }) {
			s := &series{level: level, part: name}
			s.row.Name = fmt.Sprintf("level=%d/part=%s", level, strings.ReplaceAll(name, ", ", "+"))
			c.series = append(c.series, s)
		}
	}
	return nil
}

// pair is the best and the second best time of a side in a round.
type pair struct{ best, second float64 }

func (p *pair) add(v float64) {
	if v < p.best {
		p.best, p.second = v, p.best
	} else if v < p.second {
		p.second = v
	}
}

func (p *pair) agree() bool { return p.second <= p.best*(1+disagree) }

func (p *pair) value() float64 {
	if p == nil {
		return 0
	}
	return p.best
}

// shortestPart leaves out parts that take no longer than the clock needs to be read, in nanoseconds.
const shortestPart = 2000

func decile(ns []int64) float64 {
	values := make([]float64, len(ns))
	for i, v := range ns {
		values[i] = float64(v)
	}
	slices.Sort(values)
	return quantile(values, lower)
}
