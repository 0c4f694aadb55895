package imageio

import (
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"testing"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// imageNet is the transform that ImageNet classifiers are trained for.
func imageNet() Transform { return Transform(ofa.ImageNet()) }

// referenceFile returns the path of a file of the reference data, which lies
// beside the repository and is not part of it. Without it the test is skipped.
func referenceFile(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		path := filepath.Join(dir, "shared", "reference", filepath.FromSlash(name))
		if _, err := os.Stat(path); err == nil {
			return path
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skipf("SKIPPED: reference data is absent: no shared/reference/%s in any directory above; "+
				"golden preprocessing cases were NOT checked", name)
		}
		dir = up
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// lcg returns n bytes of the generator in testdata/pillow.py.
func lcg(seed uint32, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		seed = seed*1664525 + 1013904223
		out[i] = byte(seed >> 24)
	}
	return out
}

// noise returns an opaque image made of lcg bytes as R, G, B.
func noise(seed uint32, w, h int) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	rgb := lcg(seed, w*h*3)
	for i := range w * h {
		copy(img.Pix[i*4:], rgb[i*3:i*3+3])
		img.Pix[i*4+3] = 255
	}
	return img
}

// allRGB converts a whole image.
func allRGB(t testing.TB, img image.Image) []byte {
	t.Helper()
	if err := checkImage(img); err != nil {
		t.Fatal(err)
	}
	w, h := img.Bounds().Dx(), img.Bounds().Dy()
	out := make([]byte, w*h*3)
	var cv converter
	cv.reset(img)
	for y := range h {
		cv.row(out[y*w*3:], img, y, 0, w)
	}
	return out
}

// difference returns the largest and the mean absolute difference and the share
// of bytes that differ.
func difference(a, b []byte) (worst int, mean, share float64) {
	for i := range a {
		d := int(a[i]) - int(b[i])
		d = max(d, -d)
		worst = max(worst, d)
		mean += float64(d)
		if d != 0 {
			share++
		}
	}
	return worst, mean / float64(len(a)), share / float64(len(a))
}
