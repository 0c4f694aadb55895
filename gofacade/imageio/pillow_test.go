package imageio

import (
	"bytes"
	"fmt"
	"testing"
)

// pillowFile is testdata/pillow.json, written by testdata/pillow.py.
type pillowFile struct {
	Pillow string `json:"pillow"`
	Crops  []struct {
		W    int     `json:"w"`
		H    int     `json:"h"`
		R    int     `json:"r"`
		Crop float64 `json:"crop"`
		Seed uint32  `json:"seed"`
		SHA  string  `json:"sha256"`
	} `json:"crops"`
	PNG  []pillowImage `json:"png"`
	JPEG []pillowImage `json:"jpeg"`
}

type pillowImage struct {
	Name string `json:"name"`
	W    int    `json:"w"`
	H    int    `json:"h"`
	File []byte `json:"file"`
	RGB  []byte `json:"rgb"`
}

func TestPillowCrops(t *testing.T) {
	var f pillowFile
	readJSON(t, "testdata/pillow.json", &f)
	var s Scratch // shared, so that stale buffers would show
	for _, c := range f.Crops {
		t.Run(fmt.Sprintf("%dx%d to %d of %v", c.W, c.H, c.R, c.Crop), func(t *testing.T) {
			tr := imageNet()
			tr.Crop = c.Crop
			got, err := s.CropRGB(tr, noise(c.Seed, c.W, c.H), c.R)
			if err != nil {
				t.Fatal(err)
			}
			if sum256(got) != c.SHA {
				t.Errorf("crop differs from Pillow %s", f.Pillow)
			}
		})
	}
}

func TestPillowPNG(t *testing.T) {
	var f pillowFile
	readJSON(t, "testdata/pillow.json", &f)
	for _, c := range f.PNG {
		t.Run(c.Name, func(t *testing.T) {
			img, err := Decode(c.Name, bytes.NewReader(c.File), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := allRGB(t, img); !bytes.Equal(got, c.RGB) {
				t.Errorf("%T: RGB %v\nwant %v", img, got, c.RGB)
			}
		})
	}
}

// TestJPEGDifference bounds the difference from libjpeg-turbo on small images of
// every chroma ratio, with sharp edges and odd sizes.
func TestJPEGDifference(t *testing.T) {
	var f pillowFile
	readJSON(t, "testdata/pillow.json", &f)
	for _, c := range f.JPEG {
		t.Run(c.Name, func(t *testing.T) {
			img, err := Decode(c.Name, bytes.NewReader(c.File), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b := img.Bounds(); b.Dx() != c.W || b.Dy() != c.H {
				t.Fatalf("size %v, want %d x %d (the EXIF orientation is to be ignored)", b.Size(), c.W, c.H)
			}
			worst, mean, share := difference(allRGB(t, img), c.RGB)
			t.Logf("%T: worst %d, mean %.5f, %.3f %% of bytes differ", img, worst, mean, 100*share)
			if worst > 3 {
				t.Errorf("worst difference %d, want at most 3", worst)
			}
		})
	}
}
