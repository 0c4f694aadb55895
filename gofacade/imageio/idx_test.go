package imageio

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// idxBytes returns an IDX file with the given header and body.
func idxBytes(magic uint32, dims []uint32, body []byte) []byte {
	out := binary.BigEndian.AppendUint32(nil, magic)
	for _, d := range dims {
		out = binary.BigEndian.AppendUint32(out, d)
	}
	return append(out, body...)
}

func gz(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestIDXRoundTrip(t *testing.T) {
	src := testSet(7, 5, 4)
	for i := range src.samples { // a part of a larger image, too
		if i%2 == 1 {
			big := image.NewGray(image.Rect(-3, -3, 9, 9))
			copy(big.Pix, lcg(uint32(i), len(big.Pix)))
			src.samples[i].Image = big.SubImage(image.Rect(1, 2, 6, 6))
		}
	}
	dir := filepath.Join(t.TempDir(), "new", "set")
	if err := WriteIDX(dir, "test", src); err != nil {
		t.Fatal(err)
	}
	check := func(split string) {
		t.Helper()
		ds, err := OpenIDX(dir, split)
		if err != nil {
			t.Fatal(err)
		}
		if ds.Len() != 7 || !slices.Equal(ds.Classes(), src.classes) {
			t.Fatalf("%d samples, classes %q", ds.Len(), ds.Classes())
		}
		for i, want := range src.samples {
			got, err := ds.At(i)
			if err != nil {
				t.Fatal(err)
			}
			if got.Label != want.Label || !bytes.Equal(allRGB(t, got.Image), allRGB(t, want.Image)) {
				t.Errorf("sample %d differs", i)
			}
		}
		for _, i := range []int{-1, 7} {
			if _, err := ds.At(i); !errors.Is(err, ErrArgument) {
				t.Errorf("At(%d): %v, want %v", i, err, ErrArgument)
			}
		}
	}
	check("test")

	before := readDir(t, dir)
	if err := WriteIDX(dir, "test", src); err != nil {
		t.Fatal(err)
	}
	after := readDir(t, dir)
	if len(after) != 3 {
		t.Errorf("files %v, want 3", len(after))
	}
	for name, data := range before {
		if !bytes.Equal(data, after[name]) {
			t.Errorf("%s: the same set gave other bytes", name)
		}
	}

	// The same, uncompressed.
	for name, data := range after {
		if plain, ok := strings.CutSuffix(name, ".gz"); ok {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if _, err := b.ReadFrom(z); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, plain), b.Bytes())
			writeFile(t, filepath.Join(dir, name), []byte("must not be read"))
		}
	}
	check("")
	check("val")
	if err := WriteIDX(dir, "test", src); !errors.Is(err, fs.ErrExist) {
		t.Errorf("writing beside uncompressed files: %v, want %v", err, fs.ErrExist)
	}
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestIDXErrors(t *testing.T) {
	images := idxBytes(idxImages, []uint32{2, 2, 3}, make([]byte, 12))
	labels := idxBytes(idxLabels, []uint32{2}, []byte{0, 1})
	bomb := gz(t, append(slices.Clone(images), make([]byte, 1<<20)...))
	damaged := gz(t, images)
	damaged[len(damaged)-6] ^= 1 // the checksum
	const img, lab = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
	for _, c := range []struct {
		name  string
		files map[string][]byte
		want  error
		text  string
	}{
		{"nothing", nil, fs.ErrNotExist, "no " + img + " and no " + img + ".gz in "},
		{"no labels", map[string][]byte{img: images}, fs.ErrNotExist, lab},
		{"short header", map[string][]byte{img: images[:10], lab: labels}, ErrFormat, "ends after 10 bytes, want 16"},
		{"wrong magic", map[string][]byte{img: labels, lab: labels}, ErrFormat, "ends after 10 bytes"},
		{"swapped", map[string][]byte{img: images, lab: images}, ErrFormat, "0x00000803, want 0x00000801"},
		{"short plain", map[string][]byte{img: images[:27], lab: labels}, ErrFormat, "file has 27 bytes, but dimensions [2 2 3] need 28"},
		{"long plain", map[string][]byte{img: append(slices.Clone(images), 0), lab: labels}, ErrFormat, "file has 29 bytes"},
		{"short gz", map[string][]byte{img + ".gz": gz(t, images[:27]), lab: labels}, ErrFormat, "ends after 11 bytes, want 12"},
		{"long gz", map[string][]byte{img + ".gz": bomb, lab: labels}, ErrFormat, "goes on after the 12 bytes"},
		{"damaged gz", map[string][]byte{img + ".gz": damaged, lab: labels}, ErrFormat, "checksum"},
		{"cut gz", map[string][]byte{img + ".gz": gz(t, images)[:20], lab: labels}, ErrFormat, img + ".gz"},
		{"not gz", map[string][]byte{img + ".gz": images, lab: labels}, ErrFormat, "not gzip data"},
		{"gz promises much", map[string][]byte{
			img + ".gz": gz(t, idxBytes(idxImages, []uint32{1 << 10, 1 << 10, 1 << 10}, nil)), lab: labels,
		}, ErrFormat, "compressed bytes cannot hold"},
		{"huge", map[string][]byte{img: idxBytes(idxImages, []uint32{1 << 31, 1 << 31, 1 << 31}, nil), lab: labels}, ErrLimit, "more than 1073741824 bytes"},
		{"counts", map[string][]byte{img: images, lab: idxBytes(idxLabels, []uint32{3}, make([]byte, 3))}, ErrFormat, "has 2 images, but "},
		{"no images", map[string][]byte{img: idxBytes(idxImages, []uint32{0, 2, 3}, nil), lab: idxBytes(idxLabels, []uint32{0}, nil)}, ErrFormat, "0 images of 3 x 2"},
		{"no pixels", map[string][]byte{img: idxBytes(idxImages, []uint32{2, 0, 3}, nil), lab: labels}, ErrFormat, "2 images of 3 x 0"},
		{"no pixels, huge", map[string][]byte{img: idxBytes(idxImages, []uint32{2, 0, 1<<32 - 1}, nil), lab: labels}, ErrFormat, "2 images of 4294967295 x 0"},
		{"few classes", map[string][]byte{img: images, lab: labels, "classes.txt": []byte("one\n")}, ErrFormat, "label 1 is 1, but classes.txt has 1"},
		{"empty class", map[string][]byte{img: images, lab: labels, "classes.txt": []byte("one\n\ntwo\n")}, ErrFormat, "line 2 is empty"},
		{"no classes", map[string][]byte{img: images, lab: labels, "classes.txt": nil}, ErrFormat, "0 classes"},
		{"binary classes", map[string][]byte{img: images, lab: labels, "classes.txt": {0xff}}, ErrFormat, "not UTF-8"},
		{"long classes", map[string][]byte{img: images, lab: labels, "classes.txt": bytes.Repeat([]byte("a"), 1<<17)}, ErrLimit, "131072 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range c.files {
				writeFile(t, filepath.Join(dir, name), data)
			}
			_, err := OpenIDX(dir, "test")
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v, want %v saying %q and the path", err, c.want, c.text)
			}
		})
	}
	if _, err := OpenIDX(t.TempDir(), "dev"); !errors.Is(err, ErrArgument) {
		t.Errorf("unknown split: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, img), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIDX(dir, "test"); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "a directory") {
		t.Errorf("directory: %v", err)
	}
}

func TestIDXClassNames(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "train-images-idx3-ubyte"), idxBytes(idxImages, []uint32{2, 1, 1}, []byte{1, 2}))
	writeFile(t, filepath.Join(dir, "train-labels-idx1-ubyte"), idxBytes(idxLabels, []uint32{2}, []byte{3, 1}))
	ds, err := OpenIDX(dir, "train")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", "1", "2", "3"}; !slices.Equal(ds.Classes(), want) {
		t.Errorf("classes %q, want %q", ds.Classes(), want)
	}
	writeFile(t, filepath.Join(dir, "classes.txt"), []byte("a\r\n b c \nd\ne"))
	if ds, err = OpenIDX(dir, "train"); err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "b c", "d", "e"}; !slices.Equal(ds.Classes(), want) {
		t.Errorf("classes %q, want %q", ds.Classes(), want)
	}
}

func TestWriteIDXErrors(t *testing.T) {
	with := func(f func(*memory)) *memory { m := testSet(3, 2, 2); f(m); return m }
	for _, c := range []struct {
		name string
		ds   Dataset
		text string
	}{
		{"empty", &memory{classes: []string{"a"}}, "0 samples"},
		{"colour", with(func(m *memory) { m.samples[1].Image = image.NewRGBA(image.Rect(0, 0, 2, 2)) }), "sample 1 (sample 1) is *image.RGBA"},
		{"no pixels", with(func(m *memory) { m.samples[0].Image = image.NewGray(image.Rectangle{}) }), "empty"},
		{"size", with(func(m *memory) { m.samples[2].Image = image.NewGray(image.Rect(0, 0, 2, 3)) }), "(2,3)"},
		{"label", with(func(m *memory) { m.samples[2].Label = 3 }), "label 3, want 0 to 2"},
		{"negative label", with(func(m *memory) { m.samples[2].Label = -1 }), "label -1"},
		{"class name", with(func(m *memory) { m.classes[0] = "a\nb" }), `"a\nb"`},
		{"short buffer", with(func(m *memory) {
			m.samples[1].Image = &image.Gray{Pix: make([]byte, 3), Stride: 2, Rect: image.Rect(0, 0, 2, 2)}
		}), "too short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := WriteIDX(dir, "test", testSet(2, 2, 2)); err != nil {
				t.Fatal(err)
			}
			before := readDir(t, dir)
			err := WriteIDX(dir, "test", c.ds)
			if !errors.Is(err, ErrArgument) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want %v saying %q", err, ErrArgument, c.text)
			}
			after := readDir(t, dir)
			if len(after) != len(before) {
				t.Errorf("%d files afterwards, want %d", len(after), len(before))
			}
			for name, data := range before {
				if !bytes.Equal(data, after[name]) {
					t.Errorf("%s changed", name)
				}
			}
		})
	}
	if err := WriteIDX(t.TempDir(), "dev", testSet(1, 1, 1)); !errors.Is(err, ErrArgument) {
		t.Errorf("unknown split: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	if err := WriteIDX(file, "test", testSet(1, 1, 1)); err == nil {
		t.Error("a file was taken for a directory")
	}
}

// TestFashionMNIST reads the set of Debian's package dataset-fashion-mnist.
func TestFashionMNIST(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: 70,000 images")
	}
	const dir = "/usr/share/datasets/fashion-mnist"
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED: Debian package dataset-fashion-mnist is not installed (%v); no real IDX set was read", err)
	}
	for split, n := range map[string]int{"train": 60000, "test": 10000} {
		ds, err := Open(dir, split)
		if err != nil {
			t.Fatal(err)
		}
		counts := make([]int, len(ds.Classes()))
		for i := range ds.Len() {
			s, err := ds.At(i)
			if err != nil {
				t.Fatal(err)
			}
			counts[s.Label]++
		}
		if ds.Len() != n || len(counts) != 10 || slices.Min(counts) != n/10 || slices.Max(counts) != n/10 {
			t.Errorf("%s: %d samples, by label %v, want %d of each of ten", split, ds.Len(), counts, n/10)
		}
	}
}
