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
	at := from + farthest(v[from:to])
	if at == from || min(student(v[from:at], v[at:to]), welch(v[from:at], v[at:to])) >= readily {
		return
	}
	*cuts = append(*cuts, at)
	divide(v, from, at, cuts)
	divide(v, at, to, cuts)
}

// farthest is the cut whose sides have the largest scaled energy distance, which is how much farther two samples are from
// each other than within; 0 if there is none. A point that changes sides takes its distances along: with sums made anew
// for every cut a series of 2000 would take seconds.
func farthest(v []float64) (at int) {
	var left, across, right, best float64 // sums of distances
	for i, x := range v {
		right += distance(x, v[:i])
	}
	for cut := 1; cut <= len(v)-segment; cut++ {
		x := v[cut-1]
		before, after := distance(x, v[:cut-1]), distance(x, v[cut:])
		left, across, right = left+before, across-before+after, right-after
		n, m := float64(cut), float64(len(v)-cut)
		q := n * m / (n + m) * 2 * (across/(n*m) - left/(n*(n-1)) - right/(m*(m-1)))
		if cut >= segment && q > best {
			at, best = cut, q
		}
	}
	return at
}

// distance is the sum of those of x to the others.
func distance(x float64, others []float64) float64 {
	var sum float64
	for _, y := range others {
		sum += math.Abs(x - y)
	}
	return sum
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
