package imageio

import (
	"errors"
	"fmt"
	"image"
	"math"
)

const (
	maxResolution = 4096    // largest r; the network uses 128 to 256
	maxShortSide  = 1 << 24 // largest S = ceil(r/Crop)
	maxImageSide  = 1 << 29 // so that S*side < 2^53, see resizedSides
)

// Errors that callers branch on; every error of this package that belongs to
// one of these classes wraps it.
var (
	// ErrFormat says that a file or data set is damaged, or is not of a kind
	// that this package reads.
	ErrFormat = errors.New("unsupported or damaged data")
	// ErrLimit says that a size is beyond the limit that bounds memory.
	ErrLimit = errors.New("size limit exceeded")
	// ErrColorModel says that an image has no known conversion to RGB.
	ErrColorModel = errors.New("unsupported color model")
	// ErrArgument says that the caller passed a value outside its range.
	ErrArgument = errors.New("invalid argument")
)

// Transform is the validation transform of PyTorch image classifiers: convert
// to RGB, resize the shorter side to S = ceil(r/Crop) with Pillow's bilinear
// filter, cut r x r pixels from the centre, scale to 0..1, normalise.
//
// A Transform is a plain value and safe for use by several goroutines. The one that
// a network was trained for is imageio.Transform(space.Preprocess).
type Transform struct {
	// Crop is the share of the shorter side that is kept, in (0, 1]: 0.875 as
	// a rule, 1 resizes the shorter side to r itself.
	Crop float64 `json:"crop"`
	// Mean and Std are per channel R, G, B, in units of the 0..1 pixel value.
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
}

// Validate reports the first field that is out of range; the error wraps
// [ErrArgument].
func (t Transform) Validate() error {
	if !(t.Crop > 0 && t.Crop <= 1) { // also false for NaN
		return fmt.Errorf("imageio: transform: crop is %v, want above 0 and at most 1: %w", t.Crop, ErrArgument)
	}
	for c := range 3 {
		if m := float64(t.Mean[c]); math.IsNaN(m) || math.IsInf(m, 0) {
			return fmt.Errorf("imageio: transform: mean[%d] is %v, want a finite number: %w", c, m, ErrArgument)
		}
		if s := float64(t.Std[c]); !(s > 0) || math.IsInf(s, 0) {
			return fmt.Errorf("imageio: transform: std[%d] is %v, want a finite number above 0: %w", c, s, ErrArgument)
		}
	}
	return nil
}

// CropRGB returns the r x r x 3 bytes after cropping and before normalising,
// row by row, R, G, B interleaved. See [Scratch.CropRGB] for a form that does
// not allocate, and for the errors.
func (t Transform) CropRGB(img image.Image, r int) ([]uint8, error) {
	return new(Scratch).CropRGB(t, img, r)
}

// Apply writes the network input for img to dst: r x r x 3 float32 in the order
// row, column, channel (NHWC, R, G, B). See [Scratch.Apply] for a form that does
// not allocate, and for the errors.
func (t Transform) Apply(dst []float32, img image.Image, r int) error {
	return new(Scratch).Apply(t, dst, img, r)
}

// geometry checks the arguments and returns the plan of one transform.
func (t Transform) geometry(img image.Image, r int) (g geometry, err error) {
	if err := t.Validate(); err != nil {
		return g, err
	}
	if r < 1 || r > maxResolution {
		return g, fmt.Errorf("imageio: transform: resolution is %d, want 1 to %d: %w", r, maxResolution, ErrArgument)
	}
	short := math.Ceil(float64(r) / t.Crop)
	if short > maxShortSide {
		return g, fmt.Errorf("imageio: transform: crop %v at resolution %d resizes the shorter side to %v, want at most %d: %w",
			t.Crop, r, short, maxShortSide, ErrArgument)
	}
	if err := checkImage(img); err != nil {
		return g, fmt.Errorf("imageio: transform: %w", err)
	}
	b := img.Bounds()
	w, h := b.Dx(), b.Dy()
	if w < 1 || h < 1 || w > maxImageSide || h > maxImageSide {
		return g, fmt.Errorf("imageio: transform: image is %d x %d pixels, want sides of 1 to %d: %w", w, h, maxImageSide, ErrArgument)
	}
	g = geometry{w: w, h: h, r: r}
	g.rw, g.rh = resizedSides(w, h, int64(short))
	g.left, g.top = centre(g.rw, r), centre(g.rh, r)
	return g, nil
}

// geometry is what one transform does: w x h becomes rw x rh, of which the
// r x r pixels at (left, top) are kept. The resized sides are 64-bit because
// extreme aspect ratios overflow 32.
type geometry struct {
	w, h, r   int
	rw, rh    int64
	left, top int64
}

// resizedSides returns the size whose shorter side is s. torchvision computes
// int(s * long / short), a correctly rounded float64 quotient; as s*long < 2^53,
// that quotient cannot round up to an integer, and integer division agrees.
func resizedSides(w, h int, s int64) (rw, rh int64) {
	if w <= h {
		return s, s * int64(h) / int64(w)
	}
	return s * int64(w) / int64(h), s
}

// centre returns round((n-r)/2), halves to the even number, for n >= r.
func centre(n int64, r int) int64 {
	d := n - int64(r)
	q := d / 2
	if d%2 == 1 && q%2 == 1 {
		q++
	}
	return q
}

// Scratch holds the buffers of a [Transform] between calls, so that repeated
// calls do not allocate once the largest size has been seen. Resampling weights
// are kept as long as the image size, r and Crop stay the same. The zero value is
// ready. A Scratch serves one goroutine at a time.
type Scratch struct {
	cols, rows axis
	line       []uint8 // one source row as RGB
	mid        []uint8 // source rows after the horizontal pass
	sums       []int32 // one output row of the vertical pass
	out        []uint8
	rgb        []uint8 // out of a grey image, for callers who want three channels
	conv       converter

	lut       [256][3]float32 // normalised value of each byte and channel
	lutOf     Transform
	lutFilled bool
}

// CropRGB returns the r x r x 3 bytes of t after cropping and before
// normalising, row by row, R, G, B interleaved. The result belongs to s and is
// valid until the next call. Errors wrap [ErrArgument] (r outside 1..4096, empty
// image, bad Transform) or [ErrColorModel].
func (s *Scratch) CropRGB(t Transform, img image.Image, r int) ([]uint8, error) {
	g, err := t.geometry(img, r)
	if err != nil {
		return nil, err
	}
	if s.resample(g, img) == 1 {
		s.rgb = grow(s.rgb, 3*len(s.out))
		for i, v := range s.out {
			put(s.rgb, i, v, v, v)
		}
		return s.rgb, nil
	}
	return s.out, nil
}

// Apply writes the network input for img to dst: r x r x 3 float32 in the order
// row, column, channel (NHWC, R, G, B). Each value is x/255, minus mean, over
// std, each step rounded to float32. len(dst) must be r*r*3. Errors are those of
// [Scratch.CropRGB]; on error dst is unchanged.
func (s *Scratch) Apply(t Transform, dst []float32, img image.Image, r int) error {
	g, err := t.geometry(img, r)
	if err != nil {
		return err
	}
	if len(dst) != r*r*3 {
		return fmt.Errorf("imageio: transform: dst has %d values, want %d (%d x %d x 3): %w", len(dst), r*r*3, r, r, ErrArgument)
	}
	channels := s.resample(g, img)
	s.fillLUT(t)
	if channels == 1 {
		for i, v := range s.out {
			copy(dst[i*3:][:3], s.lut[v][:])
		}
		return nil
	}
	for i := 0; i+2 < len(dst) && i+2 < len(s.out); i += 3 {
		dst[i] = s.lut[s.out[i]][0]
		dst[i+1] = s.lut[s.out[i+1]][1]
		dst[i+2] = s.lut[s.out[i+2]][2]
	}
	return nil
}

func (s *Scratch) fillLUT(t Transform) {
	if s.lutFilled && s.lutOf.Mean == t.Mean && s.lutOf.Std == t.Std {
		return
	}
	for v := range s.lut {
		x := float32(v) / 255
		for c := range 3 {
			d := x - t.Mean[c]
			s.lut[v][c] = d / t.Std[c]
		}
	}
	s.lutOf, s.lutFilled = t, true
}
