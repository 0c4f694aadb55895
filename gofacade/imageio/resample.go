package imageio

import (
	"image"
	"math"
)

// Pillow's 8-bit resampling keeps weights as integers with this many fractional
// bits: 32, less 8 for the pixel, less 2 for sign and head room.
const precision = 22

// axis holds the filter taps of n consecutive outputs along one side. Output i
// is the sum of weights[start[i]:start[i+1]] over the inputs from lo[i] on.
type axis struct {
	in, n      int   // input length, number of outputs
	out, first int64 // length of the whole resized side, index of the first output
	lo         []int32
	start      []int32
	weights    []int32
	float      []float64 // weights of one output before rounding
}

// plan computes the taps of outputs first..first+n-1 of a side resized from in
// to out. Pillow's model: with scale = in/out and f = max(scale, 1), output i has
// its centre at c = (i+0.5)*scale and tap j the weight max(0, 1 - |j-c+0.5|/f),
// divided by the sum of weights and rounded to fixed point. The conversions to
// float64 forbid fused multiply-add, which would round differently.
func (a *axis) plan(in int, out, first int64, n int) {
	if a.in == in && a.out == out && a.first == first && a.n == n {
		return
	}
	a.in, a.out, a.first, a.n = in, out, first, n
	a.lo, a.start, a.weights = a.lo[:0], append(a.start[:0], 0), a.weights[:0]

	scale := float64(in) / float64(out)
	f := max(scale, 1)
	inv := 1 / f
	for i := range n {
		c := float64((float64(first+int64(i)) + 0.5) * scale)
		lo := max(int(c-f+0.5), 0)
		hi := min(int(c+f+0.5), in)
		taps, sum := a.float[:0], 0.0
		for j := lo; j < hi; j++ {
			d := math.Abs(float64((float64(j) - c + 0.5) * inv))
			w := max(0, 1-d)
			taps = append(taps, w)
			sum += w
		}
		a.float = taps

		// Weights that round to zero change nothing: drop them at both ends.
		// A side that keeps its length is left with one tap of weight 1, which
		// equals Pillow's leaving out of the pass.
		from := len(a.weights)
		for _, w := range taps {
			if sum != 0 {
				w /= sum
			}
			fixed := int32(math.Floor(float64(w*(1<<precision)) + 0.5))
			if fixed == 0 && len(a.weights) == from && lo < hi-1 {
				lo++
				continue
			}
			a.weights = append(a.weights, fixed)
		}
		for end := len(a.weights); end > from+1 && a.weights[end-1] == 0; end = len(a.weights) {
			a.weights = a.weights[:end-1]
		}
		a.lo = append(a.lo, int32(lo))
		a.start = append(a.start, int32(len(a.weights)))
	}
}

// span returns the range of inputs that the planned outputs read. Both ends grow
// with the output index, but for dropped taps; so look at all of them.
func (a *axis) span() (lo, hi int) {
	lo, hi = a.in, 0
	for i, l := range a.lo {
		lo = min(lo, int(l))
		hi = max(hi, int(l+a.start[i+1]-a.start[i]))
	}
	return lo, hi
}

// resample fills s.out with the cropped pixels, of one channel where img is grey and of R, G, B elsewhere: per
// source row that the crop needs, convert and resample horizontally; then resample vertically. Both passes round
// to 8 bits, as Pillow's do. It returns the number of channels.
func (s *Scratch) resample(g geometry, img image.Image) (channels int) {
	grey, isGrey := img.(*image.Gray)
	channels = 3
	if isGrey {
		channels = 1 // of three equal ones
	}
	s.cols.plan(g.w, g.rw, g.left, g.r)
	s.rows.plan(g.h, g.rh, g.top, g.r)
	x0, x1 := s.cols.span()
	y0, y1 := s.rows.span()
	stride := g.r * channels
	s.line = grow(s.line, (x1-x0)*channels)
	s.mid = grow(s.mid, (y1-y0)*stride)
	s.sums = grow(s.sums, stride)
	s.out = grow(s.out, g.r*stride)

	s.conv.reset(img)
	for y := y0; y < y1; y++ {
		mid := s.mid[(y-y0)*stride:][:stride]
		if isGrey {
			horizontalGrey(mid, grey.Pix[y*grey.Stride:], &s.cols)
			continue
		}
		s.conv.row(s.line, img, y, x0, x1)
		horizontal(mid, s.line, &s.cols, x0)
	}
	for i := range g.r {
		vertical(s.out[i*stride:][:stride], s.sums, s.mid, &s.rows, i, y0)
	}
	return channels
}

// horizontal resamples one RGB row; src starts at input column x0.
func horizontal(dst, src []uint8, a *axis, x0 int) {
	for i, lo := range a.lo {
		w := a.weights[a.start[i]:a.start[i+1]]
		p := src[(int(lo)-x0)*3:][:len(w)*3]
		r, g, b := int32(1<<(precision-1)), int32(1<<(precision-1)), int32(1<<(precision-1))
		for _, k := range w {
			q := p[:3:3]
			r += k * int32(q[0])
			g += k * int32(q[1])
			b += k * int32(q[2])
			p = p[3:]
		}
		d := dst[i*3:][:3:3]
		d[0], d[1], d[2] = clip(r), clip(g), clip(b)
	}
}

// horizontalGrey resamples one row of one channel.
func horizontalGrey(dst, src []uint8, a *axis) {
	dst = dst[:len(a.lo)]
	for i, lo := range a.lo {
		w := a.weights[a.start[i]:a.start[i+1]]
		p := src[lo:][:len(w)]
		v := int32(1 << (precision - 1))
		for j, k := range w {
			v += k * int32(p[j])
		}
		dst[i] = clip(v)
	}
}

// vertical computes output row i; mid starts at input row y0.
func vertical(dst []uint8, sums []int32, mid []uint8, a *axis, i, y0 int) {
	for x := range sums {
		sums[x] = 1 << (precision - 1)
	}
	at := (int(a.lo[i]) - y0) * len(dst)
	for _, k := range a.weights[a.start[i]:a.start[i+1]] {
		row := mid[at:][:len(sums)]
		for x, v := range row {
			sums[x] += k * int32(v)
		}
		at += len(dst)
	}
	for x, v := range sums {
		dst[x] = clip(v)
	}
}

// clip drops the fractional bits. Weights are never negative, so neither is v.
func clip(v int32) uint8 { return uint8(min(v>>precision, 255)) }

// grow returns a slice of length n, reusing the memory of s where it suffices.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
