package ofa

import (
	"fmt"
	"slices"
)

// Activation names a non-linearity; the text is what a Space's JSON holds.
type Activation string

// The activations of the supported networks.
const (
	Linear Activation = ""        // x
	ReLU   Activation = "relu"    // max(x, 0)
	ReLU6  Activation = "relu6"   // min(max(x, 0), 6)
	HSwish Activation = "h_swish" // x * min(max(x + 3, 0), 6) / 6 (MobileNetV3, Howard et al. 2019)
)

// Space is the shape of a supernet: what is fixed, and what may be chosen. Channel counts are those after
// the width multiplier. The zero Space is not valid; [MobileNetV3] and [ProxylessNAS] make valid ones, and
// other MBConv supernets are other values. A Space is immutable by convention once it is in use.
type Space struct {
	Family      string     `json:"family"`           // e.g. "ofa-mbv3"; a label, no behaviour hangs on it
	Width       float64    `json:"width"`            // width multiplier the channels came from; a label
	Classes     int        `json:"classes"`          // length of the logits
	BNEps       float64    `json:"bn_eps"`           // epsilon of every batch normalisation
	Stem        Stem       `json:"stem"`             // 3x3 convolution from 3 channels
	First       First      `json:"first"`            // depthwise 3x3 and pointwise, not elastic
	Stages      []Stage    `json:"stages"`           // the elastic stages
	Head        Head       `json:"head"`             // what follows the last stage
	Kernels     []int      `json:"kernels"`          // legal depthwise kernel sizes, ascending, of 3, 5, 7
	Expands     []int      `json:"expands"`          // legal expand ratios, ascending
	Resolutions []int      `json:"resolutions"`      // legal image sides in pixels, ascending
	Preprocess  Preprocess `json:"preprocess"`       // what happens to an image before the stem
	Labels      []string   `json:"labels,omitempty"` // names of the classes in the order of the logits, or none
}

// Stem is the first convolution: 3x3, padding 1, then BN and Act.
type Stem struct {
	Channels int        `json:"channels"`
	Stride   int        `json:"stride"`
	Act      Activation `json:"act"`
}

// First is the first block: depthwise 3x3, BN, Act, squeeze-excitation if SE, pointwise, BN, plus the input if
// Residual (legal only where stride is 1 and the channels are the stem's).
type First struct {
	Channels int        `json:"channels"`
	Stride   int        `json:"stride"`
	Act      Activation `json:"act"`
	SE       bool       `json:"se"`
	Residual bool       `json:"residual"`
}

// Stage is a run of inverted bottlenecks of one width. Its first block has the stage's stride, the others 1.
type Stage struct {
	Channels int        `json:"channels"`
	Stride   int        `json:"stride"`
	Act      Activation `json:"act"`
	SE       bool       `json:"se"`
	Depths   []int      `json:"depths"` // legal numbers of blocks, ascending; the last is what is stored
}

// Head is what follows the last stage, in one of two forms.
//
// With Expand > 0 (MobileNetV3): pointwise to Expand channels, BN, Act, global average pooling, then a
// pointwise to Features without BN, Act, classifier. With Expand = 0 (ProxylessNAS, MobileNetV2): pointwise
// to Features, BN, Act, global average pooling, classifier.
type Head struct {
	Expand   int        `json:"expand"`
	Features int        `json:"features"`
	Act      Activation `json:"act"`
}

// Preprocess is the validation transform the network was trained for: the shorter side is resized to
// ceil(r/Crop), the centre r x r is cut out, and every channel becomes (x/255 - Mean) / Std, order R, G, B.
// imageio.Transform, which executes it, has the same fields: imageio.Transform(space.Preprocess).
type Preprocess struct {
	Crop float64    `json:"crop"`
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
}

// ImageNet is the preprocessing of networks trained on ImageNet with torchvision's usual transform.
func ImageNet() Preprocess {
	return Preprocess{
		Crop: 0.875,
		Mean: [3]float32{0.485, 0.456, 0.406},
		Std:  [3]float32{0.229, 0.224, 0.225},
	}
}

// MobileNetV3 is the OFA-MobileNetV3 supernet at any width multiplier and number of classes: five stages of
// depth 2, 3 or 4, kernel 3, 5 or 7, expand ratio 3, 4 or 6, overall stride 32.
func MobileNetV3(width float64, classes int) *Space {
	ch := func(base int) int { return Divisible(float64(base)*width, 8) }
	depths := []int{2, 3, 4}
	return &Space{
		Family:  "ofa-mbv3",
		Width:   width,
		Classes: classes,
		BNEps:   1e-5,
		Stem:    Stem{Channels: ch(16), Stride: 2, Act: HSwish},
		First:   First{Channels: ch(16), Stride: 1, Act: ReLU, Residual: true},
		Stages: []Stage{
			{Channels: ch(24), Stride: 2, Act: ReLU, Depths: depths},
			{Channels: ch(40), Stride: 2, Act: ReLU, SE: true, Depths: depths},
			{Channels: ch(80), Stride: 2, Act: HSwish, Depths: depths},
			{Channels: ch(112), Stride: 1, Act: HSwish, SE: true, Depths: depths},
			{Channels: ch(160), Stride: 2, Act: HSwish, SE: true, Depths: depths},
		},
		Head:        Head{Expand: ch(960), Features: ch(1280), Act: HSwish},
		Kernels:     []int{3, 5, 7},
		Expands:     []int{3, 4, 6},
		Resolutions: steps(128, 224, 4),
		Preprocess:  ImageNet(),
	}
}

// ProxylessNAS is the OFA-ProxylessNAS supernet: ReLU6, no squeeze-excitation, five elastic stages and a
// last stage of exactly one block.
func ProxylessNAS(width float64, classes int) *Space {
	ch := func(base int) int { return Divisible(float64(base)*width, 8) }
	stage := func(base, stride int, depths ...int) Stage {
		return Stage{Channels: ch(base), Stride: stride, Act: ReLU6, Depths: depths}
	}
	return &Space{
		Family:  "ofa-proxyless",
		Width:   width,
		Classes: classes,
		BNEps:   1e-3,
		Stem:    Stem{Channels: ch(32), Stride: 2, Act: ReLU6},
		First:   First{Channels: ch(16), Stride: 1, Act: ReLU6},
		Stages: []Stage{
			stage(24, 2, 2, 3, 4), stage(40, 2, 2, 3, 4), stage(80, 2, 2, 3, 4),
			stage(96, 1, 2, 3, 4), stage(192, 2, 2, 3, 4), stage(320, 1, 1),
		},
		Head:        Head{Features: ch(1280), Act: ReLU6},
		Kernels:     []int{3, 5, 7},
		Expands:     []int{3, 4, 6},
		Resolutions: steps(128, 224, 4),
		Preprocess:  ImageNet(),
	}
}

// Divisible rounds a channel count to a multiple of d as MobileNets do: to the nearest, at least d, and up
// once more if that lost over a tenth of v.
func Divisible(v float64, d int) int {
	n := max(d, int(v+float64(d)/2)/d*d)
	if float64(n) < 0.9*v {
		n += d
	}
	return n
}

// squeeze is the hidden width of squeeze-excitation over mid channels.
func squeeze(mid int) int { return Divisible(float64(mid/4), 8) }

func steps(from, to, by int) []int {
	var s []int
	for v := from; v <= to; v += by {
		s = append(s, v)
	}
	return s
}

// Limits of what a Space may ask for. They are far above any published network and keep a hostile file from
// asking for memory that its own size does not justify.
const (
	maxChannels   = 1 << 14
	maxStages     = 32
	maxDepth      = 32
	maxClasses    = 1 << 20
	maxResolution = 2048
	maxExpand     = 32
)

// Label is the name of a class, or its number where the Space has no names.
func (s *Space) Label(class int) string {
	if class >= 0 && class < len(s.Labels) {
		return s.Labels[class]
	}
	return fmt.Sprintf("class %d", class)
}

// Validate says what is wrong with the Space itself, as a [*FieldError], or nil.
func (s *Space) Validate() error {
	channels := func(field string, v int) error { return between(field, v, 1, maxChannels) }
	stride := func(field string, v int) error { return oneOf(field, v, []int{1, 2}) }
	checks := []error{
		between("classes", s.Classes, 1, maxClasses),
		channels("stem.channels", s.Stem.Channels),
		stride("stem.stride", s.Stem.Stride),
		activation("stem.act", s.Stem.Act),
		channels("first.channels", s.First.Channels),
		stride("first.stride", s.First.Stride),
		activation("first.act", s.First.Act),
		between("stages (number)", len(s.Stages), 1, maxStages),
		between("head.expand", s.Head.Expand, 0, maxChannels),
		channels("head.features", s.Head.Features),
		activation("head.act", s.Head.Act),
		ascending("kernels", s.Kernels, 3, 7),
		ascending("expands", s.Expands, 1, maxExpand),
		ascending("resolutions", s.Resolutions, 1, maxResolution),
		s.Preprocess.validate(),
	}
	if !(s.BNEps > 0 && s.BNEps < 1) {
		checks = append(checks, &FieldError{"bn_eps", s.BNEps, "a number between 0 and 1"})
	}
	if s.First.Residual && (s.First.Stride != 1 || s.First.Channels != s.Stem.Channels) {
		checks = append(checks, &FieldError{"first.residual", true, "false, unless the stride is 1 and the channels are the stem's"})
	}
	if n := len(s.Labels); n != 0 && n != s.Classes {
		checks = append(checks, &FieldError{"labels (number)", n, fmt.Sprintf("%d, one a class, or none", s.Classes)})
	}
	for _, k := range s.Kernels {
		checks = append(checks, oneOf("kernels", k, []int{3, 5, 7}))
	}
	for i, st := range s.Stages[:min(len(s.Stages), maxStages)] {
		f := func(name string) string { return fmt.Sprintf("stages[%d].%s", i, name) }
		checks = append(checks,
			channels(f("channels"), st.Channels),
			stride(f("stride"), st.Stride),
			activation(f("act"), st.Act),
			ascending(f("depths"), st.Depths, 1, maxDepth))
	}
	for _, err := range checks {
		if err != nil {
			return err
		}
	}
	return nil
}

func (p Preprocess) validate() error {
	if !(p.Crop > 0 && p.Crop <= 1) {
		return &FieldError{"preprocess.crop", p.Crop, "a number in (0, 1]"}
	}
	for c := range 3 {
		if m := p.Mean[c]; !(m >= -1e3 && m <= 1e3) {
			return &FieldError{fmt.Sprintf("preprocess.mean[%d]", c), m, "a number within +-1000"}
		}
		if d := p.Std[c]; !(d >= 1e-6 && d <= 1e3) {
			return &FieldError{fmt.Sprintf("preprocess.std[%d]", c), d, "a number in [1e-6, 1000]"}
		}
	}
	return nil
}

func between(field string, v, lo, hi int) error {
	if v < lo || v > hi {
		return &FieldError{field, v, fmt.Sprintf("%d to %d", lo, hi)}
	}
	return nil
}

func oneOf(field string, v int, legal []int) error {
	if !slices.Contains(legal, v) {
		return &FieldError{field, v, fmt.Sprintf("one of %v", legal)}
	}
	return nil
}

func activation(field string, a Activation) error {
	switch a {
	case ReLU, ReLU6, HSwish:
		return nil
	}
	return &FieldError{field, a, fmt.Sprintf("one of %q", []Activation{ReLU, ReLU6, HSwish})}
}

func ascending(field string, v []int, lo, hi int) error {
	want := fmt.Sprintf("a non-empty ascending list of %d to %d", lo, hi)
	if len(v) == 0 {
		return &FieldError{field, v, want}
	}
	for i := range v {
		if v[i] < lo || v[i] > hi || i > 0 && v[i] <= v[i-1] {
			return &FieldError{field, v, want}
		}
	}
	return nil
}

// FieldError says which field of a Space or Subnet is illegal, its value and what would be legal.
type FieldError struct {
	Field string // as JSON spells it, e.g. "ks[3]"
	Value any
	Legal string // "one of [3 5 7]"
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s is %v, expected %s", e.Field, e.Value, e.Legal)
}

// Slots is the number of block slots of a Subnet: the sum of the stages' largest depths.
func (s *Space) Slots() int {
	n := 0
	for i := range s.Stages {
		n += s.Stages[i].MaxDepth()
	}
	return n
}

// MaxDepth is the number of blocks that the stage stores.
func (st *Stage) MaxDepth() int { return st.Depths[len(st.Depths)-1] }

// MaxKernel is the kernel size that the supernet stores.
func (s *Space) MaxKernel() int { return s.Kernels[len(s.Kernels)-1] }

// MaxExpand is the expand ratio that the supernet stores.
func (s *Space) MaxExpand() int { return s.Expands[len(s.Expands)-1] }

// MaxResolution is the largest legal image side in pixels.
func (s *Space) MaxResolution() int { return s.Resolutions[len(s.Resolutions)-1] }

// Size is the number of distinct sub-networks, as a float64 because it exceeds any integer.
func (s *Space) Size() float64 {
	n := float64(len(s.Resolutions))
	choices := float64(len(s.Kernels) * len(s.Expands))
	for i := range s.Stages {
		var stage float64
		for _, d := range s.Stages[i].Depths {
			paths := 1.0
			for range d {
				paths *= choices
			}
			stage += paths
		}
		n *= stage
	}
	return n
}
