// Package library is the offline half of the governor: it scores the sub-networks of a supernet by cost,
// predicted accuracy and predicted latency, so that the best of them become the levels of a bundle.
//
// Its parts are [github.com/dynofa/dynofa/governor/library/latency] (look-up tables), profile (measures them) and
// [github.com/dynofa/dynofa/governor/library/predictor] (accuracy).
package library

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/internal/jsonlist"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// Scored is what is known of a Subnet without running it. A pointer is nil, and null in JSON, where nobody was
// asked.
type Scored struct {
	MACs      int64    `json:"macs"`       // multiply-adds at batch 1
	Params    int64    `json:"params"`     // parameters
	Accuracy  *float64 `json:"accuracy"`   // predicted top-1 as a fraction, 0.8 for 80 %
	LatencyMS *float64 `json:"latency_ms"` // predicted by the table, milliseconds
}

// Score scores Subnets in their order; the predictor and the table may be nil. Any image side is scored that the
// predictor and the table know. The error names the index of the first Subnet that the Space, the predictor or
// the table does not know, and its field or key. Safe for concurrent use.
func Score(s *ofa.Space, p *predictor.Predictor, t *latency.Table, subnets []ofa.Subnet) ([]Scored, error) {
	scored := make([]Scored, len(subnets))
	for i, n := range subnets {
		if err := score(&scored[i], s, p, t, n); err != nil {
			return nil, fmt.Errorf("library: sub-network %d: %w", i, err)
		}
	}
	return scored, nil
}

func score(to *Scored, s *ofa.Space, p *predictor.Predictor, t *latency.Table, n ofa.Subnet) error {
	if err := s.CheckArch(n); err != nil {
		return err
	}
	to.MACs, to.Params = s.Cost(n)
	if p != nil {
		accuracy, err := p.Accuracy(n)
		if err != nil {
			return err
		}
		to.Accuracy = &accuracy
	}
	if t != nil {
		ms, err := t.Predict(s, n)
		if err != nil {
			return err
		}
		to.LatencyMS = &ms
	}
	return nil
}

// Limits of a file of Subnets; the largest Space has 1024 slots.
const (
	maxSpecs      = 1 << 20
	maxSpecsSlots = 1024
)

// ReadSpecs reads Subnets from JSON with a top-level array "cases" of them. Other keys, of the top level and of
// the cases, are ignored. At most 64 MiB and a million Subnets are read. The error names the index of the case and its
// field. Whether a Space offers the Subnets is not checked.
func ReadSpecs(r io.Reader) ([]ofa.Subnet, error) {
	subnets, err := jsonlist.Read(r, "cases", maxSpecs, func(d *json.Decoder) (n ofa.Subnet, err error) {
		if err = d.Decode(&n); err == nil {
			err = checkLists(n)
		}
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("library: specs: %w", err)
	}
	return subnets, nil
}

func checkLists(n ofa.Subnet) error {
	for _, list := range []struct {
		field string
		v     []int
	}{{"ks", n.Kernels}, {"e", n.Expands}, {"d", n.Depths}} {
		if len(list.v) < 1 || len(list.v) > maxSpecsSlots {
			return &ofa.FieldError{
				Field: list.field, Value: fmt.Sprintf("%d long", len(list.v)), Legal: fmt.Sprintf("a list of 1 to %d integers", maxSpecsSlots),
			}
		}
	}
	return nil
}
