package search

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// What is drawn how often. The number of parents is the published search's; that one makes four children a parent, half
// of them mutants and half crossovers. Guided children find more, so that fewer are enough: 75 children of a population of
// 100 and 3 dull starts, instead of 40 and 2, took 1.9 times as long and found 0.0003 more, in the mean of 48 searches.
const (
	parentRatio   = 0.25 // of the population
	childRatio    = 0.4  // of the population
	guidedRatio   = 0.5  // of the children
	crossoverRate = 0.3  // of the children; the others are mutants
	freeRate      = 0.2  // of the places of a guided child
	mutateRate    = 0.1  // of the places of a mutant

	tries    = 3 // to draw a child that keeps the limit, before it is repaired, and then one that is new
	patience = 5 // generations without a new parent, before the search starts afresh
	fresh    = 2 // starts in a row that found nothing better, before the search ends
)

// candidate is a sub-network with its cost and accuracy.
type candidate struct {
	genome   genome
	cost     float64
	accuracy float64
	gains    []float64 // by slot and gene: first-order contributions to the accuracy; nil until needed
}

// niche is what belongs to one limit.
type niche struct {
	limit   float64
	parents []*candidate // best first
	best    *candidate   // ever
}

// offer makes a candidate a parent if it is good enough.
func (n *niche) offer(c *candidate, most int) (parent, best bool) {
	full := len(n.parents) == most
	if c.cost > n.limit || full && c.accuracy <= n.parents[most-1].accuracy {
		return false, false
	}
	if full {
		n.parents = n.parents[:most-1]
	}
	at := len(n.parents) // equals keep the order in which they came
	for at > 0 && n.parents[at-1].accuracy < c.accuracy {
		at--
	}
	n.parents = slices.Insert(n.parents, at, c)
	if n.best != nil && n.best.accuracy >= c.accuracy {
		return true, false
	}
	n.best = c
	return true, true
}

// evolution is a search under way. Children are drawn by one generator in one goroutine, and what is computed in
// several does not depend on how many they are: so the result does not either.
type evolution struct {
	*setup
	rng     *rand.Rand
	threads int
	niches  []niche // by limit, ascending; each has a genome that keeps it
	parents int     // most parents of a niche

	seen       map[uint64]struct{} // keys of all networks so far
	children   []*candidate        // not yet computed
	subnets    []ofa.Subnet        // theirs; room
	accuracies []float64           // theirs; room
	newParent  bool                // since last asked
	newBest    bool                // since the last start
	free       []bool              // places that a guided child may change; room
}

// run is the whole search. The first generation is random; it is drawn again when the parents have not changed for a
// while, because then they are a local optimum with its surroundings.
func (e *evolution) run(ctx context.Context, population, generations int, progress func(done, total int)) error {
	stale, dull, start := 0, 0, true
	children := int(childRatio * float64(population))
	if len(e.niches) > 1 {
		children = max(children, 4*len(e.niches)) // else most niches had none in a generation
	}
	population = max(population, children)
	for g := range generations {
		if err := ctx.Err(); err != nil {
			return err
		}
		size := children
		if start {
			size = population
		}
		for i := range size {
			n := &e.niches[(g*population+i)%len(e.niches)]
			if len(n.parents) == 0 {
				e.add(n.limit, e.random)
			} else {
				e.breed(n)
			}
		}
		if start && len(e.children) == 0 {
			break // random draws find nothing new: the space is exhausted, or as good as
		}
		e.newParent = false
		if err := e.compute(); err != nil {
			return err
		}
		if progress != nil {
			progress(g+1, generations)
		}
		start = false
		if stale++; e.newParent {
			stale = 0
		}
		if stale < patience {
			continue
		}
		if dull++; e.newBest {
			dull = 0
		}
		if dull > fresh {
			break
		}
		stale, start, e.newBest = 0, true, false
		for i := range e.niches {
			e.niches[i].parents = nil
		}
	}
	if progress != nil {
		progress(generations, generations)
	}
	return nil
}

// breed adds a child of a niche's parents.
func (e *evolution) breed(n *niche) {
	pick := func() *candidate { return n.parents[e.rng.IntN(len(n.parents))] }
	parent := pick()
	switch kind := e.rng.Float64(); {
	case kind < guidedRatio:
		e.add(n.limit, func(child genome) {
			copy(child, parent.genome)
			e.guide(child, e.gains(parent), n.limit)
		})
	case kind < guidedRatio+crossoverRate:
		e.add(n.limit, func(child genome) {
			copy(child, pick().genome)
			e.cross(child, pick().genome)
		})
	default:
		e.add(n.limit, func(child genome) {
			copy(child, parent.genome)
			e.mutate(child)
		})
	}
}

// add draws a child until it keeps the limit and is new. After some tries it is made to keep the limit; after some
// more it is left out.
func (e *evolution) add(limit float64, draw func(genome)) {
	child := make(genome, e.grid.length())
	for range 2 * tries {
		draw(child)
		for again := 1; again < tries && e.costs.of(child) > limit; again++ {
			draw(child)
		}
		e.repair(child, limit)
		key := e.grid.key(child)
		if _, known := e.seen[key]; known {
			continue
		}
		e.seen[key] = struct{}{}
		e.children = append(e.children, &candidate{genome: child, cost: e.costs.of(child)})
		return
	}
}

func (e *evolution) random(n genome) {
	for i := range n {
		n[i] = uint16(e.rng.IntN(e.grid.values(i)))
	}
}

func (e *evolution) mutate(n genome) {
	for i := range n {
		if e.rng.Float64() < mutateRate {
			n[i] = uint16(e.rng.IntN(e.grid.values(i)))
		}
	}
}

// cross takes each place from one or the other.
func (e *evolution) cross(n, other genome) {
	var bits uint64
	for i := range n {
		if i%64 == 0 {
			bits = e.rng.Uint64()
		}
		if bits>>(i%64)&1 == 1 {
			n[i] = other[i]
		}
	}
}

// repair replaces places by those of the cheapest genome of the image side, in random order, until the limit holds. An
// image side at which it cannot is drawn again first.
func (e *evolution) repair(n genome, limit float64) {
	if e.costs.of(n) <= limit {
		return
	}
	if e.costs.sides[e.grid.side(n)].least > limit {
		var fit []uint16
		for r := range e.costs.sides {
			if e.costs.sides[r].least <= limit {
				fit = append(fit, uint16(r))
			}
		}
		n[len(n)-1] = fit[e.rng.IntN(len(fit))]
	}
	cheapest := e.costs.sides[e.grid.side(n)].cheapest
	for _, i := range e.rng.Perm(len(n) - 1) {
		if e.costs.of(n) <= limit {
			return
		}
		n[i] = cheapest[i]
	}
}

// gains linearises the predictor at a candidate.
func (e *evolution) gains(c *candidate) []float64 {
	if c.gains != nil {
		return c.gains
	}
	slope, err := e.predictor.Slope(e.grid.subnet(c.genome))
	if err != nil {
		panic(err) // it has been predicted
	}
	c.gains = make([]float64, 0, e.grid.slots*e.grid.genes())
	for slot := range e.grid.slots {
		for _, kernel := range e.grid.kernels {
			for _, expand := range e.grid.expands {
				c.gains = append(c.gains, slope(slot, kernel, expand))
			}
		}
	}
	return c.gains
}

// guide frees some places of a genome and sets them to what is best within the limit, if gains were the whole truth. It
// is a multiple-choice knapsack, solved as usual: with a price on cost every free place is best chosen alone, and the
// lowest price at which the limit holds is found by bisection.
func (e *evolution) guide(n genome, gains []float64, limit float64) {
	for i := range e.free {
		e.free[i] = e.rng.Float64() < freeRate
	}
	if side := len(n) - 1; e.free[side] {
		e.free[side] = e.rng.Float64() < 0.25 // what a side is worth is not in the gains
		if e.free[side] {
			n[side] = uint16(e.rng.IntN(e.grid.values(side)))
		}
	}
	unit := 0.1 / e.costs.of(n) // accuracies differ by about a tenth over a space
	low, high := -12.0, 8.0     // powers of two
	for range 10 {
		middle := (low + high) / 2
		if e.choose(n, gains, unit*math.Exp2(middle)); e.costs.of(n) > limit {
			low = middle
		} else {
			high = middle
		}
	}
	e.choose(n, gains, unit*math.Exp2(high))
}

// choose sets every free slot, and depth, to what has the largest gain less the price of its cost.
func (e *evolution) choose(n genome, gains []float64, price float64) {
	blocks, genes := e.costs.sides[e.grid.side(n)].blocks, e.grid.genes()
	for i, first := range e.grid.first {
		depths, place := e.grid.depths[i], e.grid.slots+i
		most, chosen := e.grid.depth(n, i), 0
		if e.free[place] {
			most = depths[len(depths)-1]
		}
		best, sum := math.Inf(-1), 0.0
		for slot := first; slot < first+most; slot++ {
			gain, cost := gains[slot*genes:(slot+1)*genes], blocks[slot]
			top := gain[n[slot]] - price*cost[n[slot]]
			if e.free[slot] {
				for gene := range gain {
					if v := gain[gene] - price*cost[gene]; v > top {
						top, n[slot] = v, uint16(gene)
					}
				}
			}
			sum += top
			if e.free[place] && depths[chosen] == slot-first+1 {
				if sum > best {
					best, n[place] = sum, uint16(chosen)
				}
				chosen++
			}
		}
	}
}

// compute predicts the children and offers them to all niches.
func (e *evolution) compute() error {
	count := len(e.children)
	for len(e.subnets) < count {
		e.subnets, e.accuracies = append(e.subnets, e.grid.subnet(e.children[0].genome)), append(e.accuracies, 0)
	}
	errs := make([]error, e.threads)
	var wait sync.WaitGroup
	for t := range e.threads {
		wait.Go(func() {
			from, to := t*count/e.threads, (t+1)*count/e.threads
			for i := from; i < to; i++ {
				e.grid.write(&e.subnets[i], e.children[i].genome)
			}
			errs[t] = e.predictor.Predict(e.accuracies[from:to], e.subnets[from:to])
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for i, c := range e.children {
		c.accuracy = e.accuracies[i]
		for j := range e.niches {
			parent, best := e.niches[j].offer(c, e.parents)
			e.newParent, e.newBest = e.newParent || parent, e.newBest || best
		}
	}
	e.children = e.children[:0]
	return nil
}
