package evaluate

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// ErrPart is wrapped by every error about a part file, or about parts that do not make a whole.
var ErrPart = errors.New("not the parts of one whole")

// Source is what all parts of a job have to agree on.
type Source struct {
	Model   string `json:"model"`             // SHA-256 of the bundle's file
	Backend string `json:"backend,omitempty"` // such as "native/avx2"; calibration has but one
	Split   string `json:"split"`
	Data    string `json:"data"`   // identity of the data set, see imageio.Identity
	Images  int    `json:"images"` // of the data set, or the front of it that is used
}

// Part is a shard's share of an evaluation.
type Part struct {
	Source
	Name   string      `json:"name"` // of the data set's folder, for people: machines may have it elsewhere
	From   int         `json:"from"` // images From to To-1
	To     int         `json:"to"`
	Levels []PartLevel `json:"levels"`

	file string
}

// PartLevel is what one network made of the part's images.
type PartLevel struct {
	Level  int    `json:"level"` // -1 for a sub-network that is no level
	Subnet string `json:"subnet"`
	Counts
}

// CalibrationPart is a shard's share of a calibration.
type CalibrationPart struct {
	Source
	Name    string              `json:"name"`  // of the data set, for people
	Batch   int                 `json:"batch"` // images in a batch; the last may have fewer
	From    int                 `json:"from"`  // batches From to To-1
	To      int                 `json:"to"`
	Subnets []CalibrationSubnet `json:"subnets"`

	file string
}

// CalibrationSubnet is what the part's batches say of one sub-network.
type CalibrationSubnet struct {
	Subnet  string  `json:"subnet"`
	Batches []Batch `json:"batches"`
}

// Batch is the statistics of each batch normalisation over one batch, a value a channel.
type Batch struct {
	Images    int
	Mean, Var [][]float64
}

// On disk the numbers are little-endian float64 in base64: exact, and short.
type batchJSON struct {
	Images int      `json:"images"`
	Mean   []string `json:"mean"`
	Var    []string `json:"var"`
}

// MarshalJSON keeps every bit.
func (b Batch) MarshalJSON() ([]byte, error) {
	return json.Marshal(batchJSON{b.Images, encodeNumbers(b.Mean), encodeNumbers(b.Var)})
}

// UnmarshalJSON reads what MarshalJSON writes, and refuses numbers that are not finite.
func (b *Batch) UnmarshalJSON(data []byte) error {
	var in batchJSON
	if err := strict(data, &in); err != nil {
		return err
	}
	out := Batch{Images: in.Images}
	var err error
	if out.Mean, err = decodeNumbers(in.Mean); err != nil {
		return fmt.Errorf("mean: %w", err)
	}
	if out.Var, err = decodeNumbers(in.Var); err != nil {
		return fmt.Errorf("var: %w", err)
	}
	*b = out
	return nil
}

func encodeNumbers(lists [][]float64) []string {
	out := make([]string, len(lists))
	for i, list := range lists {
		var raw []byte
		for _, v := range list {
			raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
		}
		out[i] = base64.StdEncoding.EncodeToString(raw)
	}
	return out
}

func decodeNumbers(texts []string) ([][]float64, error) {
	out := make([][]float64, len(texts))
	for i, text := range texts {
		raw, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil || len(raw)%8 != 0 {
			return nil, fmt.Errorf("list %d is not the base64 of float64 numbers", i)
		}
		for ; len(raw) > 0; raw = raw[8:] {
			v := math.Float64frombits(binary.LittleEndian.Uint64(raw))
			if v-v != 0 {
				return nil, fmt.Errorf("list %d has %v, expected finite numbers", i, v)
			}
			out[i] = append(out[i], v)
		}
	}
	return out, nil
}

// The two kinds of part files. The number is that of the format.
const (
	evaluationKind  = "dynofa evaluation part 1"
	calibrationKind = "dynofa calibration part 1"
)

// envelope is a part file. The hash is that of the part's bytes.
type envelope struct {
	Kind   string          `json:"kind"`
	SHA256 string          `json:"sha256"`
	Part   json.RawMessage `json:"part"`
}

// Encode is the part's file. Equal parts give equal bytes.
func (p *Part) Encode() ([]byte, error) { return seal(evaluationKind, p) }

// Encode is the part's file. Equal parts give equal bytes.
func (p *CalibrationPart) Encode() ([]byte, error) { return seal(calibrationKind, p) }

func seal(kind string, part any) ([]byte, error) {
	body, err := json.Marshal(part)
	if err != nil {
		return nil, fmt.Errorf("evaluate: %w", err)
	}
	sum := sha256.Sum256(body)
	file, err := json.Marshal(envelope{kind, hex.EncodeToString(sum[:]), body})
	return append(file, '\n'), err
}

// unseal checks that a file is whole and of the kind, and reads its part.
func unseal(name string, data []byte, kind string, part any) error {
	var e envelope
	if err := strict(data, &e); err != nil {
		return fmt.Errorf("evaluate: %s: %w: not a whole part file: %w", name, ErrPart, err)
	}
	if e.Kind != kind {
		return fmt.Errorf("evaluate: %s: %w: it is a %.60q, expected a %q", name, ErrPart, e.Kind, kind)
	}
	if sum := sha256.Sum256(e.Part); hex.EncodeToString(sum[:]) != e.SHA256 {
		return fmt.Errorf("evaluate: %s: %w: the content has SHA-256 %x, expected the file's own %.64q", name, ErrPart, sum, e.SHA256)
	}
	if err := strict(e.Part, part); err != nil {
		return fmt.Errorf("evaluate: %s: %w: %w", name, ErrPart, err)
	}
	return nil
}

// strict reads one JSON value without unknown fields, and nothing after it.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more text after the JSON object")
	}
	return nil
}

// DecodePart reads a part file; name is for messages.
func DecodePart(name string, data []byte) (*Part, error) {
	p := &Part{file: name}
	if err := unseal(name, data, evaluationKind, p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("evaluate: %s: %w: %w", name, ErrPart, err)
	}
	return p, nil
}

func (p *Part) check() error {
	if err := checkRange("images", p.From, p.To, p.Images); err != nil {
		return err
	}
	if len(p.Levels) == 0 {
		return errors.New("no levels")
	}
	for i, l := range p.Levels {
		if l.Top1 < 0 || l.Top5 < l.Top1 || l.Top5 > p.To-p.From {
			return fmt.Errorf("levels[%d]: top1 is %d and top5 %d of %d images", i, l.Top1, l.Top5, p.To-p.From)
		}
	}
	return nil
}

// DecodeCalibrationPart reads a part file; name is for messages. Whether the numbers fit a sub-network is not
// checked.
func DecodeCalibrationPart(name string, data []byte) (*CalibrationPart, error) {
	p := &CalibrationPart{file: name}
	if err := unseal(name, data, calibrationKind, p); err != nil {
		return nil, err
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("evaluate: %s: %w: %w", name, ErrPart, err)
	}
	return p, nil
}

func (p *CalibrationPart) check() error {
	if p.Batch < 1 || p.Images < 1 || p.Images > math.MaxInt32 {
		return fmt.Errorf("%d images in batches of %d, expected at least one of both", p.Images, p.Batch)
	}
	if err := checkRange("batches", p.From, p.To, p.batches()); err != nil {
		return err
	}
	if len(p.Subnets) == 0 {
		return errors.New("no subnets")
	}
	for i, s := range p.Subnets {
		if len(s.Batches) != p.To-p.From {
			return fmt.Errorf("subnets[%d] has %d batches, expected %d", i, len(s.Batches), p.To-p.From)
		}
		for k, b := range s.Batches {
			if want := min(p.Batch, p.Images-(p.From+k)*p.Batch); b.Images != want {
				return fmt.Errorf("subnets[%d]: batch %d has %d images, expected %d", i, p.From+k, b.Images, want)
			}
		}
	}
	return nil
}

func (p *CalibrationPart) batches() int { return (p.Images-1)/p.Batch + 1 }

func checkRange(what string, from, to, of int) error {
	if from < 0 || to <= from || to > of || of > math.MaxInt32 {
		return fmt.Errorf("%s %d to %d of %d, expected at least one, and all among the first", what, from, to-1, of)
	}
	return nil
}

// Merge adds the parts of an evaluation up to the whole, in any order. The error names the first two parts that
// differ in what they evaluated, or the images that are in two parts or in none.
func Merge(parts []*Part) (*Part, error) {
	sorted := slices.SortedStableFunc(slices.Values(parts), func(a, b *Part) int { return a.From - b.From })
	var spans []span
	for _, p := range sorted {
		spans = append(spans, span{p.file, p.Source, p.From, p.To})
	}
	if err := join(spans, "images", func(s Source) int { return s.Images }); err != nil {
		return nil, err
	}
	first := sorted[0]
	whole := &Part{Source: first.Source, Name: first.Name, To: first.Images, Levels: slices.Clone(first.Levels)}
	for _, p := range sorted[1:] {
		if len(p.Levels) != len(whole.Levels) {
			return nil, fmt.Errorf("evaluate: %w: %s has %d levels, %s has %d", ErrPart, first.file, len(first.Levels), p.file, len(p.Levels))
		}
		for i, l := range p.Levels {
			if w := whole.Levels[i]; l.Level != w.Level || l.Subnet != w.Subnet {
				return nil, fmt.Errorf("evaluate: %w: levels[%d] of %s is %d, %.200q, that of %s is %d, %.200q", ErrPart, i, first.file, w.Level, w.Subnet, p.file, l.Level, l.Subnet)
			}
			whole.Levels[i].add(l.Counts)
		}
	}
	return whole, nil
}

// MergeCalibration is Merge for calibrations.
func MergeCalibration(parts []*CalibrationPart) (*CalibrationPart, error) {
	sorted := slices.SortedStableFunc(slices.Values(parts), func(a, b *CalibrationPart) int { return a.From - b.From })
	var spans []span
	for _, p := range sorted {
		if p.Batch != sorted[0].Batch {
			return nil, fmt.Errorf("evaluate: %w: %s has batches of %d images, %s of %d", ErrPart, sorted[0].file, sorted[0].Batch, p.file, p.Batch)
		}
		spans = append(spans, span{p.file, p.Source, p.From, p.To})
	}
	if err := join(spans, "batches", func(Source) int { return sorted[0].batches() }); err != nil {
		return nil, err
	}
	first := sorted[0]
	whole := &CalibrationPart{Source: first.Source, Name: first.Name, Batch: first.Batch, To: first.batches(), Subnets: slices.Clone(first.Subnets)}
	for _, p := range sorted[1:] {
		if len(p.Subnets) != len(whole.Subnets) {
			return nil, fmt.Errorf("evaluate: %w: %s has %d sub-networks, %s has %d", ErrPart, first.file, len(first.Subnets), p.file, len(p.Subnets))
		}
		for i, s := range p.Subnets {
			w := &whole.Subnets[i]
			if s.Subnet != w.Subnet {
				return nil, fmt.Errorf("evaluate: %w: subnets[%d] of %s is %.200q, that of %s is %.200q", ErrPart, i, first.file, w.Subnet, p.file, s.Subnet)
			}
			w.Batches = slices.Concat(w.Batches, s.Batches)
		}
	}
	return whole, nil
}

// span is where a part lies in the whole.
type span struct {
	name     string
	source   Source
	from, to int
}

// join checks that spans, sorted by their beginning, are of one source and cover the whole once.
func join(spans []span, what string, total func(Source) int) error {
	if len(spans) == 0 {
		return fmt.Errorf("evaluate: %w: no parts given", ErrPart)
	}
	first := spans[0]
	for _, s := range spans[1:] {
		for _, field := range []struct {
			name string
			a, b any
		}{
			{"model", first.source.Model, s.source.Model},
			{"backend", first.source.Backend, s.source.Backend},
			{"split", first.source.Split, s.source.Split},
			{"data", first.source.Data, s.source.Data},
			{"images", first.source.Images, s.source.Images},
		} {
			if field.a != field.b {
				return fmt.Errorf("evaluate: %w: %s of %s is %.64s, that of %s is %.64s", ErrPart, field.name, first.name, fmt.Sprint(field.a), s.name, fmt.Sprint(field.b))
			}
		}
	}
	at, before := 0, ""
	for _, s := range append(slices.Clone(spans), span{from: total(first.source)}) {
		if s.from > at {
			return fmt.Errorf("evaluate: %w: %s %d to %d of %d are in none of the %d parts", ErrPart, what, at, s.from-1, total(first.source), len(spans))
		}
		if s.from < at {
			return fmt.Errorf("evaluate: %w: %s %d to %d are both in %s and in %s", ErrPart, what, s.from, min(at, s.to)-1, before, s.name)
		}
		at, before = s.to, s.name
	}
	return nil
}
