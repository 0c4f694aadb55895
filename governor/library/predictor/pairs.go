package predictor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Pair is a sub-network and its measured accuracy.
type Pair struct {
	Subnet   ofa.Subnet `json:"subnet"`
	Accuracy float64    `json:"accuracy"` // a fraction, 0.8 for 80 %
	Images   int        `json:"images"`   // that it was measured on: more of them weigh more
}

// Limits of a file of Pairs.
const (
	maxPairsBytes = 64 << 20
	maxPairs      = 1 << 16
	maxImages     = 1 << 40
)

// ReadPairs reads JSON with a top-level array "pairs" of them. Other keys are ignored. At most 64 MiB and 65536 pairs
// are read. The error names the index of the pair and its field. Whether a Space offers the Subnets is not checked.
func ReadPairs(r io.Reader) ([]Pair, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxPairsBytes+1))
	if err == nil && len(data) > maxPairsBytes {
		err = fmt.Errorf("larger than %d bytes", maxPairsBytes)
	}
	var pairs []Pair
	if err == nil {
		pairs, err = parsePairs(json.NewDecoder(bytes.NewReader(data)))
	}
	if err != nil {
		return nil, fmt.Errorf("predictor: pairs: %w", err)
	}
	return pairs, nil
}

func parsePairs(d *json.Decoder) ([]Pair, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New(`expected a JSON object with an array "pairs"`)
	}
	var pairs []Pair
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		if key != "pairs" {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return nil, fmt.Errorf("%.60q: %w", key, err)
			}
			continue
		}
		if pairs != nil {
			return nil, errors.New(`"pairs" is given twice`)
		}
		if pairs, err = parseList(d); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("the object does not end: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON object")
	}
	if pairs == nil {
		return nil, errors.New(`no "pairs", expected an array at the top level`)
	}
	return pairs, nil
}

// parseList reads one pair at a time, so that memory follows what is legal and not what is there.
func parseList(d *json.Decoder) ([]Pair, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf(`"pairs" is %v, expected an array`, t)
	}
	pairs := []Pair{}
	for d.More() {
		if len(pairs) == maxPairs {
			return nil, fmt.Errorf("more than %d pairs", maxPairs)
		}
		var p struct {
			Subnet   *ofa.Subnet `json:"subnet"`
			Accuracy *float64    `json:"accuracy"`
			Images   int         `json:"images"`
		}
		if err := d.Decode(&p); err != nil {
			return nil, fmt.Errorf("pairs[%d]: %w", len(pairs), err)
		}
		if p.Subnet == nil || p.Accuracy == nil {
			return nil, fmt.Errorf(`pairs[%d]: expected {"subnet", "accuracy", "images"}`, len(pairs))
		}
		pair := Pair{*p.Subnet, *p.Accuracy, p.Images}
		if err := pair.check(); err != nil {
			return nil, fmt.Errorf("pairs[%d]: %w", len(pairs), err)
		}
		pairs = append(pairs, pair)
	}
	if _, err := d.Token(); err != nil { // the closing bracket
		return nil, fmt.Errorf("pairs[%d]: the array does not end: %w", len(pairs), err)
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
