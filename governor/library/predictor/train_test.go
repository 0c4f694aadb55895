package predictor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// fashion is a Space of the size of the shipped one.
func fashion() *ofa.Space {
	s := ofa.MobileNetV3(0.5, 10)
	s.Stages = s.Stages[:3]
	for i := range s.Stages {
		s.Stages[i].Depths = []int{1, 2, 3}
	}
	s.Expands, s.Resolutions = []int{2, 3, 4}, []int{16, 20, 24, 28}
	return s
}

// truth is a made-up accuracy: every block helps, by its kernel size and expand ratio, the less the better the network
// already is, and large kernels help more at large sides.
func truth(s *ofa.Space, seed uint64) func(n ofa.Subnet) float64 {
	rng := rand.New(rand.NewPCG(seed, 99))
	worth := make([][2]float64, s.Slots())
	for i := range worth {
		worth[i] = [2]float64{0.3 + rng.Float64(), 0.3 + rng.Float64()}
	}
	return func(n ofa.Subnet) float64 {
		side := float64(n.Resolution) / float64(s.MaxResolution())
		sum, slot := 8*side, 0
		for i := range s.Stages {
			for j := slot; j < slot+n.Depths[i]; j++ {
				sum += worth[j][0]*float64(n.Expands[j])/float64(s.MaxExpand()) + worth[j][1]*side*side*float64(n.Kernels[j])/7
			}
			slot += s.Stages[i].MaxDepth()
		}
		return 0.94 - 0.06*math.Exp(-sum/6)
	}
}

// measured draws pairs whose accuracy has the noise of a share of right answers.
func measured(s *ofa.Space, of func(ofa.Subnet) float64, n, images int, seed uint64) []Pair {
	rng := rand.New(rand.NewPCG(seed, 5))
	pairs := make([]Pair, n)
	for i := range pairs {
		p := Pair{Subnet: s.Canonical(s.Sample(rng)), Images: images}
		a := of(p.Subnet)
		p.Accuracy = math.Round((a+rng.NormFloat64()*math.Sqrt(a*(1-a)/float64(images)))*float64(images)) / float64(images)
		pairs[i] = p
	}
	return pairs
}

// fresh is the rank correlation with the truth, without noise, on networks that were not measured, and the mean error.
func fresh(t *testing.T, s *ofa.Space, p *Predictor, of func(ofa.Subnet) float64) (rank, meanError float64) {
	t.Helper()
	rng := rand.New(rand.NewPCG(77, 77))
	var want, got []float64
	for range 500 {
		n := s.Sample(rng)
		a, err := p.Accuracy(n)
		require.NoError(t, err)
		want, got = append(want, of(n)), append(got, a)
		meanError += math.Abs(a-of(n)) / 500
	}
	return Spearman(want, got), meanError
}

func TestTrainFindsTheTruth(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: TestTrainIsDeterministic has the same goroutines")
	}
	s := fashion()
	of := truth(s, 1)
	for _, c := range []struct {
		images         int
		rank, held     float64 // at least
		error, heldErr float64 // at most
	}{
		{10_000, 0.9, 0.4, 0.002, 0.003},
		{100_000_000, 0.985, 0.95, 0.0006, 0.0006},
	} {
		p, r, err := Train(s, measured(s, of, 300, c.images, 1), 1)
		require.NoError(t, err)
		require.InDelta(t, 300, r.Pairs, 2)
		require.Equal(t, r.Pairs/5, r.HeldOut)
		rank, e := fresh(t, s, p, of)
		t.Logf("%d images: %+v; truth: %.4f, %.5f", c.images, r, rank, e)
		require.GreaterOrEqual(t, rank, c.rank)
		require.GreaterOrEqual(t, r.Spearman, c.held)
		require.LessOrEqual(t, e, c.error)
		require.LessOrEqual(t, r.MeanError, c.heldErr)
		require.Greater(t, r.Spearman, r.Kendall)
	}
}

// TestTrainOnPublished: 400 answers of the published predictor, itself no sum of parts, are enough to order others.
func TestTrainOnPublished(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	s := ofa.MobileNetV3(1.2, 1000)
	s.Resolutions = []int{160, 176, 192, 208, 224}
	published, err := Load(reference(t, "acc_predictor.pth"), s)
	require.NoError(t, err)
	of := func(n ofa.Subnet) float64 {
		a, err := published.Accuracy(n)
		require.NoError(t, err)
		return a
	}
	p, r, err := Train(s, measured(s, of, 400, 50_000, 1), 1)
	require.NoError(t, err)
	rank, e := fresh(t, s, p, of)
	t.Logf("%+v; truth: %.4f, %.5f", r, rank, e)
	require.GreaterOrEqual(t, rank, 0.94)
	require.LessOrEqual(t, e, 0.005)
}

// TestTrainOnNoise: where there is nothing to learn, the mean is the answer, and the report says so.
func TestTrainOnNoise(t *testing.T) {
	s := fashion()
	p, r, err := Train(s, measured(s, func(ofa.Subnet) float64 { return 0.9 }, 200, 1000, 1), 1)
	require.NoError(t, err)
	require.Less(t, math.Abs(r.Spearman), 0.4)
	_, e := fresh(t, s, p, func(ofa.Subnet) float64 { return 0.9 })
	require.Less(t, e, 0.003)

	same := measured(s, func(ofa.Subnet) float64 { return 1 }, 40, 1000, 1)
	p, r, err = Train(s, same, 1)
	require.NoError(t, err)
	require.Equal(t, Report{Pairs: 40, HeldOut: 8, MeanError: r.MeanError}, r)
	a, err := p.Accuracy(s.Largest())
	require.NoError(t, err)
	require.InDelta(t, 1, a, 1e-6)
}

func TestTrainIsDeterministic(t *testing.T) {
	s := fashion()
	pairs := measured(s, truth(s, 1), 150, 100_000_000, 1)
	p, r, err := Train(s, pairs, 3)
	require.NoError(t, err)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	again, r2, err := Train(s, pairs, 3)
	require.NoError(t, err)
	require.Equal(t, p.layers, again.layers)
	require.Equal(t, r, r2)
	other, _, err := Train(s, pairs, 4)
	require.NoError(t, err)
	require.NotEqual(t, p.layers, other.layers)
}

// TestTrainJoinsNetworks: two measurements of one network are one of more images.
func TestTrainJoinsNetworks(t *testing.T) {
	s := fashion()
	pairs := measured(s, truth(s, 1), 40, 1000, 1)
	d, err := newDataset(s, pairs)
	require.NoError(t, err)
	n := s.Uniform(3, 2, 1, 16)
	hidden := s.Canonical(n)
	hidden.Kernels[2] = 7 // cut off by the depth
	e, err := newDataset(s, append(pairs, Pair{n, 0.5, 1000}, Pair{hidden, 0.8, 2000}))
	require.NoError(t, err)
	require.Len(t, e.rows, len(d.rows)+1)
	require.InDelta(t, 0.7, e.y[len(d.y)], 1e-12)
	require.InEpsilon(t, 3, e.weight[len(d.y)]/e.weight[0], 1e-12)
}

func TestTrainErrors(t *testing.T) {
	s := fashion()
	pairs := measured(s, truth(s, 1), 30, 1000, 1)
	for want, change := range map[string]func(p *Pair){
		"pairs[7]: r is 17, expected one of [16 20 24 28]":     func(p *Pair) { p.Subnet.Resolution = 17 },
		"pairs[7]: d is 2 long, expected 3 values":             func(p *Pair) { p.Subnet.Depths = []int{1, 1} },
		"pairs[7]: accuracy is 93, expected a fraction":        func(p *Pair) { p.Accuracy = 93 },
		"pairs[7]: accuracy is NaN, expected a fraction":       func(p *Pair) { p.Accuracy = math.NaN() },
		"pairs[7]: images is 0, expected 1 to 2147483647":      func(p *Pair) { p.Images = 0 },
		"pairs[7]: e[0] is 6, expected one of [2 3 4]":         func(p *Pair) { p.Subnet.Expands = slices.Repeat([]int{6}, 9) },
		"pairs[7]: images is -5, expected 1 to 2147483647":     func(p *Pair) { p.Images = -5 },
		"pairs[7]: accuracy is -0.1, expected a fraction from": func(p *Pair) { p.Accuracy = -0.1 },
	} {
		list := slices.Clone(pairs)
		change(&list[7])
		_, _, err := Train(s, list, 1)
		require.ErrorContains(t, err, "predictor: train: "+want)
	}
	_, _, err := Train(s, pairs[:19], 1)
	require.ErrorContains(t, err, "19 different sub-networks, expected at least 20")
	_, _, err = Train(s, nil, 1)
	require.ErrorContains(t, err, "0 different sub-networks")
	_, _, err = Train(&ofa.Space{}, pairs, 1)
	require.ErrorContains(t, err, "classes is 0")
}

func TestSaveAndLoad(t *testing.T) {
	s := fashion()
	s.Labels = strings.Fields("a b c d e f g h i j")
	d, err := newDataset(s, measured(s, truth(s, 1), 60, 10_000, 1))
	require.NoError(t, err)
	rows := rand.New(rand.NewPCG(1, 0)).Perm(len(d.rows))
	m := d.fit(rows, 1)
	m.share, m.ensemble = 0.5, d.ensemble(rows, m.linear, 1, 2) // whether or not it was worth it
	p, err := build(d.encoding, m.tensors())
	require.NoError(t, err)
	for i, pair := range measured(s, truth(s, 1), 60, 10_000, 1) {
		a, err := p.Accuracy(pair.Subnet)
		require.NoError(t, err)
		require.InDelta(t, m.predict(d.rows[i]), a, 1e-5, "both parts as one network")
	}
	r := Report{Pairs: 60, Spearman: 0.5}
	path := filepath.Join(t.TempDir(), "p.safetensors")
	require.NoError(t, p.Save(path, s, r))
	first, err := os.ReadFile(path)
	require.NoError(t, err)
	got, err := Load(path, fashion()) // labels are of no matter
	require.NoError(t, err)
	require.Equal(t, p.encoding, got.encoding)
	require.Equal(t, p.layers, got.layers)
	require.NoError(t, got.Save(path, s, r))
	second, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, second)

	other := fashion()
	other.Stages[1].Channels += 8
	_, err = Load(path, other)
	require.ErrorContains(t, err, path+": trained for another space (its stages differ): ")
	_, err = Load(path, ofa.MobileNetV3(1.2, 1000))
	require.ErrorContains(t, err, "trained for another space (its expands differ): ")
	require.ErrorContains(t, err, `10 classes`)
	require.ErrorContains(t, got.Save(path, ofa.MobileNetV3(1, 10), r), "not one that was trained for this space")
	require.ErrorContains(t, p.Save(filepath.Join(path, "x"), s, r), "predictor: write ")
	third, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, first, third, "a failed Save leaves the file")
}

// file is a saved predictor with its metadata changed.
func file(t testing.TB, change func(m map[string]any, tensors []safetensors.Data)) []byte {
	t.Helper()
	s := fashion()
	m := &model{linear: linear{make([]float64, 58), 0.9}}
	p, err := build(Own(s), m.tensors())
	require.NoError(t, err)
	tensors, text, err := p.encode(s, Report{})
	require.NoError(t, err)
	var fields map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &fields))
	change(fields, tensors)
	changed, err := json.Marshal(fields)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, safetensors.Write(&b, tensors, map[string]string{metadataKey: string(changed)}))
	return b.Bytes()
}

func TestHostileFiles(t *testing.T) {
	for want, change := range map[string]func(m map[string]any, tensors []safetensors.Data){
		"metadata version is 2, expected 1":     func(m map[string]any, _ []safetensors.Data) { m["version"], m["space"] = 2, "of the future" },
		"metadata version is 0, expected 1":     func(m map[string]any, _ []safetensors.Data) { delete(m, "version") },
		`metadata "dynofa.predictor": no space`: func(m map[string]any, _ []safetensors.Data) { delete(m, "space") },
		`metadata "dynofa.predictor": json`:     func(m map[string]any, _ []safetensors.Data) { m["encoding"] = "x" },
		"encoding is ":                          func(m map[string]any, _ []safetensors.Data) { m["encoding"].(map[string]any)["bins"] = 1 << 30 },
		"another space (its classes differ): ":  func(m map[string]any, _ []safetensors.Data) { m["space"].(map[string]any)["classes"] = 11 },
		"0.bias is missing":                     func(_ map[string]any, d []safetensors.Data) { d[1].Name = "1.bias" },
		"0.bias: value 0 is NaN":                func(_ map[string]any, d []safetensors.Data) { d[1].F32[0] = float32(math.NaN()) },
		"0.weight has shape [58 1], expected":   func(_ map[string]any, d []safetensors.Data) { d[0].Shape = []int{58, 1} },
	} {
		path := filepath.Join(t.TempDir(), "p.safetensors")
		require.NoError(t, os.WriteFile(path, file(t, change), 0o600))
		_, err := Load(path, fashion())
		require.ErrorContains(t, err, "predictor: "+path+": ")
		require.ErrorContains(t, err, want)
	}
	path := filepath.Join(t.TempDir(), "bundle.dofa")
	require.NoError(t, safetensors.WriteFile(path, nil, map[string]string{"dynofa": "{}"}))
	_, err := Load(path, fashion())
	require.ErrorContains(t, err, `no metadata "dynofa.predictor", expected a predictor`)
}

func FuzzPredictorFile(f *testing.F) {
	f.Add(file(f, func(map[string]any, []safetensors.Data) {}))
	f.Add(file(f, func(m map[string]any, _ []safetensors.Data) {
		m["encoding"].(map[string]any)["depths"] = []int{3, -3, 9}
	}))
	s := fashion()
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := safetensors.Parse(data)
		if err != nil {
			return
		}
		p, err := decode(parsed, s)
		if err != nil {
			return
		}
		if a, err := p.Accuracy(s.Largest()); err == nil && math.IsNaN(a) {
			t.Fatal("NaN is no accuracy")
		}
	})
}

func TestReadPairs(t *testing.T) {
	const subnet = `{"ks":[3],"e":[2],"d":[1],"r":[16]}`
	pairs, err := ReadPairs(strings.NewReader(`{"note":[1],"pairs":[{"subnet":` + subnet + `,"accuracy":0.5,"images":10,"x":null}],"z":{}}`))
	require.NoError(t, err)
	require.Equal(t, []Pair{{ofa.Subnet{Kernels: []int{3}, Expands: []int{2}, Depths: []int{1}, Resolution: 16}, 0.5, 10}}, pairs)
	pairs, err = ReadPairs(strings.NewReader(`{"pairs":[]}`))
	require.NoError(t, err)
	require.Empty(t, pairs)

	for text, want := range map[string]string{
		``:                               `expected a JSON object with an array "pairs"`,
		`[]`:                             `expected a JSON object with an array "pairs"`,
		`{}`:                             `no "pairs"`,
		`{"pairs":{}}`:                   `"pairs" is {, expected an array`,
		`{"pairs":null}`:                 `"pairs" is <nil>, expected an array`,
		`{"pairs":[],"pairs":[]}`:        `"pairs" is given twice`,
		`{"pairs":[]} {}`:                "more text after the JSON object",
		`{"pairs":[]`:                    "the object does not end",
		`{"x":[}`:                        `"x": `,
		`{"pairs":[1]}`:                  "pairs[0]: ",
		`{"pairs":[{}]}`:                 `pairs[0]: expected {"subnet", "accuracy", "images"}`,
		`{"pairs":[null]}`:               `pairs[0]: expected {"subnet", "accuracy", "images"}`,
		`{"pairs":[{"subnet":{"r":16}`:   "pairs[0]: ",
		`{"pairs":[{"accuracy":0.5}]}`:   `pairs[0]: expected {"subnet", "accuracy", "images"}`,
		`{"pairs":[{"subnet":{"r":"x"}}`: "pairs[0]: r is",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":93.1,"images":1}]}`:                        "pairs[0]: accuracy is 93.1, expected a fraction from 0 to 1",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":0.5}]}`:                                    "pairs[0]: images is 0, expected 1 to",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":1e999,"images":1}]}`:                       "pairs[0]: ",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":0.5,"images":1},`:                          "pairs[1]: ",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":0.5,"images":1}`:                           "pairs[1]: the array does not end",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":0.5,"images":1.5}]}`:                       "pairs[0]: ",
		`{"pairs":[{"subnet":` + subnet + `,"accuracy":0.5,"images":9007199254740993000000000}]}`: "pairs[0]: ",
	} {
		_, err := ReadPairs(strings.NewReader(text))
		require.ErrorContains(t, err, "predictor: pairs: ", text)
		require.ErrorContains(t, err, want, text)
	}
	_, err = ReadPairs(iotest.ErrReader(os.ErrClosed))
	require.ErrorIs(t, err, os.ErrClosed)
	_, err = ReadPairs(io.MultiReader(strings.NewReader(`{"pairs":[]}`), strings.NewReader(strings.Repeat(" ", 64<<20))))
	require.ErrorContains(t, err, "larger than 67108864 bytes")
}

func FuzzPairs(f *testing.F) {
	f.Add([]byte(`{"pairs":[{"subnet":{"ks":[3],"e":[2],"d":[1],"r":16},"accuracy":0.5,"images":10}]}`))
	f.Add([]byte(`{"x":{},"pairs":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		pairs, err := ReadPairs(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range pairs {
			if err := pairs[i].check(); err != nil {
				t.Fatal(err)
			}
		}
		text, err := json.Marshal(map[string]any{"pairs": pairs})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadPairs(bytes.NewReader(text))
		if err != nil || len(again) != len(pairs) {
			t.Fatalf("what was read is not read again: %v", err)
		}
	})
}

func TestRankCorrelations(t *testing.T) {
	for _, c := range []struct {
		x, y              []float64
		spearman, kendall float64
	}{
		{[]float64{1, 2, 3, 4}, []float64{10, 20, 30, 1000}, 1, 1},
		{[]float64{1, 2, 3, 4}, []float64{4, 3, 2, 1}, -1, -1},
		{[]float64{1, 2, 3, 4}, []float64{1, 3, 2, 4}, 0.8, 2.0 / 3},
		{[]float64{1, 1, 2}, []float64{1, 2, 3}, math.Sqrt(3) / 2, 2 / math.Sqrt(6)}, // by hand: 2 of 3 pairs agree, 1 is equal in x
		{[]float64{1, 1, 1}, []float64{1, 2, 3}, 0, 0},
		{nil, nil, 0, 0},
	} {
		require.InDelta(t, c.spearman, Spearman(c.x, c.y), 1e-12, "%v", c)
		require.InDelta(t, c.kendall, Kendall(c.x, c.y), 1e-12, "%v", c)
	}
}

// TestSlopeIsTheDerivative: within one linear piece of the network, changing a block changes the accuracy by the
// difference of slopes.
func TestSlopeIsTheDerivative(t *testing.T) {
	s, e := small()
	rng := rand.New(rand.NewPCG(2, 0))
	tensors := random(rng, e.Inputs(), 16, 8, 1)
	for i := range tensors["0.weight"].Data {
		tensors["0.weight"].Data[i] *= 1e-3 // no change crosses a kink
	}
	p, err := New(e, tensors)
	require.NoError(t, err)
	for range 50 {
		n := s.Canonical(s.Sample(rng))
		slope, err := p.Slope(n)
		require.NoError(t, err)
		before, err := p.Accuracy(n)
		require.NoError(t, err)
		m := s.Canonical(n)
		m.Kernels[0], m.Expands[0] = s.Kernels[rng.IntN(2)], s.Expands[rng.IntN(4)]
		after, err := p.Accuracy(m)
		require.NoError(t, err)
		require.InDelta(t, after-before, slope(0, m.Kernels[0], m.Expands[0])-slope(0, n.Kernels[0], n.Expands[0]), 2e-6)

		if m = s.Canonical(n); m.Depths[1] == 3 { // slots 4 and 5
			m.Depths[1] = 1
			after, err = p.Accuracy(m)
			require.NoError(t, err)
			require.InDelta(t, before-after, slope(4, n.Kernels[4], n.Expands[4])+slope(5, n.Kernels[5], n.Expands[5]), 2e-6)
		}
	}
	_, err = p.Slope(ofa.Subnet{})
	require.ErrorContains(t, err, "predictor: ks is 0 long")
}

func TestResolutionsAreThoseOfTraining(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	p, err := New(Public(s), random(rand.New(rand.NewPCG(1, 0)), 128, 4, 1))
	require.NoError(t, err)
	require.Equal(t, []int{160, 164, 239}, p.Resolutions([]int{112, 128, 159, 160, 164, 239, 240}))
	e := Public(s)
	e.Unseen = e.Bins
	_, err = New(e, nil)
	require.ErrorContains(t, err, "encoding: unseen is 8, expected 0 to 7 bins")
}

func TestOwnSeparatesResolutions(t *testing.T) {
	s := fashion()
	for _, c := range []struct{ sides, encoded []int }{
		{[]int{16, 20, 24, 28}, []int{16, 4, 4}},
		{[]int{24}, []int{24, 1, 1}},
		{[]int{15, 21, 36}, []int{15, 3, 8}},
		{[]int{15, 16, 36}, []int{15, 1, 22}},
	} {
		s.Resolutions = c.sides
		e := Own(s)
		require.Equal(t, c.encoded, []int{e.MinSide, e.BinWidth, e.Bins})
		require.NoError(t, e.check())
		bins := map[string]bool{}
		for _, r := range c.sides {
			bins[fmt.Sprint(sorted(t, e, s.Uniform(3, 2, 1, r)))] = true
		}
		require.Len(t, bins, len(c.sides))
	}
}
