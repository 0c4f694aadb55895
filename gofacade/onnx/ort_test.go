package onnx

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/internal/reference"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// ONNX Runtime computes in float32. Rounding makes up to 2e-6 of the largest logit on these networks, another
// processor's order of summation may make some more; a wrong weight, padding or operator makes far more.
const tolerance = 2e-5

// python finds an interpreter with ONNX Runtime, or skips the test: DYNOFA_PYTHON, the repository's own
// environment, python3.
func python(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("DYNOFA_PYTHON"); path != "" {
		out, err := exec.Command(path, "-c", "import onnxruntime").CombinedOutput()
		require.NoError(t, err, "DYNOFA_PYTHON=%s: %s", path, out)
		return path
	}
	for _, path := range []string{filepath.Join("..", "..", ".venv", "bin", "python"), "python3"} {
		if exec.Command(path, "-c", "import onnxruntime").Run() == nil {
			return path
		}
	}
	t.Skip("SKIPPED: no Python with onnxruntime; set DYNOFA_PYTHON or run make deps")
	return ""
}

// trial is one exported sub-network with its images.
type trial struct {
	name   string
	want   [][]float64 // logits of each image
	images [][]float32 // [r][r][3]
}

func TestONNXRuntimeAgreesWithReference(t *testing.T) {
	python := python(t)
	dir := t.TempDir()
	rng := rand.New(rand.NewPCG(11, 0))
	var trials []trial
	for _, form := range forms() {
		s := form.space
		c := bundletest.Random(s, rng.Uint64())
		subnets := []ofa.Subnet{s.Smallest(), s.Largest(), s.Sample(rng), s.Sample(rng), s.Sample(rng)}
		if testing.Short() {
			subnets = subnets[:1]
		}
		for i, n := range subnets {
			n.Resolution = form.sides[i%len(form.sides)]
			tr := trial{name: fmt.Sprintf("%s-%d", form.name, i)}
			norms := bundle.FoldNorms(s, n, c.Tensor)
			for range 1 + i%3 { // batches of 1, 2 and 3
				image := make([]float32, n.Resolution*n.Resolution*3)
				for j := range image {
					image[j] = float32(rng.NormFloat64())
				}
				tr.images = append(tr.images, image)
				tr.want = append(tr.want, reference.Forward(s, n, c.Tensor, norms, image))
			}
			save(t, filepath.Join(dir, tr.name+".onnx"), write(t, c, n, nil))
			save(t, filepath.Join(dir, tr.name+".in"), planar(tr.images, n.Resolution))
			trials = append(trials, tr)
		}
	}

	out, err := exec.Command(python, filepath.Join("testdata", "ort_run.py"), dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s: %s", python, out)

	worst := 0.0
	for _, tr := range trials {
		data, err := os.ReadFile(filepath.Join(dir, tr.name+".out"))
		require.NoError(t, err)
		classes := len(tr.want[0])
		require.Len(t, data, 4*classes*len(tr.want))
		for b, want := range tr.want {
			var diff, scale float64
			for i, w := range want {
				bits := binary.LittleEndian.Uint32(data[4*(b*classes+i):])
				diff = max(diff, math.Abs(float64(math.Float32frombits(bits))-w))
				scale = max(scale, math.Abs(w))
			}
			t.Logf("%s image %d: %.2g of %.3g", tr.name, b, diff/scale, scale)
			require.LessOrEqual(t, diff/scale, tolerance, "%s image %d", tr.name, b)
			worst = max(worst, diff/scale)
		}
	}
	t.Logf("worst relative difference %.2g of %d networks", worst, len(trials))
}

// planar is images [r][r][3] as one batch [n][3][r][r].
func planar(images [][]float32, r int) []byte {
	var out []byte
	for _, image := range images {
		for c := range 3 {
			for p := range r * r {
				out = binary.LittleEndian.AppendUint32(out, math.Float32bits(image[p*3+c]))
			}
		}
	}
	return out
}

func save(t *testing.T, path string, data []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, data, 0o600))
}
