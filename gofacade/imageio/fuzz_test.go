package imageio

import (
	"bytes"
	"image"
	"image/color"
	"path/filepath"
	"testing"
)

// FuzzDecode decodes anything under small limits; what decodes must also pass
// the transform.
func FuzzDecode(f *testing.F) {
	img := noise(1, 9, 7)
	grey := image.NewGray(img.Rect)
	copy(grey.Pix, lcg(2, len(grey.Pix)))
	for _, m := range []image.Image{img, grey, image.NewPaletted(img.Rect, greys()), image.NewNRGBA64(img.Rect)} {
		f.Add(encodePNG(f, m))
	}
	f.Add(encodeJPEG(f, img))
	f.Add(encodeJPEG(f, grey))
	f.Add(pngOfSize(1<<20, 1<<20))
	f.Add([]byte("GIF89a"))
	cfg := &Config{MaxPixels: 1 << 16, MaxBytes: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := Decode("fuzz", bytes.NewReader(data), cfg)
		if err != nil {
			if img != nil {
				t.Error("both an image and an error")
			}
			return
		}
		b := img.Bounds()
		if b.Empty() || b.Dx()*b.Dy() > 1<<16 {
			t.Fatalf("bounds %v", b)
		}
		if _, err := imageNet().CropRGB(img, 8); err != nil {
			t.Errorf("%T of %v decoded, but: %v", img, b, err)
		}
	})
}

func greys() color.Palette {
	p := make(color.Palette, 16)
	for i := range p {
		p[i] = color.Gray{uint8(i * 17)}
	}
	return p
}

// FuzzIDX opens anything as a set of four files; what opens must be complete.
func FuzzIDX(f *testing.F) {
	images := idxBytes(idxImages, []uint32{2, 2, 3}, make([]byte, 12))
	labels := idxBytes(idxLabels, []uint32{2}, []byte{0, 1})
	f.Add(images, labels, []byte(nil), false)
	f.Add(images, labels, []byte("a\nb\n"), false)
	f.Add(gz(f, images), gz(f, labels), []byte(nil), true)
	f.Add(gz(f, append(images, make([]byte, 1<<16)...)), gz(f, labels), []byte(nil), true)
	f.Add(idxBytes(idxImages, []uint32{1 << 30, 1 << 30, 1 << 30}, nil), labels, []byte(nil), false)
	f.Add(gz(f, idxBytes(idxImages, []uint32{1 << 10, 1 << 10, 1 << 10}, nil)), gz(f, labels), []byte(nil), true)
	f.Fuzz(func(t *testing.T, images, labels, classes []byte, zipped bool) {
		dir, suffix := t.TempDir(), ""
		if zipped {
			suffix = ".gz"
		}
		writeFile(t, filepath.Join(dir, "t10k-images-idx3-ubyte"+suffix), images)
		writeFile(t, filepath.Join(dir, "t10k-labels-idx1-ubyte"+suffix), labels)
		if classes != nil {
			writeFile(t, filepath.Join(dir, "classes.txt"), classes)
		}
		ds, err := OpenIDX(dir, "test")
		if err != nil {
			return
		}
		total := 0
		for i := range ds.Len() {
			s, err := ds.At(i)
			if err != nil {
				t.Fatal(err)
			}
			if s.Label < 0 || s.Label >= len(ds.Classes()) {
				t.Fatalf("label %d of %d", s.Label, len(ds.Classes()))
			}
			total += s.Image.Bounds().Dx() * s.Image.Bounds().Dy()
		}
		if total == 0 || total > maxDeflate*len(images) {
			t.Fatalf("%d pixels from %d bytes", total, len(images))
		}
		first, err := ds.At(0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := imageNet().CropRGB(first.Image, 4); err != nil {
			t.Fatal(err)
		}
	})
}
