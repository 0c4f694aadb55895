package torch

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// form is a tensor of testdata/forms.json, which testdata/make.py wrote beside the checkpoints.
type form struct {
	Shape  []int
	DType  string
	Values []float32
}

func forms(t testing.TB) map[string]form {
	data, err := os.ReadFile(filepath.Join("testdata", "forms.json"))
	require.NoError(t, err)
	var f struct{ Tensors map[string]form }
	require.NoError(t, json.Unmarshal(data, &f))
	return f.Tensors
}

func requireForm(t *testing.T, want form, got *Tensor) {
	t.Helper()
	require.Equal(t, want.DType, got.Type())
	require.Equal(t, want.Shape, got.Shape)
	v, err := got.Float32()
	require.NoError(t, err)
	require.Equal(t, want.Values, v)
}

func TestFormsOfTensors(t *testing.T) {
	want := forms(t)
	for _, name := range []string{"forms.pth", "forms_legacy.pth", "deflated.pth"} {
		t.Run(name, func(t *testing.T) {
			c, err := Open(filepath.Join("testdata", name))
			require.NoError(t, err)
			defer c.Close()
			require.Len(t, c.Tensors, len(want))
			require.Equal(t, "float32", c.Tensors[0].Name)
			for _, tensor := range c.Tensors {
				requireForm(t, want[tensor.Name], tensor)
			}
		})
	}
	c, err := Open(filepath.Join("testdata", "bare.pth"))
	require.NoError(t, err)
	defer c.Close()
	require.Len(t, c.Tensors, 2)
	requireForm(t, want["float16"], c.Tensor("float16"))
}
