package exact

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAgainstMath(t *testing.T) {
	for x := -40.0; x <= 40; x += 0.0137 {
		require.InEpsilon(t, math.Exp(x), Exp(x), 1e-14)
		require.InDelta(t, x, Log(math.Exp(x)), 1e-13)
	}
	for x := -7.0; x <= 7; x += 0.01 {
		require.InDelta(t, math.Erfc(-x/math.Sqrt2)/2, Phi(x), 1e-7)
	}
	for p := 1e-6; p < 1; p += 1e-4 {
		require.InDelta(t, p, math.Erfc(-Quantile(p)/math.Sqrt2)/2, 1e-8)
	}
	require.Equal(t, math.Sqrt2, math.Sqrt(2), "the constant and the correctly rounded root")
	require.Equal(t, Exp(700), Exp(math.Inf(1)))
	require.Zero(t, Log(1))
}

// The functions are part of what makes simulations reproducible: these bits hold on every architecture.
func TestBits(t *testing.T) {
	var h uint64
	for i := 1; i < 10000; i++ {
		x := float64(i) / 10000
		for _, v := range []float64{Exp(float64(20*x) - 10), Log(x), Phi(float64(8*x) - 4), Quantile(x)} {
			h = h*0x100000001b3 ^ math.Float64bits(v)
		}
	}
	require.Equal(t, uint64(0xc54d886dcb34ade), h)
}
