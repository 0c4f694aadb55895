package predictor

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// small is a Space unlike MobileNetV3 in every choice, and an encoding for its image sides.
func small() (*ofa.Space, Encoding) {
	s := ofa.MobileNetV3(0.25, 10)
	s.Stages = s.Stages[:3]
	s.Stages[0].Depths, s.Stages[1].Depths, s.Stages[2].Depths = []int{1, 2, 3}, []int{1, 3}, []int{2}
	s.Kernels, s.Expands, s.Resolutions = []int{3, 5}, []int{2, 3, 4, 5}, []int{17, 24, 28}
	e := Public(s)
	e.MinSide, e.BinWidth, e.Bins, e.Unseen = 17, 4, 3, 0
	return s, e
}

// random makes the tensors of a predictor with the given widths, inputs first.
func random(rng *rand.Rand, widths ...int) map[string]Tensor {
	tensors := map[string]Tensor{}
	fill := func(name string, scale float64, shape ...int) {
		t := Tensor{Shape: shape}
		numbers := 1
		for _, d := range shape {
			numbers *= d
		}
		for range numbers {
			t.Data = append(t.Data, float32(scale*rng.NormFloat64()))
		}
		tensors[name] = t
	}
	for i, inputs := range widths[:len(widths)-1] {
		fill(fmt.Sprintf("%d.weight", 2*i), 1/math.Sqrt(float64(inputs)), widths[i+1], inputs)
		fill(fmt.Sprintf("%d.bias", 2*i), 0.1, widths[i+1])
	}
	return tensors
}

// naive is the definition: dense layers in float64 over the whole one-hot vector.
func naive(tensors map[string]Tensor, inputs int, hot []int) float64 {
	x := make([]float64, inputs)
	for _, i := range hot {
		x[i] = 1
	}
	for l := 0; ; l += 2 {
		weight, ok := tensors[fmt.Sprintf("%d.weight", l)]
		if !ok {
			return x[0]
		}
		y := make([]float64, weight.Shape[0])
		for i := range y {
			y[i] = float64(tensors[fmt.Sprintf("%d.bias", l)].Data[i])
			for j := range x {
				v := x[j]
				if l > 0 {
					v = max(v, 0)
				}
				y[i] += float64(weight.Data[i*len(x)+j]) * v
			}
		}
		x = y
	}
}

// features is the definition of the public encoding, written from its description.
func features(s *ofa.Space, e Encoding, n ofa.Subnet) []int {
	var hot []int
	for part, list := range []struct{ legal, v []int }{{s.Kernels, n.Kernels}, {s.Expands, n.Expands}} {
		slot := 0
		for i, d := range n.Depths {
			for j := range s.Stages[i].MaxDepth() {
				if j < d {
					hot = append(hot, part*s.Slots()*len(s.Kernels)+slot*len(list.legal)+slices.Index(list.legal, list.v[slot]))
				}
				slot++
			}
		}
	}
	return append(hot, s.Slots()*(len(s.Kernels)+len(s.Expands))+(n.Resolution-e.MinSide)/e.BinWidth)
}

func sorted(t *testing.T, e Encoding, n ofa.Subnet) []int {
	t.Helper()
	var hot []int
	require.NoError(t, e.hot(n, func(i int) { hot = append(hot, i) }))
	slices.Sort(hot)
	return hot
}

func TestAgreesWithNaive(t *testing.T) {
	big := ofa.MobileNetV3(1, 1000)
	little, littleEncoding := small()
	proxyless := ofa.ProxylessNAS(1.3, 1000)
	for name, c := range map[string]struct {
		space    *ofa.Space
		encoding Encoding
		hidden   []int
	}{
		"public shape": {big, Public(big), []int{400, 400, 400}},
		"proxyless":    {proxyless, Public(proxyless), []int{30, 20}},
		"widening":     {little, littleEncoding, []int{3, 17, 5, 64}},
		"two layers":   {little, littleEncoding, []int{1}},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 0))
			inputs := c.encoding.Inputs()
			tensors := random(rng, append(append([]int{inputs}, c.hidden...), 1)...)
			p, err := New(c.encoding, tensors)
			require.NoError(t, err)
			subnets := []ofa.Subnet{c.space.Smallest(), c.space.Largest()}
			for range 40 {
				subnets = append(subnets, c.space.Sample(rng))
			}
			got := make([]float64, len(subnets))
			require.NoError(t, p.Predict(got, subnets))
			for i, n := range subnets {
				hot := features(c.space, c.encoding, n)
				require.Equal(t, hot, sorted(t, c.encoding, n))
				// Sums of at most 400 terms of order 1 in float32.
				require.InDelta(t, naive(tensors, inputs, hot), got[i], 2e-6)
				one, err := p.Accuracy(n)
				require.NoError(t, err)
				require.Equal(t, got[i], one, "single and batch differ")
			}
		})
	}
}

func TestPublicEncoding(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	e := Public(s)
	require.Equal(t, 128, e.Inputs())
	// The smallest network: slots 0, 1 of each stage, first kernel size, first expand ratio.
	want := []int{0, 3, 12, 15, 24, 27, 36, 39, 48, 51, 60, 63, 72, 75, 84, 87, 96, 99, 108, 111, 123}
	n := s.Uniform(3, 3, 2, 160)
	require.Equal(t, want, sorted(t, e, n))
	for r, bin := range map[int]int{112: 120, 127: 120, 128: 121, 164: 123, 176: 124, 207: 125, 224: 127, 239: 127} {
		n.Resolution = r
		hot := sorted(t, e, n)
		require.Equal(t, bin, hot[len(hot)-1], "r=%d", r)
	}
}

func TestCutSlotsHaveNoEffect(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	p, err := New(Public(s), random(rand.New(rand.NewPCG(1, 0)), 128, 9, 1))
	require.NoError(t, err)
	n := s.Uniform(7, 6, 2, 192)
	a, err := p.Accuracy(n)
	require.NoError(t, err)
	b, err := p.Accuracy(s.Canonical(n))
	require.NoError(t, err)
	require.Equal(t, a, b)
}

func TestNoAllocation(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	p, err := New(Public(s), random(rand.New(rand.NewPCG(1, 0)), 128, 40, 40, 1))
	require.NoError(t, err)
	n, dst := s.Largest(), make([]float64, 2)
	require.Zero(t, testing.AllocsPerRun(200, func() { _, err = p.Accuracy(n) }))
	require.NoError(t, err)
	pair := []ofa.Subnet{n, n}
	require.Zero(t, testing.AllocsPerRun(200, func() { err = p.Predict(dst, pair) }))
	require.NoError(t, err)
}

func TestConcurrentUse(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	p, err := New(Public(s), random(rand.New(rand.NewPCG(1, 0)), 128, 40, 40, 1))
	require.NoError(t, err)
	want, err := p.Accuracy(s.Largest())
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				if v, err := p.Accuracy(s.Largest()); err != nil || v != want {
					t.Errorf("got %v, %v, expected %v", v, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestTensorsAreChecked(t *testing.T) {
	e := Public(ofa.MobileNetV3(1, 1000))
	good := random(rand.New(rand.NewPCG(1, 0)), 128, 8, 6, 1)
	_, err := New(e, good)
	require.NoError(t, err)
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		change func(m map[string]Tensor)
		want   string
	}{
		"none":       {func(m map[string]Tensor) { clear(m) }, "0 tensors, expected weight and bias of 2 to 16 layers"},
		"odd":        {func(m map[string]Tensor) { delete(m, "2.bias") }, "5 tensors, expected weight and bias"},
		"renamed":    {func(m map[string]Tensor) { m["3.bias"] = m["2.bias"]; delete(m, "2.bias") }, "2.bias is missing, expected shape [6]"},
		"first":      {func(m map[string]Tensor) { m["0.weight"] = Tensor{[]int{8, 120}, nil} }, "0.weight has shape [8 120], expected [8 128] (20 slots of 3 kernel sizes and 3 expand ratios, 8 resolution bins)"},
		"chain":      {func(m map[string]Tensor) { m["2.weight"] = Tensor{[]int{6, 9}, nil} }, "2.weight has shape [6 9], expected [6 8]"},
		"last":       {func(m map[string]Tensor) { m["4.weight"] = Tensor{[]int{2, 6}, nil} }, "4.weight has shape [2 6], expected [1 6]"},
		"bias":       {func(m map[string]Tensor) { m["4.bias"] = Tensor{[]int{2}, nil} }, "4.bias has shape [2], expected [1]"},
		"scalar":     {func(m map[string]Tensor) { m["2.weight"] = Tensor{} }, "2.weight has shape [], expected [1 8]"},
		"negative":   {func(m map[string]Tensor) { m["2.weight"] = Tensor{[]int{-6, 8}, nil} }, "2.weight has shape [-6 8]"},
		"huge":       {func(m map[string]Tensor) { m["2.weight"] = Tensor{[]int{1 << 30, 8}, nil} }, "2.weight has shape [1073741824 8]"},
		"values":     {func(m map[string]Tensor) { m["2.bias"] = Tensor{[]int{6}, make([]float32, 5)} }, "2.bias has 5 values, expected 6 for shape [6]"},
		"not finite": {func(m map[string]Tensor) { m["2.bias"] = Tensor{[]int{6}, []float32{0, 0, 0, nan, 0, 0}} }, "2.bias: value 3 is NaN"},
	} {
		t.Run(name, func(t *testing.T) {
			m := maps.Clone(good)
			c.change(m)
			_, err := New(e, m)
			require.ErrorContains(t, err, "predictor: ")
			require.ErrorContains(t, err, c.want)
		})
	}
	for name, change := range map[string]func(*Encoding){
		"kernels": func(e *Encoding) { e.Kernels = nil },
		"depth":   func(e *Encoding) { e.Depths = []int{4, -1} },
		"bins":    func(e *Encoding) { e.Bins = 0 },
		"width":   func(e *Encoding) { e.BinWidth = 0 },
		"side":    func(e *Encoding) { e.MinSide = -4 },
		"size":    func(e *Encoding) { e.Depths = []int{1 << 20} },
	} {
		t.Run("encoding "+name, func(t *testing.T) {
			bad := e
			change(&bad)
			_, err := New(bad, good)
			require.ErrorContains(t, err, "encoding")
		})
	}
}

func TestIllegalSubnetsAreNamed(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	p, err := New(Public(s), random(rand.New(rand.NewPCG(1, 0)), 128, 8, 1))
	require.NoError(t, err)
	for want, change := range map[string]func(n *ofa.Subnet){
		"ks is 19 long, expected 20 values":                func(n *ofa.Subnet) { n.Kernels = n.Kernels[1:] },
		"e is 0 long, expected 20 values":                  func(n *ofa.Subnet) { n.Expands = nil },
		"d is 6 long, expected 5 values":                   func(n *ofa.Subnet) { n.Depths = append(n.Depths, 2) },
		"d[4] is 5, expected 1 to 4":                       func(n *ofa.Subnet) { n.Depths[4] = 5 },
		"d[0] is -1, expected 1 to 4":                      func(n *ofa.Subnet) { n.Depths[0] = -1 },
		"ks[19] is 4, expected one of [3 5 7]":             func(n *ofa.Subnet) { n.Kernels[19] = 4 },
		"e[0] is 5, expected one of [3 4 6]":               func(n *ofa.Subnet) { n.Expands[0] = 5 },
		"r is 111, expected 112 to 239":                    func(n *ofa.Subnet) { n.Resolution = 111 },
		"r is 240, expected 112 to 239":                    func(n *ofa.Subnet) { n.Resolution = 240 },
		fmt.Sprintf("r is %d, expected 112 ", math.MinInt): func(n *ofa.Subnet) { n.Resolution = math.MinInt },
	} {
		n := s.Largest()
		change(&n)
		_, err := p.Accuracy(n)
		require.ErrorContains(t, err, "predictor: "+want)
		var field *ofa.FieldError
		require.ErrorAs(t, err, &field)
		err = p.Predict(make([]float64, 2), []ofa.Subnet{s.Smallest(), n})
		require.ErrorContains(t, err, "predictor: sub-network 1: "+want)
	}
	require.ErrorContains(t, p.Predict(nil, []ofa.Subnet{s.Largest()}), "room for 0 results, expected 1")
}

func TestOverflowIsAnError(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	tensors := random(rand.New(rand.NewPCG(1, 0)), 128, 8, 4, 1)
	for name := range tensors {
		for i := range tensors[name].Data {
			tensors[name].Data[i] = math.MaxFloat32
		}
	}
	p, err := New(Public(s), tensors)
	require.NoError(t, err)
	_, err = p.Accuracy(s.Largest())
	require.ErrorContains(t, err, "the accuracy is +Inf")
}

func BenchmarkAccuracy(b *testing.B) {
	s := ofa.MobileNetV3(1, 1000)
	rng := rand.New(rand.NewPCG(1, 0))
	p, err := New(Public(s), random(rng, 128, 400, 400, 400, 1))
	require.NoError(b, err)
	n := s.Sample(rng)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Accuracy(n); err != nil {
			b.Fatal(err)
		}
	}
}
