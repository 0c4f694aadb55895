// Package bundletest makes supernets with random weights for tests and benchmarks.
package bundletest

import (
	"math"
	"math/rand/v2"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Random returns Contents for the space without levels, the same for the same seed:
// He-scaled weights, batch normalisations that do something (weight in [0.5, 1.5], variance in [0.5, 2],
// non-zero bias and mean), and kernel transforms near the identity. Values do not explode or vanish through
// the depth of the network. The space must be valid.
func Random(space *ofa.Space, seed uint64) *bundle.Contents {
	rng := rand.New(rand.NewPCG(seed, 0xd1f0a))
	c := &bundle.Contents{
		Space:      space,
		Tensors:    map[string][]float32{},
		Provenance: bundle.Provenance{Training: "none: random weights for tests"},
	}
	for _, spec := range space.Tensors() {
		numbers, fan := 1, 1
		for i, d := range spec.Shape {
			numbers *= d
			if i > 0 {
				fan *= d
			}
		}
		v := make([]float32, numbers)
		fill := func(value func() float64) {
			for i := range v {
				v[i] = float32(value())
			}
		}
		switch name := spec.Name; {
		case spec.Identity:
			fill(func() float64 { return 0.1 * rng.NormFloat64() / float64(spec.Shape[0]) })
			for i := range spec.Shape[0] {
				v[i*spec.Shape[0]+i]++
			}
		case strings.HasSuffix(name, ".running_var"):
			fill(func() float64 { return 0.5 + 1.5*rng.Float64() })
		case strings.HasSuffix(name, ".running_mean"), strings.HasSuffix(name, ".bias"):
			fill(func() float64 { return 0.2 * rng.NormFloat64() })
		case len(spec.Shape) == 1: // weight of a batch normalisation
			fill(func() float64 { return 0.5 + rng.Float64() })
		default:
			scale := math.Sqrt(2 / float64(fan))
			if strings.Contains(name, ".point_linear.") {
				scale /= 2 // what is added to the input of the block, over and over
			}
			fill(func() float64 { return scale * rng.NormFloat64() })
		}
		c.Tensors[spec.Name] = v
	}
	return c
}

// AddLevel appends a level for a legal Subnet to the Contents, with the supernet's own batch normalisation
// slightly changed, so that levels can be told apart, and a made-up measurement.
func AddLevel(c *bundle.Contents, n ofa.Subnet) {
	number := len(c.Levels)
	norms := bundle.FoldNorms(c.Space, n, c.Tensor)
	for _, a := range norms {
		for i := range a.Scale {
			change := float32(number+1) / 64
			if i%2 == 1 {
				change = -change // or the change would grow, and rounding with it, from layer to layer
			}
			a.Scale[i] *= 1 + change
			a.Shift[i] += change
		}
	}
	macs, params := c.Space.Cost(n)
	c.Levels = append(c.Levels, bundle.Level{
		Subnet:      n,
		Accuracy:    []bundle.Accuracy{{Data: "made up", Images: 1000, Top1: 70 + float64(number), Low: 69, High: 90}},
		Latency:     []bundle.Latency{{Device: "made up", Backend: "ref", Threads: 1, MedianMS: float64(10 + number), Runs: 1}},
		MACs:        macs,
		Params:      params,
		Calibration: "made up for a test",
		Norms:       norms,
	})
}
