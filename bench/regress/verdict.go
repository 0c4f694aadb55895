package regress

import (
	"math"
	"math/rand/v2"
)

// Verdict is the answer of a row, or of a comparison.
type Verdict string

// The verdicts.
const (
	Same         Verdict = "same"
	Improvement  Verdict = "improvement"
	Regression   Verdict = "regression"
	Inconclusive Verdict = "inconclusive"
)

// Limits is what counts as a change.
type Limits struct {
	Effect float64 // the smallest change to be found, such as 0.02
	Alpha  float64 // chance of a false alarm of a whole comparison
}

// Row is what a comparison found for one benchmark. A change is B over A minus 1: positive is slower.
type Row struct {
	Name    string  `json:"name"`
	AMS     float64 `json:"a_ms"`
	BMS     float64 `json:"b_ms"`
	Pairs   int     `json:"pairs"`  // of bursts
	Rounds  int     `json:"rounds"` // of fresh processes; of chunks, for files
	Change  float64 `json:"change"`
	Low     float64 `json:"low"` // interval of Change at 1 - Alpha
	High    float64 `json:"high"`
	P       float64 `json:"p"`       // Wilcoxon signed rank over the rounds; Mann-Whitney for files; Holm-corrected
	U       float64 `json:"u"`       // Mann-Whitney as benchstat computes it, not corrected
	Finds   float64 `json:"finds"`   // the smallest change that this many rounds find in 95 of 100 comparisons
	Dirty   float64 `json:"dirty"`   // share of the bursts during which the machine was busy with others
	Checked bool    `json:"checked"` // looked at again in fresh processes
	Verdict Verdict `json:"verdict"`
	Note    string  `json:"note,omitempty"`
}

// sample is what is known of a row: log(B/A) of each round, and both sides' times.
type sample struct {
	d, a, b []float64
}

// estimate fills in everything but the verdict. Paired samples have d.
func (s *sample) estimate(r *Row, l Limits) {
	room := make([]float64, 0, len(s.a)*(len(s.b)+1))
	var point float64
	var statistic func(rng *rand.Rand) float64
	if s.d != nil {
		again := make([]float64, len(s.d))
		point = hodgesLehmann(s.d, room)
		statistic = func(rng *rand.Rand) float64 { resample(rng, s.d, again); return hodgesLehmann(again, room) }
		r.P = signedRank(s.d)
	} else {
		la, lb := logs(s.a), logs(s.b)
		againA, againB := make([]float64, len(la)), make([]float64, len(lb))
		point = shift(la, lb, room)
		statistic = func(rng *rand.Rand) float64 {
			resample(rng, la, againA)
			resample(rng, lb, againB)
			return shift(againA, againB, room)
		}
		r.P = mannWhitney(s.a, s.b)
	}
	low, high, se := bootstrap(1-l.Alpha, statistic)
	r.Rounds = len(s.a)
	r.AMS, r.BMS, r.U = median(s.a)/1e6, median(s.b)/1e6, mannWhitney(s.a, s.b)
	r.Change, r.Low, r.High = math.Expm1(point), math.Expm1(low), math.Expm1(high)
	// The interval has to leave zero out: half of it, and 1.645 standard errors for 95 of 100.
	r.Finds = (high-low)/2 + 1.6448536*se
}

func logs(values []float64) []float64 {
	out := make([]float64, len(values))
	for i, v := range values {
		out[i] = math.Log(v)
	}
	return out
}

// within says that the row changes by less than the effect for certain; a row that was never estimated is not.
func (r *Row) within(l Limits) bool { return r.Rounds > 0 && r.Low > -l.Effect && r.High < l.Effect }

// precise says that more rounds would not tell more than the limits ask for. One wild round of sixteen has the highest of
// their ranks, so that p may lag behind an interval that leaves zero out by far; more rounds settle that. r.P is of one row
// of so many.
func (r *Row) precise(l Limits, rows int) bool {
	if r.within(l) {
		return true
	}
	changed := r.Low > 0 || r.High < 0
	return r.Rounds > 0 && r.High-r.Low <= l.Effect && (!changed || r.clear(l) && r.P*float64(rows) < l.Alpha)
}

// clear says that a third of the effect is left out by the interval, not zero alone: comparisons stop as soon as they have
// their answer, which makes intervals a little too short, and so zero is left out more often than it should be.
func (r *Row) clear(l Limits) bool { return max(r.Low, -r.High) > l.Effect/3 }

// judge settles the verdict; r.P is corrected by then. A change counts if it is certainly there (the interval
// is clear of zero and p is below alpha) and may be as large as the effect asked for (the interval reaches it): so a
// change of exactly that effect is found nearly always and one of half of it hardly ever, provided that the interval is
// no wider than the effect.
func (r *Row) judge(l Limits) {
	r.Verdict = Inconclusive
	if r.Rounds > 0 {
		r.Verdict = verdictOf(r.Low, r.High, l.Effect, r.clear(l) && r.P < l.Alpha)
	}
}

// verdictOf is the verdict on a change by its interval; certain says that whatever else is asked of a change holds.
func verdictOf(low, high, effect float64, certain bool) Verdict {
	switch {
	case low > -effect && high < effect:
		return Same
	case certain && low > 0 && high >= effect:
		return Regression
	case certain && high < 0 && low <= -effect:
		return Improvement
	}
	return Inconclusive
}

// confirm takes a change back that does not show again by itself in the rounds after those that made the row
// suspicious, at least half as large as the effect.
func (r *Row) confirm(again *Row, l Limits) {
	if r.Verdict == Regression && again.Change < l.Effect/2 || r.Verdict == Improvement && again.Change > -l.Effect/2 {
		r.Verdict, r.Note = Inconclusive, "not seen again in fresh processes"
	}
}

// overall is the verdict of all rows together: the worst.
func (c *Comparison) overall() Verdict {
	verdicts := make([]Verdict, 0, len(c.Rows)+len(c.Governed))
	for i := range c.Rows {
		verdicts = append(verdicts, c.Rows[i].Verdict)
	}
	for i := range c.Governed {
		verdicts = append(verdicts, c.Governed[i].Verdict)
	}
	verdict := Same
	if len(c.Missing) > 0 {
		verdict = Inconclusive
	}
	for _, v := range verdicts {
		switch {
		case v == Regression:
			return v
		case v == Inconclusive, v == Improvement && verdict == Same:
			verdict = v
		}
	}
	return verdict
}
