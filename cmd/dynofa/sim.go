package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/sim"
)

type simCmd struct {
	Scenarios []string `arg:"" optional:"" help:"Scenario files, or traces recorded by dynofa govern or demo, replayed without their sensors; default: the suite G0 to G15." placeholder:"SCENARIO.json"`
	Policy    []string `help:"Policy to play; may be repeated; default: all: ${policies}." placeholder:"NAME" xor:"policies"`
	Seeds     int      `help:"Runs of each policy in each scenario, with noise of their own; --plot draws the first." default:"30"`
	Bundle    string   `help:"Take the levels from a bundle's record, scaled so that the slowest takes as long as the scenario's." placeholder:"M.dofa"`
	Ablation  bool     `help:"Play the project's policy with each of its mechanisms switched off in turn." xor:"what,policies"`
	Plot      string   `help:"Draw the first seed's run of one policy in one scenario." placeholder:"FILE.svg|FILE.png" xor:"what,file"`
	Record    string   `help:"Write the runs as a result file that bench compare and export read." placeholder:"FILE" xor:"file"`
	JSON      bool     `help:"Print JSON." xor:"what"`
}

func (c *simCmd) Run(e *env) error {
	if c.Seeds < 1 || c.Seeds > 100000 {
		return fmt.Errorf("--seeds is %d, expected 1 to 100000", c.Seeds)
	}
	if c.Plot != "" {
		if err := figure.Check(c.Plot); err != nil {
			return fmt.Errorf("--plot %w", err)
		}
	}
	if err := makeFolders(c.Plot, c.Record); err != nil {
		return err
	}
	scenarios, err := c.scenarios()
	if err != nil {
		return err
	}
	policies, err := c.policies()
	if err != nil {
		return err
	}
	if c.Plot != "" {
		return c.plot(e, scenarios, policies)
	}
	tables, err := sim.Run(scenarios, policies, c.Seeds)
	if err != nil {
		return err
	}
	if c.Record != "" {
		if err := record(c.Record, dynofa.Device{}, func(w *harness.Writer) error { return w.Simulated(tables) }); err != nil {
			return err
		}
	}
	if len(tables) > 1 {
		tables = append(tables, sim.Mean(tables))
	}
	if c.JSON {
		return e.json(tables)
	}
	c.print(e, scenarios, tables)
	return nil
}

func (c *simCmd) scenarios() ([]*sim.Scenario, error) {
	list := sim.Suite()
	if len(c.Scenarios) > 0 {
		list = nil
	}
	for _, path := range c.Scenarios {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var s *sim.Scenario
		switch kind := kindOf(data); {
		case kind.Trace > 0:
			var t *trace
			if t, err = parseTrace(data); err == nil {
				s, err = t.scenario(filepath.Base(path))
			}
		case kind.Format == harness.Format:
			err = errors.New("a result file of bench, govern or sim, expected a scenario or a recorded run")
		default:
			s, err = sim.Parse(bytes.NewReader(data))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		list = append(list, s)
	}
	if c.Bundle == "" {
		return list, nil
	}
	b, err := bundle.Open(c.Bundle)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	var accuracy, ms []float64
	for i, l := range b.Levels() {
		if len(l.Accuracy) == 0 || len(l.Latency) == 0 {
			return nil, fmt.Errorf("%s: level %d has no recorded accuracy and latency: run dynofa eval --record first", c.Bundle, i)
		}
		accuracy, ms = append(accuracy, l.Accuracy[0].Top1), append(ms, l.Latency[0].MedianMS)
	}
	for _, s := range list {
		if err := s.SetLevels(accuracy, ms); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Bundle, err)
		}
	}
	return list, nil
}

// simulated are the policies that can be played on a virtual clock, liveOnes those that can be in real time, too.
func simulated() []policy.Entry { return append(policy.All(), sim.Static) }

func liveOnes() []policy.Entry {
	return slices.DeleteFunc(policy.All(), func(p policy.Entry) bool { return p.Restart })
}

// names is a list of policies for people.
func names(list []policy.Entry) string {
	var names []string
	for _, p := range list {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}

func (c *simCmd) policies() ([]policy.Entry, error) {
	if c.Ablation {
		return policy.Ablation(), nil
	}
	all := simulated()
	if len(c.Policy) == 0 {
		return all, nil
	}
	var chosen []policy.Entry
	for _, name := range c.Policy {
		i := slices.IndexFunc(all, func(p policy.Entry) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("policy %q, expected one of %s", name, names(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func (c *simCmd) print(e *env, scenarios []*sim.Scenario, tables []sim.Table) {
	last := tables[len(tables)-1]
	if len(tables) > 1 {
		e.printf("Mean over %d scenarios, %d seeds each; ± is the 95 %% confidence interval.\n", len(tables)-1, c.Seeds)
	} else {
		e.printf("%s, %d seeds; ± is the 95 %% confidence interval.\n", last.Scenario, c.Seeds)
	}
	e.printf("Effective accuracy counts late and lost answers as 0; regret is how far it is below the oracle's, which keeps to the\n" +
		"requested probability: negative where more care than that paid.\n")
	if slices.ContainsFunc(scenarios, func(s *sim.Scenario) bool { return s.About == recordedRun }) {
		e.printf("Recorded runs are replayed without their sensors, which were averaged once already.\n")
	}
	e.printf("\n")
	e.printf("%-16s  %-14s  %-14s  %-14s  %8s  %13s  %9s  %11s\n", "", "effective %", "regret", "late or lost %", "answers'", "switches", "late", "lateness")
	e.printf("%-16s  %-14s  %-14s  %-14s  %8s  %13s  %9s  %11s\n", "policy", "", "points", "", "top-1 %", "per 1000", "in a row", "ms a run")
	for _, r := range last.Rows {
		e.printf("%-16s  %6.2f ± %-5.2f  %6.2f ± %-5.2f  %6.2f ± %-5.2f  %8.2f  %13.1f  %9.1f  %11.0f\n", r.Policy,
			r.Effective.Mean, r.Effective.Half, r.Regret.Mean, r.Regret.Half, r.Miss.Mean, r.Miss.Half, r.Accuracy.Mean,
			r.Rate.Mean, r.Longest.Mean, r.Lateness.Mean)
	}
	if len(tables) == 1 {
		return
	}
	for _, part := range []struct {
		name   string
		format string
		value  func(sim.Row) float64
	}{
		{"effective accuracy, %", "%6.1f", func(r sim.Row) float64 { return r.Effective.Mean }},
		{"late or lost, %", "%6.1f", func(r sim.Row) float64 { return r.Miss.Mean }},
		{"switches in a run", "%6.1f", func(r sim.Row) float64 { return r.Switches.Mean }},
	} {
		e.printf("\n%-16s", part.name)
		if len(part.name) > 16 {
			e.printf("\n%-16s", "")
		}
		for _, t := range tables {
			name, _, _ := strings.Cut(t.Scenario, " ")
			e.printf("%6.5s", name)
		}
		e.printf("\n")
		for i, r := range last.Rows {
			e.printf("%-16s", r.Policy)
			for _, t := range tables {
				e.printf(part.format, part.value(t.Rows[i]))
			}
			e.printf("\n")
		}
	}
}

func (c *simCmd) plot(e *env, scenarios []*sim.Scenario, policies []policy.Entry) error {
	if len(scenarios) != 1 {
		return fmt.Errorf("--plot with %d scenarios, expected one", len(scenarios))
	}
	if len(c.Policy) > 1 {
		return fmt.Errorf("--plot with %d policies, expected one; default: %s", len(c.Policy), policies[0].Name)
	}
	frames, err := sim.Trace(scenarios[0], policies[0], 1)
	if err != nil {
		return err
	}
	if err := plotSimulation(scenarios[0], policies[0].Name, frames).Save(c.Plot); err != nil {
		return err
	}
	e.printf("wrote %s\n", c.Plot)
	return nil
}
