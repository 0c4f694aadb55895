package predictor

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// reference is the path of a file of the reference data beside the repository, or skips the test.
func reference(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

func TestPublishedPredictorEqualsReference(t *testing.T) {
	data, err := os.ReadFile(reference(t, "predictor_cases.json"))
	require.NoError(t, err)
	var file struct{ Cases []json.RawMessage }
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Cases, 200)

	space := ofa.MobileNetV3(1.2, 1000)
	e := Public(space)
	p, err := Load(reference(t, "acc_predictor.pth"), space)
	require.NoError(t, err)
	subnets := make([]ofa.Subnet, len(file.Cases))
	want := make([]float64, len(file.Cases))
	for i, raw := range file.Cases {
		var c struct {
			Acc64 float64
			Hot   []int
		}
		require.NoError(t, json.Unmarshal(raw, &c))
		require.NoError(t, json.Unmarshal(raw, &subnets[i]))
		want[i] = c.Acc64
		require.Equal(t, c.Hot, sorted(t, e, subnets[i]), "case %d", i)
	}
	got := make([]float64, len(subnets))
	require.NoError(t, p.Predict(got, subnets))
	var worst float64
	for i := range got {
		require.InDelta(t, want[i], got[i], 1e-6, "case %d", i)
		worst = max(worst, math.Abs(want[i]-got[i]))
	}
	t.Logf("worst difference of %d cases: %.2g", len(got), worst)
}

func TestLoadReadsBothContainers(t *testing.T) {
	made := map[string]Tensor{}
	for name, shape := range map[string][]int{"0.weight": {2, 128}, "0.bias": {2}, "2.weight": {1, 2}, "2.bias": {1}} {
		data := make([]float32, shape[0]*append(shape, 1)[1])
		for i := range data {
			data[i] = float32(i%7-3) / 64
		}
		made[name] = Tensor{shape, data}
	}
	s := ofa.MobileNetV3(1, 1000)
	e := Public(s)
	want, err := New(e, made)
	require.NoError(t, err)
	for _, name := range []string{"tiny_legacy.pth", "tiny_zip.pth"} {
		got, err := Load(filepath.Join("testdata", name), s)
		require.NoError(t, err)
		require.Equal(t, want.layers, got.layers, name)
	}
	_, err = Load(filepath.Join("testdata", "tiny_zip.pth"), ofa.ProxylessNAS(1, 1000))
	require.ErrorContains(t, err, "tiny_zip.pth: 0.weight has shape [2 128], expected [2 134] (21 slots")
}

func TestLoadNamesTheFile(t *testing.T) {
	s := ofa.MobileNetV3(1, 1000)
	_, err := Load(filepath.Join(t.TempDir(), "absent.pth"), s)
	require.ErrorIs(t, err, os.ErrNotExist)
	garbage := filepath.Join(t.TempDir(), "garbage.pth")
	require.NoError(t, os.WriteFile(garbage, []byte("not a checkpoint"), 0o600))
	_, err = Load(garbage, s)
	require.ErrorContains(t, err, "garbage.pth: ")

	// A supernet is not a predictor.
	_, err = Load(reference(t, "checkpoints/tiny_w0.25_c10.pth"), s)
	require.ErrorContains(t, err, "tiny_w0.25_c10.pth: 475 tensors, expected weight and bias")
}

func BenchmarkPublishedPredictor(b *testing.B) {
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", "acc_predictor.pth")
	s := ofa.MobileNetV3(1.2, 1000)
	p, err := Load(path, s)
	if err != nil {
		b.Skipf("SKIPPED: reference data absent: %v", err)
	}
	n := s.Uniform(5, 4, 3, 192)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Accuracy(n); err != nil {
			b.Fatal(err)
		}
	}
}
