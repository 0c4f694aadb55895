package predictor

import (
	"fmt"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Encoding says how a Subnet becomes the predictor's input, a vector of zeros and ones: per slot one feature for
// each kernel size, then per slot one for each expand ratio, then one for each bin of image sides. Slots that the
// depth cuts off have all zeros, and that is how the depth is seen.
type Encoding struct {
	Kernels  []int `json:"kernels"`   // legal kernel sizes, ascending
	Expands  []int `json:"expands"`   // legal expand ratios, ascending
	Depths   []int `json:"depths"`    // slots per stage: its largest depth
	MinSide  int   `json:"min_side"`  // smallest image side in pixels
	BinWidth int   `json:"bin_width"` // image sides in one bin: bin (r - MinSide) / BinWidth
	Bins     int   `json:"bins"`      // number of bins
	Unseen   int   `json:"unseen"`    // bins, from the first, that training has not seen: what is predicted there means nothing
}

// Public is the encoding of the published OFA predictors for the choices of a Space: eight bins of 16 pixels from
// 112, which is [112, 239], trained from 160 on. With the choices of [ofa.MobileNetV3] it makes 128 features.
func Public(s *ofa.Space) Encoding {
	e := Encoding{
		Kernels: slices.Clone(s.Kernels), Expands: slices.Clone(s.Expands),
		MinSide: 112, BinWidth: 16, Bins: 8, Unseen: 3,
	}
	for i := range s.Stages {
		e.Depths = append(e.Depths, s.Stages[i].MaxDepth())
	}
	return e
}

// Own is the encoding of the predictors that [Train] makes for a Space: every resolution has a bin of its own.
func Own(s *ofa.Space) Encoding {
	e := Public(s)
	first, width := s.Resolutions[0], 0
	for _, r := range s.Resolutions {
		for a := r - first; a != 0; { // the greatest common divisor
			a, width = width%a, a
		}
	}
	e.MinSide, e.BinWidth, e.Unseen = first, max(width, 1), 0
	e.Bins = (s.MaxResolution()-first)/e.BinWidth + 1
	return e
}

// maxInputs bounds what an Encoding may ask for; the largest Space has half as many features.
const maxInputs = 1 << 16

func (e *Encoding) check() error {
	if len(e.Kernels) == 0 || len(e.Expands) == 0 || len(e.Depths) == 0 {
		return fmt.Errorf("encoding of %d kernel sizes, %d expand ratios, %d stages, expected one or more of each",
			len(e.Kernels), len(e.Expands), len(e.Depths))
	}
	slots := 0
	for i, d := range e.Depths {
		if d < 1 || d > maxInputs-slots {
			return &ofa.FieldError{Field: fmt.Sprintf("encoding: depths[%d]", i), Value: d, Legal: fmt.Sprintf("1 to %d slots", maxInputs-slots)}
		}
		slots += d
	}
	if e.MinSide < 1 || e.BinWidth < 1 || e.Bins < 1 || e.Bins > maxInputs || e.Inputs() > maxInputs {
		return fmt.Errorf("encoding of %d slots and %d bins of %d pixels from %d, expected positive numbers and at most %d features",
			slots, e.Bins, e.BinWidth, e.MinSide, maxInputs)
	}
	if e.Unseen < 0 || e.Unseen >= e.Bins {
		return &ofa.FieldError{Field: "encoding: unseen", Value: e.Unseen, Legal: fmt.Sprintf("0 to %d bins", e.Bins-1)}
	}
	return nil
}

func (e *Encoding) slots() int {
	n := 0
	for _, d := range e.Depths {
		n += d
	}
	return n
}

// Inputs is the number of features.
func (e *Encoding) Inputs() int { return e.slots()*(len(e.Kernels)+len(e.Expands)) + e.Bins }

// hot visits the features that are one. The error is an [*ofa.FieldError]; features may have been visited then.
func (e *Encoding) hot(n ofa.Subnet, visit func(feature int)) error {
	slots := e.slots()
	for _, list := range [...]struct {
		field string
		v     []int
		n     int
	}{{"ks", n.Kernels, slots}, {"e", n.Expands, slots}, {"d", n.Depths, len(e.Depths)}} {
		if len(list.v) != list.n {
			return &ofa.FieldError{Field: list.field, Value: fmt.Sprintf("%d long", len(list.v)), Legal: fmt.Sprintf("%d values", list.n)}
		}
	}
	expands := slots * len(e.Kernels) // first feature of the expand ratios
	slot := 0
	for i, most := range e.Depths {
		if d := n.Depths[i]; d < 1 || d > most {
			return &ofa.FieldError{Field: fmt.Sprintf("d[%d]", i), Value: d, Legal: fmt.Sprintf("1 to %d", most)}
		}
		for j := slot; j < slot+n.Depths[i]; j++ {
			kernel := slices.Index(e.Kernels, n.Kernels[j])
			if kernel < 0 {
				return &ofa.FieldError{Field: fmt.Sprintf("ks[%d]", j), Value: n.Kernels[j], Legal: fmt.Sprintf("one of %v", e.Kernels)}
			}
			expand := slices.Index(e.Expands, n.Expands[j])
			if expand < 0 {
				return &ofa.FieldError{Field: fmt.Sprintf("e[%d]", j), Value: n.Expands[j], Legal: fmt.Sprintf("one of %v", e.Expands)}
			}
			visit(j*len(e.Kernels) + kernel)
			visit(expands + j*len(e.Expands) + expand)
		}
		slot += most
	}
	bin := (n.Resolution - e.MinSide) / e.BinWidth
	if n.Resolution < e.MinSide || bin >= e.Bins {
		return &ofa.FieldError{Field: "r", Value: n.Resolution, Legal: fmt.Sprintf("%d to %d", e.MinSide, e.MinSide+e.Bins*e.BinWidth-1)}
	}
	visit(e.Inputs() - e.Bins + bin)
	return nil
}
