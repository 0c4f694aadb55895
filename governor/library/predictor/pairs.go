package predictor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/internal/jsonlist"
)

// Pair is a sub-network and its measured accuracy.
type Pair struct {
	Subnet   ofa.Subnet `json:"subnet"`
	Accuracy float64    `json:"accuracy"` // a fraction, 0.8 for 80 %
	Images   int        `json:"images"`   // that it was measured on: more of them weigh more
}

// Limits of a file of Pairs.
const (
	maxPairs  = 1 << 16
	maxImages = math.MaxInt32
)

// ReadPairs reads JSON with a top-level array "pairs" of them. Other keys are ignored. At most 64 MiB and 65536 pairs
// are read. The error names the index of the pair and its field. Whether a Space offers the Subnets is not checked.
func ReadPairs(r io.Reader) ([]Pair, error) {
	pairs, err := jsonlist.Read(r, "pairs", maxPairs, func(d *json.Decoder) (Pair, error) {
		var p struct {
			Subnet   *ofa.Subnet `json:"subnet"`
			Accuracy *float64    `json:"accuracy"`
			Images   int         `json:"images"`
		}
		if err := d.Decode(&p); err != nil {
			return Pair{}, err
		}
		if p.Subnet == nil || p.Accuracy == nil {
			return Pair{}, errors.New(`expected {"subnet", "accuracy", "images"}`)
		}
		pair := Pair{*p.Subnet, *p.Accuracy, p.Images}
		return pair, pair.check()
	})
	if err != nil {
		return nil, fmt.Errorf("predictor: pairs: %w", err)
	}
	return pairs, nil
}

func (p *Pair) check() error {
	if !(p.Accuracy >= 0 && p.Accuracy <= 1) {
		return &ofa.FieldError{Field: "accuracy", Value: p.Accuracy, Legal: "a fraction from 0 to 1"}
	}
	if p.Images < 1 || p.Images > maxImages {
		return &ofa.FieldError{Field: "images", Value: p.Images, Legal: fmt.Sprintf("1 to %d", maxImages)}
	}
	return nil
}
