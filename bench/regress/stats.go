package regress

import (
	"math"
	"math/rand/v2"
	"slices"

	"golang.org/x/perf/benchmath"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// quantile interpolates; values are sorted and at least one.
func quantile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func median(values []float64) float64 { return quantile(slices.Sorted(slices.Values(values)), 0.5) }

// hodgesLehmann is the median of the means of all pairs of differences: nearly as efficient as the mean where
// they are normal, and untouched by a quarter of wild ones. room is scratch.
func hodgesLehmann(d, room []float64) float64 {
	room = room[:0]
	for i, a := range d {
		for _, b := range d[i:] {
			room = append(room, (a+b)/2)
		}
	}
	return selected(room)
}

// selected is the median, the mean of the middle two of an even number, for which it moves values around. Sorting
// them all would be most of what a comparison computes.
func selected(values []float64) float64 {
	middle := len(values) / 2
	high := nth(values, middle)
	if len(values)%2 == 1 {
		return high
	}
	return (slices.Max(values[:middle]) + high) / 2
}

// nth moves the n-th smallest value to its place and no larger one before it (Hoare's selection), and returns it.
func nth(v []float64, n int) float64 {
	for low, high := 0, len(v)-1; low < high; {
		pivot := v[low+(high-low)/2]
		i, j := low, high
		for i <= j {
			for v[i] < pivot {
				i++
			}
			for v[j] > pivot {
				j--
			}
			if i <= j {
				v[i], v[j] = v[j], v[i]
				i, j = i+1, j-1
			}
		}
		switch {
		case n <= j:
			high = j
		case n >= i:
			low = i
		default:
			return v[n]
		}
	}
	return v[n]
}

// shift is the Hodges-Lehmann shift of two samples that are not paired: the median of all differences.
func shift(a, b, room []float64) float64 {
	room = room[:0]
	for _, x := range a {
		for _, y := range b {
			room = append(room, y-x)
		}
	}
	return selected(room)
}

const resamples = 1000

// bootstrap is the interval of a statistic at a confidence, and its standard error, by resampling. The seed is
// fixed: the same values give the same answer.
func bootstrap(confidence float64, statistic func(rng *rand.Rand) float64) (low, high, se float64) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, resamples)
	for i := range values {
		values[i] = statistic(rng)
	}
	slices.Sort(values)
	tail := (1 - confidence) / 2
	// A quarter of the middle 90 % would be a half of a standard error of normal values: robust against tails.
	se = (quantile(values, 0.95) - quantile(values, 0.05)) / (2 * 1.6448536)
	return quantile(values, tail), quantile(values, 1-tail), se
}

func resample(rng *rand.Rand, from, to []float64) {
	for i := range to {
		to[i] = from[rng.IntN(len(from))]
	}
}

// signedRank is the two-sided p-value of Wilcoxon's test that differences are symmetric around zero, exact: the
// number of sign patterns whose rank sum is at least as far from its mean. Ties share their ranks.
func signedRank(d []float64) float64 {
	d = slices.DeleteFunc(slices.Clone(d), func(v float64) bool { return v == 0 })
	n := len(d)
	if n == 0 {
		return 1
	}
	slices.SortFunc(d, func(a, b float64) int {
		switch {
		case math.Abs(a) < math.Abs(b):
			return -1
		case math.Abs(a) > math.Abs(b):
			return 1
		}
		return 0
	})
	// Ranks are doubled, so that shared ones are whole.
	ranks, sum, total := make([]int, n), 0, 0
	for i := 0; i < n; {
		j := i
		for j < n && math.Abs(d[j]) == math.Abs(d[i]) {
			j++
		}
		for k := i; k < j; k++ {
			ranks[k] = i + j + 1
		}
		i = j
	}
	for i, r := range ranks {
		total += r
		if d[i] > 0 {
			sum += r
		}
	}
	chance := make([]float64, total+1) // of each rank sum
	chance[0] = 1
	reached := 0
	for _, r := range ranks {
		for s := reached; s >= 0; s-- {
			chance[s+r] += chance[s] / 2
			chance[s] /= 2
		}
		reached += r
	}
	far := max(2*sum-total, total-2*sum)
	p := 0.0
	for s, c := range chance {
		if max(2*s-total, total-2*s) >= far {
			p += c
		}
	}
	return min(1, p)
}

// mannWhitney is the two-sided p-value that two samples are of one distribution, as benchstat computes it.
func mannWhitney(a, b []float64) float64 {
	if slices.Equal(slices.Compact(slices.Clone(a)), slices.Compact(slices.Clone(b))) && len(slices.Compact(slices.Clone(a))) == 1 {
		return 1 // all values are equal; there is no test
	}
	t := benchmath.DefaultThresholds
	return benchmath.AssumeNothing.Compare(benchmath.NewSample(slices.Clone(a), &t), benchmath.NewSample(slices.Clone(b), &t)).P
}

// holm adjusts p-values for their number.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		}
		return 0
	})
	adjusted, most := make([]float64, len(p)), 0.0
	for rank, i := range order {
		most = max(most, min(1, p[i]*float64(len(p)-rank)))
		adjusted[i] = most
	}
	return adjusted
}

// student is the two-sided p-value of Student's t-test of two samples that spread alike.
func student(a, b []float64) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 1
	}
	ma, va := stat.MeanVariance(a, nil)
	mb, vb := stat.MeanVariance(b, nil)
	n, m := float64(len(a)), float64(len(b))
	v := ((n-1)*va + (m-1)*vb) / (n + m - 2)
	if v == 0 {
		if ma == mb {
			return 1
		}
		return 0
	}
	t := math.Abs(ma-mb) / math.Sqrt(v*(1/n+1/m))
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: n + m - 2}.Survival(t)
}

// welch is the two-sided p-value of Welch's t-test.
func welch(a, b []float64) float64 {
	if len(a) < 2 || len(b) < 2 {
		return 1
	}
	ma, va := stat.MeanVariance(a, nil)
	mb, vb := stat.MeanVariance(b, nil)
	va, vb = va/float64(len(a)), vb/float64(len(b))
	if va+vb == 0 {
		if ma == mb {
			return 1
		}
		return 0
	}
	freedom := (va + vb) * (va + vb) / (va*va/float64(len(a)-1) + vb*vb/float64(len(b)-1))
	t := math.Abs(ma-mb) / math.Sqrt(va+vb)
	return 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}.Survival(t)
}
