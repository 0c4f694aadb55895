package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/policy"
)

// The requested probability holds where the machine stays as it is, whatever the noise looks like: for the latency
// that the governor predicts, within half a point on both sides, and so for its decisions, with a level every 2 %.
func TestCalibration(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	var list []*Scenario
	for name, noise := range map[string]Noise{
		"log-normal": {Sigma: 0.05},
		"spikes":     {Sigma: 0.05, Spikes: []Spike{{0.01, 1.3}}},
		"bimodal":    {Sigma: 0.03, Spikes: []Spike{{0.3, 1.15}}},
		"heavy":      {Sigma: 0.04, Tail: &Tail{0.1, 4}},
	} {
		for _, p := range []float64{0.9, 0.95, 0.99} {
			s := &Scenario{Name: fmt.Sprintf("%s %v", name, p), Length: 300e3, Constraints: Constraints{Deadline: 60, Probability: p}, Noise: noise}
			ms := 20.0
			for i := range 60 {
				s.Levels = append(s.Levels, Level{Accuracy: 60 + float64(i)/3, Latency: []float64{ms}})
				ms *= 1.02
			}
			require.NoError(t, s.complete())
			list = append(list, s)
		}
	}
	machines := make([]*machine, len(list))
	parallel(len(list), func(i int) {
		var err error
		machines[i], err = newMachine(list[i])
		must(err)
	})
	const seeds = 8
	runs := make([]Result, len(list)*seeds)
	parallel(len(runs), func(i int) {
		var err error
		runs[i], err = machines[i/seeds].run(ours()[1], uint64(i%seeds)+1, nil)
		must(err)
	})
	for i, s := range list {
		r := row("", runs[i*seeds:][:seeds], runs[i*seeds:][:seeds])
		p := 100 * s.Constraints.Probability
		t.Logf("%-16s covered %.2f ± %.2f, late %.2f ± %.2f, switches per 1000 %.1f", s.Name, r.Covered.Mean, r.Covered.Half, r.Miss.Mean, r.Miss.Half, r.Rate.Mean)
		require.InDelta(t, p, r.Covered.Mean, 0.5, s.Name)
		require.LessOrEqual(t, r.Miss.Mean, 100-p+0.5, s.Name)
	}
}

func TestSuiteKeepsItsPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	tables, err := Run(Suite(), policy.All(), 30)
	require.NoError(t, err)
	mean := Mean(tables)
	sensing, blind, oracle := mean.Row("steady"), mean.Row("steady-blind"), mean.Row("oracle")
	require.LessOrEqual(t, sensing.Regret.Mean, 0.3)
	require.LessOrEqual(t, blind.Regret.Mean, 0.4)
	require.LessOrEqual(t, 5*sensing.Switches.Mean, mean.Row("alert-best").Switches.Mean)
	for _, r := range []*Row{sensing, blind} {
		require.LessOrEqual(t, r.Miss.Mean, oracle.Miss.Mean, r.Policy)
		require.LessOrEqual(t, r.Switches.Mean, oracle.Switches.Mean, r.Policy)
		for _, other := range mean.Rows[2:10] {
			require.Greater(t, other.Regret.Mean, r.Regret.Mean, "%s against %s", r.Policy, other.Policy)
		}
	}
	require.LessOrEqual(t, tables[0].Row("steady").Rate.Mean, 1.0, "G0: switches per 1000 inferences")
	g1, without := tables[1].Row("steady"), tables[1].Row("steady-blind")
	for _, r := range []*Row{g1, without} {
		require.LessOrEqual(t, r.Regret.Mean, 0.3, r.Policy)
	}
	// Of every single run: late inferences that the step has caused, and those at a level that could not be in time.
	m, err := newMachine(Suite()[1])
	require.NoError(t, err)
	for seed := range uint64(30) {
		r, err := m.run(ours()[0], seed+1, nil)
		require.NoError(t, err)
		require.Zero(t, r.Caused, "seed %d with sensors", seed+1)
		require.Zero(t, r.Unsettled, "seed %d with sensors", seed+1)
		require.LessOrEqual(t, r.Switches, 2, "seed %d with sensors", seed+1)
		r, err = m.run(ours()[1], seed+1, nil)
		require.NoError(t, err)
		require.LessOrEqual(t, r.Caused, 1, "seed %d without sensors", seed+1)
	}
}

// How seldom an answer can be late: oracles that know the slowdown of every inference and the distribution of its noise,
// and weigh a late answer more and more. None is late as seldom as ALERT's best form and within 0.3 points of the
// oracle that keeps to the probability.
func TestCareCostsAccuracy(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	const seeds = 30
	machines := make([]*machine, len(Suite()))
	for i, s := range Suite() {
		var err error
		machines[i], err = newMachine(s)
		require.NoError(t, err)
	}
	alert := policy.All()[slices.IndexFunc(policy.All(), func(e policy.Entry) bool { return e.Name == "alert-best" })]
	played := func(e policy.Entry, care float64) []Result {
		runs := make([]Result, len(machines)*seeds)
		parallel(len(runs), func(i int) {
			m := *machines[i/seeds]
			m.care = care
			var err error
			runs[i], err = m.run(e, uint64(i%seeds)+1, nil)
			must(err)
		})
		return runs
	}
	mean := func(runs, oracle []Result) (late, regret float64) {
		var list []Table
		for i := 0; i < len(runs); i += seeds {
			list = append(list, Table{Rows: []Row{row("", runs[i:i+seeds], oracle[i:i+seeds])}})
		}
		r := Mean(list).Rows[0]
		return r.Miss.Mean, r.Regret.Mean
	}
	oracle := played(Oracle, 0)
	alerts, given := mean(played(alert, 0), oracle)
	t.Logf("%-10s late or lost %.2f %%, regret %.2f", alert.Name, alerts, given)
	for _, care := range []float64{1, 2, 4, 6, 8, 32} {
		late, regret := mean(played(Oracle, care), oracle)
		t.Logf("oracle, a late answer costs %2v: late or lost %.2f %%, regret %.2f", care, late, regret)
		require.False(t, late <= alerts && regret <= 0.3, "care %v: late %v, regret %v", care, late, regret)
	}
}

// Whatever happens to the sensors, they must not do more harm than their absence.
func TestSensorFaultsInEveryScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	worst := map[string]float64{}
	var list []*Scenario
	var kinds []string
	for _, s := range Suite() {
		for _, f := range []Fault{
			{From: 0, To: s.Length, Kind: "missing"},
			{From: 0, To: s.Length, Kind: "unsupported"},
			{From: 0, To: s.Length, Kind: "wrong"},
			{From: 0, To: s.Length, Kind: "stuck"},
			{From: 1000, To: s.Length, Kind: "stuck"},
			{From: 0, To: s.Length, Kind: "late"},
			{From: 2000, To: 4500, Kind: "missing"},
			{From: 0, To: 5000, Kind: "missing"}, // a node that appears
			{From: 2000, To: 4500, Kind: "stuck"},
			{From: 2000, To: 4500, Kind: "late"},
			{From: 0, To: s.Length, Kind: "random"},
			{From: 2000, To: 4500, Kind: "random"},
		} {
			faulty := *s
			faulty.Faults = []Fault{f}
			list = append(list, &faulty)
			kinds = append(kinds, fmt.Sprintf("%s from %v to %v", f.Kind, f.From, f.To))
		}
	}
	tables, err := Run(list, ours(), 40)
	require.NoError(t, err)
	for i, table := range tables {
		harm := table.Row("steady").Regret.Mean - table.Row("steady-blind").Regret.Mean
		if harm > worst[kinds[i]] {
			worst[kinds[i]] = harm
		}
		if strings.HasPrefix(kinds[i], "random") {
			continue // valid readings that are all lies are found out, but not at once: logged, not promised
		}
		require.LessOrEqual(t, harm, 0.1, "%s, %s", table.Scenario, kinds[i])
	}
	t.Log(worst)
}
