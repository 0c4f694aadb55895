package predictor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSpearmanByHand(t *testing.T) {
	require.InDelta(t, 1, Spearman([]float64{1, 2, 3, 4}, []float64{10, 20, 21, 1000}), 1e-12)
	require.InDelta(t, -1, Spearman([]float64{1, 2, 3}, []float64{3, 2, 1}), 1e-12)
	// 1 - 6 (1 + 1) / (5 (25 - 1))
	require.InDelta(t, 0.9, Spearman([]float64{1, 2, 3, 4, 5}, []float64{1, 2, 3, 5, 4}), 1e-12)
	require.Equal(t, []float64{0.5, 2, 0.5}, ranks([]float64{1, 7, 1}))
}
