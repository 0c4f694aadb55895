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
	require.LessOrEqual(t, mean.Row("steady").Regret.Mean, 0.35)
	require.LessOrEqual(t, mean.Row("steady-blind").Regret.Mean, 0.5)
	for _, r := range mean.Rows[:2] {
		require.LessOrEqual(t, r.Miss.Mean, 1.2*oracle.Miss.Mean+0.5, r.Policy)
		require.LessOrEqual(t, r.Switches.Mean, 2*oracle.Switches.Mean, r.Policy)
		for _, other := range mean.Rows[2:10] {
			require.Greater(t, other.Regret.Mean, r.Regret.Mean, "%s against %s", r.Policy, other.Policy)
		}
	}
}

// timeSlices is a busy loop on every core for a while: the scheduler gives the inference a slice and takes the next,
// one in ten for long.
func timeSlices(seed uint64, deadline float64) *Scenario {
	r := newRandom(seed, 2000)
	between := func(low, high float64) float64 { return low + (high-low)*r.uniform() }
	s := &Scenario{Name: fmt.Sprintf("time slices %d", seed), Length: 12000, Period: deadline, Cores: 2,
		Constraints: Constraints{Deadline: deadline, Probability: 0.95}, Noise: Noise{Sigma: 0.03, Spikes: []Spike{{0.01, 1.3}}},
		Sensors: map[string]float64{"contention": 0.02, "pressure": 0.03, "cores": 2}}
	s.Configurations = []governor.Configuration{{Threads: 1}}
	for _, l := range [][2]float64{{91.68, 6.05}, {91.85, 7}, {92.24, 9.42}, {92.94, 13.4}, {93.12, 17.35}, {93.08, 21.34}, {94.38, 39.93}} {
		s.Levels = append(s.Levels, Level{Accuracy: l[0], Latency: []float64{l[1]}})
	}
	at := 2500.0
	for at < 5000 {
		slice, wait := between(2, 5), between(2, 5)
		if r.uniform() < 0.1 {
			wait = between(10, 40)
		}
		s.Events = append(s.Events, Event{At: at, Slowdown: 1}, Event{At: at + slice, Slowdown: 100})
		at += slice + wait
	}
	s.Events[0].Sensors = map[string]float64{"contention": 0.5, "pressure": 0.6}
	s.Events = append(s.Events, Event{At: at, Slowdown: 1, Sensors: map[string]float64{"contention": 0.02, "pressure": 0.03}})
	must(s.complete())
	return s
}

// What a load has shown of itself ends with it: the levels that were good before are good again.
func TestClimbsBackAfterTimeSlices(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	for _, deadline := range []float64{30, 45} {
		var list []*Scenario
		for i := range uint64(20) {
			list = append(list, timeSlices(i+1, deadline))
		}
		tables, err := Run(list, policy.All(), 3)
		require.NoError(t, err)
		mean := Mean(tables)
		for _, entry := range ours() {
			low := 0
			for _, s := range list {
				for seed := range uint64(3) {
					frames, err := Trace(s, entry, seed+1)
					require.NoError(t, err)
					if frames[len(frames)-1].Level < 3 {
						low++
					}
				}
			}
			row := mean.Row(entry.Name)
			t.Logf("deadline %v, %-12s effective %.2f %%, late or lost %.2f %%, %.1f switches, %d of 60 runs end below level 3",
				deadline, entry.Name, row.Effective.Mean, row.Miss.Mean, row.Switches.Mean, low)
			require.LessOrEqual(t, low, 6)
			for _, other := range []string{"alert-best", "dynamicofa-free"} {
				require.Greater(t, row.Effective.Mean, mean.Row(other).Effective.Mean, other)
				require.Less(t, row.Miss.Mean, mean.Row(other).Miss.Mean, other)
			}
		}
	}
}
