package harness

import (
	"errors"
	"fmt"

	"gonum.org/v1/gonum/stat"

	"github.com/dynofa/dynofa/governor/sim"
)

// Governed is what a policy came to in a scenario: a value a run, all three of which are the better the smaller.
type Governed struct {
	Scenario string `json:"scenario"`
	Policy   string `json:"policy"`
	// Seeded says that run i has the same disturbances in every file: they are simulated.
	Seeded   bool      `json:"seeded"`
	Miss     []float64 `json:"miss"`     // late or lost, percent
	Regret   []float64 `json:"regret"`   // effective accuracy below the oracle's, or where nobody knows that one's, below the best level's; points
	Switches []float64 `json:"switches"` // per 1000 inferences
}

// Quantity is one of the three.
type Quantity struct {
	Name, Unit string
	Values     []float64
}

// Quantities lists them.
func (g *Governed) Quantities() []Quantity {
	return []Quantity{{"miss", "miss-%", g.Miss}, {"regret", "regret-points", g.Regret}, {"switches", "switches/1000", g.Switches}}
}

// Name is the scenario and the policy as Go's benchmarks are named.
func (g *Governed) Name() string {
	return fmt.Sprintf("governor/scenario=%s/policy=%s", oneWord(g.Scenario), oneWord(g.Policy))
}

func (g *Governed) check() error {
	if g.Scenario == "" || g.Policy == "" || len(g.Miss) == 0 {
		return fmt.Errorf("scenario %q, policy %q, %d runs, expected all three", g.Scenario, g.Policy, len(g.Miss))
	}
	for _, q := range g.Quantities() {
		if len(q.Values) != len(g.Miss) {
			return fmt.Errorf("%d values of %s, expected %d, one a run", len(q.Values), q.Name, len(g.Miss))
		}
		least, most := 0.0, 100.0
		switch q.Name {
		case "regret":
			least = -100 // the oracle knows the disturbance and not the noise
		case "switches":
			most = 1000
		}
		for _, v := range q.Values {
			if !(v >= least && v <= most) {
				return fmt.Errorf("%s of %g, expected %g to %g", q.Name, v, least, most)
			}
		}
	}
	return nil
}

// Governed appends a row.
func (w *Writer) Governed(g *Governed) error {
	if err := g.check(); err != nil {
		return fmt.Errorf("%s: %w", g.Name(), err)
	}
	return w.write(line{Governed: g})
}

// Simulated appends what policies came to in simulated scenarios; the oracles are measures, not policies.
func (w *Writer) Simulated(tables []sim.Table) error {
	for _, t := range tables {
		for _, r := range t.Rows {
			if r.Policy == sim.Oracle.Name || r.Policy == sim.Clairvoyant.Name {
				continue
			}
			if err := w.Governed(&Governed{t.Scenario, r.Policy, true, r.Miss.Runs, r.Regret.Runs, r.Rate.Runs}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (res *Result) addGoverned(g *Governed) error {
	if err := g.check(); err != nil {
		return err
	}
	for i := range res.Governed {
		if res.Governed[i].Name() == g.Name() {
			return errors.New("a second row " + g.Name() + ", expected each once")
		}
	}
	res.Governed = append(res.Governed, *g)
	return nil
}

// meanAndSpread is the mean, and the standard deviation of a run.
func meanAndSpread(values []float64) (mean, spread float64) {
	if len(values) == 1 {
		return values[0], 0
	}
	return stat.MeanStdDev(values, nil)
}
