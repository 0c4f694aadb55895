package purego

import "github.com/dynofa/dynofa/gofacade/ofa"

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

// Plan prepares a Subnet that Space.CheckArch accepts. norms are its batch normalisations, those of Space.Norms
// in number, order and channels, or nil for the first channels of the supernet's own.
func (m *Model) Plan(n ofa.Subnet, norms []ofa.Affine) *Plan[float32] {
	var own []affine[float32]
	for i, w := range m.space.Norms(n) {
		a := m.norms[w.Name]
		if norms != nil {
			a = norms[i]
		}
		own = append(own, affine[float32]{a.Scale[:w.Channels], a.Shift[:w.Channels]})
	}
	return plan(m.space, m.w, n, own)
}
