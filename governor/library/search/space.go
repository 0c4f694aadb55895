package search

import (
	"fmt"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Choices narrows a Space to some of its values; an empty list keeps all of them.
type Choices struct {
	Kernels     []int
	Expands     []int
	Depths      []int // of every stage that has a choice
	Resolutions []int // empty: those that the predictor was trained for and the table covers
}

// grid is what may be chosen, numbered from 0.
type grid struct {
	kernels, expands, sides []int
	depths                  [][]int // by stage
	first                   []int   // slot of a stage's first block
	slots                   int
}

func newGrid(s *ofa.Space, c Choices) (*grid, error) {
	g := &grid{slots: s.Slots()}
	var err error
	if g.kernels, err = narrow("kernels", s.Kernels, c.Kernels); err != nil {
		return nil, err
	}
	if g.expands, err = narrow("expands", s.Expands, c.Expands); err != nil {
		return nil, err
	}
	if g.sides, err = narrow("resolutions", s.Resolutions, c.Resolutions); err != nil {
		return nil, err
	}
	slot := 0
	for i := range s.Stages {
		depths := s.Stages[i].Depths
		if len(depths) > 1 {
			if depths, err = narrow(fmt.Sprintf("depths of stage %d", i), depths, c.Depths); err != nil {
				return nil, err
			}
		}
		g.depths, g.first = append(g.depths, depths), append(g.first, slot)
		slot += s.Stages[i].MaxDepth()
	}
	return g, nil
}

// narrow is the legal values that are wanted, ascending.
func narrow(field string, legal, wanted []int) ([]int, error) {
	for _, v := range wanted {
		if !slices.Contains(legal, v) {
			return nil, &ofa.FieldError{Field: field, Value: v, Legal: fmt.Sprintf("one of %v", legal)}
		}
	}
	if len(wanted) == 0 {
		return legal, nil
	}
	sorted := slices.Clone(wanted)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

// genome is a sub-network as places in a grid: for each slot the kernel size times the number of expand ratios plus
// the expand ratio, for each stage the depth, and the image side. Slots that the depth cuts off keep a value: it has
// no effect, but comes back when the stage grows.
type genome []uint16

func (g *grid) genes() int        { return len(g.kernels) * len(g.expands) }
func (g *grid) length() int       { return g.slots + len(g.depths) + 1 }
func (g *grid) side(n genome) int { return int(n[len(n)-1]) }
func (g *grid) depth(n genome, stage int) int {
	return g.depths[stage][n[g.slots+stage]]
}

// values is how many values a place of a genome has.
func (g *grid) values(place int) int {
	switch {
	case place < g.slots:
		return g.genes()
	case place < g.slots+len(g.depths):
		return len(g.depths[place-g.slots])
	}
	return len(g.sides)
}

// write makes to, whose lists have their lengths, the genome's Subnet; slots that are cut off get the smallest values.
func (g *grid) write(to *ofa.Subnet, n genome) {
	for i := range g.slots {
		to.Kernels[i], to.Expands[i] = g.kernels[0], g.expands[0]
	}
	for i, first := range g.first {
		to.Depths[i] = g.depth(n, i)
		for slot := first; slot < first+to.Depths[i]; slot++ {
			to.Kernels[slot] = g.kernels[int(n[slot])/len(g.expands)]
			to.Expands[slot] = g.expands[int(n[slot])%len(g.expands)]
		}
	}
	to.Resolution = g.sides[g.side(n)]
}

func (g *grid) subnet(n genome) ofa.Subnet {
	to := ofa.Subnet{Kernels: make([]int, g.slots), Expands: make([]int, g.slots), Depths: make([]int, len(g.depths))}
	g.write(&to, n)
	return to
}

// key is a hash of what has an effect (FNV-1a, 64 bits): equal for equal networks.
func (g *grid) key(n genome) uint64 {
	h := uint64(14695981039346656037)
	add := func(v uint16) { h = (h ^ uint64(v)) * 1099511628211 }
	add(n[len(n)-1])
	for i, first := range g.first {
		d := g.depth(n, i)
		add(uint16(d))
		for _, gene := range n[first : first+d] {
			add(gene)
		}
	}
	return h
}
