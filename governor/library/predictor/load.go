package predictor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/bundle/torch"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// metadataKey is the entry of a safetensors file's __metadata__ that makes it a predictor.
const metadataKey = "dynofa.predictor"

// metadata is its JSON.
type metadata struct {
	Version  int        `json:"version"`
	Space    *ofa.Space `json:"space"` // without labels
	Encoding Encoding   `json:"encoding"`
	Report   Report     `json:"report"`
}

// version of the metadata that is written, and the newest that is read.
const version = 1

// Load reads a predictor for a Space: a file that [Predictor.Save] wrote for this Space, or a PyTorch checkpoint of
// [New]'s tensors with the encoding [Public], such as acc_predictor.pth. The file is data only and may be hostile; the
// error names it and what is wrong: another Space, the tensor, its shape and what was expected.
func Load(path string, s *ofa.Space) (*Predictor, error) {
	p, err := load(path, s)
	if err != nil {
		return nil, fmt.Errorf("predictor: %s: %w", path, err)
	}
	return p, nil
}

func load(path string, s *ofa.Space) (*Predictor, error) {
	start, err := head(path)
	if err != nil {
		return nil, err
	}
	if safetensors.IsFile(start) {
		f, err := safetensors.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close() //nolint:errcheck // only read
		return decode(f, s)
	}
	c, err := torch.Open(path)
	if err != nil {
		return nil, err
	}
	defer c.Close() //nolint:errcheck // only read
	tensors := make(map[string]Tensor, len(c.Tensors))
	for _, t := range c.Tensors {
		data, err := t.Float32()
		if err != nil {
			return nil, err
		}
		tensors[t.Name] = Tensor{t.Shape, data}
	}
	return build(Public(s), tensors)
}

// head is the first nine bytes of a file, or as many as there are.
func head(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe could block for ever
		return nil, errors.New("expected a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	start := make([]byte, 9)
	n, err := io.ReadFull(f, start)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return start[:n], err
}

// decode reads what encode wrote.
func decode(f *safetensors.File, s *ofa.Space) (*Predictor, error) {
	text, ok := f.Metadata[metadataKey]
	if !ok {
		return nil, fmt.Errorf("no metadata %q, expected a predictor", metadataKey)
	}
	var m metadata
	err := json.Unmarshal([]byte(text), &struct {
		Version *int `json:"version"`
	}{&m.Version})
	if err == nil && m.Version != version {
		return nil, fmt.Errorf("metadata version is %d, expected %d", m.Version, version)
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &m)
	}
	if err == nil && m.Space == nil {
		err = errors.New("no space")
	}
	if err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metadataKey, err)
	}
	if field := difference(m.Space, s); field != "" {
		return nil, fmt.Errorf("trained for another space (its %s differ): %s, expected %s", field, describe(m.Space), describe(s))
	}
	if own := Own(s); !reflect.DeepEqual(m.Encoding, own) {
		return nil, fmt.Errorf("encoding is %+v, expected that of its space, %+v", m.Encoding, own)
	}
	tensors := make(map[string]Tensor, len(f.Tensors))
	for i := range f.Tensors {
		t := &f.Tensors[i]
		data, err := t.Float32()
		if err != nil {
			return nil, err
		}
		tensors[t.Name] = Tensor{t.Shape, data}
	}
	return build(m.Encoding, tensors)
}

// difference names a part in which two Spaces are not one for a predictor, or is empty. Labels and the like do not count.
func difference(a, b *ofa.Space) string {
	for _, part := range []struct {
		name string
		a, b any
	}{
		{"kernels", a.Kernels, b.Kernels}, {"expands", a.Expands, b.Expands}, {"resolutions", a.Resolutions, b.Resolutions},
		{"classes", a.Classes, b.Classes}, {"stages", a.Stages, b.Stages},
		{"stem and head", []any{a.Stem, a.First, a.Head}, []any{b.Stem, b.First, b.Head}},
	} {
		if !reflect.DeepEqual(part.a, part.b) {
			return part.name
		}
	}
	return ""
}

func describe(s *ofa.Space) string {
	return fmt.Sprintf("%.40q of width %g, %d classes, %d stages, kernels %v, expands %v, resolutions %v",
		s.Family, s.Width, s.Classes, len(s.Stages), s.Kernels, s.Expands, s.Resolutions)
}

// Save writes a predictor that [Train] has made into a safetensors file, which appears complete under its name or not at
// all. Its metadata say for which Space it is and what Train reported.
func (p *Predictor) Save(path string, s *ofa.Space, r Report) error {
	tensors, text, err := p.encode(s, r)
	if err == nil {
		err = safetensors.WriteFile(path, tensors, map[string]string{metadataKey: text})
	}
	if err != nil {
		return fmt.Errorf("predictor: write %s: %w", path, err)
	}
	return nil
}

func (p *Predictor) encode(s *ofa.Space, r Report) ([]safetensors.Data, string, error) {
	if !reflect.DeepEqual(p.encoding, Own(s)) {
		return nil, "", errors.New("the predictor is not one that was trained for this space")
	}
	var tensors []safetensors.Data
	for i := range p.layers {
		l := &p.layers[i]
		outputs := len(l.bias)
		tensors = append(tensors,
			safetensors.Data{
				Name: fmt.Sprintf("%d.weight", 2*i), Shape: []int{outputs, len(l.weight) / outputs},
				F32: transpose(l.weight, len(l.weight)/outputs, outputs),
			},
			safetensors.Data{Name: fmt.Sprintf("%d.bias", 2*i), Shape: []int{outputs}, F32: l.bias})
	}
	bare := *s
	bare.Labels = nil
	text, err := json.Marshal(metadata{version, &bare, p.encoding, r})
	return tensors, string(text), err
}
