package harness

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
)

// The numbers of MLPerf's rules: one query may be over in 64 for p90, 662 for p99 and 6636 for p99.9.
func TestMinQueriesAreLoadGens(t *testing.T) {
	require.Equal(t, 64, MinQueries(1, 0.90))
	require.Equal(t, 662, MinQueries(1, 0.99))
	require.Equal(t, 6636, MinQueries(1, 0.999))
	require.Equal(t, 44, MinQueries(0, 0.90)) // ceil(log 0.01 / log 0.9)
	require.Equal(t, 459, MinQueries(0, 0.99))
}

func TestMinQueriesIsTheSmallest(t *testing.T) {
	for _, p := range []float64{0.5, 0.9, 0.97, 0.99} {
		for over := range 30 {
			n := MinQueries(over, p)
			chance := func(n int) float64 { return distuv.Binomial{N: float64(n), P: 1 - p}.CDF(float64(over)) }
			require.LessOrEqual(t, chance(n), 0.01)
			require.Greater(t, chance(n-1), 0.01)
		}
	}
}

func TestPercentileIsAnOrderStatistic(t *testing.T) {
	values := func(n int) []int64 {
		v := make([]int64, n)
		for i, k := range rand.New(rand.NewPCG(1, 1)).Perm(n) {
			v[i] = int64(k + 1)
		}
		return v
	}
	_, holds := Percentile(values(63), 0.9)
	require.False(t, holds)
	for n, want := range map[int]int64{64: 64, MinQueries(2, 0.9) - 1: int64(MinQueries(2, 0.9) - 1), MinQueries(2, 0.9): int64(MinQueries(2, 0.9) - 1)} {
		got, holds := Percentile(values(n), 0.9)
		require.True(t, holds)
		require.Equal(t, want, got, "%d values", n)
	}
}

// The bound has to hold in 99 of 100 runs, whatever the distribution.
func TestPercentileHolds(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a statistic of many runs, in one goroutine")
	}
	rng := rand.New(rand.NewPCG(7, 7))
	const runs, n, truth = 2000, 700, 990_000
	below := 0
	for range runs {
		v := make([]int64, n)
		for i := range v {
			v[i] = 1 + rng.Int64N(1_000_000)
		}
		if got, _ := Percentile(v, 0.99); got < truth {
			below++
		}
	}
	require.LessOrEqual(t, below, runs/100+15)
}
