package latency

import (
	"fmt"
	"strconv"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Keys lists the table keys of a Subnet's layers in the order of execution; equal layers repeat their key.
//
//	Conv-input:RxRx3-output:FxFxC                                       stem
//	expanded_conv-input:FxFxC-output:OxOxD-expand:M-kernel:K-stride:S-idskip:I-se:E-hs:H
//	                                                                    every block, the first one included
//	Conv_1-input:FxFxC-output:FxFxX                                     pointwise to Head.Expand
//	AvgPool2D-input:FxFxX-output:1x1xX
//	Conv_2-input:1x1xX-output:1x1xY                                     pointwise to Head.Features
//	Logits-input:1x1xY-output:N                                         classifier, N classes
//
// M counts the channels of the depthwise convolution; I, E, H are 1 with the residual addition, with
// squeeze-excitation, with h_swish. A Space without Head.Expand has no Conv_2, and its Conv_1 leads to
// Head.Features. The error is an [*ofa.FieldError] if the Space does not offer the Subnet.
func Keys(s *ofa.Space, n ofa.Subnet) ([]string, error) {
	var keys []string
	err := walk(s, n, func(key []byte, _ int) error {
		keys = append(keys, string(key))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	return keys, nil
}

// walk visits the keys of Keys, and how many weights each layer reads, until visit fails. The key is valid only
// during the visit.
func walk(s *ofa.Space, n ofa.Subnet, visit func(key []byte, weights int) error) error {
	if err := s.CheckArch(n); err != nil {
		return err
	}
	blocks := s.Blocks(n)
	stem := shape{n.Resolution, 3}
	out := shape{blocks[0].InSide, blocks[0].In}
	k := key(make([]byte, 0, 160))
	if err := visit(k.layer("Conv", stem, out), 27*s.Stem.Channels); err != nil {
		return err
	}
	for i := range blocks {
		b := &blocks[i]
		out = shape{b.OutSide, b.Out}
		k = k.layer("expanded_conv", shape{b.InSide, b.In}, out).
			field("-expand:", b.Mid).field("-kernel:", b.Kernel).field("-stride:", b.Stride).
			flag("-idskip:", b.Residual).flag("-se:", b.Squeeze > 0).flag("-hs:", b.Act == ofa.HSwish)
		weights := b.Mid * (b.Kernel*b.Kernel + 2*b.Squeeze + b.Out)
		if b.Expand > 0 {
			weights += b.In * b.Mid
		}
		if err := visit(k, weights); err != nil {
			return err
		}
	}
	pooled := s.Head.Expand
	if pooled == 0 {
		pooled = s.Head.Features
	}
	last := shape{out.side, pooled}
	if err := visit(k.layer("Conv_1", out, last), out.channels*pooled); err != nil {
		return err
	}
	if err := visit(k.layer("AvgPool2D", last, shape{1, pooled}), 0); err != nil {
		return err
	}
	if s.Head.Expand > 0 {
		if err := visit(k.layer("Conv_2", shape{1, pooled}, shape{1, s.Head.Features}), pooled*s.Head.Features); err != nil {
			return err
		}
	}
	return visit(k.start("Logits", shape{1, s.Head.Features}).field("-output:", s.Classes), s.Head.Features*s.Classes)
}

// shape is that of a map: side x side x channels.
type shape struct{ side, channels int }

// key builds a key in place, because a search asks for millions of them.
type key []byte

func (k key) start(kind string, in shape) key {
	return append(append(k[:0], kind...), "-input:"...).shape(in)
}

func (k key) layer(kind string, in, out shape) key {
	return append(k.start(kind, in), "-output:"...).shape(out)
}

func (k key) shape(s shape) key {
	return k.field("", s.side).field("x", s.side).field("x", s.channels)
}

func (k key) field(name string, v int) key {
	return strconv.AppendInt(append(k, name...), int64(v), 10)
}

func (k key) flag(name string, on bool) key {
	if on {
		return k.field(name, 1)
	}
	return k.field(name, 0)
}
