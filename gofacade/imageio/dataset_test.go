package imageio

import (
	"errors"
	"fmt"
	"image"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// listing returns "label name" of each sample's file, relative to dir.
func listing(t *testing.T, ds Dataset, dir string) []string {
	t.Helper()
	f, ok := ds.(*imageFolder)
	if !ok {
		t.Fatalf("%T, want an image folder", ds)
	}
	var out []string
	for _, file := range f.files {
		rel, err := filepath.Rel(dir, file.path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(file.label, " ", filepath.ToSlash(rel)))
	}
	return out
}

// TestImageFolderOrder expects what torchvision's make_dataset gives: class
// folders sorted, within one the directories by whole path, then file names.
func TestImageFolderOrder(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{
		"zebra/a.png", "ant/b.JPEG", "ant/a.jpg", "ant/B.Png", "ant/notes.txt", "ant/x/1.png", "ant/x/0.bmp",
		"ant/x-y/2.png", "ant/x/y/3.png", "ant/10.webp", "ant/9.tif", "Bee/.png", "Bee/png", "Bee/a.png.bak", "README.png",
	} {
		writeFile(t, filepath.Join(dir, name), []byte("x"))
	}
	ds, err := OpenImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ds.Classes(), []string{"Bee", "ant", "zebra"}; !slices.Equal(got, want) {
		t.Errorf("classes %v, want %v", got, want)
	}
	want := []string{
		"0 Bee/.png",
		"1 ant/10.webp", "1 ant/9.tif", "1 ant/B.Png", "1 ant/a.jpg", "1 ant/b.JPEG",
		"1 ant/x/0.bmp", "1 ant/x/1.png", "1 ant/x-y/2.png", "1 ant/x/y/3.png",
		"2 zebra/a.png",
	}
	if got := listing(t, ds, dir); !slices.Equal(got, want) {
		t.Errorf("files\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if _, err := ds.At(1); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "10.webp") {
		t.Errorf("At of a damaged file: %v, want a format error that names it", err)
	}
}

func smallFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"cat/a.png", "cat/b.png", "dog/c.png"} {
		writeFile(t, filepath.Join(dir, name), encodePNG(t, noise(uint32(i), 6+i, 5)))
	}
	return dir
}

func TestImageFolderAt(t *testing.T) {
	ds, err := OpenImageFolder(smallFolder(t))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			s, err := ds.At(i % 3)
			if err != nil {
				t.Error(err)
				return
			}
			if s.Image.Bounds().Dx() != 6+i%3 || s.Label != []int{0, 0, 1}[i%3] || !strings.HasSuffix(s.Name, ".png") {
				t.Errorf("sample %d: %v, label %d, name %s", i%3, s.Image.Bounds(), s.Label, s.Name)
			}
		})
	}
	wg.Wait()
	for _, i := range []int{-1, 3} {
		if _, err := ds.At(i); !errors.Is(err, ErrArgument) {
			t.Errorf("At(%d): %v, want %v", i, err, ErrArgument)
		}
	}
}

func TestImageFolderLinks(t *testing.T) {
	dir, other := t.TempDir(), smallFolder(t)
	writeFile(t, filepath.Join(dir, "bird/z.png"), encodePNG(t, noise(9, 3, 3)))
	for link, to := range map[string]string{
		"cat":          filepath.Join(other, "cat"),           // a class
		"bird/more":    filepath.Join(other, "dog"),           // a sub-folder
		"bird/a.png":   filepath.Join(other, "cat", "a.png"),  // a file
		"bird/no.png":  filepath.Join(other, "nowhere.png"),   // nothing
		"dangling":     filepath.Join(other, "nowhere"),       // nothing, no class
		"afile":        filepath.Join(other, "dog", "c.png"),  // a file, no class
		"bird/no-such": filepath.Join(other, "nowhere", "at"), // nothing, no image
	} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Skipf("SKIPPED: no symbolic links here: %v", err)
		}
	}
	ds, err := OpenImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"0 bird/a.png", "0 bird/no.png", "0 bird/z.png", "0 bird/more/c.png", "1 cat/a.png", "1 cat/b.png"}
	if got := listing(t, ds, dir); !slices.Equal(got, want) {
		t.Errorf("files %v, want %v", got, want)
	}
	if _, err := ds.At(0); err != nil {
		t.Error(err)
	}
	if _, err := ds.At(1); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no.png") {
		t.Errorf("dangling link: %v", err)
	}
	if err := os.Symlink("..", filepath.Join(dir, "cat2")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(".", filepath.Join(dir, "bird", "again")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenImageFolder(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "again") {
		t.Errorf("links in a circle: %v", err)
	}
}

func TestImageFolderUnreadable(t *testing.T) {
	dir := smallFolder(t)
	file, class := filepath.Join(dir, "cat", "a.png"), filepath.Join(dir, "dog")
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := os.ReadFile(file); err == nil {
		t.Skip("SKIPPED: this user reads files whatever their mode; unreadable files were NOT checked")
	}
	ds, err := OpenImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ds.At(0); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), file) {
		t.Errorf("unreadable file: %v", err)
	}
	if err := os.Chmod(class, 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(class, 0o755) //nolint:errcheck // so that the directory can be removed
	if _, err := OpenImageFolder(dir); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), class) {
		t.Errorf("unreadable class: %v", err)
	}
}

func TestImageFolderErrors(t *testing.T) {
	empty := t.TempDir()
	if _, err := OpenImageFolder(empty); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), empty) {
		t.Errorf("no classes: %v", err)
	}
	if _, err := OpenImageFolder(filepath.Join(empty, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	dir := smallFolder(t)
	writeFile(t, filepath.Join(dir, "eel", "note.txt"), nil)
	if _, err := OpenImageFolder(dir); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "eel") {
		t.Errorf("class without images: %v", err)
	}
}

func TestOpen(t *testing.T) {
	img := encodePNG(t, noise(1, 4, 4))
	idx := func(t *testing.T, dir, split string, n int) {
		if err := WriteIDX(dir, split, testSet(n, 3, 3)); err != nil {
			t.Fatal(err)
		}
	}
	folder := func(t *testing.T, dir string, classes ...string) {
		for _, c := range classes {
			writeFile(t, filepath.Join(dir, c, "1.png"), img)
		}
	}
	for _, c := range []struct {
		name, split string
		fill        func(t *testing.T, dir string)
		n           int // 0: an error
		want        error
	}{
		{"idx test", "test", func(t *testing.T, d string) { idx(t, d, "test", 3); idx(t, d, "train", 4) }, 3, nil},
		{"idx train", "train", func(t *testing.T, d string) { idx(t, d, "test", 3); idx(t, d, "train", 4) }, 4, nil},
		{"idx default", "", func(t *testing.T, d string) { idx(t, d, "test", 3) }, 3, nil},
		{"idx other split only", "train", func(t *testing.T, d string) { idx(t, d, "test", 3) }, 0, ErrFormat},
		{"idx before folders", "test", func(t *testing.T, d string) { idx(t, d, "test", 3); folder(t, d, "a") }, 3, nil},
		{"split folder", "test", func(t *testing.T, d string) { folder(t, d+"/test", "a", "b"); folder(t, d+"/train", "a") }, 2, nil},
		{"val for test", "test", func(t *testing.T, d string) { folder(t, d+"/val", "a", "b"); folder(t, d+"/train", "a") }, 2, nil},
		{"test beats val", "test", func(t *testing.T, d string) { folder(t, d+"/val", "a", "b"); folder(t, d+"/test", "a") }, 1, nil},
		{"idx in split folder", "val", func(t *testing.T, d string) { idx(t, d+"/val", "val", 5) }, 5, nil},
		{"class folders", "test", func(t *testing.T, d string) { folder(t, d, "a", "b", "c") }, 3, nil},
		{"only another split", "test", func(t *testing.T, d string) { folder(t, d+"/train", "a", "b", "c") }, 0, ErrFormat},
		{"empty", "test", func(*testing.T, string) {}, 0, ErrFormat},
		{"unknown split", "dev", func(t *testing.T, d string) { folder(t, d, "a") }, 0, ErrArgument},
		{"split with path", "../test", func(t *testing.T, d string) { folder(t, d, "a") }, 0, ErrArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.fill(t, dir)
			ds, err := Open(dir, c.split)
			if c.n == 0 {
				if !errors.Is(err, c.want) {
					t.Fatalf("error %v, want %v", err, c.want)
				}
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if ds.Len() != c.n {
				t.Errorf("%d samples, want %d", ds.Len(), c.n)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none"), "test"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
}

// memory is a data set for tests.
type memory struct {
	samples []Sample
	classes []string
}

func (m *memory) Len() int                 { return len(m.samples) }
func (m *memory) Classes() []string        { return m.classes }
func (m *memory) At(i int) (Sample, error) { return m.samples[i], nil }

// testSet has n grey images with labels 0, 1, 2, 0, ...
func testSet(n, w, h int) *memory {
	m := &memory{classes: []string{"T-shirt/top", "Größe", "2"}}
	for i := range n {
		img := image.NewGray(image.Rect(0, 0, w, h))
		copy(img.Pix, lcg(uint32(i), w*h))
		m.samples = append(m.samples, Sample{img, i % 3, fmt.Sprint("sample ", i)})
	}
	return m
}

func TestParts(t *testing.T) {
	ds := testSet(10, 2, 2)
	r, err := Range(ds, 3, 7)
	if err != nil {
		t.Fatal(err)
	}
	rr, err := Range(r, 1, 4) // a part of a part
	if err != nil {
		t.Fatal(err)
	}
	s, err := Subset(ds, []int{9, 0, 9})
	if err != nil {
		t.Fatal(err)
	}
	none, err := Range(ds, 10, 10)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		ds   Dataset
		want []int
	}{{"range", r, []int{3, 4, 5, 6}}, {"range of range", rr, []int{4, 5, 6}}, {"subset", s, []int{9, 0, 9}}, {"none", none, nil}} {
		if c.ds.Len() != len(c.want) || !slices.Equal(c.ds.Classes(), ds.classes) {
			t.Errorf("%s: %d samples, classes %v", c.name, c.ds.Len(), c.ds.Classes())
		}
		for i, w := range c.want {
			if got, err := c.ds.At(i); err != nil || got.Name != fmt.Sprint("sample ", w) {
				t.Errorf("%s: At(%d) is %s, %v, want sample %d", c.name, i, got.Name, err, w)
			}
		}
		for _, i := range []int{-1, len(c.want)} {
			if _, err := c.ds.At(i); !errors.Is(err, ErrArgument) {
				t.Errorf("%s: At(%d): %v, want %v", c.name, i, err, ErrArgument)
			}
		}
	}
	for _, c := range [][2]int{{-1, 3}, {4, 3}, {0, 11}} {
		if _, err := Range(ds, c[0], c[1]); !errors.Is(err, ErrArgument) {
			t.Errorf("Range %v: %v, want %v", c, err, ErrArgument)
		}
	}
	for _, i := range []int{-1, 10} {
		if _, err := Subset(ds, []int{0, i}); !errors.Is(err, ErrArgument) {
			t.Errorf("Subset %d: %v, want %v", i, err, ErrArgument)
		}
	}
}

func TestIdentity(t *testing.T) {
	identity := func(ds Dataset, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		id, err := Identity(ds)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	folder := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			writeFile(t, filepath.Join(dir, name), []byte(text))
		}
		return identity(OpenImageFolder(dir))
	}
	first := folder(map[string]string{"a/1.png": "x", "b/2.png": "yy"})
	if again := folder(map[string]string{"a/1.png": "x", "b/2.png": "yy"}); again != first || len(first) != 64 {
		t.Errorf("the same files elsewhere have %s, want %s", again, first)
	}
	for _, other := range []map[string]string{
		{"a/1.png": "x", "b/3.png": "yy"},
		{"a/1.png": "x", "c/2.png": "yy"},
		{"a/1.png": "x", "b/2.png": "yyy"},
		{"a/1.png": "x", "a/2.png": "yy", "b/2.png": "yy"},
	} {
		if folder(other) == first {
			t.Errorf("%v has the identity of other files", other)
		}
	}

	set := func(pixel uint8, label int) string {
		dir := t.TempDir()
		image := image.NewGray(image.Rect(0, 0, 2, 2))
		image.Pix[3] = pixel
		if err := WriteIDX(dir, "test", one{Sample{Image: image, Label: label}}); err != nil {
			t.Fatal(err)
		}
		return identity(OpenIDX(dir, "test"))
	}
	if again := set(1, 1); again != set(1, 1) {
		t.Error("the same IDX set has two identities")
	}
	if set(1, 1) == set(2, 1) || set(1, 1) == set(1, 0) {
		t.Error("another pixel or label leaves the identity")
	}
	if _, err := Identity(one{}); !errors.Is(err, ErrArgument) {
		t.Errorf("identity of a foreign data set: %v, want %v", err, ErrArgument)
	}
}

// one is a data set of one sample and two classes.
type one struct{ sample Sample }

func (o one) Len() int               { return 1 }
func (o one) Classes() []string      { return []string{"a", "b"} }
func (o one) At(int) (Sample, error) { return o.sample, nil }

func TestMixed(t *testing.T) {
	dir := t.TempDir()
	for label := range 4 {
		for i := range 50 {
			writeFile(t, filepath.Join(dir, fmt.Sprint(label), fmt.Sprint(i, ".png")), []byte("x"))
		}
	}
	ds, err := OpenImageFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	mixed, again := Mixed(ds), Mixed(ds)
	seen, front := map[string]bool{}, map[string]int{}
	for i := range mixed.Len() {
		_, err := mixed.At(i) // which is no picture, but says which file it is
		_, other := again.At(i)
		if err == nil || err.Error() != other.Error() {
			t.Fatalf("sample %d is %v and then %v", i, err, other)
		}
		seen[err.Error()] = true
		for label := range 4 {
			if i < 40 && strings.Contains(err.Error(), filepath.Join(dir, fmt.Sprint(label))+string(filepath.Separator)) {
				front[fmt.Sprint(label)]++
			}
		}
	}
	if len(seen) != 200 || len(front) != 4 {
		t.Errorf("%d of 200 images, classes of the first 40: %v", len(seen), front)
	}
	for label, n := range front {
		if n < 3 {
			t.Errorf("class %s is %d times among the first 40", label, n)
		}
	}
	idx := one{}
	if Mixed(idx) != Dataset(idx) {
		t.Error("another data set is not as it was")
	}
}
