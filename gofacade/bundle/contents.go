package bundle

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Contents is a supernet with its library in memory, on its way into a bundle. It is plain data: it may be
// read by several goroutines as long as nobody writes to it.
type Contents struct {
	Space *ofa.Space
	// Tensors are the supernet's float32 values by canonical name, in PyTorch layout; the shapes are those of
	// Space.Tensors. A transform matrix that is absent is the identity.
	Tensors    map[string][]float32
	Levels     []Level // the library, fast to accurate
	Provenance Provenance
}

// Level is one entry of the library: a sub-network with its own batch normalisation and what was measured.
type Level struct {
	Subnet      ofa.Subnet `json:"subnet"`
	Accuracy    []Accuracy `json:"accuracy,omitempty"`
	Latency     []Latency  `json:"latency,omitempty"`
	MACs        int64      `json:"macs"`                  // multiply-adds at batch 1; 0 lets Write fill it in
	Params      int64      `json:"params"`                // parameters of the sub-network; 0 lets Write fill it in
	Calibration string     `json:"calibration,omitempty"` // how the batch normalisation statistics came about
	// Norms is the batch normalisation folded to scale and shift, one entry for each of Space.Norms(Subnet), in
	// that order.
	Norms []ofa.Affine `json:"-"`
}

// Accuracy is one measurement of a level. Numbers in percent; 0 where unknown.
type Accuracy struct {
	Data   string  `json:"data"`             // which images
	Images int     `json:"images,omitempty"` // how many
	Top1   float64 `json:"top1"`
	Top5   float64 `json:"top5,omitempty"`
	Low    float64 `json:"low,omitempty"`  // 95 % interval of Top1
	High   float64 `json:"high,omitempty"` // 95 % interval of Top1
}

// Latency is one measurement of a level at batch 1, in milliseconds; 0 where unknown.
type Latency struct {
	Device   string  `json:"device"`
	Backend  string  `json:"backend,omitempty"` // e.g. "native/avx2"
	Threads  int     `json:"threads,omitempty"`
	MedianMS float64 `json:"median_ms"`
	P10MS    float64 `json:"p10_ms,omitempty"`
	P90MS    float64 `json:"p90_ms,omitempty"`
	Runs     int     `json:"runs,omitempty"`
}

// Provenance says where a supernet comes from. Keys other than the named ones are kept in Notes: as they are if
// they are text, else as their JSON.
type Provenance struct {
	Source       string            `json:"source,omitempty"`        // name of the file it was imported from
	SourceSHA256 string            `json:"source_sha256,omitempty"` // of that file, lower-case hexadecimal
	Training     string            `json:"training,omitempty"`      // data set and recipe
	Commands     []string          `json:"commands,omitempty"`      // commands that made it, in order
	Notes        map[string]string `json:"notes,omitempty"`
}

// UnmarshalJSON reads what encoding/json writes, and any other JSON object into Notes.
func (p *Provenance) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("provenance: %w", err)
	}
	var out Provenance
	known := map[string]any{"source": &out.Source, "source_sha256": &out.SourceSHA256, "training": &out.Training,
		"commands": &out.Commands, "notes": &out.Notes}
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if dst, ok := known[key]; ok && json.Unmarshal(fields[key], dst) == nil {
			continue
		}
		if out.Notes == nil {
			out.Notes = map[string]string{}
		}
		var text string
		if json.Unmarshal(fields[key], &text) != nil {
			text = string(fields[key])
		}
		out.Notes[key] = text
	}
	*p = out
	return nil
}

// FoldNorms gives the batch normalisations of a legal Subnet as the supernet itself has them, in the order of
// Space.Norms: the first channels of its weights and running statistics, folded. tensor returns a supernet
// tensor by canonical name, as [Bundle.Tensor] does.
func FoldNorms(space *ofa.Space, n ofa.Subnet, tensor func(name string) []float32) []ofa.Affine {
	norms := space.Norms(n)
	out := make([]ofa.Affine, len(norms))
	for i, norm := range norms {
		part := func(suffix string) []float32 { return tensor(norm.Name + suffix)[:norm.Channels] }
		out[i] = ofa.Fold(part(".weight"), part(".bias"), part(".running_mean"), part(".running_var"), space.BNEps)
	}
	return out
}

// checkFold says which of the supernet's own batch normalisations, whose tensors are finite, is not when it is folded.
func checkFold(space *ofa.Space, tensor func(name string) []float32) error {
	largest := space.Largest()
	for i, a := range FoldNorms(space, largest, tensor) {
		for ch := range a.Scale {
			if !finite(a.Scale[ch]) || !finite(a.Shift[ch]) {
				return fmt.Errorf("batch normalisation %s: channel %d has scale %v and shift %v, expected finite float32 values",
					space.Norms(largest)[i].Name, ch, a.Scale[ch], a.Shift[ch])
			}
		}
	}
	return nil
}

// finite is false for an infinity or a NaN, whose exponents are all ones.
func finite(x float32) bool { return math.Float32bits(x)&0x7f800000 != 0x7f800000 }

// Tensor returns a tensor by canonical name, nil if the Contents lack it.
func (c *Contents) Tensor(name string) []float32 { return c.Tensors[name] }

// check says what is wrong with the numbers of a supernet tensor.
func check(name string, v []float32) error {
	for i, x := range v {
		if !finite(x) {
			return fmt.Errorf("tensor %s: [%d] is %v, expected a finite number", name, i, x)
		}
	}
	if !strings.HasSuffix(name, ".running_var") {
		return nil
	}
	for i, x := range v {
		if x < 0 {
			return fmt.Errorf("tensor %s: [%d] is %v, expected a variance of at least 0", name, i, x)
		}
	}
	return nil
}

// check says what is wrong with a level but for its batch normalisation.
func (l *Level) check(space *ofa.Space) error {
	if err := space.Check(l.Subnet); err != nil {
		return fmt.Errorf("subnet: %w", err)
	}
	if macs, params := space.Cost(l.Subnet); macs != l.MACs || params != l.Params {
		return fmt.Errorf("macs and params are %d and %d, expected the sub-network's %d and %d", l.MACs, l.Params, macs, params)
	}
	for i, a := range l.Accuracy {
		for _, v := range []float64{a.Top1, a.Top5, a.Low, a.High} {
			if !(v >= 0 && v <= 100) || a.Images < 0 {
				return fmt.Errorf("accuracy[%d] is %+v, expected percentages from 0 to 100", i, a)
			}
		}
	}
	for i, m := range l.Latency {
		for _, v := range []float64{m.MedianMS, m.P10MS, m.P90MS} {
			if !(v >= 0 && v <= math.MaxFloat64) || m.Threads < 0 || m.Runs < 0 {
				return fmt.Errorf("latency[%d] is %+v, expected numbers of at least 0", i, m)
			}
		}
	}
	return nil
}
