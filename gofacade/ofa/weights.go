package ofa

import "math"

// Affine is a batch normalisation in evaluation mode as a scale and a shift per channel: y = x*Scale + Shift.
type Affine struct {
	Scale, Shift []float32
}

// Fold turns the parameters of a batch normalisation into its affine form:
// scale = weight / sqrt(variance + eps), shift = bias - mean*scale, computed in float64 and rounded once. All
// slices have one value per channel.
func Fold[T float32 | float64](weight, bias []float32, mean, variance []T, eps float64) Affine {
	scale, shift := FoldExact(weight, bias, mean, variance, eps)
	a := Affine{make([]float32, len(scale)), make([]float32, len(shift))}
	for i := range scale {
		a.Scale[i], a.Shift[i] = float32(scale[i]), float32(shift[i])
	}
	return a
}

// FoldExact is Fold without the rounding.
func FoldExact[T float32 | float64](weight, bias []float32, mean, variance []T, eps float64) (scale, shift []float64) {
	scale, shift = make([]float64, len(weight)), make([]float64, len(weight))
	for i := range weight {
		scale[i] = float64(weight[i]) / math.Sqrt(float64(variance[i])+eps)
		shift[i] = float64(bias[i]) - float64(mean[i])*scale[i]
	}
	return scale, shift
}

// Kernel derives the depthwise kernels of size k from the stored ones as OFA does (elastic kernel size): from
// the largest size down, take the centre of the kernel, and apply the block's transform matrix to it. stored
// is [channels][max][max], the result [channels][k][k]. matrix returns the to*to x to*to matrix that leads
// from one size to the next smaller one of the Space, or nil for the identity. Everything is float64, so that
// each engine rounds once, to its own type.
func (s *Space) Kernel(stored []float32, channels, k int, matrix func(from, to int) []float32) []float64 {
	size := s.MaxKernel()
	cur := make([]float64, channels*size*size)
	for i := range cur {
		cur[i] = float64(stored[i])
	}
	for i := len(s.Kernels) - 1; s.Kernels[i] > k; i-- {
		to := s.Kernels[i-1]
		cur = shrink(cur, channels, size, to, matrix(size, to))
		size = to
	}
	return cur
}

func shrink(src []float64, channels, from, to int, matrix []float32) []float64 {
	taps, margin := to*to, (from-to)/2
	dst := make([]float64, channels*taps)
	centre := make([]float64, taps)
	for c := range channels {
		for i := range taps {
			centre[i] = src[c*from*from+(i/to+margin)*from+i%to+margin]
		}
		out := dst[c*taps : (c+1)*taps]
		if matrix == nil {
			copy(out, centre)
			continue
		}
		for i := range out {
			for j, v := range centre {
				out[i] += float64(matrix[i*taps+j]) * v
			}
		}
	}
	return dst
}
