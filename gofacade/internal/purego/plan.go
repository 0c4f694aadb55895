package purego

import "github.com/dynofa/dynofa/gofacade/ofa"

// buffers of a frame that a step reads and writes.
type buffer int

const (
	mapA buffer = iota // block inputs and outputs, alternating with mapB
	mapB
	expanded // after the expanding pointwise, and after the head's
	filtered // after the depthwise convolution
	vector   // after pooling
	features
	logits
	buffers
)

type kind int

const (
	stemStep kind = iota
	pointwiseStep
	depthwiseStep
	squeezeStep
	poolStep
	denseStep
)

// step is one operator of a plan. It reads in and writes out; conv computes a tile's raw results, finish does
// what follows the convolution (BN, activation, residual, sums for squeeze-excitation).
type step[T float] struct {
	part     Part
	kind     kind
	src, dst buffer
	residual buffer // added by finish where hasResidual
	w        []T
	bias     []T // of dense
	stride   int // distance between rows of w

	in, out         int // channels
	inSide, outSide int
	kernel, step    int // of the depthwise convolution and the stem
	squeeze         int // hidden channels of squeeze-excitation
	reduce, reduceB []T
	excite, exciteB []T
	squeezeStride   int

	norm        *affine[T]
	act         ofa.Activation
	hasResidual bool
	sums        bool // depthwise: leave row sums for squeeze-excitation
	gated       bool // pointwise: multiply the input by the gate

	tiles int
}

// Part says what a step is.
type Part struct {
	Name  string
	Block int // number in the supernet, -1 outside blocks
	MACs  int
}

// Plan is what a session executes for one Subnet: steps that point into the shared weights. It is immutable
// and may be used by any number of sessions of its model at once.
type Plan[T float] struct {
	Subnet  ofa.Subnet // canonical
	steps   []step[T]
	norms   []affine[T] // in the order of Space.Norms
	classes int
}

// Parts is the number of steps.
func (p *Plan[T]) Parts() int { return len(p.steps) }

// Part describes step i.
func (p *Plan[T]) Part(i int) Part { return p.steps[i].part }

// plan spells out a legal Subnet. norms are those of Space.Norms in that order.
func plan[T float](s *ofa.Space, w *weights[T], n ofa.Subnet, norms []affine[T]) *Plan[T] {
	p := &Plan[T]{Subnet: s.Canonical(n), norms: norms, classes: s.Classes}
	next := 0
	norm := func() *affine[T] {
		next++
		return &p.norms[next-1]
	}
	add := func(st step[T]) { p.steps = append(p.steps, st) }

	side := ofa.Strided(n.Resolution, s.Stem.Stride)
	add(step[T]{
		part: Part{"stem", -1, 27 * s.Stem.Channels * side * side},
		kind: stemStep, dst: mapA, w: w.stem, in: 27, out: s.Stem.Channels, stride: s.Stem.Channels,
		inSide: n.Resolution, outSide: side, step: s.Stem.Stride, norm: norm(), act: s.Stem.Act,
		tiles: tilesOf(side * side),
	})
	at, other := mapA, mapB
	blocks := s.Blocks(n)
	for i := range blocks {
		b := &blocks[i]
		pw := &w.blocks[b.Index]
		wide := at
		if b.Expand > 0 {
			wide = expanded
			add(step[T]{
				part: Part{"expand", b.Index, b.In * b.Mid * b.InSide * b.InSide},
				kind: pointwiseStep, src: at, dst: wide, w: pw.expand, stride: b.MaxMid, in: b.In, out: b.Mid,
				outSide: b.InSide, norm: norm(), act: b.Act,
				tiles: tilesOf(b.InSide * b.InSide),
			})
		}
		add(step[T]{
			part: Part{"depthwise", b.Index, b.Kernel * b.Kernel * b.Mid * b.OutSide * b.OutSide},
			kind: depthwiseStep, src: wide, dst: filtered, w: pw.depthwise[b.Kernel], stride: b.MaxMid, in: b.Mid, out: b.Mid,
			inSide: b.InSide, outSide: b.OutSide, kernel: b.Kernel, step: b.Stride, norm: norm(), act: b.Act,
			sums: b.Squeeze > 0, tiles: b.OutSide,
		})
		if b.Squeeze > 0 {
			add(step[T]{
				part: Part{"squeeze and excite", b.Index, 2 * b.Mid * b.Squeeze},
				kind: squeezeStep, in: b.Mid, outSide: b.OutSide, squeeze: b.Squeeze, squeezeStride: b.MaxSqueeze, stride: b.MaxMid,
				reduce: pw.reduce, reduceB: pw.reduceB, excite: pw.excite, exciteB: pw.exciteB, tiles: 1,
			})
		}
		add(step[T]{
			part: Part{"project", b.Index, b.Mid * b.Out * b.OutSide * b.OutSide},
			kind: pointwiseStep, src: filtered, dst: other, w: pw.project, stride: b.Out, in: b.Mid, out: b.Out,
			outSide: b.OutSide, norm: norm(), residual: at, hasResidual: b.Residual, gated: b.Squeeze > 0,
			tiles: tilesOf(b.OutSide * b.OutSide),
		})
		at, other = other, at
	}
	last := blocks[len(blocks)-1]
	before, w1 := s.Head.Features, w.features
	if s.Head.Expand > 0 {
		before, w1 = s.Head.Expand, w.headExpand
	}
	add(step[T]{
		part: Part{"head", -1, last.Out * before * last.OutSide * last.OutSide},
		kind: pointwiseStep, src: at, dst: expanded, w: w1, stride: before, in: last.Out, out: before,
		outSide: last.OutSide, norm: norm(), act: s.Head.Act,
		tiles: tilesOf(last.OutSide * last.OutSide),
	})
	add(step[T]{part: Part{"pool", -1, 0}, kind: poolStep, src: expanded, dst: vector, in: before, out: before, outSide: last.OutSide, tiles: 1})
	from := vector
	if s.Head.Expand > 0 {
		from = features
		add(step[T]{
			part: Part{"features", -1, before * s.Head.Features},
			kind: denseStep, src: vector, dst: features, w: w.features, stride: before, in: before, out: s.Head.Features, act: s.Head.Act,
			tiles: tilesOf(s.Head.Features),
		})
	}
	add(step[T]{
		part: Part{"classifier", -1, s.Classes * s.Head.Features},
		kind: denseStep, src: from, dst: logits, w: w.classifier, bias: w.bias, stride: s.Head.Features, in: s.Head.Features, out: s.Classes,
		tiles: tilesOf(s.Classes),
	})
	return p
}

func tilesOf(n int) int { return (n + tilePixels - 1) / tilePixels }
