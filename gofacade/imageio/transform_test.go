package imageio

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// modelAxis resamples the rows of a plane (each of n float64 values) to length
// m: Pillow's triangle filter, written down from its definition.
func modelAxis(plane [][]float64, m int) [][]float64 {
	n := len(plane[0])
	if n == m {
		return plane
	}
	scale := float64(n) / float64(m)
	f := math.Max(scale, 1)
	out := make([][]float64, len(plane))
	for i := range out {
		out[i] = make([]float64, m)
	}
	for i := range m {
		centre := float64((float64(i) + 0.5) * scale)
		weights := map[int]float64{}
		sum := 0.0
		for j := range n {
			if j < int(centre-f+0.5) || j >= int(centre+f+0.5) {
				continue
			}
			inv := 1 / f
			if w := 1 - math.Abs(float64((float64(j)-centre+0.5)*inv)); w > 0 {
				weights[j] = w
				sum += w
			}
		}
		for y, row := range plane {
			acc := 0.0 // integers below 2^53: exact in any order
			for j, w := range weights {
				acc += math.Floor(w/sum*4194304+0.5) * row[j]
			}
			out[y][i] = math.Min(math.Floor((acc+2097152)/4194304), 255)
		}
	}
	return out
}

func transpose(p [][]float64) [][]float64 {
	out := make([][]float64, len(p[0]))
	for i := range out {
		for _, row := range p {
			out[i] = append(out[i], row[i])
		}
	}
	return out
}

// model is the transform's bytes, by resizing the whole image.
func model(img *image.NRGBA, crop float64, r int) []byte {
	w, h := img.Rect.Dx(), img.Rect.Dy()
	s := math.Ceil(float64(r) / crop)
	short, long := math.Min(float64(w), float64(h)), math.Max(float64(w), float64(h))
	rw, rh := int(s), int(s*long/short)
	if w > h {
		rw, rh = rh, rw
	}
	left := int(math.RoundToEven(float64(rw-r) / 2))
	top := int(math.RoundToEven(float64(rh-r) / 2))
	out := make([]byte, r*r*3)
	for c := range 3 {
		plane := make([][]float64, h)
		for y := range plane {
			for x := range w {
				plane[y] = append(plane[y], float64(img.Pix[y*img.Stride+x*4+c]))
			}
		}
		plane = transpose(modelAxis(transpose(modelAxis(plane, rw)), rh))
		for y := range r {
			for x := range r {
				out[(y*r+x)*3+c] = byte(plane[top+y][left+x])
			}
		}
	}
	return out
}

func TestCropEqualsModel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	type shape struct{ w, h, r int }
	shapes := []shape{{1, 1, 1}, {1, 1, 9}, {1, 300, 3}, {300, 1, 3}, {2, 301, 5}, {64, 64, 64}, {64, 65, 64}, {7, 5, 5}, {5, 7, 5}}
	for range 40 {
		shapes = append(shapes, shape{1 + rnd.IntN(90), 1 + rnd.IntN(90), 1 + rnd.IntN(40)})
	}
	var s Scratch
	for i, c := range shapes {
		crop := []float64{0.875, 1, 0.5, 0.93}[rnd.IntN(4)]
		t.Run(fmt.Sprintf("%dx%d to %d of %v", c.w, c.h, c.r, crop), func(t *testing.T) {
			img := noise(uint32(i), c.w, c.h)
			if i%3 == 0 { // saturated: rounding up must not overflow
				for k := range img.Pix {
					img.Pix[k] = 255
				}
			}
			tr := imageNet()
			tr.Crop = crop
			got, err := s.CropRGB(tr, img, c.r)
			if err != nil {
				t.Fatal(err)
			}
			want := model(img, crop, c.r)
			if !bytes.Equal(got, want) {
				worst, mean, share := difference(got, want)
				t.Errorf("worst %d, mean %.4f, %.2f %% differ", worst, mean, 100*share)
			}
		})
	}
}

// TestImageTypes gives one picture in every image type, whole and as part of a
// larger one, and expects the same bytes.
func TestImageTypes(t *testing.T) {
	const w, h, dx, dy = 13, 9, 3, 2
	grey := func(x, y int) uint8 { return uint8(x*19 + y*7) }
	opaque := func(x, y int) color.Color { v := grey(x, y); return color.NRGBA{v, v, v, 255} }
	big := image.Rect(-4, -6, w+8, h+8)
	part := image.Rect(dx, dy, dx+w, dy+h)

	palette := make(color.Palette, 256)
	for i := range palette {
		palette[i] = color.NRGBA{uint8(i), uint8(i), uint8(i), uint8(i)}
	}
	pal := image.NewPaletted(big, palette)
	gray16 := image.NewGray16(big)
	ycc := image.NewYCbCr(big, image.YCbCrSubsampleRatio420)
	ycca := image.NewNYCbCrA(big, image.YCbCrSubsampleRatio444)
	cmyk := image.NewCMYK(big)
	for i := range ycc.Cb {
		ycc.Cb[i], ycc.Cr[i] = 128, 128
	}
	for i := range ycca.Cb {
		ycca.Cb[i], ycca.Cr[i] = 128, 128
	}
	images := map[string]interface {
		image.Image
		SubImage(r image.Rectangle) image.Image
	}{
		"gray": image.NewGray(big), "rgba": image.NewRGBA(big), "nrgba": image.NewNRGBA(big),
		"rgba64": image.NewRGBA64(big), "nrgba64": image.NewNRGBA64(big),
		"gray16": gray16, "paletted": pal, "ycbcr": ycc, "nycbcra": ycca, "cmyk": cmyk,
	}
	want := make([]byte, 0, w*h*3)
	for y := range h {
		for x := range w {
			v := grey(x+dx, y+dy)
			want = append(want, v, v, v)
		}
	}
	for name, img := range images {
		t.Run(name, func(t *testing.T) {
			for y := big.Min.Y; y < big.Max.Y; y++ {
				for x := big.Min.X; x < big.Max.X; x++ {
					v := grey(x, y)
					switch m := img.(type) {
					case *image.Gray16:
						m.SetGray16(x, y, color.Gray16{uint16(v)}) // clipped, not shifted
					case *image.YCbCr:
						m.Y[m.YOffset(x, y)] = v
					case *image.NYCbCrA:
						m.Y[m.YOffset(x, y)] = v
					case *image.CMYK:
						m.SetCMYK(x, y, color.CMYK{K: 255 - v})
					case *image.Paletted:
						m.SetColorIndex(x, y, v)
					case interface {
						Set(x, y int, c color.Color)
					}:
						m.Set(x, y, opaque(x, y))
					}
				}
			}
			sub := img.SubImage(part)
			if got := allRGB(t, sub); !bytes.Equal(got, want) {
				t.Errorf("%T: %v\nwant %v", sub, got, want)
			}
		})
	}
}

// TestChromaSubImage expects the conversion of a part to equal the part of a
// conversion, but for the columns at its edges, whose neighbours are cut off.
func TestChromaSubImage(t *testing.T) {
	for _, ratio := range []image.YCbCrSubsampleRatio{
		image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410,
	} {
		t.Run(ratio.String(), func(t *testing.T) {
			m := image.NewYCbCr(image.Rect(0, 0, 41, 31), ratio)
			copy(m.Y, lcg(1, len(m.Y)))
			copy(m.Cb, lcg(2, len(m.Cb)))
			copy(m.Cr, lcg(3, len(m.Cr)))
			whole := allRGB(t, m)
			part := image.Rect(5, 3, 34, 28)
			sub := allRGB(t, m.SubImage(part))
			for y := 4; y < part.Dy()-4; y++ {
				for x := 4; x < part.Dx()-4; x++ {
					a, b := whole[((y+3)*41+x+5)*3:][:3], sub[(y*part.Dx()+x)*3:][:3]
					if !bytes.Equal(a, b) {
						t.Fatalf("pixel %d, %d: %v in the part, %v in the whole", x, y, b, a)
					}
				}
			}
			// Any range of columns must give what the whole row gives.
			var cv converter
			cv.reset(m)
			for x0 := range 41 {
				for x1 := x0 + 1; x1 <= 41; x1++ {
					row := make([]byte, (x1-x0)*3)
					cv.row(row, m, 7, x0, x1)
					if !bytes.Equal(row, whole[(7*41+x0)*3:(7*41+x1)*3]) {
						t.Fatalf("columns %d to %d differ from the whole row", x0, x1)
					}
				}
			}
		})
	}
}

func TestStraightAlpha(t *testing.T) {
	for a := range 256 {
		for v := range a + 1 {
			n, _ := color.NRGBAModel.Convert(color.RGBA{uint8(v), 0, uint8(a), uint8(a)}).(color.NRGBA)
			if got := straight(uint8(v), 0, uint8(a), uint8(a)); got != [3]uint8{n.R, n.G, n.B} {
				t.Fatalf("straight(%d of %d) = %v, want %v", v, a, got, n)
			}
		}
	}
}

func TestApply(t *testing.T) {
	tr := Transform{Crop: 1, Mean: [3]float32{0.1, 0.2, 0.3}, Std: [3]float32{0.5, 0.25, 2}}
	img := image.NewNRGBA(image.Rect(0, 0, 1, 1))
	copy(img.Pix, []byte{51, 102, 204, 0})
	got := make([]float32, 3)
	if err := tr.Apply(got, img, 1); err != nil {
		t.Fatal(err)
	}
	for c, v := range []float32{51, 102, 204} {
		x := v / 255
		x -= tr.Mean[c]
		x /= tr.Std[c]
		if got[c] != x {
			t.Errorf("channel %d: %v, want %v", c, got[c], x)
		}
	}
	// A second transform on the same scratch must not meet the first one's table.
	var s Scratch
	for _, m := range []float32{0, 0.5} {
		tr.Mean[0] = m
		if err := s.Apply(tr, got, img, 1); err != nil {
			t.Fatal(err)
		}
		if want := (float32(51)/255 - m) / 0.5; got[0] != want {
			t.Errorf("mean %v: %v, want %v", m, got[0], want)
		}
	}
}

func TestTransformJSON(t *testing.T) {
	data, err := json.Marshal(imageNet())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"crop":0.875,"mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}`
	if string(data) != want {
		t.Errorf("%s, want %s", data, want)
	}
	var back Transform
	if err := json.Unmarshal(data, &back); err != nil || back != imageNet() {
		t.Errorf("read back %+v, %v", back, err)
	}
}

type ownImage struct{ image.Rectangle }

func (o ownImage) ColorModel() color.Model { return color.RGBAModel }
func (o ownImage) Bounds() image.Rectangle { return o.Rectangle }
func (o ownImage) At(int, int) color.Color { return color.Black }

func TestTransformErrors(t *testing.T) {
	good := image.NewGray(image.Rect(0, 0, 4, 4))
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	with := func(f func(*Transform)) Transform { tr := imageNet(); f(&tr); return tr }
	for _, c := range []struct {
		name string
		tr   Transform
		img  image.Image
		r, n int
		want error
	}{
		{"crop 0", with(func(t *Transform) { t.Crop = 0 }), good, 2, 12, ErrArgument},
		{"crop above 1", with(func(t *Transform) { t.Crop = 1.01 }), good, 2, 12, ErrArgument},
		{"crop NaN", with(func(t *Transform) { t.Crop = math.NaN() }), good, 2, 12, ErrArgument},
		{"crop tiny", with(func(t *Transform) { t.Crop = 1e-300 }), good, 2, 12, ErrArgument},
		{"mean NaN", with(func(t *Transform) { t.Mean[1] = nan }), good, 2, 12, ErrArgument},
		{"std 0", with(func(t *Transform) { t.Std[2] = 0 }), good, 2, 12, ErrArgument},
		{"std infinite", with(func(t *Transform) { t.Std[2] = inf }), good, 2, 12, ErrArgument},
		{"r 0", imageNet(), good, 0, 0, ErrArgument},
		{"r negative", imageNet(), good, -2, 12, ErrArgument},
		{"r huge", imageNet(), good, 1 << 30, 12, ErrArgument},
		{"dst short", imageNet(), good, 2, 11, ErrArgument},
		{"dst long", imageNet(), good, 2, 13, ErrArgument},
		{"nil image", imageNet(), nil, 2, 12, ErrArgument},
		{"empty image", imageNet(), image.NewGray(image.Rect(0, 0, 0, 3)), 2, 12, ErrArgument},
		{"unknown type", imageNet(), ownImage{image.Rect(0, 0, 4, 4)}, 2, 12, ErrColorModel},
		{"alpha only", imageNet(), image.NewAlpha(image.Rect(0, 0, 4, 4)), 2, 12, ErrColorModel},
		{"uniform", imageNet(), image.White, 2, 12, ErrColorModel},
		{"short buffer", imageNet(), &image.NRGBA{Pix: make([]byte, 63), Stride: 16, Rect: image.Rect(0, 0, 4, 4)}, 2, 12, ErrArgument},
		{"short stride", imageNet(), &image.Gray{Pix: make([]byte, 99), Stride: 3, Rect: image.Rect(0, 0, 4, 4)}, 2, 12, ErrArgument},
		{"short chroma", imageNet(), &image.YCbCr{
			Y: make([]byte, 16), Cb: make([]byte, 4), Cr: make([]byte, 3), YStride: 4, CStride: 2,
			SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, 4, 4),
		}, 2, 12, ErrArgument},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := make([]float32, c.n)
			err := c.tr.Apply(dst, c.img, c.r)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			t.Log(err)
			if !reflect.DeepEqual(dst, make([]float32, c.n)) {
				t.Error("dst was written")
			}
		})
	}
}

// TestExtremeSides needs 64-bit sizes: the longer side becomes 2^24 * 2^20.
func TestExtremeSides(t *testing.T) {
	img := image.NewGray(image.Rect(0, 0, 1<<20, 1))
	for i := range img.Pix {
		img.Pix[i] = 77
	}
	tr := imageNet()
	tr.Crop = 1.0 / (1 << 20)
	got, err := tr.CropRGB(img, 16)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range got {
		if v != 77 {
			t.Fatalf("a constant image became %d, want 77", v)
		}
	}
}

func TestApplyDoesNotAllocate(t *testing.T) {
	b := image.Rect(0, 0, 90, 70)
	for _, img := range []image.Image{
		image.NewRGBA(b), image.NewGray(b), image.NewNRGBA(b), image.NewGray16(b), image.NewCMYK(b),
		image.NewYCbCr(b, image.YCbCrSubsampleRatio420), image.NewYCbCr(b, image.YCbCrSubsampleRatio422),
		image.NewPaletted(b, color.Palette{color.NRGBA{1, 2, 3, 4}, color.RGBA{1, 2, 3, 4}}),
	} {
		t.Run(fmt.Sprintf("%T", img), func(t *testing.T) {
			tr, dst := imageNet(), make([]float32, 32*32*3)
			small := image.NewGray(image.Rect(0, 0, 40, 50)) // so that weights are planned anew
			var s Scratch
			n := testing.AllocsPerRun(20, func() {
				if err := errors.Join(s.Apply(tr, dst, img, 32), s.Apply(tr, dst, small, 32)); err != nil {
					t.Fatal(err)
				}
			})
			if n != 0 {
				t.Errorf("%v allocations a call, want 0", n)
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	for _, size := range []image.Point{{28, 28}, {500, 375}, {1920, 1080}} {
		rect := image.Rect(0, 0, size.X, size.Y)
		for _, img := range []image.Image{image.NewGray(rect), image.NewRGBA(rect), image.NewYCbCr(rect, image.YCbCrSubsampleRatio420)} {
			b.Run(fmt.Sprintf("type=%T/size=%dx%d/r=224", img, size.X, size.Y), func(b *testing.B) {
				tr, dst := imageNet(), make([]float32, 224*224*3)
				var s Scratch
				b.ReportAllocs()
				for b.Loop() {
					if err := s.Apply(tr, dst, img, 224); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Grey images have a way of their own; what comes out is that of the same picture in colour.
func TestGreyEqualsColour(t *testing.T) {
	for seed, size := range []image.Point{{28, 28}, {29, 17}, {5, 90}, {1, 1}, {64, 200}} {
		grey := image.NewGray(image.Rect(3, 4, 3+size.X, 4+size.Y))
		copy(grey.Pix, lcg(uint32(seed), len(grey.Pix)))
		colour := image.NewRGBA(grey.Rect)
		for i, v := range grey.Pix {
			copy(colour.Pix[i*4:], []uint8{v, v, v, 255})
		}
		var a, b Scratch
		for _, r := range []int{20, 28, 3} {
			got, want := make([]float32, r*r*3), make([]float32, r*r*3)
			if err := a.Apply(imageNet(), got, grey, r); err != nil {
				t.Fatal(err)
			}
			if err := b.Apply(imageNet(), want, colour, r); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v at %d: grey and colour differ", size, r)
			}
			crop, err := a.CropRGB(imageNet(), grey, r)
			if err != nil {
				t.Fatal(err)
			}
			if whole, err := b.CropRGB(imageNet(), colour, r); err != nil || !slices.Equal(crop, whole) {
				t.Errorf("%v at %d: the crops of grey and colour differ (%v)", size, r, err)
			}
		}
	}
}
