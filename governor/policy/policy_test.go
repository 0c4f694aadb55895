package policy_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/governortest"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/policy/alert"
	"github.com/dynofa/dynofa/governor/policy/dynamicofa"
	"github.com/dynofa/dynofa/governor/policy/slackfit"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

// levels plays latencies, in ms, against a policy and answers the levels that it chose, one more than latencies.
func levels(t *testing.T, e governor.Estimator, p governor.Policy, c governor.Constraints, latency func(i, level int) float64, n int) []int {
	g, err := governor.New(governor.Config{Profile: governortest.Profile(), Estimator: e, Policy: p, Constraints: c})
	require.NoError(t, err)
	list := []int{g.Next().Level}
	for i := range n {
		g.Observe(time.Duration(1e6 * latency(i, list[i])))
		list = append(list, g.Next().Level)
	}
	return list
}

// The numbers are those of the demonstrator's script: 21 unrecorded inferences and 20 records before a level is left,
// nothing at all from 90 ms on, and upwards only for the floor, after 72.
func TestDynamicOFA(t *testing.T) {
	constant := func(ms float64) func(int, int) float64 { return func(int, int) float64 { return ms } }
	asked := governor.Constraints{Deadline: 60 * time.Millisecond}
	rule := dynamicofa.Policy{Start: 4}
	list := levels(t, dynamicofa.NewWindow(), rule, asked, constant(61), 100)
	require.Equal(t, 4, list[40])
	require.Equal(t, 3, list[41], "41 inferences at 61 ms")
	require.Equal(t, 3, list[81])
	require.Equal(t, 2, list[82], "one level at a time")
	require.Equal(t, 4, levels(t, dynamicofa.NewWindow(), rule, asked, constant(90), 500)[500], "blind to overload")
	require.Equal(t, 4, levels(t, dynamicofa.NewWindow(), rule, asked, constant(10), 500)[500], "never climbs for slack")
	asked.MinAccuracy = 79
	list = levels(t, dynamicofa.NewWindow(), rule, asked, constant(10), 100)
	require.Equal(t, []int{4, 5}, []int{list[71], list[72]}, "climbs for the floor")
	list = levels(t, dynamicofa.NewWindow(), rule, asked, func(_, level int) float64 { return []float64{10, 20, 30, 40, 50, 61}[level] }, 400)
	changes := 0
	for i := range list[1:] {
		if list[i] != list[i+1] {
			changes++
		}
	}
	require.Equal(t, 6, changes, "alternates for ever: 72 inferences up, 41 down")
}

// One step of the filter by hand, from the paper's equations and start values.
func TestAlertFilter(t *testing.T) {
	p := governortest.Profile()
	f := alert.NewFilter(p, alert.Config{})
	f.Observe(governor.Observation{Level: 0, Latency: 15 * time.Millisecond}) // 1.5 times the profile
	// y = 0.5; Q = max(0.1, 0.3*0.1 + 0.7*(0.5*0.5)^2) = 0.1; sigma = 0.5*0.1 + 0.1 = 0.15; K = 0.15/0.151; mu = 1 + K*0.5
	e := f.Estimate()
	require.InDelta(t, 1+0.5*0.15/0.151, e.Mean, 1e-12)
	require.InDelta(t, 0.15, e.Deviation*e.Deviation, 1e-12)
	f.Observe(governor.Observation{Level: 0, Latency: 30 * time.Millisecond})
	k, mu := 0.15/0.151, 1+0.5*0.15/0.151
	q := 0.3*0.1 + 0.7*(k*(3-mu))*(k*(3-mu))
	sigma := (1-k)*0.15 + q
	require.InDelta(t, sigma, e.Deviation*e.Deviation, 1e-12)
	require.InDelta(t, mu+sigma/(sigma+0.001)*(3-mu), e.Mean, 1e-12)
}

// Buckets of 10 ms: what ends within the slack is allowed.
func TestSlackFit(t *testing.T) {
	p := governortest.Profile()
	for slack, level := range map[int]int{5: 0, 25: 0, 31: 1, 41: 2, 55: 3, 100: 5} {
		s := governor.State{Profile: p, Estimate: slackfit.NewNone(p).Estimate(), Budget: time.Duration(slack) * time.Millisecond}
		require.Equal(t, level, slackfit.Policy{Buckets: 5}.Next(&s).Level, "%d ms", slack)
	}
}

// Of the levels that keep the probability, the one whose answers are worth most when late ones are worth nothing: not
// the one of 80 % that is late every thirtieth time, unless what the other gives up is more than that.
func TestSteadyWeighsLateAnswers(t *testing.T) {
	for other, level := range map[float64]int{79: 0, 74: 1} {
		p := &governor.Profile{Configurations: []governor.Configuration{{}}, Levels: []governor.Level{
			{Accuracy: other, Latency: []time.Duration{30 * time.Millisecond}}, {Accuracy: 80, Latency: []time.Duration{50 * time.Millisecond}}}}
		noise := governor.NewResidual(0.01, 1, 1e6)
		for i := range 3000 {
			noise.Add(map[bool]float64{true: 0.3}[i%30 == 0])
		}
		s := governor.State{Profile: p, Budget: 60 * time.Millisecond, Last: governor.Decision{Level: -1}, Settled: governor.Decision{Level: -1},
			Estimate: &governor.Estimate{Slowdown: []float64{1}, Expected: p.Uncorrected(), Spread: []float64{1, 1}, Widen: []float64{1}, Residual: noise}}
		var err error
		s.Constraints, err = governor.Constraints{Deadline: s.Budget}.Complete()
		require.NoError(t, err)
		require.Equal(t, level, steady.New(nil).Next(&s).Level, "the other has %v %%", other)
	}
}

// What the GPU may do is nothing to the CPU: the way out of a threat to one, or of a doubt, is the other.
func TestSteadyFleesToTheOtherProcessor(t *testing.T) {
	p := &governor.Profile{Configurations: []governor.Configuration{{GPU: true}, {Threads: 4}}}
	for i, ms := range [][2]time.Duration{{10, 25}, {25, 50}, {45, 110}} {
		p.Levels = append(p.Levels, governor.Level{Accuracy: float64(70 + 5*i), Latency: []time.Duration{ms[0] * time.Millisecond, ms[1] * time.Millisecond}})
	}
	const gpu, cpu = 0, 1
	for name, c := range map[string]struct {
		doubt, threat float64
		last          int
		want          governor.Decision
	}{
		"quiet":             {0, 0, gpu, governor.Decision{Level: 2, Configuration: gpu}},
		"threat to the GPU": {0, 3, gpu, governor.Decision{Level: 1, Configuration: cpu}},
		"doubt of the GPU":  {1.8, 0, gpu, governor.Decision{Level: 1, Configuration: cpu}},
		"doubt of the CPU":  {1.8, 0, cpu, governor.Decision{Level: 2, Configuration: gpu}},
	} {
		last := governor.Decision{Level: 1, Configuration: c.last}
		s := governor.State{Profile: p, Budget: 60 * time.Millisecond, Last: last, Settled: last, Least: 60 * time.Millisecond,
			Estimate: &governor.Estimate{Slowdown: []float64{1, 1}, Expected: p.Uncorrected(), Spread: []float64{1, 1, 1, 1, 1, 1}, Widen: []float64{1, 1},
				Residual: governor.NewResidual(0.02, 1000, 1e6), Doubt: c.doubt, Threat: c.threat, News: 1}}
		var err error
		s.Constraints, err = governor.Constraints{Deadline: s.Budget}.Complete()
		require.NoError(t, err)
		require.Equal(t, c.want, steady.New(nil).Next(&s), name)
	}
}

// Every policy keeps its hands off the heap, answers an option that there is, and answers the same twice.
func TestPure(t *testing.T) {
	p := governortest.Profile()
	for _, entry := range append(policy.All(), policy.Ablation()...) {
		e, next := entry.New(p)
		s := governor.State{Profile: p, Estimate: e.Estimate(), Last: governor.Decision{Level: -1}, Settled: governor.Decision{Level: -1}, Budget: 50 * time.Millisecond}
		var err error
		s.Constraints, err = governor.Constraints{Deadline: s.Budget}.Complete()
		require.NoError(t, err)
		for i := range 200 {
			first := next.Next(&s)
			require.Equal(t, first, next.Next(&s), entry.Name)
			require.Less(t, first.Level, len(p.Levels), entry.Name)
			s.Last, s.Settled = first, first
			e.Observe(governor.Observation{Level: first.Level, Latency: p.Levels[first.Level].Latency[0] * time.Duration(1+i%3)})
		}
		require.Zero(t, testing.AllocsPerRun(100, func() { next.Next(&s) }), entry.Name)
	}
}
