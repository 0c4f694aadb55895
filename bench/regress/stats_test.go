package regress

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSignedRankIsExact(t *testing.T) {
	require.InDelta(t, 2.0/1024, signedRank([]float64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}), 1e-12)
	require.InDelta(t, 1, signedRank([]float64{1, -2, 3, -4, 5, -6, 7, -8, 8.5}), 0.25)
	require.Equal(t, 1.0, signedRank([]float64{0, 0, 0}))
	require.Equal(t, 1.0, signedRank(nil))
	// 15 positive ranks sums of {1..4} out of 16: W+ = 9 of 10 has 2 patterns at or beyond on each side.
	require.InDelta(t, 4.0/16, signedRank([]float64{-1, 2, 3, 4}), 1e-12)
	// Ties share ranks: |d| = 1, 1, 2, so that W+ of (1, 1, -2) is the mean.
	require.Equal(t, 1.0, signedRank([]float64{1, 1, -2}))
}

// Under the null every p is as frequent as it says, or less.
func TestSignedRankIsUniform(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	const runs = 4000
	hits := 0
	for range runs {
		d := make([]float64, 12)
		for i := range d {
			d[i] = rng.NormFloat64()
		}
		if signedRank(d) <= 0.05 {
			hits++
		}
	}
	require.InDelta(t, 0.05, float64(hits)/runs, 0.012)
}

func TestSelectedIsTheMedian(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for n := 1; n < 60; n++ {
		v := make([]float64, n)
		for i := range v {
			v[i] = float64(rng.IntN(20)) // with equal ones
		}
		want := median(v)
		require.Equal(t, want, selected(v), "%d values", n)
	}
}

func TestHodgesLehmann(t *testing.T) {
	require.Equal(t, 2.0, hodgesLehmann([]float64{1, 2, 3}, nil))
	require.InDelta(t, 0.05, hodgesLehmann([]float64{0.04, 0.05, 0.06, 0.05, 0.05, 0.05, 9}, nil), 0.006)
	require.Equal(t, 10.0, shift([]float64{1, 2, 3}, []float64{11, 12, 13}, nil))
}

func TestHolm(t *testing.T) {
	require.Equal(t, []float64{0.03, 0.06, 0.06}, rounded(holm([]float64{0.01, 0.04, 0.03})))
	require.Equal(t, []float64{1, 1}, holm([]float64{0.9, 0.8}))
	require.Empty(t, holm(nil))
}

func rounded(v []float64) []float64 {
	for i := range v {
		v[i] = math.Round(v[i]*1e9) / 1e9
	}
	return v
}

func TestMannWhitney(t *testing.T) {
	require.Equal(t, 1.0, mannWhitney([]float64{5, 5, 5}, []float64{5, 5, 5}))
	require.InDelta(t, 2.0/252, mannWhitney([]float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}), 1e-9)
}

func TestWelch(t *testing.T) {
	// Variance 1 of both and means 3 apart: t = 3/sqrt(2/3) with 4 degrees.
	require.InDelta(t, 0.0213, student([]float64{1, 2, 3}, []float64{4, 5, 6}), 1e-4)
	require.Equal(t, 1.0, student([]float64{1}, []float64{2, 3}))
	require.Equal(t, 1.0, student([]float64{1, 1}, []float64{1, 1}))
	require.Equal(t, 0.0, student([]float64{1, 1}, []float64{2, 2}))
	require.Equal(t, 1.0, welch([]float64{1}, []float64{2, 3}))
	require.Equal(t, 1.0, welch([]float64{1, 1}, []float64{1, 1}))
	require.Equal(t, 0.0, welch([]float64{1, 1}, []float64{2, 2}))
	require.InDelta(t, 0.0213, welch([]float64{1, 2, 3, 4}, []float64{4, 5, 6, 7}), 0.01)
}
