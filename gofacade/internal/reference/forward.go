package reference

import (
	"strconv"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Net is one sub-network with its weights and batch normalisations. A Net may be used by one goroutine at a
// time if it has a Tap, by many otherwise.
type Net struct {
	Space  *ofa.Space
	Subnet ofa.Subnet
	Tensor func(name string) []float32 // the supernet's tensors; nil for a transform that is the identity
	Norms  []ofa.Affine                // in the order of Space.Norms

	// Tap, unless nil, sees every intermediate map in the order of execution, [h][w][c], and may keep it.
	// Names are the supernet's modules. After BN and activation: "first_conv",
	// "blocks.N.conv.inverted_bottleneck", "blocks.N.conv.depth_conv.act", "final_expand_layer",
	// "feature_mix_layer". As the name says: "blocks.N.conv.depth_conv.conv" before BN,
	// "blocks.N.conv.depth_conv.se.fc" the gate, "blocks.N.conv.depth_conv" after squeeze-excitation,
	// "blocks.N.conv.point_linear" before the residual, "blocks.N" after it, "global_avg_pool", "classifier".
	Tap func(name string, nhwc []float64, h, w, c int)
}

// Forward is the logits of one image, [r][r][3], already preprocessed.
func Forward(s *ofa.Space, n ofa.Subnet, tensor func(string) []float32, norms []ofa.Affine, image []float32) []float64 {
	net := Net{Space: s, Subnet: n, Tensor: tensor, Norms: norms}
	return net.Forward(image)
}

// Forward is the logits of one image, [r][r][3], already preprocessed.
func (net *Net) Forward(image []float32) []float64 {
	s, norms := net.Space, net.Norms
	norm := func(x *fmap) { // the next batch normalisation
		x.affine(norms[0])
		norms = norms[1:]
	}

	x := &fmap{net.Subnet.Resolution, net.Subnet.Resolution, 3, widen(image)}
	x = stem(x, net.Tensor("first_conv.conv.weight"), s.Stem.Channels, s.Stem.Stride)
	norm(x)
	x.activate(s.Stem.Act)
	net.tap("first_conv", x)

	blocks := s.Blocks(net.Subnet)
	for i := range blocks {
		x = net.block(&blocks[i], x, norm)
	}

	head, in := &s.Head, x.c
	if head.Expand > 0 {
		x = pointwise(x, matrix(net.Tensor("final_expand_layer.conv.weight"), head.Expand, in, in))
		norm(x)
		x.activate(head.Act)
		net.tap("final_expand_layer", x)
		x = mean(x)
		net.tap("global_avg_pool", x)
		x = pointwise(x, matrix(net.Tensor("feature_mix_layer.conv.weight"), head.Features, head.Expand, head.Expand))
		x.activate(head.Act)
		net.tap("feature_mix_layer", x)
	} else {
		x = pointwise(x, matrix(net.Tensor("feature_mix_layer.conv.weight"), head.Features, in, in))
		norm(x)
		x.activate(head.Act)
		net.tap("feature_mix_layer", x)
		x = mean(x)
		net.tap("global_avg_pool", x)
	}

	x = pointwise(x, matrix(net.Tensor("classifier.linear.weight"), s.Classes, head.Features, head.Features))
	x.add(widen(net.Tensor("classifier.linear.bias")))
	net.tap("classifier", x)
	return x.v
}

func (net *Net) block(b *ofa.Block, input *fmap, norm func(*fmap)) *fmap {
	p, conv := b.Name(), ".conv.conv.weight"
	if b.Expand == 0 {
		conv = ".conv.weight"
	}

	x := input
	if b.Expand > 0 {
		x = pointwise(x, matrix(net.Tensor(p+".inverted_bottleneck"+conv), b.Mid, b.In, b.In))
		norm(x)
		x.activate(b.Act)
		net.tap(p+".inverted_bottleneck", x)
	}

	x = depthwise(x, net.kernel(b, net.Tensor(p+".depth_conv"+conv)), b.Kernel, b.Stride)
	net.tap(p+".depth_conv.conv", x)
	norm(x)
	x.activate(b.Act)
	net.tap(p+".depth_conv.act", x)

	if b.Squeeze > 0 {
		se := p + ".depth_conv.se.fc"
		gate := mean(x)
		gate = pointwise(gate, matrix(net.Tensor(se+".reduce.weight"), b.Squeeze, b.Mid, b.MaxMid))
		gate.add(widen(net.Tensor(se + ".reduce.bias")[:b.Squeeze]))
		gate.activate(ofa.ReLU)
		gate = pointwise(gate, matrix(net.Tensor(se+".expand.weight"), b.Mid, b.Squeeze, b.MaxSqueeze))
		gate.add(widen(net.Tensor(se + ".expand.bias")[:b.Mid]))
		for i, v := range gate.v {
			gate.v[i] = hardSigmoid(v)
		}
		net.tap(se, gate)
		for i := range x.v {
			x.v[i] *= gate.v[i%x.c]
		}
	}
	net.tap(p+".depth_conv", x)

	x = pointwise(x, matrix(net.Tensor(p+".point_linear"+conv), b.Out, b.Mid, b.MaxMid))
	norm(x)
	net.tap(p+".point_linear", x)
	if b.Residual {
		for i := range x.v {
			x.v[i] += input.v[i]
		}
	}
	net.tap("blocks."+strconv.Itoa(b.Index), x)
	return x
}

// kernel derives the block's depthwise kernels, [mid][kernel][kernel], from the stored ones: from one size to
// the next smaller one take the centre and, where there is one, multiply by the transform.
func (net *Net) kernel(b *ofa.Block, stored []float32) []float64 {
	size := b.MaxKernel
	w := widen(stored[:b.Mid*size*size])
	for i := len(net.Space.Kernels) - 1; size > b.Kernel; i-- {
		to := net.Space.Kernels[i-1]
		transform := net.Tensor(ofa.Transform(b.Name(), size, to))
		next := make([]float64, b.Mid*to*to)
		for c := range b.Mid {
			centre := make([]float64, 0, to*to)
			for y := range to {
				for x := range to {
					centre = append(centre, w[(c*size+y+(size-to)/2)*size+x+(size-to)/2])
				}
			}
			for r := range to * to {
				if transform == nil {
					next[c*to*to+r] = centre[r]
					continue
				}
				for k, v := range centre {
					next[c*to*to+r] += float64(transform[r*to*to+k]) * v
				}
			}
		}
		w, size = next, to
	}
	return w
}

// tap hands a copy of x to the Tap: later steps work in place.
func (net *Net) tap(name string, x *fmap) {
	if net.Tap != nil {
		net.Tap(name, append([]float64(nil), x.v...), x.h, x.w, x.c)
	}
}
