package imageio

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/color"
	"math"
	"strconv"
	"testing"
)

type goldenCase struct {
	File       string                  `json:"file"`
	Format     string                  `json:"format"`
	DecodedPNG string                  `json:"decoded_png"`
	DecodedSHA string                  `json:"decoded_rgb_sha256"`
	R          int                     `json:"r"`
	ResizedWH  [2]int64                `json:"resized_wh"`
	LeftTop    [2]int64                `json:"crop_left_top"`
	CropSHA    string                  `json:"crop_u8_sha256"`
	CropSum    [3]int64                `json:"crop_u8_sum"`
	Mean       [3]float64              `json:"channel_mean"`
	Std        [3]float64              `json:"channel_std"`
	Rows       map[string][3][]float32 `json:"rows"`
	U8Rows     map[string][3][]int     `json:"u8_rows"`
}

func goldenCases(t *testing.T) []goldenCase {
	t.Helper()
	var file struct {
		Cases []goldenCase `json:"cases"`
	}
	readJSON(t, referenceFile(t, "preprocess_cases.json"), &file)
	if len(file.Cases) == 0 {
		t.Fatal("no cases")
	}
	return file.Cases
}

func sum256(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// TestGolden compares with torchvision 0.14 on Pillow 9.4. JPEG files are taken
// from their decoded twins; TestGoldenJPEG measures the decoder.
func TestGolden(t *testing.T) {
	for _, c := range goldenCases(t) {
		t.Run(fmt.Sprintf("%s/%d", c.File, c.R), func(t *testing.T) {
			name := c.File
			if c.DecodedPNG != "" {
				name = c.DecodedPNG
			}
			img, err := DecodeFile(referenceFile(t, name), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := sum256(allRGB(t, img)); got != c.DecodedSHA {
				t.Errorf("decoded RGB: sha256 %s, want %s", got, c.DecodedSHA)
			}
			tr := imageNet()
			g, err := tr.geometry(img, c.R)
			if err != nil {
				t.Fatal(err)
			}
			if got := [2]int64{g.rw, g.rh}; got != c.ResizedWH {
				t.Errorf("resized to %v, want %v", got, c.ResizedWH)
			}
			if got := [2]int64{g.left, g.top}; got != c.LeftTop {
				t.Errorf("cropped at %v, want %v", got, c.LeftTop)
			}

			u8, err := tr.CropRGB(img, c.R)
			if err != nil {
				t.Fatal(err)
			}
			if got := sum256(u8); got != c.CropSHA {
				t.Errorf("crop: sha256 %s, want %s", got, c.CropSHA)
			}
			x := make([]float32, c.R*c.R*3)
			if err := tr.Apply(x, img, c.R); err != nil {
				t.Fatal(err)
			}
			rows := 0
			for key, want := range c.Rows {
				y, err := strconv.Atoi(key)
				if err != nil {
					t.Fatal(err)
				}
				for ch := range 3 {
					for i, v := range want[ch] {
						at := (y*c.R+i)*3 + ch
						if int(u8[at]) != c.U8Rows[key][ch][i] {
							t.Fatalf("crop row %d column %d channel %d: %d, want %d", y, i, ch, u8[at], c.U8Rows[key][ch][i])
						}
						if x[at] != v { // 0 ulp
							t.Fatalf("row %d column %d channel %d: %.9g, want %.9g", y, i, ch, x[at], v)
						}
						rows++
					}
				}
			}
			if rows != 3*3*32 {
				t.Errorf("compared %d values, want %d", rows, 3*3*32)
			}
			for ch := range 3 {
				var total int64
				var sum, sq float64
				n := float64(c.R * c.R)
				for i := ch; i < len(x); i += 3 {
					total += int64(u8[i])
					sum += float64(x[i])
				}
				for i := ch; i < len(x); i += 3 {
					d := float64(x[i]) - sum/n
					sq += d * d
				}
				if total != c.CropSum[ch] {
					t.Errorf("channel %d: crop sums to %d, want %d", ch, total, c.CropSum[ch])
				}
				// The file has 12 significant digits.
				if got := sum / n; math.Abs(got-c.Mean[ch]) > 1e-11*(1+math.Abs(c.Mean[ch])) {
					t.Errorf("channel %d: mean %.12g, want %.12g", ch, got, c.Mean[ch])
				}
				if got := math.Sqrt(sq / n); math.Abs(got-c.Std[ch]) > 1e-11 {
					t.Errorf("channel %d: std %.12g, want %.12g", ch, got, c.Std[ch])
				}
			}
		})
	}
}

// TestGoldenJPEG measures how this package's JPEG pixels differ from those of
// libjpeg-turbo, before and after resizing, and for comparison those that
// image/jpeg's own conversion gives.
func TestGoldenJPEG(t *testing.T) {
	for _, c := range goldenCases(t) {
		if c.DecodedPNG == "" {
			continue
		}
		t.Run(fmt.Sprintf("%s/%d", c.File, c.R), func(t *testing.T) {
			jpg, err := DecodeFile(referenceFile(t, c.File), nil)
			if err != nil {
				t.Fatal(err)
			}
			twin, err := DecodeFile(referenceFile(t, c.DecodedPNG), nil)
			if err != nil {
				t.Fatal(err)
			}
			got, want := allRGB(t, jpg), allRGB(t, twin)
			worst, mean, share := difference(got, want)
			t.Logf("%s pixels: worst %d, mean %.5f, %.3f %% of bytes differ", c.Format, worst, mean, 100*share)
			if worst > 3 || mean > 0.08 {
				t.Errorf("decoder drifted: worst %d, mean %.5f, want at most 3 and 0.08", worst, mean)
			}
			worst, mean, share = difference(plainRGB(jpg), want)
			t.Logf("%s pixels by image/color: worst %d, mean %.5f, %.3f %% of bytes differ", c.Format, worst, mean, 100*share)

			tr := imageNet()
			a, err := tr.CropRGB(jpg, c.R)
			if err != nil {
				t.Fatal(err)
			}
			b, err := tr.CropRGB(twin, c.R)
			if err != nil {
				t.Fatal(err)
			}
			worst, mean, share = difference(a, b)
			t.Logf("%s crop: worst %d, mean %.5f, %.3f %% of bytes differ", c.Format, worst, mean, 100*share)
			if worst > 3 {
				t.Errorf("crop: worst difference %d, want at most 3", worst)
			}
		})
	}
}

// plainRGB converts by image/color, without upsampling.
func plainRGB(img image.Image) []byte {
	var out []byte
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			n, _ := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
			out = append(out, n.R, n.G, n.B)
		}
	}
	return out
}
