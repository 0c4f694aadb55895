package ofa

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference opens a file of the reference data beside the repository, or skips the test.
func reference(t *testing.T, name string) []byte {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "reference", name)
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	require.NoError(t, err)
	return data
}

func TestCostEqualsReference(t *testing.T) {
	type cost struct{ Macs, Params int64 }
	var file struct {
		Cases []json.RawMessage
	}
	require.NoError(t, json.Unmarshal(reference(t, "flops_cases.json"), &file))
	require.Len(t, file.Cases, 200)
	narrow, wide := MobileNetV3(1.0, 1000), MobileNetV3(1.2, 1000)
	for i, raw := range file.Cases {
		var n Subnet
		var want struct {
			W10 cost `json:"w1.0"`
			W12 cost `json:"w1.2"`
		}
		require.NoError(t, json.Unmarshal(raw, &n))
		require.NoError(t, json.Unmarshal(raw, &want))
		require.NoError(t, narrow.Check(n))
		for _, c := range []struct {
			space *Space
			want  cost
		}{{narrow, want.W10}, {wide, want.W12}} {
			macs, params := c.space.Cost(n)
			require.Equal(t, c.want, cost{macs, params}, "case %d, width %v", i, c.space.Width)
		}
	}
}

func TestChannelsByWidth(t *testing.T) {
	for _, c := range []struct {
		width float64
		want  []int // stem, first block, stages, final expand, features
	}{
		{0.25, []int{8, 8, 8, 16, 24, 32, 40, 240, 320}},
		{0.35, []int{8, 8, 8, 16, 32, 40, 56, 336, 448}},
		{1.0, []int{16, 16, 24, 40, 80, 112, 160, 960, 1280}},
		{1.2, []int{24, 24, 32, 48, 96, 136, 192, 1152, 1536}},
	} {
		s := MobileNetV3(c.width, 10)
		got := []int{s.Stem.Channels, s.First.Channels}
		for _, st := range s.Stages {
			got = append(got, st.Channels)
		}
		require.Equal(t, c.want, append(got, s.Head.Expand, s.Head.Features), "width %v", c.width)
	}
	require.Equal(t, []int{24, 64, 168}, []int{squeeze(72), squeeze(240), squeeze(672)})
}

// spaces are the forms that one type has to hold.
func spaces() map[string]*Space {
	small := &Space{
		Family: "small-images", Width: 1, Classes: 10, BNEps: 1e-5,
		Stem:  Stem{16, 1, HSwish},
		First: First{16, 2, ReLU, true, false},
		Stages: []Stage{
			{16, 1, ReLU, false, []int{1, 2, 3}},
			{32, 2, HSwish, true, []int{1, 3}},
			{64, 2, HSwish, true, []int{2}},
		},
		Head:    Head{256, 512, HSwish},
		Kernels: []int{3, 5}, Expands: []int{2, 3, 5}, Resolutions: []int{17, 24, 28},
		Preprocess: Preprocess{1, [3]float32{0.5, 0.5, 0.5}, [3]float32{0.5, 0.5, 0.5}},
	}
	return map[string]*Space{"mbv3-1.0": MobileNetV3(1, 1000), "mbv3-0.35": MobileNetV3(0.35, 7),
		"proxyless-1.3": ProxylessNAS(1.3, 1000), "small": small}
}

func TestSpacesAreValidAndRoundTrip(t *testing.T) {
	for name, s := range spaces() {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, s.Validate())
			data, err := json.Marshal(s)
			require.NoError(t, err)
			var back Space
			require.NoError(t, json.Unmarshal(data, &back))
			require.Equal(t, s, &back)
		})
	}
}

func TestSubnetForms(t *testing.T) {
	for name, s := range spaces() {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(7, 0))
			for range 200 {
				n := s.Sample(rng)
				require.NoError(t, s.Check(n))
				c := s.Canonical(n)
				fromText, err := s.Parse(s.Text(n))
				require.NoError(t, err)
				require.Equal(t, c, fromText)
				data, err := json.Marshal(n)
				require.NoError(t, err)
				fromJSON, err := s.Parse(string(data))
				require.NoError(t, err)
				require.Equal(t, c, fromJSON)
				m1, p1 := s.Cost(n)
				m2, p2 := s.Cost(c)
				require.Equal(t, [2]int64{m1, p1}, [2]int64{m2, p2})
				require.Equal(t, s.Norms(n), s.Norms(c))
			}
		})
	}
}

func TestSampleIsDeterministicAndReachesEveryValue(t *testing.T) {
	s := MobileNetV3(1, 1000)
	a, b := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(1, 2))
	seen := map[[2]int]bool{}
	for range 300 {
		n := s.Sample(a)
		require.Equal(t, n, s.Sample(b))
		for i := range n.Kernels {
			seen[[2]int{i, n.Kernels[i]}] = true
			seen[[2]int{100 + i, n.Expands[i]}] = true
		}
		for i, d := range n.Depths {
			seen[[2]int{200 + i, d}] = true
		}
		seen[[2]int{300, n.Resolution}] = true
	}
	require.Len(t, seen, 20*3+20*3+5*3+len(s.Resolutions))
}

func TestNeighbours(t *testing.T) {
	for name, s := range spaces() {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(3, 0))
			for range 20 {
				n := s.Canonical(s.Sample(rng))
				near := s.Neighbours(n)
				seen := map[string]bool{s.Text(n): true}
				for _, m := range near {
					require.NoError(t, s.Check(m))
					require.False(t, seen[s.Text(m)], "listed twice or itself: %s", s.Text(m))
					seen[s.Text(m)] = true
				}
			}
			// The smallest network can only grow, and its neighbours see it in turn.
			for _, m := range s.Neighbours(s.Smallest()) {
				var texts []string
				for _, back := range s.Neighbours(m) {
					texts = append(texts, s.Text(back))
				}
				require.Contains(t, texts, s.Text(s.Smallest()))
			}
		})
	}
}

func TestIllegalFieldsAreNamed(t *testing.T) {
	s := MobileNetV3(1, 1000)
	with := func(change func(*Subnet)) Subnet {
		n := s.Largest()
		change(&n)
		return n
	}
	for name, c := range map[string]struct {
		n    Subnet
		want string
	}{
		"kernel":     {with(func(n *Subnet) { n.Kernels[3] = 4 }), "ks[3] is 4, expected one of [3 5 7]"},
		"expand":     {with(func(n *Subnet) { n.Expands[19] = 5 }), "e[19] is 5, expected one of [3 4 6]"},
		"depth":      {with(func(n *Subnet) { n.Depths[1] = 9 }), "d[1] is 9, expected one of [2 3 4]"},
		"slots":      {with(func(n *Subnet) { n.Kernels = n.Kernels[:7] }), "ks is 7 long, expected 20 values"},
		"stages":     {with(func(n *Subnet) { n.Depths = nil }), "d is 0 long, expected 5 values"},
		"resolution": {with(func(n *Subnet) { n.Resolution = 225 }), "r is 225, expected one of [128 132"},
	} {
		t.Run(name, func(t *testing.T) {
			err := s.Check(c.n)
			var field *FieldError
			require.ErrorAs(t, err, &field)
			require.ErrorContains(t, err, c.want)
		})
	}
	for text, want := range map[string]string{
		`{"ks":[3],"e":[3],"d":[2],"r":[224,1]}`:       `r is [224,1], expected an image side`,
		`{"ks":[3],"e":[3],"d":[2],"r":224,"wid":1.2}`: `wid is 1.2, expected null`,
		`{"ks":[3],"e":[3],"d":[2],"r":224} tail`:      `more text`,
		`r224_3x3`:                 `expected r<side> and 5 stages`,
		`r224_3x3_3x3_3x3_3x3_3x3`: `d[0] is 1, expected one of [2 3 4]`,
		`r224_3x3.3_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3`:          `block "3" of stage 0`,
		`rX_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3`:          `r is X`,
		`r225_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3`:        `r is 225`,
		`r224_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x3_3x3.3x99999999`: `e[17] is 99999999`,
	} {
		_, err := s.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestSpaceValidationNamesTheField(t *testing.T) {
	for field, change := range map[string]func(*Space){
		"classes":            func(s *Space) { s.Classes = 0 },
		"bn_eps":             func(s *Space) { s.BNEps = 0 },
		"stem.stride":        func(s *Space) { s.Stem.Stride = 3 },
		"first.act":          func(s *Space) { s.First.Act = "gelu" },
		"stages (number)":    func(s *Space) { s.Stages = nil },
		"stages[2].channels": func(s *Space) { s.Stages[2].Channels = 1 << 30 },
		"stages[0].depths":   func(s *Space) { s.Stages[0].Depths = []int{3, 2} },
		"kernels":            func(s *Space) { s.Kernels = []int{3, 4} },
		"expands":            func(s *Space) { s.Expands = nil },
		"resolutions":        func(s *Space) { s.Resolutions = []int{0} },
		"preprocess.crop":    func(s *Space) { s.Preprocess.Crop = 2 },
		"preprocess.std[1]":  func(s *Space) { s.Preprocess.Std[1] = 0 },
		"head.features":      func(s *Space) { s.Head.Features = -1 },
		"stages[1].act":      func(s *Space) { s.Stages[1].Act = "" },
	} {
		t.Run(field, func(t *testing.T) {
			s := MobileNetV3(1, 10)
			change(s)
			var e *FieldError
			require.ErrorAs(t, s.Validate(), &e)
			require.Equal(t, field, e.Field)
		})
	}
}

func TestTensorsOfTheReferenceSupernet(t *testing.T) {
	numbers, names := 0, map[string]bool{}
	specs := MobileNetV3(1, 1000).Tensors()
	for _, spec := range specs {
		n := 1
		for _, d := range spec.Shape {
			n *= d
		}
		numbers += n
		names[spec.Name] = true
	}
	// 475 entries, of which 63 are BN counters that carry one number each.
	require.Len(t, names, len(specs))
	norms := len(MobileNetV3(1, 1000).Norms(MobileNetV3(1, 1000).Largest()))
	require.Equal(t, 64, norms)
	require.Equal(t, 475, len(specs)+norms)
	require.Equal(t, 7720768, numbers+norms)
}

func FuzzParse(f *testing.F) {
	s := spaces()["small"]
	f.Add(s.Text(s.Largest()))
	f.Add(`{"ks":[3],"e":[3],"d":[2],"r":[224],"wid":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := s.Parse(text)
		if err != nil {
			return
		}
		if again, err := s.Parse(s.Text(n)); err != nil || s.Text(again) != s.Text(n) {
			t.Fatalf("%q: does not survive its text form: %v", text, err)
		}
	})
}

func TestKernelAppliesTheMatricesFromTheLargestDown(t *testing.T) {
	s := MobileNetV3(1, 10)
	stored := make([]float32, 2*49)
	for i := range stored {
		stored[i] = float32(i)
	}
	identity := func(_, _ int) []float32 { return nil }
	// Plain cropping: the centre of channel 1 is 49 + 24.
	require.Equal(t, 73.0, s.Kernel(stored, 2, 3, identity)[9+4])
	require.InDeltaSlice(t, stored, s.Kernel(stored, 2, 7, identity), 0)
	// A matrix that doubles at 7to5 and one that reverses at 5to3 act in that order.
	matrix := func(_, to int) []float32 {
		m := make([]float32, to*to*to*to)
		for i := range to * to {
			if to == 5 {
				m[i*25+i] = 2
			} else {
				m[i*9+8-i] = 1
			}
		}
		return m
	}
	centre := s.Kernel(stored, 2, 3, identity)
	got := s.Kernel(stored, 2, 3, matrix)
	for i := range 9 {
		require.Equal(t, 2*centre[8-i], got[i])
	}
}

func TestFold(t *testing.T) {
	a := Fold([]float32{2}, []float32{1}, []float32{3}, []float32{4 - 1e-5}, 1e-5)
	require.InDelta(t, 1, a.Scale[0], 1e-6)
	require.InDelta(t, -2, a.Shift[0], 1e-6)
}

func TestLabel(t *testing.T) {
	s := MobileNetV3(1, 2)
	require.Equal(t, "class 1", s.Label(1))
	s.Labels = []string{"cat", "dog"}
	require.Equal(t, []string{"dog", "class 2", "class -1"}, []string{s.Label(1), s.Label(2), s.Label(-1)})
}
