package reference

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// The numbers here are worked out by hand; the golden tests need data that is not everywhere.

func TestActivations(t *testing.T) {
	in := []float64{-4, -3, -1.5, 0, 3, 7}
	for act, want := range map[ofa.Activation][]float64{
		ofa.Linear: {-4, -3, -1.5, 0, 3, 7},
		ofa.ReLU:   {0, 0, 0, 0, 3, 7},
		ofa.ReLU6:  {0, 0, 0, 0, 3, 6},
		ofa.HSwish: {0, 0, -0.375, 0, 3, 7},
	} {
		x := &fmap{1, 1, len(in), append([]float64(nil), in...)}
		x.activate(act)
		require.Equal(t, want, x.v, "%q", act)
	}
}

func TestDepthwise(t *testing.T) {
	// Two channels of 3x3 pixels: 1 to 9, and ten times as much.
	x := blank(3, 3, 2)
	for p := range 9 {
		x.v[2*p], x.v[2*p+1] = float64(p+1), float64(10*(p+1))
	}
	// Channel 0 takes the right neighbour, channel 1 itself plus twice the one above.
	w := []float64{
		0, 0, 0, 0, 0, 1, 0, 0, 0,
		0, 2, 0, 0, 1, 0, 0, 0, 0,
	}
	require.Equal(t, []float64{2, 10, 3, 20, 0, 30, 5, 60, 6, 90, 0, 120, 8, 150, 9, 180, 0, 210}, depthwise(x, w, 3, 1).v)
	require.Equal(t, &fmap{2, 2, 2, []float64{2, 10, 0, 30, 8, 150, 0, 210}}, depthwise(x, w, 3, 2))
}

func TestStem(t *testing.T) {
	// Output channel 0 is the blue of the pixel to the lower right, output channel 1 the red of the pixel.
	w := make([]float32, 2*27)
	w[2*9+2*3+2] = 1
	w[27+4] = 1
	x := &fmap{2, 2, 3, []float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}
	require.Equal(t, &fmap{1, 1, 2, []float64{12, 1}}, stem(x, w, 2, 2))
	require.Equal(t, []float64{12, 1, 0, 4, 0, 7, 0, 10}, stem(x, w, 2, 1).v)
}

func TestVectors(t *testing.T) {
	x := &fmap{1, 2, 2, []float64{1, 2, 3, 6}}
	require.Equal(t, []float64{2, 4}, mean(x).v)
	// The upper left 3 x 2 of a matrix with rows of 4.
	m := matrix([]float32{1, 0, 9, 9, 0, 1, 9, 9, 1, -1, 9, 9}, 3, 2, 4)
	require.Equal(t, []float64{1, 2, -1, 3, 6, -3}, pointwise(x, m).v)
	x.affine(ofa.Affine{Scale: []float32{2, 1}, Shift: []float32{0, -1}})
	require.Equal(t, []float64{2, 1, 6, 5}, x.v)
}

func TestKernelTransforms(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	stored := make([]float32, 49)
	for i := range stored {
		stored[i] = float32(i)
	}
	// 7 to 5 doubles every weight, 5 to 3 takes weight 0 everywhere: twice the stored weight at row 2, column 2.
	double, first := make([]float32, 625), make([]float32, 81)
	for i := range 25 {
		double[i*25+i] = 2
	}
	for i := range 9 {
		first[i*9] = 1
	}
	net := Net{Space: s, Tensor: func(name string) []float32 {
		return map[string][]float32{
			"blocks.1.conv.depth_conv.conv.7to5_matrix": double,
			"blocks.1.conv.depth_conv.conv.5to3_matrix": first,
		}[name]
	}}
	b := &ofa.Block{Index: 1, Mid: 1, Kernel: 3, MaxKernel: 7}
	require.Equal(t, []float64{32, 32, 32, 32, 32, 32, 32, 32, 32}, net.kernel(b, stored))
	b.Index = 2 // no transforms: the centre
	require.Equal(t, []float64{16, 17, 18, 23, 24, 25, 30, 31, 32}, net.kernel(b, stored))
}
