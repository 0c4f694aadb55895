package reference

import "github.com/dynofa/dynofa/gofacade/ofa"

// fmap is a feature map, v[(y*w+x)*c+channel].
type fmap struct {
	h, w, c int
	v       []float64
}

// stem is the 3x3 convolution over 3 channels with padding 1; w is [out][3][3][3], the input channel first.
func stem(x *fmap, w []float32, out, stride int) *fmap {
	y := blank(ofa.Strided(x.h, stride), ofa.Strided(x.w, stride), out)
	for i := range y.h {
		for j := range y.w {
			for o := range out {
				var sum float64
				for c := range 3 {
					for u := range 3 {
						for v := range 3 {
							sum += float64(w[((o*3+c)*3+u)*3+v]) * x.at(i*stride+u-1, j*stride+v-1, c)
						}
					}
				}
				y.v[(i*y.w+j)*out+o] = sum
			}
		}
	}
	return y
}

// depthwise is the k x k convolution of every channel by itself with padding k/2; w is [channel][k][k].
func depthwise(x *fmap, w []float64, k, stride int) *fmap {
	y := blank(ofa.Strided(x.h, stride), ofa.Strided(x.w, stride), x.c)
	for i := range y.h {
		for j := range y.w {
			for c := range x.c {
				var sum float64
				for u := range k {
					for v := range k {
						sum += w[(c*k+u)*k+v] * x.at(i*stride+u-k/2, j*stride+v-k/2, c)
					}
				}
				y.v[(i*y.w+j)*y.c+c] = sum
			}
		}
	}
	return y
}

// pointwise multiplies the channels of every pixel by w, one row an output channel.
func pointwise(x *fmap, w [][]float64) *fmap {
	y := blank(x.h, x.w, len(w))
	for p := range x.h * x.w {
		pixel := x.v[p*x.c : (p+1)*x.c]
		for o, row := range w {
			var sum float64
			for i, v := range pixel {
				sum += row[i] * v
			}
			y.v[p*y.c+o] = sum
		}
	}
	return y
}

// mean is the global average pooling, a map of one pixel.
func mean(x *fmap) *fmap {
	y := blank(1, 1, x.c)
	for i, v := range x.v {
		y.v[i%x.c] += v
	}
	for c := range y.v {
		y.v[c] /= float64(x.h * x.w)
	}
	return y
}

func (x *fmap) affine(a ofa.Affine) {
	for i := range x.v {
		x.v[i] = x.v[i]*float64(a.Scale[i%x.c]) + float64(a.Shift[i%x.c])
	}
}

func (x *fmap) add(bias []float64) {
	for i := range x.v {
		x.v[i] += bias[i%x.c]
	}
}

func (x *fmap) activate(a ofa.Activation) {
	for i, v := range x.v {
		switch a {
		case ofa.Linear:
		case ofa.ReLU:
			x.v[i] = max(v, 0)
		case ofa.ReLU6:
			x.v[i] = min(max(v, 0), 6)
		case ofa.HSwish:
			x.v[i] = v * hardSigmoid(v)
		default:
			panic("reference: unknown activation " + string(a))
		}
	}
}

func hardSigmoid(v float64) float64 { return min(max(v+3, 0), 6) / 6 }

// at is 0 outside the map: the padding.
func (x *fmap) at(i, j, c int) float64 {
	if i < 0 || j < 0 || i >= x.h || j >= x.w {
		return 0
	}
	return x.v[(i*x.w+j)*x.c+c]
}

func blank(h, w, c int) *fmap { return &fmap{h, w, c, make([]float64, h*w*c)} }

// matrix is the upper left rows x cols of a stored matrix whose rows are stride long.
func matrix(w []float32, rows, cols, stride int) [][]float64 {
	m := make([][]float64, rows)
	for r := range m {
		m[r] = widen(w[r*stride : r*stride+cols])
	}
	return m
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}
