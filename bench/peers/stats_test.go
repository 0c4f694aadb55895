package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQuantiles(t *testing.T) {
	for _, tc := range []struct {
		name   string
		values []float64
		q      float64
		want   float64
	}{
		{"one value", []float64{3}, 0.25, 3},
		{"odd", []float64{9, 1, 5}, 0.5, 5},
		{"between two", []float64{4, 1}, 0.5, 2.5},
		{"lower quartile", []float64{5, 1, 2, 4, 3}, 0.25, 2},
		{"between two, a quarter", []float64{40, 10, 20, 30}, 0.25, 17.5},
		{"largest", []float64{1, 7, 3}, 1, 7},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := append([]float64(nil), tc.values...)
			require.InDelta(t, tc.want, quantile(tc.values, tc.q), 1e-12)
			require.Equal(t, before, tc.values, "the values keep their order")
		})
	}
}

func TestGeomean(t *testing.T) {
	require.InDelta(t, 2, geomean([]float64{1, 4}), 1e-12)
	require.InDelta(t, 0.5, geomean([]float64{0.5}), 1e-12)
}

// A round that is slow for both changes nothing, nor does one run of one engine that was disturbed.
func TestPairedRatio(t *testing.T) {
	a := []block{{CPU: []float64{2, 2, 90}}, {CPU: []float64{20, 20, 20}}, {CPU: []float64{2, 2, 2}}}
	b := []block{{CPU: []float64{1, 1, 1}}, {CPU: []float64{10, 10, 10}}, {CPU: []float64{4, 4, 4}}}
	require.InDelta(t, 2, pairedRatio(a, b), 1e-12)
	require.InDelta(t, 0.5, pairedRatio(b, a), 1e-12)
}

func TestWallQuartileSpansRounds(t *testing.T) {
	require.InDelta(t, 2, wallQuartile([]block{{Wall: []float64{5, 3}}, {Wall: []float64{1, 4}}, {Wall: []float64{2}}}), 1e-12)
}

func TestDisagreement(t *testing.T) {
	require.Zero(t, disagreement([]float64{1, -4}, []float64{1, -4}))
	require.InDelta(t, 0.25, disagreement([]float64{2, -4}, []float64{1, -4}), 1e-12)
	require.Greater(t, disagreement([]float64{0, 0}, []float64{0, 1e-3}), tolerance)
}
