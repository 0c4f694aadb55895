package purego

import (
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// weights is the supernet packed once for the maximum.
type weights[T float] struct {
	gemm       gemmFunc[T]
	stem       []T // [27][channels], rows in the order row, column, channel
	blocks     []block[T]
	headExpand []T // [last stage][Head.Expand], nil where the head has none
	features   []T // with headExpand [features][expand], else [last stage][features]
	classifier []T // [classes][features]
	bias       []T // [classes]
}

// block is one stored block; index i is the tensors' blocks.<i>.
type block[T float] struct {
	expand    []T         // [In][MaxMid]
	depthwise map[int][]T // by kernel size, [k*k][MaxMid]
	reduce    []T         // [MaxSqueeze][MaxMid]
	reduceB   []T
	excite    []T // [MaxMid][MaxSqueeze]
	exciteB   []T
	project   []T // [MaxMid][Out]
}

// pack reads every tensor of the Space once. tensor returns PyTorch's layout.
func pack[T float](s *ofa.Space, tensor func(string) []float32) *weights[T] {
	w := &weights[T]{gemm: gemm[T]()}
	w.stem = packStem[T](tensor("first_conv.conv.weight"), s.Stem.Channels)
	for _, b := range s.Blocks(s.Largest()) {
		p, conv := b.Name(), ".conv.conv.weight"
		pb := block[T]{depthwise: map[int][]T{}}
		if b.Expand == 0 {
			conv = ".conv.weight"
			pb.depthwise[b.Kernel] = transpose[T](tensor(p+".depth_conv.conv.weight"), b.Mid, b.Kernel*b.Kernel)
		} else {
			pb.expand = transpose[T](tensor(p+".inverted_bottleneck.conv.conv.weight"), b.Mid, b.In)
			stored := tensor(p + ".depth_conv.conv.conv.weight")
			matrix := func(from, to int) []float32 { return tensor(ofa.Transform(p, from, to)) }
			for _, k := range s.Kernels {
				pb.depthwise[k] = transpose[T](s.Kernel(stored, b.Mid, k, matrix), b.Mid, k*k)
			}
		}
		if b.Squeeze > 0 {
			pb.reduce = convert[T](tensor(p + ".depth_conv.se.fc.reduce.weight"))
			pb.reduceB = convert[T](tensor(p + ".depth_conv.se.fc.reduce.bias"))
			pb.excite = convert[T](tensor(p + ".depth_conv.se.fc.expand.weight"))
			pb.exciteB = convert[T](tensor(p + ".depth_conv.se.fc.expand.bias"))
		}
		pb.project = transpose[T](tensor(p+".point_linear"+conv), b.Out, b.Mid)
		w.blocks = append(w.blocks, pb)
	}
	last := s.Stages[len(s.Stages)-1].Channels
	if s.Head.Expand > 0 {
		w.headExpand = transpose[T](tensor("final_expand_layer.conv.weight"), s.Head.Expand, last)
		w.features = convert[T](tensor("feature_mix_layer.conv.weight"))
	} else {
		w.features = transpose[T](tensor("feature_mix_layer.conv.weight"), s.Head.Features, last)
	}
	w.classifier = convert[T](tensor("classifier.linear.weight"))
	w.bias = convert[T](tensor("classifier.linear.bias"))
	return w
}

// transpose turns [rows][cols] into [cols][rows].
func transpose[T, S float](v []S, rows, cols int) []T {
	out := make([]T, len(v))
	for r := range rows {
		for c := range cols {
			out[c*rows+r] = T(v[r*cols+c])
		}
	}
	return out
}

// packStem turns [channels][3][3][3] (channel, row, column) into [row][column][channel][channels].
func packStem[T float](v []float32, channels int) []T {
	out := make([]T, len(v))
	for o := range channels {
		for c := range 3 {
			for yx := range 9 {
				out[(yx*3+c)*channels+o] = T(v[o*27+c*9+yx])
			}
		}
	}
	return out
}
