package main

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"iter"
	"math"
	"path/filepath"
	"slices"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

type verifyCmd struct {
	Model     string  `arg:"" help:"Bundle or checkpoint."`
	Cases     string  `arg:"" help:"Reference file: golden sub-networks, BN calibration or preprocessing cases."`
	Backend   string  `help:"Engine, one of those that info lists; default: the best."`
	Threads   int     `help:"Threads per inference." default:"1"`
	Tolerance float64 `help:"Largest relative difference that passes; cuda/tf32 and cuda/fp16 round factors to 11 bits and need about 1e-2." default:"1e-5"`
	JSON      bool    `help:"Print JSON."`
}

type verdict struct {
	Backend       string  `json:"backend"`
	Cases         int     `json:"cases"`
	WorstRelative float64 `json:"worst_relative"`
	WorstCase     string  `json:"worst_case"`
	// WorstStatistic is the largest relative difference of a calibrated mean or variance; only for BN calibration.
	WorstStatistic float64 `json:"worst_statistic,omitempty"`
	Tolerance      float64 `json:"tolerance"`
}

// goldenCase is a case of any of the reference files; the fields that are present tell which.
type goldenCase struct {
	Name     string
	Subnet   ofa.Subnet
	Logits64 logits
	Input    *formula // images by formula
	Images   []int    // images of the data set beside the file
	// BN calibration.
	Calibration *struct {
		formula
		Images     int   `json:"images"`
		BatchSizes []int `json:"batch_sizes"`
	}
	EvalInput   *formula `json:"eval_input"`
	BN          []struct{ Mean, Var []float64 }
	LogitsAfter logits `json:"logits64_after"`
	// Preprocessing.
	File       string
	DecodedPNG string `json:"decoded_png"`
	R          any
	Short      int `json:"resize_short"` // the shorter side after resizing
	Net        *struct{ KS, E, D int }
}

// logits are one row an image; a single row may stand alone.
type logits [][]float64

func (l *logits) UnmarshalJSON(data []byte) error {
	var one []float64
	if json.Unmarshal(data, &one) == nil {
		*l = logits{one}
		return nil
	}
	return json.Unmarshal(data, (*[][]float64)(l))
}

func (c *verifyCmd) Run(e *env) (err error) {
	if !(c.Tolerance >= 0 && c.Tolerance < math.MaxFloat64) {
		return fmt.Errorf("--tolerance is %v, expected a number of at least 0, such as 1e-5", c.Tolerance)
	}
	var file struct {
		Data  string // data set of the cases' images, relative to the file
		Cases []json.RawMessage
	}
	if err := readJSON(c.Cases, &file); err != nil {
		return err
	}
	m, err := open(c.Model, c.Backend)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	v := verifier{ctx: e.ctx(), model: m, dir: filepath.Dir(c.Cases), data: file.Data}
	cases := make([]goldenCase, len(file.Cases))
	for i, raw := range file.Cases {
		if cases[i], err = v.parse(raw); err != nil {
			return fmt.Errorf("%s: case %d: %w", c.Cases, i, err)
		}
	}
	if len(cases) == 0 {
		return fmt.Errorf("%s: no cases, expected an array \"cases\"", c.Cases)
	}
	// One session takes them all: references may use resolutions that the supernet was not trained for.
	largest := slices.MaxFunc(cases, func(a, b goldenCase) int { return a.Subnet.Resolution - b.Subnet.Resolution })
	v.session, err = m.NewSession(&dynofa.Config{Threads: c.Threads, MaxResolution: largest.Subnet.Resolution})
	if err != nil {
		return err
	}
	defer closing(v.session, &err)
	result := verdict{Backend: v.session.Backend(), Cases: len(cases), Tolerance: c.Tolerance}
	bar := e.progress(len(cases), "verify")
	for i := range cases {
		worst, err := v.check(&cases[i])
		if err != nil {
			return fmt.Errorf("%s: case %q: %w", c.Cases, cases[i].Name, err)
		}
		if worst >= result.WorstRelative {
			result.WorstRelative, result.WorstCase = worst, cases[i].Name
		}
		_ = bar.Add(1)
	}
	_ = bar.Finish()
	result.WorstStatistic = v.statistic
	if c.JSON {
		if err := e.json(result); err != nil {
			return err
		}
	} else {
		e.printf("%d cases on %s: worst relative difference %.3g (case %s), tolerance %.3g\n",
			result.Cases, result.Backend, result.WorstRelative, result.WorstCase, c.Tolerance)
		if result.WorstStatistic > 0 {
			e.printf("BN statistics: worst relative difference %.3g\n", result.WorstStatistic)
		}
	}
	if result.WorstStatistic > c.Tolerance {
		return negative{fmt.Errorf("%s: BN statistics differ by %.3g relative, expected at most %.3g%s", c.Cases, result.WorstStatistic, c.Tolerance, rounding(result.Backend))}
	}
	if result.WorstRelative > c.Tolerance {
		return negative{fmt.Errorf("%s: case %s differs by %.3g relative, expected at most %.3g%s", c.Cases, result.WorstCase, result.WorstRelative, c.Tolerance, rounding(result.Backend))}
	}
	return nil
}

// rounding is what an error says of engines that differ by more, by their design.
func rounding(backend string) string {
	bits := dynofa.SignificantBits(backend)
	if bits == 24 {
		return ""
	}
	return fmt.Sprintf("; %s rounds factors to %d bits: --tolerance 1e-2 allows for that, cuda/README.md has why", backend, bits)
}

type verifier struct {
	ctx     context.Context
	model   *dynofa.Model
	session *dynofa.Session
	dir     string
	data    string
	set     imageio.Dataset // opened when first needed

	statistic float64 // worst so far
}

// parse reads a case and makes its Subnet explicit.
func (v *verifier) parse(raw json.RawMessage) (goldenCase, error) {
	var c goldenCase
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, err
	}
	if c.File != "" {
		r, _ := c.R.(float64)
		if c.Net == nil {
			return c, fmt.Errorf("file %s: no \"net\", expected the sub-network that its logits belong to", c.File)
		}
		crop := v.model.Space().Preprocess.Crop
		if want := int(math.Ceil(r / crop)); c.Short != 0 && c.Short != want {
			return c, fmt.Errorf("file %s was resized to %d, the model's own preprocessing resizes to %d (crop %v)", c.File, c.Short, want, crop)
		}
		c.Name = fmt.Sprintf("%s r %v", c.File, c.R)
		c.Subnet = v.model.Space().Uniform(c.Net.KS, c.Net.E, c.Net.D, int(r))
	} else if err := json.Unmarshal(raw, &c.Subnet); err != nil {
		return c, err
	}
	return c, v.model.Space().CheckArch(c.Subnet)
}

// check returns max|logit - reference| / max|reference| over the images of a case.
func (v *verifier) check(c *goldenCase) (float64, error) {
	switch {
	case c.Calibration != nil && c.EvalInput != nil:
		if err := c.Calibration.check(); err != nil {
			return 0, err
		}
		calibration, err := v.model.Calibrate(v.ctx, c.Subnet, c.Calibration.batches(c.Calibration.BatchSizes))
		if err != nil {
			return 0, err
		}
		if err := v.compareStatistics(calibration, c); err != nil {
			return 0, err
		}
		if err := v.session.ConfigureNorms(c.Subnet, calibration.Norms); err != nil {
			return 0, err
		}
		return v.compare(c.EvalInput.images(), c.LogitsAfter)
	case c.Input != nil:
		if err := c.Input.check(); err != nil {
			return 0, err
		}
		if err := v.session.Configure(c.Subnet); err != nil {
			return 0, err
		}
		return v.compare(c.Input.images(), c.Logits64)
	case c.File != "":
		name := c.File
		if c.DecodedPNG != "" {
			name = c.DecodedPNG // JPEG decoders differ; the reference's pixels are here
		}
		decoded, err := imageio.DecodeFile(filepath.Join(v.dir, filepath.FromSlash(name)), nil)
		if err != nil {
			return 0, err
		}
		return v.compareImages(c, func(int) (image.Image, error) { return decoded, nil })
	case len(c.Images) > 0:
		if len(c.Images) != len(c.Logits64) {
			return 0, fmt.Errorf("%d images for %d rows of reference logits", len(c.Images), len(c.Logits64))
		}
		return v.compareImages(c, func(i int) (image.Image, error) { return v.image(c.Images[i]) })
	}
	return 0, fmt.Errorf("neither input, calibration, file nor images, expected one of them")
}

// compareStatistics notes the largest |got - want| / |want| over all channels' means and variances.
func (v *verifier) compareStatistics(got *dynofa.Calibration, c *goldenCase) error {
	if len(c.BN) != len(got.Mean) {
		return fmt.Errorf("%d reference BN statistics, the sub-network has %d", len(c.BN), len(got.Mean))
	}
	for i, want := range c.BN {
		if len(want.Mean) != len(got.Mean[i]) || len(want.Var) != len(got.Var[i]) {
			return fmt.Errorf("reference BN statistics %d are of %d and %d channels, the sub-network has %d there",
				i, len(want.Mean), len(want.Var), len(got.Mean[i]))
		}
		for ch := range want.Mean {
			v.statistic = max(v.statistic, relative(got.Mean[i][ch]-want.Mean[ch], want.Mean[ch]), relative(got.Var[i][ch]-want.Var[ch], want.Var[ch]))
		}
	}
	return nil
}

func (v *verifier) image(i int) (image.Image, error) {
	if v.set == nil {
		var err error
		if v.set, err = imageio.Open(filepath.Join(v.dir, filepath.FromSlash(v.data)), "test"); err != nil {
			return nil, err
		}
	}
	s, err := v.set.At(i)
	return s.Image, err
}

func (v *verifier) compareImages(c *goldenCase, at func(int) (image.Image, error)) (float64, error) {
	if err := v.session.Configure(c.Subnet); err != nil {
		return 0, err
	}
	transform := imageio.Transform(v.model.Space().Preprocess)
	r := c.Subnet.Resolution
	return v.compare(func(yield func([]float32, error) bool) {
		for i := range c.Logits64 {
			input := make([]float32, r*r*3)
			img, err := at(i)
			if err == nil {
				err = transform.Apply(input, img, r)
			}
			if !yield(input, err) || err != nil {
				return
			}
		}
	}, c.Logits64)
}

func (v *verifier) compare(images iter.Seq2[[]float32, error], want logits) (float64, error) {
	var diff, largest float64
	got := make([]float32, v.model.Classes())
	i := 0
	for image, err := range images {
		if err != nil {
			return 0, err
		}
		if i >= len(want) || len(want[i]) != len(got) {
			return 0, fmt.Errorf("%d rows of reference logits do not fit the images or the network's %d classes", len(want), len(got))
		}
		if err := v.session.Run(v.ctx, image, got); err != nil {
			return 0, err
		}
		for k, w := range want[i] {
			diff = math.Max(diff, math.Abs(float64(got[k])-w)) // math.Max keeps a NaN
			largest = math.Max(largest, math.Abs(w))
		}
		i++
	}
	if i == 0 || i != len(want) {
		return 0, fmt.Errorf("%d images for %d rows of reference logits", i, len(want))
	}
	return relative(diff, largest), nil
}

// relative is |diff| / |of|. Where that is no finite number it is the largest one, which no tolerance takes and JSON can hold.
func relative(diff, of float64) float64 {
	if diff == 0 {
		return 0
	}
	if r := math.Abs(diff / of); r < math.MaxFloat64 {
		return r
	}
	return math.MaxFloat64
}

// formula makes images that every implementation can compute: image m of side r is, at flat index
// j = (c*r + h)*r + w,
//
//	(0.6 + 0.2*(m mod 4)) * sin((0.11 + 0.13*(m mod 5))*j + 1.7*m + s) + 0.5*cos(0.011*j - 0.9*m + s)
//	+ 0.3*(c-1)*((m mod 3) - 1)
type formula struct {
	N0    int     `json:"n0"`
	Batch int     `json:"batch"`
	R     int     `json:"r"`
	S     float64 `json:"s"`
}

func (f *formula) check() error {
	if f.N0 < 0 || f.R < 1 || f.R > 2048 || f.Batch < 0 || f.Batch > 4096 {
		return fmt.Errorf("input %+v, expected n0 >= 0, r 1 to 2048 and batch up to 4096", *f)
	}
	return nil
}

// image writes image m in the order row, column, channel.
func (f *formula) image(dst []float32, m int) {
	amplitude, frequency, phase := 0.6+0.2*float64(m%4), 0.11+0.13*float64(m%5), 1.7*float64(m)+f.S
	for c := range 3 {
		tint := 0.3 * float64(c-1) * float64(m%3-1)
		for p := range f.R * f.R {
			j := float64(c*f.R*f.R + p)
			x := amplitude*math.Sin(frequency*j+phase) + 0.5*math.Cos(0.011*j-0.9*float64(m)+f.S) + tint
			dst[p*3+c] = float32(x)
		}
	}
}

func (f *formula) images() iter.Seq2[[]float32, error] {
	return f.batches(slices.Repeat([]int{1}, f.Batch))
}

// maxBatchPixels bounds what a reference file can ask for: 1,000 images of side 224.
const maxBatchPixels = 1000 * 224 * 224 * 3

// batches are consecutive images from N0 on, cut into batches of the given sizes.
func (f *formula) batches(sizes []int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		m, pixels := f.N0, f.R*f.R*3
		for _, size := range sizes {
			if size < 1 || size > maxBatchPixels/pixels {
				yield(nil, fmt.Errorf("batch of %d images of side %d, expected 1 to %d", size, f.R, maxBatchPixels/pixels))
				return
			}
			batch := make([]float32, size*pixels)
			for i := range size {
				f.image(batch[i*pixels:(i+1)*pixels], m)
				m++
			}
			if !yield(batch, nil) {
				return
			}
		}
	}
}
