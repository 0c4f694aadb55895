package search

import (
	"math"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

// costs knows the cost of every sub-network of a grid. A cost is a sum of layers, and that of a block depends on the
// image side, its slot, its kernel size and its expand ratio alone. So a table of all blocks, filled once, makes a
// candidate some 25 additions, and the cheapest sub-network is made of the cheapest blocks.
type costs struct {
	grid  *grid
	sides []sideCosts
}

type sideCosts struct {
	before   float64     // the layers before the first elastic block
	blocks   [][]float64 // by slot and gene
	after    []float64   // the layers after the last block
	cheapest genome
	least    float64 // cost of the cheapest
}

// layers splits the cost of a Subnet: what comes before the first elastic block, each block, what comes after.
type layers func(n ofa.Subnet) (before float64, blocks, after []float64, err error)

// tableLayers are a table's milliseconds. Added in order they make latency.Table.Predict to the last bit.
func tableLayers(s *ofa.Space, t *latency.Table) layers {
	return func(n ofa.Subnet) (float64, []float64, []float64, error) {
		base, all, err := t.Layers(s, n)
		if err != nil {
			return 0, nil, nil, err
		}
		const before = 2 // the stem and the first block
		blocks := 0
		for _, d := range n.Depths {
			blocks += d
		}
		return all[0] + all[1], all[before : before+blocks], append(all[before+blocks:], base), nil
	}
}

// macLayers are multiply-adds. They are whole numbers below 2^53: any order of addition gives the same sum.
func macLayers(s *ofa.Space) layers {
	return func(n ofa.Subnet) (float64, []float64, []float64, error) {
		rest, _ := s.Cost(n)
		var blocks []float64
		all := s.Blocks(n)
		for i := range all {
			if all[i].Stage < 0 {
				continue
			}
			macs, _ := all[i].Cost()
			blocks = append(blocks, float64(macs))
			rest -= macs
		}
		return float64(rest), blocks, nil, nil
	}
}

func newCosts(g *grid, of layers) (*costs, error) {
	c := &costs{grid: g}
	for r := range g.sides {
		s := sideCosts{blocks: make([][]float64, g.slots)}
		for i := range s.blocks {
			s.blocks[i] = make([]float64, g.genes())
		}
		n := make(genome, g.length())
		n[len(n)-1] = uint16(r)
		for i, depths := range g.depths {
			n[g.slots+i] = uint16(len(depths) - 1)
		}
		for gene := range g.genes() {
			for i := range g.slots {
				n[i] = uint16(gene)
			}
			var blocks []float64
			var err error
			if s.before, blocks, s.after, err = of(g.subnet(n)); err != nil {
				return nil, err
			}
			for i, first := range g.first {
				for j := range g.depth(n, i) {
					s.blocks[first+j][gene] = blocks[0]
					blocks = blocks[1:]
				}
			}
		}
		c.sides = append(c.sides, s)
		c.sides[r].cheapest = c.extreme(r, 1)
		c.sides[r].least = c.of(c.sides[r].cheapest)
	}
	return c, nil
}

// extreme chooses the cheapest kernel size and expand ratio for each block, and then the cheapest depth of each stage;
// with sign -1 it is the dearest.
func (c *costs) extreme(r int, sign float64) genome {
	n := make(genome, c.grid.length())
	n[len(n)-1] = uint16(r)
	for i, first := range c.grid.first {
		best, sum, chosen := math.Inf(1), 0.0, 0
		for j := range slices.Max(c.grid.depths[i]) {
			slot := first + j
			for gene, v := range c.sides[r].blocks[slot] {
				if sign*v < sign*c.sides[r].blocks[slot][n[slot]] {
					n[slot] = uint16(gene)
				}
			}
			sum += sign * c.sides[r].blocks[slot][n[slot]]
			if c.grid.depths[i][chosen] != j+1 {
				continue
			}
			if sum < best {
				best, n[c.grid.slots+i] = sum, uint16(chosen)
			}
			chosen++
		}
	}
	return n
}

// of is the cost of a genome.
func (c *costs) of(n genome) float64 {
	s := &c.sides[c.grid.side(n)]
	sum := s.before
	for i, first := range c.grid.first {
		for slot := first; slot < first+c.grid.depth(n, i); slot++ {
			sum += s.blocks[slot][n[slot]]
		}
	}
	for _, v := range s.after {
		sum += v
	}
	return sum
}

// bounds is the smallest and the largest cost of all genomes.
func (c *costs) bounds() (least, most float64) {
	least = math.Inf(1)
	for r := range c.sides {
		least = min(least, c.sides[r].least)
		most = max(most, c.of(c.extreme(r, -1)))
	}
	return least, most
}
