package purego

import (
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// float is the arithmetic of an engine: float32 for inference, float64 for statistics.
type float interface{ float32 | float64 }

// gemmFunc is gonum's general matrix product C = alpha*A*B + beta*C over row-major matrices.
type gemmFunc[T float] func(tA, tB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int)

// gemm returns the product for T.
func gemm[T float]() gemmFunc[T] {
	var f any = gonum.Implementation{}.Sgemm
	if _, double := any(T(0)).(float64); double {
		f = gonum.Implementation{}.Dgemm
	}
	// The type is written out because a generic function type is a type of its own.
	return f.(func(tA, tB blas.Transpose, m, n, k int, alpha T, a []T, lda int, b []T, ldb int, beta T, c []T, ldc int))
}

// Pixels in a tile of a pointwise convolution, and the panel of the weights that one call works on. gonum
// starts goroutines from four blocks of 64 x 64 results on, which would allocate: 64 x 192 stays below.
const (
	tilePixels = 64
	panelCols  = 192
	panelRows  = 64
)

// pointwise is y[p,o] = sum_i x[p,i] * w[i,o] for up to tilePixels pixels. x is [pixels][in] and y
// [pixels][out], contiguous; w is [in][stride] of which the first out columns are used.
func (g gemmFunc[T]) pointwise(y, x, w []T, pixels, in, out, stride int) {
	for o := 0; o < out; o += panelCols {
		cols := min(panelCols, out-o)
		for i := 0; i < in; i += panelRows {
			rows := min(panelRows, in-i)
			beta := T(1)
			if i == 0 {
				beta = 0
			}
			g(blas.NoTrans, blas.NoTrans, pixels, cols, rows, 1, x[i:pixels*in], in, w[i*stride+o:], stride, beta, y[o:pixels*out], out)
		}
	}
}

// affine is a batch normalisation in evaluation mode.
type affine[T float] struct{ scale, shift []T }

func convert[T float](v []float32) []T {
	out := make([]T, len(v))
	for i := range v {
		out[i] = T(v[i])
	}
	return out
}

// apply is y = act(y*scale + shift), channels last, in place.
func (a affine[T]) apply(y []T, act ofa.Activation) {
	channels := len(a.scale)
	for ; len(y) > 0; y = y[channels:] {
		row := y[:channels]
		shift := a.shift[:len(row)]
		for c, s := range a.scale[:len(row)] {
			row[c] = row[c]*s + shift[c]
		}
		activate(row, act)
	}
}

func activate[T float](v []T, act ofa.Activation) {
	switch act {
	case ofa.ReLU:
		for i, x := range v {
			v[i] = max(x, 0)
		}
	case ofa.ReLU6:
		for i, x := range v {
			v[i] = min(max(x, 0), 6)
		}
	case ofa.HSwish:
		for i, x := range v {
			v[i] = x * hSigmoid(x)
		}
	}
}

func hSigmoid[T float](x T) T { return min(max(x+3, 0), 6) * (1.0 / 6) }

// columns spells out the 3x3 neighbourhoods of output pixels from..to (row by row) of the stem: dst is
// [to-from][27] in the order row, column, channel of the kernel; src is [side][side][3]; the padding is zero.
func columns[T float](dst []T, src []float32, side, out, stride, from, to int) {
	for p := from; p < to; p++ {
		row, col := p/out*stride-1, p%out*stride-1
		for ky := range 3 {
			for kx := range 3 {
				d := dst[:3:3]
				dst = dst[3:]
				if y, x := row+ky, col+kx; y >= 0 && y < side && x >= 0 && x < side {
					s := src[(y*side+x)*3:]
					d[0], d[1], d[2] = T(s[0]), T(s[1]), T(s[2])
				} else {
					d[0], d[1], d[2] = 0, 0, 0
				}
			}
		}
	}
}

// depthwise is one row of a depthwise convolution with padding k/2:
//
//	y[c] = sum over u, v < k of w[u,v,c] * x[row*stride+u-k/2, col*stride+v-k/2, c]
//
// for every column. x is [side][side][channels], dst [out][channels], w [k*k][wStride]. Channels go in groups
// of eight so that their sums stay in registers and one group's weights in the first-level cache.
func depthwise[T float](dst, x, w []T, side, out, channels, k, stride, wStride, row int) {
	top := row*stride - k/2
	uLo, uHi := max(0, -top), min(k, side-top)
	for c := 0; c < channels; c += 8 {
		group := min(8, channels-c)
		for col := range out {
			left := col*stride - k/2
			vLo, vHi := max(0, -left), min(k, side-left)
			y := dst[col*channels+c : col*channels+c+group]
			if group < 8 {
				depthwiseTail(y, x, w, side, channels, k, wStride, top, left, uLo, uHi, vLo, vHi, c)
				continue
			}
			var s0, s1, s2, s3, s4, s5, s6, s7 T
			for u := uLo; u < uHi; u++ {
				xAt := ((top+u)*side+left+vLo)*channels + c
				wAt := (u*k+vLo)*wStride + c
				for range vHi - vLo {
					a := (*[8]T)(x[xAt:])
					b := (*[8]T)(w[wAt:])
					s0 += a[0] * b[0]
					s1 += a[1] * b[1]
					s2 += a[2] * b[2]
					s3 += a[3] * b[3]
					s4 += a[4] * b[4]
					s5 += a[5] * b[5]
					s6 += a[6] * b[6]
					s7 += a[7] * b[7]
					xAt += channels
					wAt += wStride
				}
			}
			*(*[8]T)(y) = [8]T{s0, s1, s2, s3, s4, s5, s6, s7}
		}
	}
}

// depthwiseTail is depthwise for the last channels, fewer than eight, of one pixel.
func depthwiseTail[T float](y, x, w []T, side, channels, k, wStride, top, left, uLo, uHi, vLo, vHi, c int) {
	for i := range y {
		var sum T
		for u := uLo; u < uHi; u++ {
			for v := vLo; v < vHi; v++ {
				sum += x[((top+u)*side+left+v)*channels+c+i] * w[(u*k+v)*wStride+c+i]
			}
		}
		y[i] = sum
	}
}

// dense is y = w*x + bias for a w of [len(y)][stride], of which the first len(x) columns are used. A nil bias
// is zero. Four sums hide the latency of the additions.
func dense[T float](y, x, w, bias []T, stride int) {
	for o := range y {
		row := w[o*stride:][:len(x)]
		var s0, s1, s2, s3 T
		i := 0
		for ; i+4 <= len(x); i += 4 {
			a, b := (*[4]T)(x[i:]), (*[4]T)(row[i:])
			s0 += a[0] * b[0]
			s1 += a[1] * b[1]
			s2 += a[2] * b[2]
			s3 += a[3] * b[3]
		}
		for ; i < len(x); i++ {
			s0 += x[i] * row[i]
		}
		y[o] = (s0 + s1) + (s2 + s3)
		if bias != nil {
			y[o] += bias[o]
		}
	}
}

// addRows adds the pixels of x, [pixels][len(sum)], into sum.
func addRows[T float](sum, x []T) {
	for ; len(x) > 0; x = x[len(sum):] {
		for c, v := range x[:len(sum)] {
			sum[c] += v
		}
	}
}

// gate multiplies the pixels of src, [pixels][len(by)], by one factor a channel.
func gate[T float](dst, src, by []T) {
	for ; len(src) > 0; src, dst = src[len(by):], dst[len(by):] {
		d := dst[:len(by)]
		for c, v := range src[:len(by)] {
			d[c] = v * by[c]
		}
	}
}

func add[T float](dst, src []T) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] += src[i]
	}
}
