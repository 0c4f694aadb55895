package purego

import (
	"fmt"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Name is what sessions of this engine call themselves.
const Name = "purego"

// Model is a supernet packed for this engine. It is immutable and shared by goroutines.
type Model struct {
	space *ofa.Space
	w     *weights[float32]
	norms map[string]ofa.Affine // the supernet's own statistics, all channels
}

// New packs a supernet. tensor returns a tensor of the Space by name in PyTorch's layout, nil for an absent
// kernel transform; nothing of it is kept.
func New(s *ofa.Space, tensor func(string) []float32) *Model {
	m := &Model{space: s, w: pack[float32](s, tensor), norms: map[string]ofa.Affine{}}
	for _, n := range s.Norms(s.Largest()) {
		m.norms[n.Name] = ofa.Fold(tensor(n.Name+".weight"), tensor(n.Name+".bias"),
			tensor(n.Name+".running_mean"), tensor(n.Name+".running_var"), s.BNEps)
	}
	return m
}

// Plan prepares a Subnet that Space.CheckArch accepts. norms are its batch normalisations in the order of
// Space.Norms, or nil for the first channels of the supernet's own.
func (m *Model) Plan(n ofa.Subnet, norms []ofa.Affine) (*Plan[float32], error) {
	want := m.space.Norms(n)
	if norms != nil && len(norms) != len(want) {
		return nil, fmt.Errorf("%d batch normalisations given, the sub-network has %d", len(norms), len(want))
	}
	own := make([]affine[float32], len(want))
	for i, w := range want {
		a := m.norms[w.Name]
		if norms != nil {
			a = norms[i]
			if len(a.Scale) != w.Channels || len(a.Shift) != w.Channels {
				return nil, fmt.Errorf("batch normalisation %s has %d scales and %d shifts, the sub-network has %d channels there",
					w.Name, len(a.Scale), len(a.Shift), w.Channels)
			}
		}
		own[i] = affine[float32]{a.Scale[:w.Channels], a.Shift[:w.Channels]}
	}
	return plan(m.space, m.w, n, own), nil
}
