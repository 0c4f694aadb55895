package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// graph is the network as ONNX sees it. The output of the last node is the output of the graph.
type graph struct {
	name    string
	input   value
	nodes   []node
	tensors []tensor
}

// node is one operator with one output.
type node struct {
	name, op   string
	inputs     []string // names of values and tensors
	output     value
	attributes []attribute
}

// attribute is a named parameter of a node; its value is a float32, an int or a []int.
type attribute struct {
	name  string
	value any
}

// value is what flows between nodes: feature maps [n][channels][h][w] or vectors [n][channels]. The shape
// leaves out n, the batch.
type value struct {
	name  string
	shape []int
}

func (v value) channels() int { return v.shape[0] }

// tensor is a weight, a bias or a constant.
type tensor struct {
	name  string
	shape []int
	data  []float32
}

// builder turns a sub-network into a graph. Its input has been checked: every tensor is there and of the
// right length, unless it is a transform, and there is a batch normalisation for every use.
type builder struct {
	graph
	source func(name string) []float32
	norms  []ofa.Affine // those not used yet, in the order of execution
	clip   []string     // the bounds of ReLU6, once there are any
}

func build(s *ofa.Space, n ofa.Subnet, source func(string) []float32, norms []ofa.Affine) *graph {
	b := builder{source: source, norms: norms}
	b.name = s.Text(n)
	b.input = value{"image", []int{3, n.Resolution, n.Resolution}}

	x := b.conv("first_conv.conv", b.input, geometry{s.Stem.Channels, 3, s.Stem.Stride, 1},
		source("first_conv.conv.weight"), b.norm())
	x = b.activation("first_conv.act", s.Stem.Act, x)
	blocks := s.Blocks(n)
	for i := range blocks {
		x = b.block(s, &blocks[i], x)
	}
	b.head(s, x)
	return &b.graph
}

func (b *builder) block(s *ofa.Space, k *ofa.Block, input value) value {
	weight := ".conv.conv.weight"
	if k.Expand == 0 {
		weight = ".conv.weight"
	}

	x := input
	if k.Expand > 0 {
		p := k.Name() + ".inverted_bottleneck"
		x = b.pointwise(p+".conv", x, p+weight, k.Mid, k.In, b.norm())
		x = b.activation(p+".act", k.Act, x)
	}

	p := k.Name() + ".depth_conv"
	kernel := b.source(p + weight)
	if k.Expand > 0 {
		derived := s.Kernel(kernel, k.Mid, k.Kernel, func(from, to int) []float32 {
			return b.source(ofa.Transform(k.Name(), from, to))
		})
		kernel = make([]float32, len(derived))
		for i, v := range derived {
			kernel[i] = float32(v)
		}
	}
	x = b.conv(p+".conv", x, geometry{k.Mid, k.Kernel, k.Stride, k.Mid}, kernel, b.norm())
	x = b.activation(p+".act", k.Act, x)
	if k.Squeeze > 0 {
		x = b.squeezeExcitation(p+".se", k, x)
	}

	p = k.Name() + ".point_linear"
	x = b.pointwise(p+".conv", x, p+weight, k.Out, k.MaxMid, b.norm())
	if k.Residual {
		x = b.add(fmt.Sprintf("blocks.%d.shortcut", k.Index), "Add", x.shape, []string{x.name, input.name})
	}
	return x
}

func (b *builder) squeezeExcitation(name string, k *ofa.Block, x value) value {
	bias := func(part string, n int) ofa.Affine { return ofa.Affine{Shift: b.source(part + ".bias")[:n]} }
	reduce, expand := name+".fc.reduce", name+".fc.expand"
	gate := b.pool(name+".pool", x)
	gate = b.pointwise(reduce, gate, reduce+".weight", k.Squeeze, k.MaxMid, bias(reduce, k.Squeeze))
	gate = b.activation(name+".fc.relu", ofa.ReLU, gate)
	gate = b.pointwise(expand, gate, expand+".weight", k.Mid, k.MaxSqueeze, bias(expand, k.Mid))
	gate = b.add(name+".fc.h_sigmoid", "HardSigmoid", gate.shape, []string{gate.name},
		attribute{"alpha", float32(1.0 / 6)}, attribute{"beta", float32(0.5)})
	return b.add(name, "Mul", x.shape, []string{x.name, gate.name})
}

func (b *builder) head(s *ofa.Space, x value) {
	if s.Head.Expand > 0 {
		x = b.pointwise("final_expand_layer.conv", x, "final_expand_layer.conv.weight", s.Head.Expand, x.channels(), b.norm())
		x = b.activation("final_expand_layer.act", s.Head.Act, x)
		x = b.pool("global_avg_pool", x)
		x = b.pointwise("feature_mix_layer.conv", x, "feature_mix_layer.conv.weight", s.Head.Features, x.channels(), ofa.Affine{})
		x = b.activation("feature_mix_layer.act", s.Head.Act, x)
	} else {
		x = b.pointwise("feature_mix_layer.conv", x, "feature_mix_layer.conv.weight", s.Head.Features, x.channels(), b.norm())
		x = b.activation("feature_mix_layer.act", s.Head.Act, x)
		x = b.pool("global_avg_pool", x)
	}
	x = b.add("flatten", "Flatten", []int{x.channels()}, []string{x.name}, attribute{"axis", 1})

	const name = "classifier.linear"
	weight := b.tensor(name+".weight", []int{s.Classes, x.channels()}, b.source(name+".weight"))
	bias := b.tensor(name+".bias", []int{s.Classes}, b.source(name+".bias"))
	b.add(name, "Gemm", []int{s.Classes}, []string{x.name, weight, bias}, attribute{"transB", 1})
	b.nodes[len(b.nodes)-1].output.name = "logits"
}

// geometry is the shape of a convolution with padding kernel/2.
type geometry struct{ out, kernel, stride, group int }

// conv adds a convolution, weight being [out][in/group][kernel][kernel] or more, and what follows it: a scale
// per channel, or none, goes into the weights, a shift, or none, is the bias. The product is rounded once.
func (b *builder) conv(name string, x value, g geometry, weight []float32, then ofa.Affine) value {
	shape := []int{g.out, x.channels() / g.group, g.kernel, g.kernel}
	row := shape[1] * g.kernel * g.kernel
	weight = weight[:g.out*row]
	if then.Scale != nil {
		weight = slices.Clone(weight)
		for i, w := range weight {
			weight[i] = float32(float64(w) * float64(then.Scale[i/row]))
		}
	}
	inputs := []string{x.name, b.tensor(name+".weight", shape, weight)}
	if then.Shift != nil {
		inputs = append(inputs, b.tensor(name+".bias", []int{g.out}, then.Shift))
	}

	pad := g.kernel / 2
	out := []int{g.out, ofa.Strided(x.shape[1], g.stride), ofa.Strided(x.shape[2], g.stride)}
	return b.add(name, "Conv", out, inputs,
		attribute{"group", g.group}, attribute{"kernel_shape", []int{g.kernel, g.kernel}},
		attribute{"pads", []int{pad, pad, pad, pad}}, attribute{"strides", []int{g.stride, g.stride}})
}

// pointwise adds a 1x1 convolution with the upper left part of the named tensor, whose rows are stride long.
func (b *builder) pointwise(name string, x value, tensor string, out, stride int, then ofa.Affine) value {
	stored, in := b.source(tensor), x.channels()
	if in < stride {
		part := make([]float32, 0, out*in)
		for row := range out {
			part = append(part, stored[row*stride:row*stride+in]...)
		}
		stored = part
	}
	return b.conv(name, x, geometry{out, 1, 1, 1}, stored, then)
}

func (b *builder) pool(name string, x value) value {
	return b.add(name, "GlobalAveragePool", []int{x.channels(), 1, 1}, []string{x.name})
}

func (b *builder) activation(name string, a ofa.Activation, x value) value {
	switch a {
	case ofa.ReLU:
		return b.add(name, "Relu", x.shape, []string{x.name})
	case ofa.ReLU6:
		if b.clip == nil {
			b.clip = []string{b.tensor("relu6.min", nil, []float32{0}), b.tensor("relu6.max", nil, []float32{6})}
		}
		return b.add(name, "Clip", x.shape, []string{x.name, b.clip[0], b.clip[1]})
	case ofa.HSwish:
		return b.add(name, "HardSwish", x.shape, []string{x.name})
	}
	return x // ofa.Linear; a checked Space has no others
}

// norm takes the next batch normalisation.
func (b *builder) norm() ofa.Affine {
	a := b.norms[0]
	b.norms = b.norms[1:]
	return a
}

// add adds a node whose output has the node's name.
func (b *builder) add(name, op string, shape []int, inputs []string, attributes ...attribute) value {
	out := value{name, shape}
	b.nodes = append(b.nodes, node{name, op, inputs, out, attributes})
	return out
}

// tensor adds a tensor and returns its name.
func (b *builder) tensor(name string, shape []int, data []float32) string {
	b.tensors = append(b.tensors, tensor{name, shape, data})
	return name
}

// check says which number of the graph is not finite.
func (g *graph) check() error {
	for _, t := range g.tensors {
		for i, v := range t.data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("onnx: %s[%d] is %v, expected a finite number", t.name, i, v)
			}
		}
	}
	return nil
}
