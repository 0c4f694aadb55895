package bundle

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// counter is the tensor of a batch normalisation that inference has no use for.
const counter = ".num_batches_tracked"

// names are the canonical names of a space's tensors, with nil for the counters, which are dropped.
func names(space *ofa.Space) map[string]*ofa.TensorSpec {
	specs := space.Tensors()
	known := make(map[string]*ofa.TensorSpec, len(specs)*5/4)
	for i := range specs {
		known[specs[i].Name] = &specs[i]
	}
	for _, n := range space.Norms(space.Largest()) {
		known[n.Name+counter] = nil
	}
	return known
}

// renames are the rules of once-for-all's loader for names that are not the elastic network's, such as those of
// an extracted sub-network; the first that fits is applied.
var renames = [...]struct{ from, to string }{
	{".bn.bn.", ".bn."},
	{".conv.conv.weight", ".conv.weight"},
	{".linear.linear.", ".linear."},
	{".linear.", ".linear.linear."},
	{"bn.", "bn.bn."},
	{"conv.weight", "conv.conv.weight"},
}

// canonical turns an old or non-elastic name into the network's own, as once-for-all's loader does.
func canonical[T any](name string, known map[string]T) (string, bool) {
	name = strings.ReplaceAll(name, ".mobile_inverted_conv.", ".conv.")
	if _, ok := known[name]; ok {
		return name, true
	}
	for _, r := range renames {
		if strings.Contains(name, r.from) {
			name = strings.ReplaceAll(name, r.from, r.to)
			_, ok := known[name]
			return name, ok
		}
	}
	return name, false
}

// match is the outcome of laying a checkpoint's tensors beside a space's.
type match struct {
	shapes map[string][]int  // by canonical name
	from   map[string]string // the checkpoint's own name by canonical name
	// What does not fit, each in the order of the checkpoint or the space.
	unexpected, missing []ofa.TensorSpec
}

func (m *match) faults() int { return len(m.unexpected) + len(m.missing) }

// err names the first tensor that does not fit.
func (m *match) err() error {
	describe := func(list []ofa.TensorSpec) string {
		text := fmt.Sprintf("tensor %.200s", list[0].Name)
		if list[0].Shape != nil {
			text += fmt.Sprintf(" %v", list[0].Shape)
		}
		if len(list) > 1 {
			text += fmt.Sprintf(" and %d more", len(list)-1)
		}
		return text
	}
	switch {
	case len(m.missing) > 0 && len(m.unexpected) > 0:
		return fmt.Errorf("unexpected %s; missing %s", describe(m.unexpected), describe(m.missing))
	case len(m.unexpected) > 0:
		return fmt.Errorf("unexpected %s", describe(m.unexpected))
	case len(m.missing) > 0:
		return fmt.Errorf("missing %s", describe(m.missing))
	}
	return nil
}

// lay gives every tensor its canonical name in the space. Only a name that stands for the same tensor twice is
// an error; the rest is in the match.
func lay(tensors []ofa.TensorSpec, space *ofa.Space) (*match, error) {
	known := names(space)
	m := &match{shapes: map[string][]int{}, from: map[string]string{}}
	for _, t := range tensors {
		name, ok := canonical(t.Name, known)
		if !ok {
			m.unexpected = append(m.unexpected, t)
			continue
		}
		if other, twice := m.from[name]; twice {
			return nil, fmt.Errorf("tensors %.200s and %.200s are both %s", other, t.Name, name)
		}
		m.from[name], m.shapes[name] = t.Name, t.Shape
	}
	for _, spec := range space.Tensors() {
		if _, ok := m.shapes[spec.Name]; !ok && !spec.Identity {
			m.missing = append(m.missing, spec)
		}
	}
	return m, nil
}

// family is a kind of supernet that can be told from names and shapes.
type family struct {
	title string
	make  func(width float64, classes int) *ofa.Space
}

var families = [...]family{
	{"OFA-MobileNetV3", ofa.MobileNetV3},
	{"OFA-ProxylessNAS", ofa.ProxylessNAS},
}

// ErrUnknownSpace means that a checkpoint is not one of the supernets that can be told from names and shapes.
var ErrUnknownSpace = errors.New("its space has to be given: ImportOptions.Space, the import command's --space, or the metadata of a safetensors file")

// InferSpace tells from the names and shapes of a checkpoint's tensors which supernet it is: OFA-MobileNetV3 or
// OFA-ProxylessNAS at any width multiplier and number of classes, under current, old (2019-2020) or non-elastic
// names. Where no multiplier gives the channels they are taken as they are, with Width 0. What shapes do not
// show (strides, activations, resolutions, BN epsilon, preprocessing) is the family's. Anything else is an error
// that wraps [ErrUnknownSpace]. Shapes are compared with the space's only as far as needed to find it.
func InferSpace(tensors []ofa.TensorSpec) (*ofa.Space, error) {
	var closest *match
	var title string
	for _, f := range families {
		m, err := lay(tensors, f.make(1, 1))
		if err != nil {
			return nil, fmt.Errorf("bundle: infer the space: as %s: %w", f.title, err)
		}
		if m.faults() == 0 {
			space, err := f.fit(m.shapes)
			if err != nil {
				return nil, fmt.Errorf("bundle: infer the space: as %s: %w", f.title, err)
			}
			return space, nil
		}
		if closest == nil || m.faults() < closest.faults() {
			closest, title = m, f.title
		}
	}
	for i := range closest.missing {
		closest.missing[i].Shape = nil // those of a width that stands for all
	}
	return nil, fmt.Errorf("bundle: infer the space: %d tensors, closest to %s but %w; %w", len(tensors), title, closest.err(), ErrUnknownSpace)
}

// fit finds the family's space with the channels of a checkpoint.
func (f family) fit(shapes map[string][]int) (*ofa.Space, error) {
	var err error
	rows := func(name string) int {
		if s := shapes[name]; len(s) > 0 {
			return s[0]
		}
		err = fmt.Errorf("tensor %s has the shape %v, expected at least one dimension", name, shapes[name])
		return 0
	}
	s := f.make(1, rows("classifier.linear.weight"))
	s.Width = 0
	s.Stem.Channels = rows("first_conv.conv.weight")
	s.First.Channels = rows("blocks.0.conv.point_linear.conv.weight")
	s.First.Residual = s.First.Residual && s.First.Channels == s.Stem.Channels
	block := 1
	for i := range s.Stages {
		s.Stages[i].Channels = rows(fmt.Sprintf("blocks.%d.conv.point_linear.conv.conv.weight", block))
		block += s.Stages[i].MaxDepth()
	}
	if s.Head.Expand > 0 {
		s.Head.Expand = rows("final_expand_layer.conv.weight")
	}
	s.Head.Features = rows("feature_mix_layer.conv.weight")
	if err != nil {
		return nil, err
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if w := f.width(s); w > 0 {
		return f.make(w, s.Classes), nil
	}
	return s, nil
}

// width finds the multiplier that gives the channels of s, the roundest there is, or 0.
func (f family) width(s *ofa.Space) float64 {
	const widest = 4
	for _, parts := range []int{20, 100, 1000} {
		for i := 1; i <= widest*parts; i++ {
			w := float64(i) / float64(parts)
			if sameChannels(f.make(w, s.Classes), s) {
				return w
			}
		}
	}
	return 0
}

func sameChannels(a, b *ofa.Space) bool {
	return a.Head.Features == b.Head.Features && a.Head.Expand == b.Head.Expand && a.Stem.Channels == b.Stem.Channels &&
		a.First.Channels == b.First.Channels && slices.EqualFunc(a.Stages, b.Stages, func(x, y ofa.Stage) bool {
		return x.Channels == y.Channels
	})
}
