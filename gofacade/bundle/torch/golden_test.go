package torch

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference is the path of a file of the reference data beside the repository; without it the test is skipped.
func reference(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

func TestReferenceCheckpoints(t *testing.T) {
	for name, numbers := range map[string]int{
		"checkpoints/tiny_w0.25_c10.pth":                0,
		"checkpoints/tiny_w0.25_c10_legacy.pth":         0,
		"checkpoints/tiny_w0.25_c10_oldkeys.pth":        0,
		"checkpoints/tiny_w0.25_c10_oldkeys_legacy.pth": 0,
		"checkpoints/full_w1.0_c1000.pth":               7720768,
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Open(reference(t, name))
			require.NoError(t, err)
			defer c.Close()
			require.Len(t, c.Tensors, 475)
			sum := 0
			for _, tensor := range c.Tensors {
				v, err := tensor.Float32()
				require.NoError(t, err)
				require.Len(t, v, tensor.Len())
				sum += len(v)
			}
			if numbers != 0 {
				require.Equal(t, numbers, sum)
			}
		})
	}
}

func TestPredictorHasNoStateDict(t *testing.T) {
	c, err := Open(reference(t, "acc_predictor.pth"))
	require.NoError(t, err)
	require.Len(t, c.Tensors, 8)
	require.Equal(t, []int{400, 128}, c.Tensor("0.weight").Shape)
	require.Nil(t, c.Tensor("1.weight"))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
}
