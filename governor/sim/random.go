package sim

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/dynofa/dynofa/governor/internal/exact"
)

// random is a stream of numbers of its own for each purpose, so that what one part of a run draws does not move
// what another sees: all policies meet the same noise.
type random struct{ pcg *rand.PCG }

func newRandom(seed, purpose uint64) random {
	return random{rand.NewPCG(seed, purpose)}
}

// uniform is above 0 and below 1.
func (r random) uniform() float64 { return (float64(r.pcg.Uint64()>>12) + 0.5) / (1 << 52) }

func (r random) normal() float64 { return exact.Quantile(r.uniform()) }

// gamma has the given mean and squared coefficient of variation (Marsaglia and Tsang, 2000).
func (r random) gamma(mean, cv2 float64) float64 {
	shape, boost := 1/cv2, 1.0
	if shape < 1 {
		boost = exact.Exp(float64(exact.Log(r.uniform()) / shape))
		shape++
	}
	d := shape - 1.0/3
	c := 1 / math.Sqrt(float64(9*d))
	for {
		x := r.normal()
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = float64(float64(v*v) * v)
		if exact.Log(r.uniform()) < float64(0.5*float64(x*x))+d-float64(d*v)+float64(d*exact.Log(v)) {
			return float64(float64(float64(d*v)*boost) * float64(mean*cv2))
		}
	}
}

// factor is what the next latency is multiplied by. It always draws three numbers.
func (n *Noise) factor(r random) float64 {
	z, u, t := r.normal(), r.uniform(), r.uniform()
	f := exact.Exp(float64(n.Sigma * z))
	for _, s := range n.Spikes {
		if u < s.Share {
			f = float64(f * s.Factor)
			break
		}
		u -= s.Share
	}
	if n.Tail != nil && t < n.Tail.Share {
		f = float64(f * min(20, exact.Exp(float64(-exact.Log(t/n.Tail.Share)/n.Tail.Alpha))))
	}
	return f
}

// quantiles is the sorted noise of many inferences: what the oracle knows of it.
func (n *Noise) quantiles() []float64 {
	r := newRandom(1, 99)
	list := make([]float64, 1<<16)
	for i := range list {
		list[i] = n.factor(r)
	}
	slices.Sort(list)
	return list
}

func quantile(sorted []float64, p float64) float64 {
	return sorted[min(len(sorted)-1, int(float64(p*float64(len(sorted)))))]
}

// rank is the share of the values up to x.
func rank(sorted []float64, x float64) float64 {
	n, _ := slices.BinarySearchFunc(sorted, x, func(v, x float64) int {
		if v <= x {
			return -1
		}
		return 1
	})
	return float64(n) / float64(len(sorted))
}
