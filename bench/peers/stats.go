package main

import (
	"math"
	"slices"
)

// quantile interpolates between the two nearest values; it needs at least one.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func median(values []float64) float64        { return quantile(values, 0.5) }
func lowerQuartile(values []float64) float64 { return quantile(values, 0.25) }

func geomean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += math.Log(v)
	}
	return math.Exp(sum / float64(len(values)))
}

// pairedRatio is a over b for work of one thread: medians of processor time within a round, then the median over
// the rounds. What happens to both in a round (clock, neighbours) cancels, and so does being preempted.
func pairedRatio(a, b []block) float64 {
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = median(a[i].CPU) / median(b[i].CPU)
	}
	return median(ratios)
}

// wallQuartile is the lower quartile of the wall times of all rounds: what an inference takes when nobody is in
// the way.
func wallQuartile(rounds []block) float64 {
	var all []float64
	for _, b := range rounds {
		all = append(all, b.Wall...)
	}
	return lowerQuartile(all)
}

// disagreement is the largest difference of logits relative to the largest logit of want.
func disagreement(got, want []float64) float64 {
	diff, scale := 0.0, 0.0
	for i, w := range want {
		diff = max(diff, math.Abs(got[i]-w))
		scale = max(scale, math.Abs(w))
	}
	return diff / scale
}
