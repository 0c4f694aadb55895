// Package search finds sub-networks of a supernet that are accurate by a predictor and keep a limit of latency, by a
// look-up table, or of multiply-adds.
//
// It is an evolutionary search with the size that Once-for-All publishes: population 100, 500 generations, a quarter of
// the population are parents. It differs from the published one in this:
//
//   - No network is computed twice; two Subnets that differ only in slots cut off by the depth are one network.
//   - Half of the children are guided: some places of a parent are freed and chosen by the predictor's gradient, as well
//     as the limit allows. The other half are mutants and crossovers.
//   - Where the parents do not change any more, the search starts afresh and keeps its best.
//   - Each limit has parents of its own and every child is offered to all limits, so that a whole front is one search.
//   - A limit that no sub-network keeps is an error before the search, and no loop depends on luck to end.
package search

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// Problem is what to search and for what. Space and Predictor are needed.
type Problem struct {
	Space       *ofa.Space
	Predictor   *predictor.Predictor
	Table       *latency.Table // nil: limits are multiply-adds, else milliseconds
	Choices     Choices        // what of the Space
	MinAccuracy float64        // a fraction; 0 asks for nothing
}

// Options says how long to search. The zero value is the published size.
type Options struct {
	Population  int                   // networks a generation, parents included, at least 4 and 4 a limit; default 100
	Generations int                   // most of them; default 500
	Seed        uint64                // the result depends on it
	Threads     int                   // default: all that Go uses; the result does not depend on it
	Progress    func(done, total int) // called after each generation; may be nil
}

// Found is a sub-network and what is predicted of it.
type Found struct {
	Accuracy  float64    `json:"accuracy"`   // a fraction, 0.8 for 80 %
	LatencyMS *float64   `json:"latency_ms"` // nil without a table
	MACs      int64      `json:"macs"`
	Subnet    ofa.Subnet `json:"subnet"` // in canonical form
}

// InfeasibleError means that no sub-network of the Problem is what was asked for.
type InfeasibleError struct {
	Limit   float64 // what was asked for
	Nearest float64 // what there is instead
	Unit    string  // of both: "ms", "MACs" or "accuracy"
}

func (e *InfeasibleError) Error() string {
	if e.Unit == "accuracy" {
		return fmt.Sprintf("search: accuracy %v was not found within the limit, the best found is %.6f", e.Limit, math.Floor(e.Nearest*1e6)/1e6)
	}
	return fmt.Sprintf("search: no sub-network within %v %s, expected at least %v", e.Limit, e.Unit, math.Ceil(e.Nearest*1e4)/1e4)
}

// Best is the most accurate sub-network found within a limit in milliseconds or multiply-adds. The error is an
// [*InfeasibleError] if there is none: for the limit that is exact and known before the search, for MinAccuracy it is
// what this search could not find. The context can end the search between generations.
func Best(ctx context.Context, p Problem, limit float64, o Options) (Found, error) {
	found, err := Front(ctx, p, []float64{limit}, o)
	if err != nil {
		return Found{}, err
	}
	return found[0], nil
}

// Front is Best for several limits in one search. The result is sorted from cheap to dear and each sub-network is more
// accurate than those before it; so there may be fewer than limits. A limit that no sub-network keeps is left out, and
// so is a sub-network below MinAccuracy; the error is an [*InfeasibleError] where nothing remains.
func Front(ctx context.Context, p Problem, limits []float64, o Options) ([]Found, error) {
	found, err := front(ctx, p, limits, o)
	var infeasible *InfeasibleError
	if err != nil && !errors.As(err, &infeasible) {
		return nil, fmt.Errorf("search: %w", err)
	}
	return found, err
}

func front(ctx context.Context, p Problem, limits []float64, o Options) ([]Found, error) {
	o.Population, o.Generations = cmp.Or(o.Population, 100), cmp.Or(o.Generations, 500)
	o.Threads = cmp.Or(o.Threads, runtime.GOMAXPROCS(0))
	if o.Population < 4 || o.Generations < 1 || o.Threads < 1 {
		return nil, fmt.Errorf("population %d, generations %d, threads %d, expected at least 4, 1 and 1", o.Population, o.Generations, o.Threads)
	}
	if !(p.MinAccuracy >= 0 && p.MinAccuracy <= 1) {
		return nil, fmt.Errorf("smallest accuracy %v, expected a fraction from 0 to 1", p.MinAccuracy)
	}
	if len(limits) == 0 || slices.ContainsFunc(limits, math.IsNaN) {
		return nil, fmt.Errorf("limits %v, expected one or more numbers", limits)
	}
	s, err := newSetup(p)
	if err != nil {
		return nil, err
	}
	e := &evolution{
		setup: s, rng: rand.New(rand.NewPCG(o.Seed, 0)), threads: o.Threads,
		parents: int(parentRatio * float64(o.Population)),
		seen:    map[uint64]struct{}{}, free: make([]bool, s.grid.length()),
	}
	least, _ := s.costs.bounds()
	for _, limit := range slices.Sorted(slices.Values(limits)) {
		if limit >= least {
			e.niches = append(e.niches, niche{limit: limit})
		}
	}
	if len(e.niches) == 0 {
		return nil, &InfeasibleError{slices.Max(limits), least, s.unit}
	}
	if err := e.run(ctx, o.Population, o.Generations, o.Progress); err != nil {
		return nil, err
	}
	return e.found(p)
}

// found is the Pareto-optimal of the niches' best.
func (e *evolution) found(p Problem) ([]Found, error) {
	var all []*candidate
	for i := range e.niches {
		if e.niches[i].best != nil {
			all = append(all, e.niches[i].best)
		}
	}
	slices.SortStableFunc(all, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.cost, b.cost), cmp.Compare(b.accuracy, a.accuracy))
	})
	var found []Found
	best := math.Inf(-1)
	for _, c := range all {
		if c.accuracy <= best {
			continue
		}
		best = c.accuracy
		if p.MinAccuracy > 0 && best < p.MinAccuracy {
			continue
		}
		f := Found{Accuracy: c.accuracy, Subnet: e.grid.subnet(c.genome)}
		f.Subnet = p.Space.Canonical(f.Subnet)
		f.MACs, _ = p.Space.Cost(f.Subnet)
		if p.Table != nil {
			f.LatencyMS = &c.cost
		}
		found = append(found, f)
	}
	if len(found) == 0 {
		return nil, &InfeasibleError{p.MinAccuracy, best, "accuracy"}
	}
	return found, nil
}

// Bounds is the smallest and the largest cost of the sub-networks that a Problem leaves, exactly, in milliseconds or
// multiply-adds.
func Bounds(p Problem) (least, most float64, err error) {
	s, err := newSetup(p)
	if err != nil {
		return 0, 0, fmt.Errorf("search: %w", err)
	}
	least, most = s.costs.bounds()
	return least, most, nil
}

// setup is a Problem made ready.
type setup struct {
	grid      *grid
	costs     *costs
	predictor *predictor.Predictor
	unit      string
}

func newSetup(p Problem) (*setup, error) {
	if p.Space == nil || p.Predictor == nil {
		return nil, errors.New("no space or no predictor, expected both")
	}
	if err := p.Space.Validate(); err != nil {
		return nil, err
	}
	grid, err := newGrid(p.Space, p.Choices)
	if err != nil {
		return nil, err
	}
	if len(p.Choices.Resolutions) == 0 {
		if grid.sides, err = sides(p, grid.sides); err != nil {
			return nil, err
		}
	}
	s := &setup{grid: grid, predictor: p.Predictor, unit: "MACs"}
	layers := macLayers(p.Space)
	if p.Table != nil {
		layers, s.unit = tableLayers(p.Space, p.Table), "ms"
	}
	s.costs, err = newCosts(grid, func(n ofa.Subnet) (float64, []float64, []float64, error) {
		if _, err := p.Predictor.Accuracy(n); err != nil { // every choice comes by here, so the search meets no unknown one
			return 0, nil, nil, err
		}
		return layers(n)
	})
	return s, err
}

// sides keeps the image sides that the predictor was trained for and the table covers.
func sides(p Problem, all []int) ([]int, error) {
	kept := p.Predictor.Resolutions(all)
	if p.Table != nil {
		covered := p.Table.Resolutions()
		kept = slices.DeleteFunc(kept, func(r int) bool { return !slices.Contains(covered, r) })
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("resolutions %v, expected one or more that the predictor was trained for and the table covers", all)
	}
	return kept, nil
}
