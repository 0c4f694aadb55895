package governor

import "github.com/dynofa/dynofa/governor/internal/exact"

// Residual is a distribution of latencies around their predicted median, learned online: a histogram of the
// logarithm of the ratio with a fading memory. It takes no shape for granted, so several modes and heavy tails are as
// good as a bell.
type Residual struct {
	weight [bins]float64
	below  [bins + 1]float64 // weight of all bins before
	total  float64
	next   float64 // weight of the next value: growing it instead of shrinking all others is the memory's fading
	growth float64
}

const (
	bins   = 320
	lowest = -0.64 // of the histogram: a factor of 0.53
	width  = 0.01  // of a bin; highest is +2.56, a factor of 13
)

// NewResidual begins with a guess, a log-normal distribution of the given deviation in which a few values are three
// times as far out, worth so many observations, and remembers about memory of them.
func NewResidual(deviation, worth, memory float64) *Residual {
	r := &Residual{next: 1, growth: 1 / (1 - 1/memory)}
	for i := range r.weight {
		from, to := lowest+float64(float64(i)*width), lowest+float64(float64(i+1)*width)
		mass := func(d float64) float64 { return exact.Phi(to/d) - exact.Phi(from/d) }
		r.weight[i] = float64(worth * (float64(0.97*mass(deviation)) + float64(0.03*mass(3*deviation))))
		r.total += r.weight[i]
		r.below[i+1] = r.total
	}
	return r
}

// Restart makes it as o is, worth so many observations at most.
func (r *Residual) Restart(o *Residual, worth float64) {
	*r = *o
	keep := min(1, worth/o.Count())
	for i := range r.weight {
		r.weight[i] *= keep
		r.below[i+1] *= keep
	}
	r.total *= keep
}

// Add takes in the logarithm of a ratio.
func (r *Residual) Add(e float64) {
	i := min(bins-1, int((max(lowest, min(e, 10))-lowest)/width))
	r.weight[i] += r.next
	r.total += r.next
	for k := i + 1; k <= bins; k++ {
		r.below[k] += r.next
	}
	r.next = float64(r.next * r.growth)
	if r.next > 1e9 {
		for i := range r.weight {
			r.weight[i] /= r.next
			r.below[i+1] /= r.next
		}
		r.total /= r.next
		r.next = 1
	}
}

// Quantile is the logarithm of the ratio that a share p of the values stays below.
func (r *Residual) Quantile(p float64) float64 {
	// One more value than was seen: the next one. So few values promise no more than they can.
	above := float64((1 - p) * (r.total + r.next))
	sum := 0.0
	for i := bins - 1; i >= 0; i-- {
		w := r.weight[i]
		if sum+w >= above && w > 0 {
			into := max(0, above-sum) / w
			return lowest + float64((float64(i+1)-into)*width)
		}
		sum += w
	}
	return lowest
}

// Below is the share of the values up to e.
func (r *Residual) Below(e float64) float64 {
	at := max(0, min(bins, (e-lowest)/width))
	i := min(bins-1, int(at))
	return (r.below[i] + float64(r.weight[i]*(at-float64(i)))) / r.total
}

// Count is how many values the distribution is worth.
func (r *Residual) Count() float64 { return r.total / r.next }
