package regress

import (
	"fmt"
	"math"
	"path"
	"strings"

	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"

	"github.com/dynofa/dynofa/bench/harness"
)

// Governed is what a comparison found for one quantity of a governor. A change is B minus A: positive is worse.
type Governed struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	A       float64 `json:"a"` // mean over the runs
	B       float64 `json:"b"`
	Runs    int     `json:"runs"` // of the side that has fewer
	Change  float64 `json:"change"`
	Low     float64 `json:"low"` // interval of Change at 1 - Alpha for all rows together (Bonferroni)
	High    float64 `json:"high"`
	Effect  float64 `json:"effect"` // the smallest change that matters
	Verdict Verdict `json:"verdict"`
}

// governedEffects are the smallest changes that matter in the mean of a suite; one scenario alone has to change by
// oneScenario times as much.
var governedEffects = map[string]float64{"miss": 0.25, "regret": 0.1, "switches": 2}

// quantity is what is known of a governor's row by its name.
type quantity struct {
	unit   string
	effect float64 // the smallest change that matters
	suite  bool    // of a whole suite
}

// quantityOf is nil for names of other rows.
func quantityOf(row string) *quantity {
	scenario, name := path.Split(row)
	if !strings.HasPrefix(scenario, "governor/") {
		return nil
	}
	for _, q := range (&harness.Governed{}).Quantities() {
		if q.Name == name {
			suite := strings.HasPrefix(scenario, "governor/scenario="+wholeSuite+"/")
			effect := governedEffects[name]
			if !suite {
				effect *= oneScenario
			}
			return &quantity{q.Unit, effect, suite}
		}
	}
	return nil
}

const (
	oneScenario  = 4
	leastGovern  = 5 // runs
	wholeSuite   = "all"
	leastOfSuite = 2 // scenarios
)

// governed compares what both results say of governors.
func governed(a, b []harness.Governed, alpha float64) ([]Governed, error) {
	var before, after []harness.Governed
	for _, ga := range a {
		for _, gb := range b {
			if ga.Name() != gb.Name() {
				continue
			}
			if na, nb := len(ga.Miss), len(gb.Miss); min(na, nb) < leastGovern || ga.Seeded != gb.Seeded || ga.Seeded && na != nb {
				return nil, fmt.Errorf("%s: %d and %d runs, expected at least %d each, and as many of a simulation", ga.Name(), na, nb, leastGovern)
			}
			before, after = append(before, ga), append(after, gb)
		}
	}
	before, after = append(suites(before), before...), append(suites(after), after...)
	var rows []Governed
	for i := range before {
		qa, qb := before[i].Quantities(), after[i].Quantities()
		for k := range qa {
			g := Governed{Name: before[i].Name() + "/" + qa[k].Name, Unit: qa[k].Unit}
			g.Effect = quantityOf(g.Name).effect
			g.estimate(qa[k].Values, qb[k].Values, before[i].Seeded, alpha/float64(3*len(before)))
			rows = append(rows, g)
		}
	}
	return rows, nil
}

// suites is the mean over the scenarios of each policy, run by run; live runs have nothing in common.
func suites(list []harness.Governed) []harness.Governed {
	var sums []harness.Governed
	var counts []float64
	for _, g := range list {
		if !g.Seeded {
			continue
		}
		at := 0
		for at < len(sums) && (sums[at].Policy != g.Policy || len(sums[at].Miss) != len(g.Miss)) {
			at++
		}
		if at == len(sums) {
			n := len(g.Miss)
			sums = append(sums, harness.Governed{Scenario: wholeSuite, Policy: g.Policy, Seeded: true,
				Miss: make([]float64, n), Regret: make([]float64, n), Switches: make([]float64, n)})
			counts = append(counts, 0)
		}
		counts[at]++
		for k, q := range g.Quantities() {
			for i, v := range q.Values {
				sums[at].Quantities()[k].Values[i] += v
			}
		}
	}
	var means []harness.Governed
	for at := range sums {
		if counts[at] < leastOfSuite {
			continue
		}
		for _, q := range sums[at].Quantities() {
			for i := range q.Values {
				q.Values[i] /= counts[at]
			}
		}
		means = append(means, sums[at])
	}
	return means
}

// estimate is Student's interval of the mean difference, of pairs where runs are seeded, and Welch's where they are not;
// and the verdict, by the rule that times are judged by.
func (g *Governed) estimate(a, b []float64, seeded bool, alpha float64) {
	ma, va := stat.MeanVariance(a, nil)
	mb, vb := stat.MeanVariance(b, nil)
	g.A, g.B, g.Runs, g.Change = ma, mb, min(len(a), len(b)), mb-ma
	va, vb = va/float64(len(a)), vb/float64(len(b))
	se, freedom := math.Sqrt(va+vb), (va+vb)*(va+vb)/(va*va/float64(len(a)-1)+vb*vb/float64(len(b)-1))
	if seeded {
		d := make([]float64, len(a))
		for i := range d {
			d[i] = b[i] - a[i]
		}
		se, freedom = math.Sqrt(stat.Variance(d, nil)/float64(len(d))), float64(len(d)-1)
	}
	half := 0.0
	if se > 0 {
		half = se * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: freedom}.Quantile(1-alpha/2)
	}
	g.Low, g.High = g.Change-half, g.Change+half
	g.Verdict = verdictOf(g.Low, g.High, g.Effect, true)
}
