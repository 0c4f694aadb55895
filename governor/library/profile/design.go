package profile

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

// design draws the networks of a round at one resolution: every slot has every pair of kernel size and expand ratio
// once. The first round has all depths at their largest, so that it holds every key.
func design(s *ofa.Space, r int, round int, rng *rand.Rand) []ofa.Subnet {
	pairs := len(s.Kernels) * len(s.Expands)
	networks := make([]ofa.Subnet, pairs)
	for i := range networks {
		networks[i] = s.Largest()
		networks[i].Resolution = r
		if round == 0 {
			continue
		}
		for stage := range s.Stages {
			depths := s.Stages[stage].Depths
			networks[i].Depths[stage] = depths[rng.IntN(len(depths))]
		}
	}
	for slot := range s.Slots() {
		for i, pair := range rng.Perm(pairs) {
			networks[i].Kernels[slot] = s.Kernels[pair%len(s.Kernels)]
			networks[i].Expands[slot] = s.Expands[pair/len(s.Kernels)]
		}
	}
	for i := range networks {
		networks[i] = s.Canonical(networks[i])
	}
	return networks
}

// anchor is the network that shows the machine's speed: of middling size.
func anchor(s *ofa.Space, resolutions []int) ofa.Subnet {
	middle := func(v []int) int { return v[len(v)/2] }
	n := s.Uniform(middle(s.Kernels), middle(s.Expands), 0, middle(resolutions))
	for i := range s.Stages {
		n.Depths[i] = middle(s.Stages[i].Depths)
	}
	return s.Canonical(n)
}

// unseen draws distinct networks at the given resolutions that are none of the others, or fewer if the space is
// that small.
func unseen(s *ofa.Space, resolutions []int, count int, others map[string]bool, rng *rand.Rand) []ofa.Subnet {
	var networks []ofa.Subnet
	drawn := map[string]bool{}
	for tries := 0; len(networks) < count && tries < 100*count; tries++ {
		n := s.Sample(rng)
		n.Resolution = resolutions[rng.IntN(len(resolutions))]
		n = s.Canonical(n)
		if text := s.Text(n); !others[text] && !drawn[text] {
			drawn[text] = true
			networks = append(networks, n)
		}
	}
	return networks
}

// layers maps the parts of a run to the keys of its network.
type layers struct {
	space *ofa.Space
	keys  []string
	block map[int]int // number in the supernet: place in keys
}

func newLayers(s *ofa.Space, n ofa.Subnet) (*layers, error) {
	keys, err := latency.Keys(s, n)
	if err != nil {
		return nil, err
	}
	l := &layers{space: s, keys: keys, block: map[int]int{}}
	for i, b := range s.Blocks(n) {
		l.block[b.Index] = 1 + i
	}
	return l, nil
}

// sum adds the nanoseconds of the parts up by key. An engine that pools within its last convolution has nothing to
// say of AvgPool2D, which is then zero.
func (l *layers) sum(parts []Part) ([]int64, error) {
	ns := make([]int64, len(l.keys))
	after := 1 + len(l.block)
	for _, p := range parts {
		at, ok := l.block[p.Block]
		if !ok {
			at = slices.Index([]string{"stem", "head", "pool", "features", "classifier"}, p.Name)
			switch {
			case at < 0 || p.Block >= 0:
				return nil, fmt.Errorf("the engine timed a part %.40q of block %d, expected stem, head, pool, features, classifier or a block of the network", p.Name, p.Block)
			case p.Name == "classifier":
				at = len(l.keys) - 1
			case p.Name == "features" && l.space.Head.Expand == 0:
				return nil, fmt.Errorf("the engine timed a part %q, which this network does not have", p.Name)
			case at > 0:
				at = after + at - 1
			}
		}
		ns[at] += p.Time.Nanoseconds()
	}
	return ns, nil
}
