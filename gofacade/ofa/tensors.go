package ofa

import "fmt"

// Tensor names and shapes follow the once-for-all package's current naming; shapes are PyTorch's.

// TensorSpec is one tensor that a checkpoint of the Space holds.
type TensorSpec struct {
	Name  string
	Shape []int
	// Identity marks a kernel transform, which is the identity matrix where a checkpoint lacks it.
	Identity bool
}

// Norm is one batch normalisation that a Subnet executes. Its tensors are Name + ".weight", ".bias",
// ".running_mean" and ".running_var", of which the first Channels values are used.
type Norm struct {
	Name     string
	Channels int
}

// Parameters of a batch normalisation, to be appended to a Norm's name.
var normTensors = [...]string{".weight", ".bias", ".running_mean", ".running_var"}

// Norms lists the batch normalisations of a legal Subnet in the order of execution: stem, first block's
// depthwise and pointwise, then expanding pointwise, depthwise and projecting pointwise of every kept block,
// head. Names are the supernet's, so the blocks that the depth cuts off leave gaps in the numbers.
func (s *Space) Norms(n Subnet) []Norm {
	norms := []Norm{{"first_conv.bn", s.Stem.Channels}}
	blocks := s.Blocks(n)
	for i := range blocks {
		b := &blocks[i]
		if b.Expand == 0 {
			norms = append(norms, Norm{b.Name() + ".depth_conv.bn", b.Mid}, Norm{b.Name() + ".point_linear.bn", b.Out})
			continue
		}
		norms = append(norms, Norm{b.Name() + ".inverted_bottleneck.bn.bn", b.Mid},
			Norm{b.Name() + ".depth_conv.bn.bn", b.Mid}, Norm{b.Name() + ".point_linear.bn.bn", b.Out})
	}
	if s.Head.Expand > 0 {
		return append(norms, Norm{"final_expand_layer.bn", s.Head.Expand})
	}
	return append(norms, Norm{"feature_mix_layer.bn", s.Head.Features})
}

// Tensors lists every tensor of the supernet in the order of a checkpoint.
func (s *Space) Tensors() []TensorSpec {
	var specs []TensorSpec
	add := func(name string, shape ...int) { specs = append(specs, TensorSpec{Name: name, Shape: shape}) }
	norm := func(name string, channels int) {
		for _, t := range normTensors {
			add(name+t, channels)
		}
	}
	add("first_conv.conv.weight", s.Stem.Channels, 3, 3, 3)
	norm("first_conv.bn", s.Stem.Channels)
	for _, b := range s.Blocks(s.Largest()) {
		p, conv, bn := b.Name(), ".conv.conv.weight", ".bn.bn"
		if b.Expand == 0 {
			conv, bn = ".conv.weight", ".bn"
		} else {
			add(p+".inverted_bottleneck.conv.conv.weight", b.Mid, b.In, 1, 1)
			norm(p+".inverted_bottleneck.bn.bn", b.Mid)
			for i := len(s.Kernels) - 1; i > 0; i-- {
				to, from := s.Kernels[i-1], s.Kernels[i]
				specs = append(specs, TensorSpec{Transform(p, from, to), []int{to * to, to * to}, true})
			}
		}
		add(p+".depth_conv"+conv, b.Mid, 1, b.Kernel, b.Kernel)
		norm(p+".depth_conv"+bn, b.Mid)
		if b.Squeeze > 0 {
			add(p+".depth_conv.se.fc.reduce.weight", b.Squeeze, b.Mid, 1, 1)
			add(p+".depth_conv.se.fc.reduce.bias", b.Squeeze)
			add(p+".depth_conv.se.fc.expand.weight", b.Mid, b.Squeeze, 1, 1)
			add(p+".depth_conv.se.fc.expand.bias", b.Mid)
		}
		add(p+".point_linear"+conv, b.Out, b.Mid, 1, 1)
		norm(p+".point_linear"+bn, b.Out)
	}
	last := s.Stages[len(s.Stages)-1].Channels
	if s.Head.Expand > 0 {
		add("final_expand_layer.conv.weight", s.Head.Expand, last, 1, 1)
		norm("final_expand_layer.bn", s.Head.Expand)
		add("feature_mix_layer.conv.weight", s.Head.Features, s.Head.Expand, 1, 1)
	} else {
		add("feature_mix_layer.conv.weight", s.Head.Features, last, 1, 1)
		norm("feature_mix_layer.bn", s.Head.Features)
	}
	add("classifier.linear.weight", s.Classes, s.Head.Features)
	add("classifier.linear.bias", s.Classes)
	return specs
}

// Transform is the name of the matrix that derives the kernel of size to from that of size from, in the block
// whose tensors start with prefix: row i of the matrix gives weight i, row by row, from the centre of the
// larger kernel (OFA's elastic kernel size).
func Transform(prefix string, from, to int) string {
	return fmt.Sprintf("%s.depth_conv.conv.%dto%d_matrix", prefix, from, to)
}
