package profile

import (
	"errors"
	"maps"
	"math"
	"slices"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

const ms = 1e6 // nanoseconds

// Anchors that are taken together for one look at the machine's speed.
const anchorsTogether = 16

// speeds says for every round how slow the machine was, in anchor runs of the given length, nanoseconds.
func speeds(rounds []round, reference float64) []float64 {
	slow := make([]float64, len(rounds))
	for from := 0; from < len(rounds); {
		var anchors []sample
		to := from
		for ; to < len(rounds) && len(anchors) < anchorsTogether; to++ {
			for _, a := range rounds[to].Anchors {
				anchors = append(anchors, sample{float64(a.Whole), a.Dirt})
			}
		}
		for i := from; i < to; i++ {
			slow[i] = median(usable(anchors)) / reference
		}
		from = to
	}
	return slow
}

// anchorTime is the median of all anchor runs, nanoseconds.
func anchorTime(rounds []round) float64 {
	var all []sample
	for _, r := range rounds {
		for _, a := range r.Anchors {
			all = append(all, sample{float64(a.Whole), a.Dirt})
		}
	}
	return median(usable(all))
}

// analysis is what a partial's samples say.
type analysis struct {
	sides  map[int]map[string]latency.Entry
	spread map[int]map[string]latency.Spread
	runs   []observed
	dirty  float64 // share of the turns
	tight  float64 // share of the keys
}

// observed is a network's turn with the machine's speed divided out.
type observed struct {
	n    ofa.Subnet
	ms   float64
	dirt dirt
}

// precision is how narrow a key's interval has to be to either side: relative to it, or as a share of the shortest
// run at its resolution, because nobody sees the error of a layer that takes no time.
const (
	precision   = 0.01
	ofWholeTime = 0.001
)

func analyse(s *ofa.Space, p *partial) (*analysis, error) {
	a := &analysis{sides: map[int]map[string]latency.Entry{}, spread: map[int]map[string]latency.Spread{}}
	samples := map[int]map[string][]sample{}
	shortest := map[int]float64{}
	slow := speeds(p.Rounds, anchorTime(p.Rounds))
	turns, dirty, keys, tight := 0, 0, 0, 0
	for i, r := range p.Rounds {
		for _, b := range r.Blocks {
			n, err := s.Parse(b.Subnet)
			if err != nil {
				return nil, err
			}
			names, err := latency.Keys(s, n)
			if err != nil {
				return nil, err
			}
			turns += 1 + b.Again
			dirty += b.Again
			if b.Dirt > clean {
				dirty++
			}
			whole := float64(b.Whole) / ms / slow[i]
			a.runs = append(a.runs, observed{n, whole, b.Dirt})
			if samples[n.Resolution] == nil {
				samples[n.Resolution] = map[string][]sample{}
				shortest[n.Resolution] = whole
			}
			shortest[n.Resolution] = min(shortest[n.Resolution], whole)
			// A key that occurs several times is one sample: what disturbs one disturbs all.
			sum, count := map[string]float64{}, map[string]float64{}
			for j, key := range names {
				sum[key] += float64(b.Layers[j]) / ms / slow[i]
				count[key]++
			}
			for key := range sum {
				samples[n.Resolution][key] = append(samples[n.Resolution][key], sample{sum[key] / count[key], b.Dirt})
			}
		}
	}
	for r, byKey := range samples {
		a.sides[r], a.spread[r] = map[string]latency.Entry{}, map[string]latency.Spread{}
		for key, list := range byKey {
			v := usable(list)
			low, high, ok := interval(v)
			middle := median(v)
			if keys++; ok && max(high-middle, middle-low) <= max(precision*middle, ofWholeTime*shortest[r]) {
				tight++
			}
			unclean := 0
			for _, s := range list {
				if s.dirt > clean {
					unclean++
				}
			}
			std := 0.0
			if len(v) > 1 {
				std = stat.StdDev(v, nil)
			}
			a.sides[r][key] = latency.Entry{Count: len(v), Mean: middle, Std: std}
			a.spread[r][key] = latency.Spread{Low: low, High: high, Dirty: unclean}
		}
	}
	a.dirty = float64(dirty) / float64(turns)
	a.tight = float64(tight) / float64(keys)
	return a, nil
}

// What is expected of a correction before it is measured, and how far a run is from its prediction, relative to the
// latency: the sum of the layers is nearly right, and a base, the layers and the weights may each move it by some
// per cent. So a space with few networks gets a small correction, not a wild one.
const (
	expectedChange = 0.05
	expectedNoise  = 0.02
	runsPerColumn  = 10 // at least, to leave dirtier ones out
)

// correct fits a Correction to whole runs by weighted least squares with Huber weights, so that runs that something
// disturbed unseen do not pull.
func correct(s *ofa.Space, a *analysis) (latency.Correction, error) {
	sides := slices.Sorted(maps.Keys(a.sides))
	// The columns are the bases, the sum of means, the layers and the weights.
	fixed := len(sides)
	columns := fixed + 3
	runs := a.runs
	for worst := clean; worst < disturbed; worst++ {
		good := slices.DeleteFunc(slices.Clone(a.runs), func(o observed) bool { return o.dirt > worst })
		if len(good) >= runsPerColumn*columns {
			runs = good
			break
		}
	}
	one := latency.Correction{Scale: 1}
	perLayer, perWeight := one, one
	perLayer.LayerMS, perWeight.WeightMS = 1, 1
	tables := make([]*latency.Table, 3)
	for i, c := range []latency.Correction{one, perLayer, perWeight} {
		c.BaseMS = map[int]float64{}
		for _, r := range sides {
			c.BaseMS[r] = 0
		}
		t, err := latency.NewProfiled(a.sides, latency.Profile{Correction: c})
		if err != nil {
			return one, err
		}
		tables[i] = t
	}
	rows, rest := mat.NewDense(len(runs), columns, nil), make([]float64, len(runs))
	for i, o := range runs {
		var sums [3]float64
		for j, t := range tables {
			sum, err := t.Predict(s, o.n)
			if err != nil {
				return one, err
			}
			sums[j] = sum
		}
		// Divided by the sum, so that all networks count alike, in units of what is expected.
		rows.Set(i, slices.Index(sides, o.n.Resolution), 1/sums[0])
		rows.Set(i, fixed, 1)
		rows.Set(i, fixed+1, (sums[1]-sums[0])/sums[0])
		rows.Set(i, fixed+2, (sums[2]-sums[0])/sums[0])
		rest[i] = o.ms/sums[0] - 1
	}
	// Every column in units in which expectedChange is one.
	unit := make([]float64, columns)
	for j := range unit {
		var sum, count float64
		for i := range runs {
			if v := rows.At(i, j); v != 0 {
				sum, count = sum+v, count+1
			}
		}
		if sum == 0 { // no weights, no clean run at this resolution
			continue
		}
		unit[j] = expectedChange * count / sum
		for i := range runs {
			rows.Set(i, j, rows.At(i, j)*unit[j])
		}
	}
	x, err := huber(rows, rest)
	if err != nil {
		return one, err
	}
	c := latency.Correction{BaseMS: map[int]float64{}, Scale: 1 + x[fixed]*unit[fixed], LayerMS: x[fixed+1] * unit[fixed+1], WeightMS: x[fixed+2] * unit[fixed+2]}
	for i, r := range sides {
		c.BaseMS[r] = x[i] * unit[i]
	}
	return c, nil
}

// huber solves rows*x = rest with normal errors of expectedNoise, x standard normal, and errors above twice the
// usual one weighed down.
func huber(rows *mat.Dense, rest []float64) ([]float64, error) {
	count, columns := rows.Dims()
	weight := make([]float64, count)
	for i := range weight {
		weight[i] = 1
	}
	x := mat.NewVecDense(columns, nil)
	for range 5 {
		normal, right := mat.NewSymDense(columns, nil), mat.NewVecDense(columns, nil)
		for j := range columns {
			normal.SetSym(j, j, expectedNoise*expectedNoise)
		}
		for i := range count {
			row := rows.RawRowView(i)
			normal.SymRankOne(normal, weight[i], mat.NewVecDense(columns, row))
			right.AddScaledVec(right, weight[i]*rest[i], mat.NewVecDense(columns, row))
		}
		var c mat.Cholesky
		if !c.Factorize(normal) {
			return nil, errors.New("the correction cannot be solved for")
		}
		if err := c.SolveVecTo(x, right); err != nil {
			return nil, err
		}
		errs := make([]float64, count)
		for i := range errs {
			errs[i] = math.Abs(rest[i] - mat.Dot(x, mat.NewVecDense(columns, rows.RawRowView(i))))
		}
		bound := 2 * 1.4826 * median(slices.Sorted(slices.Values(errs)))
		for i, e := range errs {
			weight[i] = 1
			if e > bound {
				weight[i] = bound / e
			}
		}
	}
	return x.RawVector().Data, nil
}
