package onnx

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// form is a shape of network with the image sides to test it at.
type form struct {
	name  string
	space *ofa.Space
	sides []int
}

// forms have both heads, every activation, squeeze-excitation in the first block, and odd sides.
func forms() []form {
	return []form{
		{"mbv3", ofa.MobileNetV3(0.35, 10), []int{64, 100, 132, 160}},
		{"proxyless", ofa.ProxylessNAS(0.25, 7), []int{64, 101, 128}},
		{"small", small(), []int{17, 24, 28}},
	}
}

func small() *ofa.Space {
	return &ofa.Space{
		Family: "small-images", Width: 1, Classes: 10, BNEps: 1e-5,
		Stem:  ofa.Stem{Channels: 16, Stride: 1, Act: ofa.HSwish},
		First: ofa.First{Channels: 16, Stride: 1, Act: ofa.ReLU, SE: true, Residual: true},
		Stages: []ofa.Stage{
			{Channels: 16, Stride: 1, Act: ofa.ReLU6, Depths: []int{1, 2, 3}},
			{Channels: 32, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1, 3}},
			{Channels: 40, Stride: 2, Act: ofa.ReLU, SE: true, Depths: []int{2}},
		},
		Head:    ofa.Head{Expand: 96, Features: 128, Act: ofa.HSwish},
		Kernels: []int{3, 5}, Expands: []int{2, 3, 5}, Resolutions: []int{17, 24, 28},
		Preprocess: ofa.Preprocess{Crop: 1, Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.25, 0.5, 0.5}},
	}
}

func write(t *testing.T, c *bundle.Contents, n ofa.Subnet, o *Options) []byte {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, Write(&b, c.Space, n, c.Tensor, bundle.FoldNorms(c.Space, n, c.Tensor), o))
	return b.Bytes()
}

func TestStructure(t *testing.T) {
	for _, form := range forms() {
		t.Run(form.name, func(t *testing.T) {
			s := form.space
			c := bundletest.Random(s, 1)
			rng := rand.New(rand.NewPCG(5, 0))
			for _, n := range []ofa.Subnet{s.Smallest(), s.Largest(), s.Sample(rng)} {
				m := parseModel(t, write(t, c, n, &Options{Version: "1.2.3"}))
				requireHeader(t, &m, s, n)
				requireOperators(t, &m, s, n)
				requireGraph(t, &m, s, n)

				// What the file holds is what the sub-network costs: every parameter but the weights of the
				// folded batch normalisations, whose biases are those of the convolutions.
				_, want := s.Cost(n)
				for _, bn := range s.Norms(n) {
					want -= int64(bn.Channels)
				}
				var got int64
				for name, v := range m.tensors {
					if name != "relu6.min" && name != "relu6.max" {
						got += int64(len(v.data))
					}
				}
				require.Equal(t, want, got, "numbers in initializers")
			}
		})
	}
}

func requireHeader(t *testing.T, m *parsedModel, s *ofa.Space, n ofa.Subnet) {
	t.Helper()
	require.Equal(t, 8, m.top.int(1), "IR version")
	require.Equal(t, "dynofa", m.top.text(2))
	require.Equal(t, "1.2.3", m.top.text(3))
	require.Contains(t, m.top.text(6), s.Family)
	require.Len(t, m.top[8], 1)
	require.Equal(t, 14, parse(t, m.top[8][0].([]byte)).int(2), "operator set")
	require.Equal(t, s.Text(n), m.name)
	require.Equal(t, s.Text(n), m.meta["dynofa.subnet"])
	require.Equal(t, s.Family, m.meta["dynofa.family"])
	require.Equal(t, []any{"n", 3, n.Resolution, n.Resolution}, m.shapes["image"])
	require.Equal(t, []any{"n", s.Classes}, m.shapes["logits"])
	require.Equal(t, []string{"image", "logits"}, []string{m.input, m.output})
}

// requireOperators counts operators against the blocks.
func requireOperators(t *testing.T, m *parsedModel, s *ofa.Space, n ofa.Subnet) {
	t.Helper()
	act := map[ofa.Activation]string{ofa.ReLU: "Relu", ofa.ReLU6: "Clip", ofa.HSwish: "HardSwish"}
	want := map[string]int{"Conv": 2, "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1}
	want[act[s.Stem.Act]]++
	want[act[s.Head.Act]]++
	if s.Head.Expand > 0 {
		want["Conv"]++
		want[act[s.Head.Act]]++
	}
	depthwise := map[string]ofa.Block{}
	for _, b := range s.Blocks(n) {
		want["Conv"] += 2
		want[act[b.Act]]++
		if b.Expand > 0 {
			want["Conv"]++
			want[act[b.Act]]++
		}
		if b.Squeeze > 0 {
			want["GlobalAveragePool"]++
			want["Conv"] += 2
			want["Relu"]++
			want["HardSigmoid"]++
			want["Mul"]++
		}
		if b.Residual {
			want["Add"]++
		}
		depthwise[b.Name()+".depth_conv.conv"] = b
	}
	got := map[string]int{}
	for _, node := range m.nodes {
		got[node.op]++
		if b, ok := depthwise[node.name]; ok {
			delete(depthwise, node.name)
			pad := b.Kernel / 2
			require.Equal(t, map[string]any{
				"group": b.Mid, "kernel_shape": []int{b.Kernel, b.Kernel},
				"pads": []int{pad, pad, pad, pad}, "strides": []int{b.Stride, b.Stride},
			}, node.attributes, node.name)
			require.Equal(t, []int{b.Mid, 1, b.Kernel, b.Kernel}, m.tensors[node.inputs[1]].shape, node.name)
			require.Equal(t, []any{"n", b.Mid, b.OutSide, b.OutSide}, m.shapes[node.output[0]], node.name)
		}
		if node.op == "HardSigmoid" {
			require.Equal(t, map[string]any{"alpha": float32(1.0 / 6), "beta": float32(0.5)}, node.attributes)
		}
	}
	require.Equal(t, want, got)
	require.Empty(t, depthwise, "blocks without a node")
}

// requireGraph checks that every input of a node is there before it, that everything is used, and shapes.
func requireGraph(t *testing.T, m *parsedModel, s *ofa.Space, n ofa.Subnet) {
	t.Helper()
	known, used := map[string]bool{m.input: true}, map[string]bool{m.output: true}
	for name, v := range m.tensors {
		known[name] = true
		numbers := 1
		for _, d := range v.shape {
			numbers *= d
		}
		require.Len(t, v.data, numbers, name)
	}
	names := map[string]bool{}
	for _, node := range m.nodes {
		require.False(t, names[node.name], "two nodes %s", node.name)
		names[node.name] = true
		for _, in := range node.inputs {
			require.True(t, known[in], "%s reads %s before it is there", node.name, in)
			used[in] = true
		}
		require.Len(t, node.output, 1)
		require.False(t, known[node.output[0]], "%s is made twice", node.output[0])
		require.Contains(t, m.shapes, node.output[0])
		known[node.output[0]] = true
	}
	require.Equal(t, known, used)
	require.Len(t, m.shapes, len(m.nodes)+1)
	last := s.Blocks(n)[len(s.Blocks(n))-1]
	require.Equal(t, []any{"n", last.Out, last.OutSide, last.OutSide}, m.shapes[last.Name()+".point_linear.conv"])
}

func TestFoldedNumbers(t *testing.T) {
	s := small()
	c := bundletest.Random(s, 3)
	n := s.Smallest()
	norms := bundle.FoldNorms(s, n, c.Tensor)
	m := parseModel(t, write(t, c, n, nil))

	// Norms: stem, first depthwise, first pointwise, blocks.1 expand, depthwise, pointwise.
	expand, project := m.tensors["blocks.1.conv.inverted_bottleneck.conv.weight"], m.tensors["blocks.1.conv.point_linear.conv.weight"]
	require.Equal(t, []int{32, 16, 1, 1}, expand.shape)
	require.Equal(t, []int{16, 32, 1, 1}, project.shape)
	stored := c.Tensor("blocks.1.conv.inverted_bottleneck.conv.conv.weight")
	require.Equal(t, float32(float64(stored[31*16+7])*float64(norms[3].Scale[31])), expand.data[31*16+7])
	stored = c.Tensor("blocks.1.conv.point_linear.conv.conv.weight") // rows of 16 * 5 values
	require.Equal(t, float32(float64(stored[3*80+31])*float64(norms[5].Scale[3])), project.data[3*32+31])
	require.Equal(t, norms[3].Shift, m.tensors["blocks.1.conv.inverted_bottleneck.conv.bias"].data)
	require.Equal(t, c.Tensor("classifier.linear.bias"), m.tensors["classifier.linear.bias"].data)
}

func TestMetadata(t *testing.T) {
	s := small()
	c := bundletest.Random(s, 3)
	n := s.Smallest()
	m := parseModel(t, write(t, c, n, &Options{Metadata: map[string]string{"z": "last", "level": "3"}}))
	require.Equal(t, map[string]string{
		"dynofa.family": "small-images", "dynofa.width": "1", "dynofa.subnet": "r17_3x2_3x2_3x2.3x2",
		"dynofa.macs": m.meta["dynofa.macs"], "dynofa.params": m.meta["dynofa.params"],
		"dynofa.preprocess.crop": "1", "dynofa.preprocess.mean": "0.5,0.5,0.5", "dynofa.preprocess.std": "0.25,0.5,0.5",
		"z": "last", "level": "3",
	}, m.meta)
}

func TestSameInputSameBytes(t *testing.T) {
	s := ofa.MobileNetV3(0.35, 10)
	c := bundletest.Random(s, 1)
	n := s.Sample(rand.New(rand.NewPCG(1, 1)))
	before := maps.Clone(c.Tensors)
	for name := range before {
		before[name] = slices.Clone(before[name])
	}
	o := &Options{Metadata: map[string]string{"a": "1", "b": "2", "c": "3", "d": "4"}}
	first := write(t, c, n, o)
	for range 3 {
		require.Equal(t, first, write(t, c, n, o))
	}
	require.Equal(t, first, write(t, c, s.Canonical(n), o))
	require.Equal(t, before, c.Tensors, "the caller's weights")
}

func TestAbsentTransformIsTheIdentity(t *testing.T) {
	s := ofa.MobileNetV3(0.35, 10)
	c := bundletest.Random(s, 1)
	for _, spec := range s.Tensors() {
		if !spec.Identity {
			continue
		}
		clear(c.Tensors[spec.Name])
		for i := range spec.Shape[0] {
			c.Tensors[spec.Name][i*spec.Shape[0]+i] = 1
		}
	}
	with := write(t, c, s.Smallest(), nil)
	for _, spec := range s.Tensors() {
		if spec.Identity {
			delete(c.Tensors, spec.Name)
		}
	}
	require.Equal(t, with, write(t, c, s.Smallest(), nil))
}

// call is the input of Write.
type call struct {
	space   ofa.Space
	subnet  ofa.Subnet
	tensors map[string][]float32
	norms   []ofa.Affine
	options Options
}

func TestErrorsNameTheThing(t *testing.T) {
	s := ofa.MobileNetV3(0.35, 10)
	fresh := bundletest.Random(s, 1)
	const classifier, transform = "classifier.linear.weight", "blocks.7.conv.depth_conv.conv.7to5_matrix"
	for name, c := range map[string]struct {
		change func(*call)
		want   string
	}{
		"space":      {func(c *call) { c.space.Classes = -1 }, "onnx: space: classes is -1"},
		"kernel":     {func(c *call) { c.subnet.Kernels[2] = 4 }, "onnx: sub-network: ks[2] is 4"},
		"no subnet":  {func(c *call) { c.subnet = ofa.Subnet{} }, "onnx: sub-network: ks is 0 long"},
		"resolution": {func(c *call) { c.subnet.Resolution = 0 }, "onnx: sub-network: r is 0"},
		"absent":     {func(c *call) { delete(c.tensors, classifier) }, "onnx: tensor classifier.linear.weight is absent, expected shape [10 448]"},
		"short": {func(c *call) { c.tensors[classifier] = c.tensors[classifier][1:] },
			"onnx: tensor classifier.linear.weight has 4479 values, expected 4480 (shape [10 448])"},
		"empty transform": {func(c *call) { c.tensors[transform] = []float32{} }, transform + " has 0 values, expected 625"},
		"not a number": {func(c *call) {
			c.tensors[classifier] = slices.Clone(c.tensors[classifier])
			c.tensors[classifier][5] = float32(math.NaN())
		}, "onnx: classifier.linear.weight[5] is NaN, expected a finite number"},
		"norm short":    {func(c *call) { c.norms = c.norms[1:] }, "onnx: 33 batch normalisations, expected 34"},
		"no norms":      {func(c *call) { c.norms = nil }, "onnx: 0 batch normalisations, expected 34"},
		"scales":        {func(c *call) { c.norms[0].Scale = nil }, "batch normalisation 0 (first_conv.bn) has 0 scales and 8 shifts, expected 8 of each"},
		"infinite":      {func(c *call) { c.norms[0].Shift[1] = float32(math.Inf(-1)) }, "onnx: first_conv.conv.bias[1] is -Inf, expected a finite number"},
		"metadata key":  {func(c *call) { c.options.Metadata = map[string]string{"dynofa.macs": "0"} }, `onnx: metadata key "dynofa.macs" is taken`},
		"metadata text": {func(c *call) { c.options.Metadata = map[string]string{"k": "\xff"} }, `onnx: text "\xff" is not UTF-8`},
		"family":        {func(c *call) { c.space.Family = "\xff" }, `onnx: text "\xff" is not UTF-8`},
	} {
		t.Run(name, func(t *testing.T) {
			n := s.Smallest()
			in := call{*s, n, maps.Clone(fresh.Tensors), bundle.FoldNorms(s, n, fresh.Tensor), Options{}}
			c.change(&in)
			var b bytes.Buffer
			err := Write(&b, &in.space, in.subnet, func(name string) []float32 { return in.tensors[name] }, in.norms, &in.options)
			require.ErrorContains(t, err, c.want)
			require.Zero(t, b.Len(), "bytes written in spite of the error")
		})
	}
}

// failing is a writer that takes so many bytes.
type failing int

func (f *failing) Write(p []byte) (int, error) {
	if *f -= failing(len(p)); *f < 0 {
		return 0, io.ErrShortWrite
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	s := small()
	c := bundletest.Random(s, 1)
	n := s.Smallest()
	size := len(write(t, c, n, nil))
	for _, room := range []int{0, size / 4, size - 1, size} {
		w := failing(room)
		err := Write(&w, s, n, c.Tensor, bundle.FoldNorms(s, n, c.Tensor), nil)
		require.Equal(t, room < size, errors.Is(err, io.ErrShortWrite), "%v at %d of %d bytes", err, room, size)
	}
}
