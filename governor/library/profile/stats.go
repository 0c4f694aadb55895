package profile

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// sample is one value that something else may have disturbed.
type sample struct {
	v    float64
	dirt dirt
}

// Fewer samples than this are not enough to leave dirtier ones out; with fewer there is no interval.
const fewSamples = 6

// usable are the sorted values that count: the clean ones if there are enough, else the shared ones as well, else the
// faster half of all, because waiting only adds.
func usable(samples []sample) []float64 {
	var v []float64
	for worst := clean; worst <= disturbed; worst++ {
		v = v[:0]
		for _, s := range samples {
			if s.dirt <= worst {
				v = append(v, s.v)
			}
		}
		if worst == disturbed {
			slices.Sort(v)
			return v[:(len(v)+1)/2]
		}
		if len(v) >= fewSamples {
			break
		}
	}
	slices.Sort(v)
	return v
}

// median of sorted values, of which there is at least one.
func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// interval is a 95 % confidence interval of the median of sorted values, from order statistics: without an
// assumption on the distribution, which has a long tail on one side. Below six values it would be wider than they
// are; ok is false and they are all of it.
func interval(sorted []float64) (low, high float64, ok bool) {
	n := len(sorted)
	if n < fewSamples {
		return sorted[0], sorted[n-1], false
	}
	rank := int(float64(n)/2 - 0.98*math.Sqrt(float64(n)))
	return sorted[rank], sorted[n-1-rank], true
}

// spearman is the correlation of the ranks of two lists.
func spearman(a, b []float64) float64 { return stat.Correlation(ranks(a), ranks(b), nil) }

// ranks gives equal values the mean of their ranks.
func ranks(v []float64) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		switch {
		case v[i] < v[j]:
			return -1
		case v[i] > v[j]:
			return 1
		}
		return 0
	})
	rank := make([]float64, len(v))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && v[order[to]] == v[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			rank[i] = float64(from+to-1) / 2
		}
		from = to
	}
	return rank
}
