package search

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// made is a Problem with a random predictor and a table of random milliseconds for a Space.
func made(t testing.TB, s *ofa.Space, seed uint64) Problem {
	t.Helper()
	require.NoError(t, s.Validate())
	rng := rand.New(rand.NewPCG(seed, 7))
	e := predictor.Public(s)
	e.MinSide, e.BinWidth, e.Unseen = s.Resolutions[0], 1, 0
	e.Bins = s.MaxResolution() - s.Resolutions[0] + 1
	tensors := map[string]predictor.Tensor{}
	widths := []int{e.Inputs(), 24, 16, 1}
	for i := range 3 {
		weight := predictor.Tensor{Shape: []int{widths[i+1], widths[i]}}
		for range widths[i+1] * widths[i] {
			weight.Data = append(weight.Data, float32(rng.NormFloat64()/math.Sqrt(float64(widths[i]))))
		}
		bias := predictor.Tensor{Shape: []int{widths[i+1]}, Data: make([]float32, widths[i+1])}
		for j := range bias.Data {
			bias.Data[j] = 0.1 + 0.2*rng.Float32()
		}
		tensors[fmt.Sprintf("%d.weight", 2*i)], tensors[fmt.Sprintf("%d.bias", 2*i)] = weight, bias
	}
	p, err := predictor.New(e, tensors)
	require.NoError(t, err)
	sides := map[int]map[string]latency.Entry{}
	for _, r := range s.Resolutions {
		sides[r] = map[string]latency.Entry{}
		for _, kernel := range s.Kernels {
			for _, expand := range s.Expands {
				keys, err := latency.Keys(s, s.Uniform(kernel, expand, 99, r))
				require.NoError(t, err)
				for _, key := range keys {
					if _, ok := sides[r][key]; !ok {
						sides[r][key] = latency.Entry{Mean: rng.Float64()}
					}
				}
			}
		}
	}
	table, err := latency.New(sides)
	require.NoError(t, err)
	return Problem{Space: s, Predictor: p, Table: table}
}

// tiny is a Space that can be enumerated: 2 image sides, depths with a gap, one stage without a choice.
func tiny() *ofa.Space {
	s := ofa.MobileNetV3(0.25, 10)
	s.Stages = s.Stages[:3]
	s.Stages[0].Depths, s.Stages[1].Depths, s.Stages[2].Depths = []int{1, 3}, []int{1, 2}, []int{1}
	s.Kernels, s.Expands, s.Resolutions = []int{3, 5}, []int{2, 3}, []int{24, 28}
	return s
}

// all enumerates a Space's networks.
func all(s *ofa.Space) []ofa.Subnet {
	var list []ofa.Subnet
	var fill func(n ofa.Subnet, place int)
	fill = func(n ofa.Subnet, place int) {
		slots := s.Slots()
		set := func(values []int, field *int, next int) {
			for _, v := range values {
				*field = v
				fill(n, next)
			}
		}
		switch {
		case place < slots:
			set(s.Kernels, &n.Kernels[place], place+slots)
		case place < 2*slots:
			next := place - slots + 1
			if next == slots {
				next = 2 * slots
			}
			set(s.Expands, &n.Expands[place-slots], next)
		case place < 2*slots+len(s.Stages):
			set(s.Stages[place-2*slots].Depths, &n.Depths[place-2*slots], place+1)
		case place == 2*slots+len(s.Stages):
			for _, n.Resolution = range s.Resolutions {
				fill(n, place+1)
			}
		default:
			list = append(list, s.Canonical(n))
		}
	}
	fill(s.Smallest(), 0)
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(n ofa.Subnet) bool {
		known := seen[s.Text(n)]
		seen[s.Text(n)] = true
		return known
	})
}

// TestAgreesWithEnumeration: in a space of a thousand networks the search finds the best at every limit, and the bounds
// are exact, by latency and by multiply-adds.
func TestAgreesWithEnumeration(t *testing.T) {
	s := tiny()
	networks := all(s)
	require.Len(t, networks, int(s.Size()))
	for seed := range uint64(3) {
		for _, byTable := range []bool{true, false} {
			p := made(t, s, seed)
			cost := func(n ofa.Subnet) float64 {
				ms, err := p.Table.Predict(s, n)
				require.NoError(t, err)
				return ms
			}
			if !byTable {
				cost = func(n ofa.Subnet) float64 { macs, _ := s.Cost(n); return float64(macs) }
			}
			costs, accuracies := make([]float64, len(networks)), make([]float64, len(networks))
			for i, n := range networks {
				costs[i] = cost(n)
			}
			require.NoError(t, p.Predictor.Predict(accuracies, networks))
			if !byTable {
				p.Table = nil
			}
			least, most, err := Bounds(p)
			require.NoError(t, err)
			require.InEpsilon(t, slices.Min(costs), least, 1e-12)
			require.InEpsilon(t, slices.Max(costs), most, 1e-12)
			limits := append(spread(least, most, 7), math.Inf(1))
			for _, limit := range limits {
				want := math.Inf(-1)
				for i := range networks {
					if costs[i] <= limit {
						want = max(want, accuracies[i])
					}
				}
				f, err := Best(context.Background(), p, limit, Options{Seed: seed})
				require.NoError(t, err)
				check(t, p, f, limit)
				require.Equal(t, want, f.Accuracy, "limit %v", limit)
			}
			found, err := Front(context.Background(), p, limits, Options{Seed: seed})
			require.NoError(t, err)
			for _, f := range found {
				for i := range networks {
					if costs[i] <= cost(f.Subnet) {
						require.LessOrEqual(t, accuracies[i], f.Accuracy, "%s dominates %s", s.Text(networks[i]), s.Text(f.Subnet))
					}
				}
			}
		}
	}
}

func TestInfeasibleIsSaidAtOnce(t *testing.T) {
	for _, s := range []*ofa.Space{tiny(), ofa.MobileNetV3(0.25, 10), ofa.ProxylessNAS(0.35, 10)} {
		p := made(t, s, 1)
		never := func(int, int) { t.Error("the search has begun") }
		for _, unit := range []string{"ms", "MACs"} {
			if unit == "MACs" {
				p.Table = nil
			}
			for _, limit := range []float64{0, 1e-3, math.Inf(-1)} {
				_, err := Best(context.Background(), p, limit, Options{Progress: never})
				var infeasible *InfeasibleError
				require.ErrorAs(t, err, &infeasible)
				require.Equal(t, InfeasibleError{limit, infeasible.Nearest, unit}, *infeasible)
				require.ErrorContains(t, err, unit+", expected at least ")

				f, err := Best(context.Background(), p, infeasible.Nearest, Options{Generations: 3})
				require.NoError(t, err, "the nearest limit is feasible")
				check(t, p, f, infeasible.Nearest)
				_, err = Best(context.Background(), p, math.Nextafter(infeasible.Nearest, 0), Options{Progress: never})
				require.ErrorAs(t, err, &infeasible, "and it is the smallest")
			}
		}
	}
}

func TestAccuracyThatIsNotReached(t *testing.T) {
	p := made(t, ofa.MobileNetV3(0.25, 10), 1)
	_, most, err := Bounds(p)
	require.NoError(t, err)
	o := Options{Generations: 30}
	f, err := Best(context.Background(), p, most/2, o)
	require.NoError(t, err)
	p.MinAccuracy = f.Accuracy
	same, err := Best(context.Background(), p, most/2, o)
	require.NoError(t, err)
	require.Equal(t, f, same)
	p.MinAccuracy = math.Nextafter(f.Accuracy, 1)
	_, err = Best(context.Background(), p, most/2, o)
	var infeasible *InfeasibleError
	require.ErrorAs(t, err, &infeasible)
	require.Equal(t, InfeasibleError{p.MinAccuracy, f.Accuracy, "accuracy"}, *infeasible)
	require.ErrorContains(t, err, "was not found within the limit, the best found is ")

	p.MinAccuracy = 0
	front, err := Front(context.Background(), p, spread(0, most, 9), o)
	require.NoError(t, err)
	require.Greater(t, len(front), 2)
	p.MinAccuracy = front[1].Accuracy
	higher, err := Front(context.Background(), p, spread(0, most, 9), o)
	require.NoError(t, err)
	require.Equal(t, front[1:], higher)
}

func TestDeterministic(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	p := made(t, ofa.MobileNetV3(0.25, 10), 2)
	least, most, err := Bounds(p)
	require.NoError(t, err)
	limits := spread(least, most, 5)
	run := func(processors, threads int, seed uint64) []Found {
		runtime.GOMAXPROCS(processors)
		found, err := Front(context.Background(), p, limits, Options{Threads: threads, Seed: seed, Generations: 40})
		require.NoError(t, err)
		return found
	}
	want := run(1, 1, 3)
	for _, processors := range []int{1, 2, 8} {
		for _, threads := range []int{0, 1, 3, 64} {
			require.Equal(t, want, run(processors, threads, 3), "GOMAXPROCS %d, %d threads", processors, threads)
		}
	}
	require.NotEqual(t, want, run(2, 2, 4), "the seed has no effect")
}

func TestChoicesNarrow(t *testing.T) {
	p := made(t, ofa.ProxylessNAS(0.35, 10), 1)
	p.Choices = Choices{Kernels: []int{7, 5}, Expands: []int{4, 6, 4}, Depths: []int{3, 4}, Resolutions: []int{208, 212}}
	least, most, err := Bounds(p)
	require.NoError(t, err)
	found, err := Front(context.Background(), p, spread(least, most, 6), Options{Generations: 20})
	require.NoError(t, err)
	for _, f := range found {
		check(t, p, f, most)
		require.Contains(t, p.Choices.Resolutions, f.Subnet.Resolution)
		slot := 0
		for i, d := range f.Subnet.Depths {
			if i < 5 {
				require.Contains(t, p.Choices.Depths, d)
			} else {
				require.Equal(t, 1, d, "a stage without a choice keeps its depth")
			}
			for j := slot; j < slot+d; j++ {
				require.Contains(t, p.Choices.Kernels, f.Subnet.Kernels[j])
				require.Contains(t, p.Choices.Expands, f.Subnet.Expands[j])
			}
			slot += p.Space.Stages[i].MaxDepth()
		}
	}
}

func TestErrors(t *testing.T) {
	good := made(t, ofa.MobileNetV3(0.25, 10), 1)
	other := made(t, tiny(), 1)
	for want, change := range map[string]func(p *Problem, o *Options){
		"kernels is 4, expected one of [3 5 7]":               func(p *Problem, _ *Options) { p.Choices.Kernels = []int{3, 4} },
		"expands is 5, expected one of [3 4 6]":               func(p *Problem, _ *Options) { p.Choices.Expands = []int{5} },
		"depths of stage 0 is 1, expected one of [2 3 4]":     func(p *Problem, _ *Options) { p.Choices.Depths = []int{1} },
		"resolutions is 225, expected one of [128":            func(p *Problem, _ *Options) { p.Choices.Resolutions = []int{225} },
		"latency: no table for r=132, expected one of [24 28": func(p *Problem, _ *Options) { p.Table, p.Choices.Resolutions = other.Table, []int{132} },
		"expected one or more that the predictor was trained": func(p *Problem, _ *Options) { p.Table = other.Table },
		"predictor: ks is 20 long, expected 6 values":         func(p *Problem, _ *Options) { p.Predictor, p.Choices.Resolutions = other.Predictor, []int{128} },
		"no space or no predictor":                            func(p *Problem, _ *Options) { p.Predictor = nil },
		"smallest accuracy NaN":                               func(p *Problem, _ *Options) { p.MinAccuracy = math.NaN() },
		"smallest accuracy 76":                                func(p *Problem, _ *Options) { p.MinAccuracy = 76 },
		"population 3,":                                       func(_ *Problem, o *Options) { o.Population = 3 },
		"generations -1,":                                     func(_ *Problem, o *Options) { o.Generations = -1 },
	} {
		p, o := good, Options{Generations: 2}
		change(&p, &o)
		_, err := Best(context.Background(), p, 1e9, o)
		require.ErrorContains(t, err, "search: ", want)
		require.ErrorContains(t, err, want)
	}
	for _, limits := range [][]float64{nil, {1e9, math.NaN()}} {
		_, err := Front(context.Background(), good, limits, Options{})
		require.ErrorContains(t, err, fmt.Sprintf("search: limits %v, expected one or more numbers", limits))
	}

	ctx, cancel := context.WithCancel(context.Background())
	_, err := Best(ctx, good, 1e9, Options{Progress: func(done, total int) {
		require.LessOrEqual(t, done, 3)
		require.Equal(t, 500, total)
		if done == 3 {
			cancel()
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
}
