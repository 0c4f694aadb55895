// Package slackfit is the policy of SuperServe for single inferences: the profiled latencies are sorted into evenly
// spaced buckets, and the most accurate level of the bucket just below the slack runs. It takes the profile for the
// truth; with an estimator it gets a profile scaled by the slowdown, as a fair variant.
package slackfit

import (
	"math"
	"time"

	"github.com/dynofa/dynofa/governor"
)

// Policy implements governor.Policy.
type Policy struct {
	Buckets int     // default 16
	Scaled  bool    // by the estimator's slowdown
	Margin  float64 // share of the slack that is left unused
}

// Next decides.
func (p Policy) Next(s *governor.State) governor.Decision {
	buckets := p.Buckets
	if buckets == 0 {
		buckets = 16
	}
	shortest, longest := math.Inf(1), 0.0
	for _, l := range s.Profile.Levels {
		for _, t := range l.Latency {
			shortest, longest = min(shortest, t.Seconds()), max(longest, t.Seconds())
		}
	}
	scale := 1.0
	if p.Scaled {
		scale = s.Estimate.Slowdown[max(0, s.Last.Configuration)]
	}
	slack := float64(s.Budget.Seconds()*(1-p.Margin)) / scale
	step := (longest - shortest) / float64(buckets)
	bucket := func(t float64) int {
		if step == 0 {
			return 0
		}
		return min(buckets-1, int((t-shortest)/step))
	}
	// The upper edge of the highest bucket that the slack covers as a whole.
	highest := -1
	for b := range buckets {
		if shortest+float64(float64(b+1)*step) <= slack {
			highest = b
		}
	}
	best, fastest := governor.Decision{Level: -1}, governor.Decision{}
	for l, level := range s.Profile.Levels {
		for c, t := range level.Latency {
			if t < s.Profile.Levels[fastest.Level].Latency[fastest.Configuration] {
				fastest = governor.Decision{Level: l, Configuration: c}
			}
			if bucket(t.Seconds()) <= highest && (best.Level < 0 || level.Accuracy > s.Profile.Levels[best.Level].Accuracy) {
				best = governor.Decision{Level: l, Configuration: c}
			}
		}
	}
	if best.Level < 0 {
		fastest.GaveUp = governor.Latency
		return fastest
	}
	return best
}

// None is an estimator that learns nothing.
type None struct{ estimate governor.Estimate }

// NewNone makes a None.
func NewNone(p *governor.Profile) *None {
	n := &None{}
	n.estimate.Slowdown = make([]float64, len(p.Configurations))
	for i := range n.estimate.Slowdown {
		n.estimate.Slowdown[i] = 1
	}
	return n
}

// Sense does nothing.
func (*None) Sense(time.Duration, *governor.Hardware) {}

// Observe does nothing.
func (*None) Observe(governor.Observation) {}

// Estimate is the current estimate.
func (n *None) Estimate() *governor.Estimate { return &n.estimate }
