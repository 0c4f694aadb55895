package purego

import (
	"fmt"
	"math"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// frame is the memory that one image passes through.
type frame[T float] struct {
	image []float32 // the caller's, during a run
	buf   [buffers][]T
	sums  []T // [outSide][channels]: per row, for squeeze-excitation
	mean  []T // [channels]
	tight []T // [squeeze]
	gate  []T // [channels]
}

// maxValues bounds a frame: 4 GiB of float32, four times OFA-MobileNetV3 1.2 at 2048 pixels, or an eighth of what 32 bits
// can address. A file of 3 MB can describe wider maps, and Go ends the process where memory cannot be had.
const maxValues = min(1<<30, math.MaxInt/16)

// newFrame sizes a frame for every Subnet of the Space up to a resolution: the largest one needs most of
// everything. More than maxValues are an error.
func newFrame[T float](s *ofa.Space, resolution int) (*frame[T], error) {
	n := s.Largest()
	n.Resolution = resolution
	f := &frame[T]{}
	mapOf := func(side, channels int) int64 { return int64(side) * int64(side) * int64(channels) }
	var size [buffers]int64
	size[mapA] = mapOf(ofa.Strided(resolution, s.Stem.Stride), s.Stem.Channels)
	var sums, channels, tight, last int
	for _, b := range s.Blocks(n) {
		if b.Expand > 0 {
			size[expanded] = max(size[expanded], mapOf(b.InSide, b.Mid))
		}
		size[filtered] = max(size[filtered], mapOf(b.OutSide, b.Mid))
		size[mapA] = max(size[mapA], mapOf(b.OutSide, b.Out))
		if b.Squeeze > 0 {
			sums = max(sums, b.OutSide*b.Mid)
			channels = max(channels, b.Mid)
			tight = max(tight, b.Squeeze)
		}
		last = b.OutSide
	}
	size[mapB] = size[mapA]
	wide := max(s.Head.Expand, s.Head.Features)
	size[expanded] = max(size[expanded], mapOf(last, wide))
	size[vector], size[features], size[logits] = int64(wide), int64(s.Head.Features), int64(s.Classes)
	all := int64(sums + tight + 2*channels)
	for _, n := range size {
		all += n
	}
	if all > maxValues {
		return nil, fmt.Errorf("images of %d x %d need memory for %d values, expected at most %d", resolution, resolution, all, maxValues)
	}
	for i := range f.buf {
		f.buf[i] = make([]T, size[i])
	}
	f.sums, f.mean, f.tight, f.gate = make([]T, sums), make([]T, channels), make([]T, tight), make([]T, channels)
	return f, nil
}

// scratchSize is the number of values that conv needs beside the frame, for any Subnet of the Space.
func scratchSize(s *ofa.Space) int {
	n := 27
	for _, b := range s.Blocks(s.Largest()) {
		n = max(n, b.Mid)
	}
	return n * tilePixels
}

// tile is the part of the step's output that tile i covers.
func (st *step[T]) tile(f *frame[T], i int) (out []T, from, to int) {
	switch st.kind {
	case depthwiseStep:
		row := st.outSide * st.out
		return f.buf[st.dst][i*row : (i+1)*row], i, i + 1
	case denseStep:
		from, to = i*tilePixels, min((i+1)*tilePixels, st.out)
		return f.buf[st.dst][from:to], from, to
	default:
		from, to = i*tilePixels, min((i+1)*tilePixels, st.outSide*st.outSide)
		return f.buf[st.dst][from*st.out : to*st.out], from, to
	}
}

// conv computes the raw results of tile i.
func (st *step[T]) conv(g gemmFunc[T], f *frame[T], scratch []T, i int) {
	switch st.kind {
	case stemStep:
		out, from, to := st.tile(f, i)
		columns(scratch, f.image, st.inSide, st.outSide, st.step, from, to)
		g.pointwise(out, scratch, st.w, to-from, st.in, st.out, st.stride)
	case pointwiseStep:
		out, from, to := st.tile(f, i)
		x := f.buf[st.src][from*st.in : to*st.in]
		if st.gated {
			gate(scratch, x, f.gate[:st.in])
			x = scratch[:len(x)]
		}
		g.pointwise(out, x, st.w, to-from, st.in, st.out, st.stride)
	case depthwiseStep:
		out, row, _ := st.tile(f, i)
		depthwise(out, f.buf[st.src], st.w, st.inSide, st.outSide, st.out, st.kernel, st.step, st.stride, row)
	case squeezeStep:
		st.excitation(f)
	case poolStep:
		average(f.buf[st.dst][:st.out], f.buf[st.src][:st.outSide*st.outSide*st.in], st.outSide*st.outSide)
	case denseStep:
		out, from, _ := st.tile(f, i)
		var bias []T
		if st.bias != nil {
			bias = st.bias[from:]
		}
		dense(out, f.buf[st.src][:st.in], st.w[from*st.stride:], bias, st.stride)
	}
}

// finish turns the raw results of tile i into the step's output.
func (st *step[T]) finish(f *frame[T], i int) {
	switch st.kind {
	case stemStep, pointwiseStep, depthwiseStep:
		out, from, to := st.tile(f, i)
		st.norm.apply(out, st.act)
		if st.hasResidual {
			add(out, f.buf[st.residual][from*st.out:to*st.out])
		}
		if st.sums {
			sum := f.sums[i*st.out : (i+1)*st.out]
			clear(sum)
			addRows(sum, out)
		}
	case denseStep:
		out, _, _ := st.tile(f, i)
		activate(out, st.act)
	}
}

// excitation turns the row sums that the depthwise step left into one factor a channel (squeeze-excitation, Hu
// et al. 2018, with MobileNetV3's hard sigmoid).
func (st *step[T]) excitation(f *frame[T]) {
	mean, tight, factors := f.mean[:st.in], f.tight[:st.squeeze], f.gate[:st.in]
	average(mean, f.sums[:st.outSide*st.in], st.outSide*st.outSide)
	dense(tight, mean, st.reduce, st.reduceB, st.stride)
	activate(tight, ofa.ReLU)
	dense(factors, tight, st.excite, st.exciteB, st.squeezeStride)
	for c, x := range factors {
		factors[c] = hSigmoid(x)
	}
}

// average sums the rows of x, [rows][len(mean)], and divides by count.
func average[T float](mean, x []T, count int) {
	clear(mean)
	addRows(mean, x)
	for c := range mean {
		mean[c] /= T(count)
	}
}
