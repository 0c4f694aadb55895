package regress

import (
	"math"
	"slices"
)

// Change points of a series: E-divisive (Matteson and James 2014) says where, t-tests whether. Splits are
// first taken readily, then the weak ones are taken back, because a strong change may only show once a weak one has
// been cut off.
const (
	readily = 0.02 // p of a split to be looked into
	surely  = 3e-4 // p of a change point that is reported
	segment = 4    // points on both sides, at least
	// wild is how many robust standard deviations from its neighbours' median a point is clipped to.
	wild = 3
	// neighbours of a point on each side, for clipping.
	neighbours = 4
)

// ChangePoint is where a series changed: its first point after it.
type ChangePoint struct {
	At     int     `json:"at"`
	Before float64 `json:"before"` // medians of the segments
	After  float64 `json:"after"`
	Change float64 `json:"change"` // of times After over Before minus 1, of a governor's quantities After minus Before
	P      float64 `json:"p"`
}

// scale is on which numbers a series is looked at, and what a step there is as a change.
type scale struct {
	to, from func(float64) float64
	change   func(step float64) float64
}

var (
	shares      = scale{math.Log, math.Exp, math.Expm1}
	differences = scale{same, same, same}
)

func same(v float64) float64 { return v }

// ChangePoints finds shifts of at least effect, a share, in a series of positive values.
func ChangePoints(values []float64, effect float64) []ChangePoint {
	return changePoints(values, shares, effect)
}

func changePoints(values []float64, of scale, effect float64) []ChangePoint {
	v := make([]float64, len(values))
	for i := range v {
		v[i] = of.to(values[i])
	}
	v = clipped(v)
	var cuts []int
	divide(v, 0, len(v), &cuts)
	slices.Sort(cuts)
	for len(cuts) > 0 {
		weakest, worst := -1, -1.0
		for i, at := range cuts {
			left, right := around(v, cuts, i, at)
			p := shifted(left, right)
			if math.Abs(of.change(median(right)-median(left))) < effect {
				p = 1
			}
			if p > worst {
				weakest, worst = i, p
			}
		}
		if worst < surely {
			break
		}
		cuts = slices.Delete(cuts, weakest, weakest+1)
	}
	points := make([]ChangePoint, len(cuts))
	for i, at := range cuts {
		left, right := around(v, cuts, i, at)
		before, after := median(left), median(right)
		points[i] = ChangePoint{At: at, Before: of.from(before), After: of.from(after), Change: of.change(after - before), P: shifted(left, right)}
	}
	return points
}

// shifted is the p-value of a shift between two segments: Student's, or a twentieth of Welch's if that is larger. Noise does
// not change with the shift, and by themselves the first points after it are too few to tell how much there is: Welch's
// alone finds a third fewer. Student's alone takes a few wild points in a row for a shift.
func shifted(left, right []float64) float64 { return max(student(left, right), welch(left, right)/20) }

// around are the segments on both sides of a cut.
func around(v []float64, cuts []int, i, at int) (left, right []float64) {
	from, to := 0, len(v)
	if i > 0 {
		from = cuts[i-1]
	}
	if i+1 < len(cuts) {
		to = cuts[i+1]
	}
	return v[from:at], v[at:to]
}

// divide cuts v[from:to] where the energy distance of both sides is largest, and both sides again.
func divide(v []float64, from, to int, cuts *[]int) {
	at, best := -1, 0.0
	for cut := from + segment; cut <= to-segment; cut++ {
		if q := energy(v[from:cut], v[cut:to]); q > best {
			at, best = cut, q
		}
	}
	if at < 0 || min(student(v[from:at], v[at:to]), welch(v[from:at], v[at:to])) >= readily {
		return
	}
	*cuts = append(*cuts, at)
	divide(v, from, at, cuts)
	divide(v, at, to, cuts)
}

// energy is the scaled energy distance of two samples: how much farther they are from each other than within.
func energy(a, b []float64) float64 {
	n, m := float64(len(a)), float64(len(b))
	var across float64
	for _, x := range a {
		for _, y := range b {
			across += math.Abs(x - y)
		}
	}
	return n * m / (n + m) * (2*across/(n*m) - within(a) - within(b))
}

// within is the mean distance of two values of a sample.
func within(v []float64) float64 {
	var sum float64
	for i, x := range v {
		for _, y := range v[:i] {
			sum += math.Abs(x - y)
		}
	}
	n := float64(len(v))
	return 2 * sum / (n * (n - 1))
}

// clipped pulls wild points to the edge of what their neighbours do: one busy moment is no change.
func clipped(v []float64) []float64 {
	if len(v) < 3 {
		return v
	}
	// The noise of the series is that of its steps, so that shifts do not count.
	steps := make([]float64, len(v)-1)
	for i := range steps {
		steps[i] = math.Abs(v[i+1] - v[i])
	}
	sigma := 1.4826 * median(steps) / math.Sqrt2
	out := make([]float64, len(v))
	for i := range v {
		// The first point of a new level has its like on its right, the last one on its left: the nearer side counts.
		near := math.Inf(1)
		centre := v[i]
		for _, side := range [][]float64{v[max(0, i-neighbours):i], v[i+1 : min(len(v), i+1+neighbours)]} {
			if len(side) > 0 {
				if m := median(side); math.Abs(v[i]-m) < near {
					near, centre = math.Abs(v[i]-m), m
				}
			}
		}
		out[i] = min(max(v[i], centre-wild*sigma), centre+wild*sigma)
	}
	return out
}
