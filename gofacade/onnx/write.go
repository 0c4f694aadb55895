package onnx

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// The versions that the file declares: HardSwish came with operator set 14, and IR version 8 is old enough
// for every runtime that has it.
const (
	irVersion = 8
	opset     = 14
)

// maxSize bounds a graph: protobuf's readers refuse messages of 2 GiB. It leaves room for what is around it.
const maxSize = math.MaxInt32 - 1<<20

// Options says what the file tells about itself beyond the network. The zero value is fine, and so is nil.
type Options struct {
	Version  string            // of dynofa, the producer
	Metadata map[string]string // further entries of metadata_props; keys "dynofa.*" that Write makes are taken
}

// Write writes a Subnet as an ONNX model; with a bundle b, tensor is b.Tensor and norms are a level's own
// (b.Levels()[i].Norms) or the supernet's (bundle.FoldNorms). tensor returns the supernet's tensors by their names in
// [ofa.Space.Tensors], or nil; those of the batch normalisations are not asked for, norms stand in for them in
// the order of [ofa.Space.Norms]. The image side may be any that [ofa.Space.CheckArch] lets pass.
//
// Everything is checked before the first byte is written; an error names the field or tensor. A sub-network's
// weights are held once more than the caller holds them. Write may be called from many goroutines.
func Write(w io.Writer, s *ofa.Space, n ofa.Subnet, tensor func(name string) []float32, norms []ofa.Affine, o *Options) error {
	if o == nil {
		o = &Options{}
	}
	if err := s.Validate(); err != nil {
		return fmt.Errorf("onnx: space: %w", err)
	}
	if err := s.CheckArch(n); err != nil {
		return fmt.Errorf("onnx: sub-network: %w", err)
	}
	if err := checkTensors(s, tensor); err != nil {
		return err
	}
	if err := checkNorms(s.Norms(n), norms); err != nil {
		return err
	}
	meta, err := metadata(s, n, o)
	if err != nil {
		return err
	}

	g := build(s, n, tensor, norms)
	if err := g.check(); err != nil {
		return err
	}
	m := model{
		version: o.Version,
		doc:     fmt.Sprintf("Sub-network %s of the once-for-all supernet %s, width %v.", s.Text(n), s.Family, s.Width),
		graph:   g,
		meta:    meta,
	}
	if size := m.graph.size(); size > maxSize {
		return fmt.Errorf("onnx: the graph takes %d bytes, a file holds at most %d", size, maxSize)
	}
	if err := m.write(w); err != nil {
		return fmt.Errorf("onnx: write: %w", err)
	}
	return nil
}

// checkTensors checks all tensors of the supernet but those of batch normalisations.
func checkTensors(s *ofa.Space, tensor func(string) []float32) error {
	norm := map[string]bool{}
	for _, bn := range s.Norms(s.Largest()) {
		for _, part := range []string{".weight", ".bias", ".running_mean", ".running_var"} {
			norm[bn.Name+part] = true
		}
	}
	for _, spec := range s.Tensors() {
		if norm[spec.Name] {
			continue
		}
		want := 1
		for _, d := range spec.Shape {
			want *= d
		}
		got := tensor(spec.Name)
		if got == nil && spec.Identity {
			continue
		}
		if got == nil {
			return fmt.Errorf("onnx: tensor %s is absent, expected shape %v", spec.Name, spec.Shape)
		}
		if len(got) != want {
			return fmt.Errorf("onnx: tensor %s has %d values, expected %d (shape %v)", spec.Name, len(got), want, spec.Shape)
		}
	}
	return nil
}

func checkNorms(want []ofa.Norm, got []ofa.Affine) error {
	if len(got) != len(want) {
		return fmt.Errorf("onnx: %d batch normalisations, expected %d", len(got), len(want))
	}
	for i, bn := range want {
		if a := got[i]; len(a.Scale) != bn.Channels || len(a.Shift) != bn.Channels {
			return fmt.Errorf("onnx: batch normalisation %d (%s) has %d scales and %d shifts, expected %d of each",
				i, bn.Name, len(a.Scale), len(a.Shift), bn.Channels)
		}
	}
	return nil
}

// metadata lists what the file tells about itself, the caller's entries last and sorted.
func metadata(s *ofa.Space, n ofa.Subnet, o *Options) ([][2]string, error) {
	macs, params := s.Cost(n)
	number := func(v float32) string { return strconv.FormatFloat(float64(v), 'g', -1, 32) }
	three := func(v [3]float32) string { return number(v[0]) + "," + number(v[1]) + "," + number(v[2]) }
	meta := [][2]string{
		{"dynofa.family", s.Family},
		{"dynofa.width", strconv.FormatFloat(s.Width, 'g', -1, 64)},
		{"dynofa.subnet", s.Text(n)},
		{"dynofa.macs", strconv.FormatInt(macs, 10)},
		{"dynofa.params", strconv.FormatInt(params, 10)},
		// Shorter side to ceil(r/crop), centre r x r, RGB, (x/255 - mean) / std.
		{"dynofa.preprocess.crop", strconv.FormatFloat(s.Preprocess.Crop, 'g', -1, 64)},
		{"dynofa.preprocess.mean", three(s.Preprocess.Mean)},
		{"dynofa.preprocess.std", three(s.Preprocess.Std)},
	}
	for _, kv := range meta {
		if _, taken := o.Metadata[kv[0]]; taken {
			return nil, fmt.Errorf("onnx: metadata key %q is taken", kv[0])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(o.Metadata)) {
		meta = append(meta, [2]string{key, o.Metadata[key]})
	}
	texts := []string{o.Version}
	for _, kv := range meta {
		texts = append(texts, kv[0], kv[1])
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("onnx: text %q is not UTF-8", text)
		}
	}
	return meta, nil
}
