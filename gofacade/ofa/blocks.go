package ofa

import "fmt"

// Block is one MBConv block of a Subnet with everything that an executor needs: pointwise In -> Mid (unless
// Expand is 0), depthwise Kernel x Kernel with padding Kernel/2, squeeze-excitation through Squeeze channels
// (unless 0), pointwise Mid -> Out, plus the input if Residual.
type Block struct {
	Index      int        // number in the supernet; tensors are named blocks.<Index>.*
	Stage      int        // elastic stage, or -1 for the first block
	Expand     int        // expand ratio, or 0 where the block has no expanding pointwise
	In, Out    int        // channels
	Mid        int        // channels of the depthwise convolution
	Squeeze    int        // hidden channels of squeeze-excitation, 0 without
	Kernel     int        // depthwise kernel size
	Stride     int        // of the depthwise convolution
	Act        Activation // after the expanding pointwise and after the depthwise convolution
	Residual   bool       // add the block's input to its output
	InSide     int        // height and width of the input map
	OutSide    int        // height and width of the output map
	MaxMid     int        // what the supernet stores: rows of the expanding pointwise
	MaxSqueeze int        // what the supernet stores
	MaxKernel  int        // what the supernet stores
}

// Name is the prefix of the block's tensors, "blocks.<Index>.conv".
func (b *Block) Name() string { return fmt.Sprintf("blocks.%d.conv", b.Index) }

// Strided is the side of a map after a convolution with "same" padding: floor((side-1)/stride) + 1.
func Strided(side, stride int) int { return (side-1)/stride + 1 }

// Blocks lists the blocks that a legal Subnet executes, in order, the first block included.
func (s *Space) Blocks(n Subnet) []Block {
	side := Strided(n.Resolution, s.Stem.Stride)
	first := Block{
		Stage: -1, In: s.Stem.Channels, Mid: s.Stem.Channels, MaxMid: s.Stem.Channels, Out: s.First.Channels,
		Kernel: 3, MaxKernel: 3, Stride: s.First.Stride, Act: s.First.Act,
		Residual: s.First.Residual,
		InSide:   side, OutSide: Strided(side, s.First.Stride),
	}
	if s.First.SE {
		first.Squeeze = squeeze(first.Mid)
		first.MaxSqueeze = first.Squeeze
	}
	blocks := []Block{first}
	in, side, slot := first.Out, first.OutSide, 0
	for i := range s.Stages {
		st := &s.Stages[i]
		for j := range n.Depths[i] {
			stride := 1
			if j == 0 {
				stride = st.Stride
			}
			b := Block{
				Index: 1 + slot + j, Stage: i, Expand: n.Expands[slot+j],
				In: in, Out: st.Channels, Mid: middle(in, n.Expands[slot+j]), MaxMid: middle(in, s.MaxExpand()),
				Kernel: n.Kernels[slot+j], MaxKernel: s.MaxKernel(), Stride: stride, Act: st.Act,
				Residual: stride == 1 && in == st.Channels,
				InSide:   side, OutSide: Strided(side, stride),
			}
			if st.SE {
				b.Squeeze, b.MaxSqueeze = squeeze(b.Mid), squeeze(b.MaxMid)
			}
			blocks = append(blocks, b)
			in, side = b.Out, b.OutSide
		}
		slot += st.MaxDepth()
	}
	return blocks
}

// middle is the width of the depthwise convolution for an expand ratio.
func middle(in, expand int) int { return Divisible(float64(in*expand), 8) }

// Cost counts the block's own share of [Space.Cost].
func (b *Block) Cost() (macs, params int64) {
	conv := func(weights, side int) {
		macs += int64(weights) * int64(side) * int64(side)
		params += int64(weights)
	}
	norm := func(channels int) { params += 2 * int64(channels) }

	if b.Expand > 0 {
		conv(b.In*b.Mid, b.InSide)
		norm(b.Mid)
	}
	conv(b.Kernel*b.Kernel*b.Mid, b.OutSide)
	norm(b.Mid)
	if b.Squeeze > 0 {
		conv(2*b.Mid*b.Squeeze, 1)
		params += int64(b.Mid + b.Squeeze)
	}
	conv(b.Mid*b.Out, b.OutSide)
	norm(b.Out)
	return macs, params
}

// Cost counts multiply-adds and parameters of a legal Subnet at batch 1. MACs: all convolutions, those of
// squeeze-excitation included, and the classifier. Parameters: weights, biases, BN weight and bias; not the
// running statistics and not the kernel transforms.
func (s *Space) Cost(n Subnet) (macs, params int64) {
	conv := func(weights, side int) {
		macs += int64(weights) * int64(side) * int64(side)
		params += int64(weights)
	}
	norm := func(channels int) { params += 2 * int64(channels) }

	conv(27*s.Stem.Channels, Strided(n.Resolution, s.Stem.Stride))
	norm(s.Stem.Channels)
	blocks := s.Blocks(n)
	for i := range blocks {
		m, p := blocks[i].Cost()
		macs, params = macs+m, params+p
	}
	last := &blocks[len(blocks)-1]
	if s.Head.Expand > 0 {
		conv(last.Out*s.Head.Expand, last.OutSide)
		norm(s.Head.Expand)
		conv(s.Head.Expand*s.Head.Features, 1)
	} else {
		conv(last.Out*s.Head.Features, last.OutSide)
		norm(s.Head.Features)
	}
	conv(s.Head.Features*s.Classes, 1)
	params += int64(s.Classes)
	return macs, params
}
