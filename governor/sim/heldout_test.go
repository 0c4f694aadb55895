package sim

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/policy"
)

// heldOut makes a scenario from a number: library, noise, probability, deadline, disturbances and how much of them
// the sensors show are all drawn. Nothing in the governor was chosen by looking at these.
func heldOut(seed uint64) *Scenario {
	r := newRandom(seed, 1000)
	between := func(low, high float64) float64 { return low + (high-low)*r.uniform() }
	pick := func(n int) int { return int(r.uniform() * float64(n)) }
	s := &Scenario{Name: fmt.Sprintf("held-out %d", seed), Length: 13000, Sensors: map[string]float64{}}
	n := 3 + pick(10)
	fastest, slowest, lowest, highest := between(10, 30), between(45, 80), between(60, 75), between(76, 92)
	for i := range n {
		x := float64(i) / float64(n-1)
		s.Levels = append(s.Levels, Level{Accuracy: lowest + (highest-lowest)*math.Sqrt(x), Latency: []float64{fastest * math.Pow(slowest/fastest, x)}})
	}
	s.Constraints = Constraints{Deadline: between(0.8, 1.3) * slowest, Probability: []float64{0.9, 0.95, 0.99}[pick(3)]}
	s.Noise.Sigma = between(0.015, 0.09)
	switch pick(4) {
	case 0:
		s.Noise.Spikes = []Spike{{between(0.001, 0.02), between(1.15, 3)}}
	case 1:
		s.Noise.Spikes = []Spike{{between(0.1, 0.4), between(1.05, 1.2)}}
	case 2:
		s.Noise.Tail = &Tail{between(0.01, 0.05), between(3, 8)}
	}
	if r.uniform() < 0.3 {
		for range s.Levels {
			s.Error = append(s.Error, math.Exp(between(-0.08, 0.08)))
		}
	}
	gpu := r.uniform() < 0.5
	limit := "clock"
	if gpu {
		limit = "gpu_clock"
		s.Sensors = map[string]float64{"gpu_clock": 1, "gpu_others": 0, "gpu_load": 0.8, "gpu_power": 20, "temperature": 50}
	} else {
		s.Configurations = append(s.Configurations, governor.Configuration{Threads: 4})
		s.Cores = 4
		s.Sensors = map[string]float64{"clock": 1, "cores": 4, "contention": 0.01, "pressure": 0.03, "temperature": 50}
	}
	// At most one disturbance at a time; most end.
	at := between(500, 4000)
	for at < 12000 {
		x := between(1.1, 1.9)
		until := at + between(300, 4000)
		on, off := Event{At: at, Slowdown: x}, Event{At: until, Slowdown: 1}
		switch kind := pick(4); {
		case kind == 0 && gpu: // another process, with a lead of any length
			lead := between(0, 500)
			s.Events = append(s.Events, Event{At: at - lead, Sensors: map[string]float64{"gpu_others": 1}}, on)
			s.Events = append(s.Events, off, Event{At: until + 50, Sensors: map[string]float64{"gpu_others": 0}})
			until += 50
		case kind == 0: // a quota
			on.Slowdown, off.Slowdown = 0, 0
			on.Cores, off.Cores = 4/x, 4
			on.Sensors, off.Sensors = map[string]float64{"cores": 4 / x}, map[string]float64{"cores": 4}
			s.Events = append(s.Events, on, off)
		case kind == 1: // nothing shows it
			s.Events = append(s.Events, on, off)
		case kind == 2: // a clock that falls at once
			on.Sensors = map[string]float64{limit: math.Pow(x, -1/between(0.7, 1))}
			off.Sensors = map[string]float64{limit: 1}
			s.Events = append(s.Events, on, off)
		default: // or slowly
			on.Ramp = until - at
			on.Sensors = map[string]float64{limit: math.Pow(x, -1/between(0.7, 1))}
			off.Sensors = map[string]float64{limit: 1}
			s.Events = append(s.Events, on, off)
		}
		at = until + between(600, 5000)
	}
	for len(s.Events) > 0 && s.Events[len(s.Events)-1].At > s.Length {
		s.Events = s.Events[:len(s.Events)-1]
	}
	for i := range s.Events {
		s.Events[i].Ramp = min(s.Events[i].Ramp, s.Length-s.Events[i].At)
	}
	must(s.complete())
	return s
}

func heldOuts(first, n int) []*Scenario {
	var list []*Scenario
	for i := range n {
		list = append(list, heldOut(uint64(first+i)))
	}
	return list
}

// No number of the governor was chosen on these; the limits leave a little room for the noise of 5 seeds.
func TestHeldOut(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	tables, err := Run(heldOuts(1000, 200), policy.All(), 5)
	require.NoError(t, err)
	mean := Mean(tables)
	for _, r := range mean.Rows {
		t.Logf("%-16s regret %.2f ± %.2f, late or lost %.2f %%, %.1f switches", r.Policy, r.Regret.Mean, r.Regret.Half, r.Miss.Mean, r.Switches.Mean)
	}
	oracle := mean.Row("oracle")
	for _, r := range mean.Rows[:2] {
		require.LessOrEqual(t, r.Regret.Mean, 0.75, r.Policy)
		require.LessOrEqual(t, r.Miss.Mean, 1.2*oracle.Miss.Mean+0.5, r.Policy)
		require.LessOrEqual(t, r.Switches.Mean, 2*oracle.Switches.Mean, r.Policy)
		for _, other := range mean.Rows[2:10] {
			require.Greater(t, other.Regret.Mean, r.Regret.Mean, "%s against %s", r.Policy, other.Policy)
		}
	}
}
