package estimator

import (
	"math"

	"github.com/dynofa/dynofa/governor/internal/exact"
)

// scatter is how the noise depends on the length of an inference. A slower machine stretches short and long alike, and
// so does its noise; a time slice of another process takes the same from both, so it scatters the logarithm of a short
// one more. The deviation goes with the expected latency to the power of -slope, between 0 and 1, learned by a
// regression of log |residual|.
type scatter struct {
	middle          float64 // log of a latency in the middle
	slope           float64
	n, x, y, xx, xy float64
}

const (
	slopeGuess = 0.3 // on busy processors it is about 0.5, elsewhere nothing
	slopeWorth = 10  // 1 over the variance of that guess
)

func newScatter(expected []float64) scatter {
	s := scatter{slope: slopeGuess}
	for _, t := range expected {
		s.middle += exact.Log(t) / float64(len(expected))
	}
	return s
}

// of is the deviation of latencies that are expected to be t seconds, over that of those in the middle.
func (s *scatter) of(t float64) float64 {
	return exact.Exp(float64(s.slope * (s.middle - exact.Log(t))))
}

// add takes in a residual.
func (s *scatter) add(t, residual float64) {
	const keep = 1 - 1.0/500
	x, y := exact.Log(t)-s.middle, exact.Log(max(1e-3, math.Abs(residual)))
	s.n = float64(keep*s.n) + 1
	s.x, s.y = float64(keep*s.x)+x, float64(keep*s.y)+y
	s.xx, s.xy = float64(keep*s.xx)+float64(x*x), float64(keep*s.xy)+float64(x*y)
	const variance = 1.23 // of the logarithm of a normal value's size
	xx, xy := s.xx-float64(s.x*s.x)/s.n, s.xy-float64(s.x*s.y)/s.n
	s.slope = max(0, min(1, (float64(slopeWorth*slopeGuess)-xy/variance)/(slopeWorth+xx/variance)))
}
