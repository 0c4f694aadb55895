package profile

import (
	"math"
	"slices"
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
