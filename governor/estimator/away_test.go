package estimator

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

// pair plays inferences of 50 ms on the two processors of both.
type pair struct {
	*Estimator
	p   *governor.Profile
	now time.Duration
}

func newPair() *pair {
	p, _ := both()
	return &pair{Estimator: New(p, nil), p: p}
}

// on lets n inferences run, so many times slower than profiled, while the GPU's load (-1: unknown) and its other
// processes are as given.
func (x *pair) on(configuration, n int, slow, load, others float64) {
	for range n {
		x.now += 50 * time.Millisecond
		x.Sense(x.now, &governor.Hardware{GPULoad: valid(load, x.now), GPUOthers: valid(others, x.now), GPUTemp: valid(50+x.now.Seconds(), x.now)})
		x.Observe(governor.Observation{At: x.now, Level: 1, Configuration: configuration, Latency: time.Duration(slow * float64(x.p.Levels[1].Latency[configuration]))})
	}
}

func (x *pair) gpu() float64 { return x.Estimate().Slowdown[0] }

const onGPU, onCPU = 0, 1

// What nothing but latencies told of a processor is believed for a while after it was left, and for twice as long each
// time that it turns out to have been true.
func TestPatience(t *testing.T) {
	x := newPair()
	x.on(onGPU, 50, 1, -1, 0)
	x.on(onGPU, 10, 3, -1, 0)
	require.InDelta(t, 3, x.gpu(), 0.1)
	for _, long := range []int{patience, 2 * patience, 4 * patience} {
		x.on(onCPU, long-1, 1, -1, 0)
		require.InDelta(t, 3, x.gpu(), 0.1, "before %d", long)
		x.on(onCPU, 1, 1, -1, 0)
		require.InDelta(t, 1, x.gpu(), 0.1, "after %d", long)
		require.Negative(t, x.Estimate().News)
		x.on(onGPU, 1, 3, -1, 0)
		require.InDelta(t, 3, x.gpu(), 0.15, "one inference tells")
	}
	x.on(onCPU, 8*patience, 1, -1, 0)
	x.on(onGPU, 5, 1, -1, 0)
	require.InDelta(t, 1, x.gpu(), 0.05)
	x.on(onGPU, 10, 3, -1, 0)
	x.on(onCPU, patience, 1, -1, 0)
	require.InDelta(t, 1, x.gpu(), 0.1, "patience is back")
	require.Equal(t, 1., x.Estimate().Slowdown[1])
}

// A processor that was left for one outlier is not settled there: it is tried soon where outliers have been nothing else.
func TestLeftInDoubt(t *testing.T) {
	for name, c := range map[string]struct {
		odds odds
		long int
	}{"outliers last": {odds{steps: 9, spikes: 1}, patience}, "outliers are just that": {odds{steps: 1, spikes: 9}, impatience}} {
		x := newPair()
		x.on(onGPU, 50, 1, -1, 0)
		x.odds = [2]odds{c.odds, c.odds}
		x.on(onGPU, 1, 2, -1, 0)
		x.on(onCPU, c.long-1, 1, -1, 0)
		require.InDelta(t, 2, x.gpu(), 0.1, name)
		x.on(onCPU, 1, 1, -1, 0)
		require.InDelta(t, 1, x.gpu(), 0.05, name)
		spikes := func() float64 { return x.odds[0].spikes + x.odds[1].spikes }
		before := spikes()
		x.on(onGPU, 1, 1, -1, 0)
		require.Equal(t, before+1, spikes(), name)
		require.InDelta(t, 1, x.gpu(), 0.05, name)

		x.on(onGPU, 1, 2, -1, 0)
		x.on(onCPU, 1, 1, -1, 0)
		x.on(onGPU, 1, 2, -1, 0)
		require.InDelta(t, 2, x.gpu(), 0.1, "a second time, %s", name)
		require.Zero(t, x.Estimate().Doubt, name)
	}
}

// While the GPU is not used its load is that of others: it says when they pause, and when they take more.
func TestLoadOfOthers(t *testing.T) {
	x := newPair()
	x.on(onGPU, 50, 1, 1, 0)
	x.on(onGPU, 10, 2, 1, 1)
	x.on(onCPU, 3*patience, 1, 1, 1)
	require.InDelta(t, 2, x.gpu(), 0.1, "still busy")
	x.on(onCPU, 1, 1, 0.5, 1)
	require.InDelta(t, 2, x.gpu(), 0.1, "half of the time is its fair share, and all that one can take")
	x.on(onCPU, 1, 1, 0.25, 1)
	require.InDelta(t, 1/0.75, x.gpu(), 0.1)
	x.on(onCPU, 1, 1, 0, 1)
	require.InDelta(t, 1, x.gpu(), 0.05)
	x.on(onCPU, 1, 1, 1, 3)
	require.InDelta(t, 4, x.gpu(), 0.3, "three who are always busy")
	x.on(onGPU, 1, 4, 1, 3)
	require.InDelta(t, 4, x.gpu(), 0.3, "as foretold")
	x.on(onCPU, 2, 1, 0, 3)
	require.InDelta(t, 4, x.gpu(), 0.3, "the average still has our own")

	x = newPair()
	x.on(onGPU, 50, 1, 1, 0)
	x.on(onGPU, 10, 2, 1, 1)
	x.on(onCPU, 4*patience, 1, 1, 1)
	require.InDelta(t, 1, x.gpu(), 0.05, "a reader may hang: looked after all the same, later")
	x.on(onGPU, 1, 1, 1, 1)
	x.on(onGPU, 10, 2, 1, 1)
	x.on(onCPU, patience, 1, 1, 1)
	require.InDelta(t, 1, x.gpu(), 0.05, "it was wrong, and is not listened to")
}

// A limit that nobody reads any more is believed no longer than what latencies told.
func TestLimitThatIsLostWhileAway(t *testing.T) {
	x := newPair()
	x.on(onGPU, 50, 1, 1, 0)
	x.now += time.Second
	x.Sense(x.now, &governor.Hardware{GPUClock: valid(0.5, x.now)})
	x.on(onGPU, 20, 1.75, 1, 0)
	x.on(onCPU, patience-1, 1, 0, 0)
	require.InDelta(t, 1.75, x.gpu(), 0.1)
	x.on(onCPU, 1, 1, 0, 0)
	require.InDelta(t, 1, x.gpu(), 0.05)
	x.on(onGPU, 1, 1.75, 1, 0)
	require.InDelta(t, 1.75, x.gpu(), 0.1)
}

// A sensor that has driven us away is asked for proof in the end; one that lies is not believed for a while, one that
// does not is as before.
func TestSensorIsQuestioned(t *testing.T) {
	for name, c := range map[string]struct{ truth, after float64 }{"lie": {1, 1}, "truth": {1.7, 1.7}} {
		x := newPair()
		sense := func(clock float64) {
			x.Sense(x.now, &governor.Hardware{GPUClock: valid(clock, x.now), GPUTemp: valid(50+x.now.Seconds(), x.now)})
		}
		clock := 1.
		run := func(configuration, n int, slow float64) {
			for range n {
				x.now += 50 * time.Millisecond
				sense(clock)
				x.Observe(governor.Observation{At: x.now, Level: 1, Configuration: configuration, Latency: time.Duration(slow * float64(x.p.Levels[1].Latency[configuration]))})
			}
		}
		run(onGPU, 50, 1)
		clock = 0.5
		run(onCPU, doubtSensors*patience-1, 1)
		require.InDelta(t, 1.7, x.gpu(), 0.1, name)
		run(onCPU, 1, 1)
		require.InDelta(t, 1, x.gpu(), 0.05, name)
		run(onCPU, impatience-1, 1)
		require.InDelta(t, 1, x.gpu(), 0.05, name)
		run(onCPU, 1, 1)
		sense(0.5)
		require.InDelta(t, 1.7, x.gpu(), 0.1, "nobody went to see: %s", name)
		run(onGPU, 1, 1.7)
		run(onCPU, doubtSensors*patience, 1)
		require.InDelta(t, 1, x.gpu(), 0.05, name)
		run(onGPU, 1, c.truth)
		sense(0.5)
		require.InDelta(t, c.after, x.gpu(), 0.1, name)
		run(onCPU, 1, 1)
		require.InDelta(t, c.after, x.gpu(), 0.1, name)
	}
}

// The load of a processor is not that of the other: its noise stays behind, and is back with it.
func TestALoadIsLeftBehind(t *testing.T) {
	x := newPair()
	x.on(onGPU, 100, 1, -1, 0)
	calm := x.Estimate().Residual.Quantile(0.1)
	for range 15 {
		x.on(onGPU, 1, 2.75, -1, 0)
		x.on(onGPU, 1, 3.25, -1, 0)
	}
	busy := x.Estimate().Residual.Quantile(0.1)
	require.Less(t, busy, calm-0.05)
	x.on(onCPU, patience, 1, -1, 0)
	require.InDelta(t, calm, x.Estimate().Residual.Quantile(0.1), 0.02)
	x.on(onGPU, 1, 3, -1, 0)
	require.InDelta(t, busy, x.Estimate().Residual.Quantile(0.1), 0.02)
}

// What slows nothing down is the number of CPUs that the profile was made with.
func TestCoresAreQuestioned(t *testing.T) {
	p, _ := both()
	p.Cores = 2 // and 4 threads
	e := New(p, nil)
	now := time.Duration(0)
	run := func(configuration, n int, cpus float64) {
		for range n {
			now += 50 * time.Millisecond
			e.Sense(now, &governor.Hardware{Cores: valid(cpus, now), Pressure: valid(now.Seconds()/1e3, now)})
			e.Observe(governor.Observation{At: now, Level: 1, Configuration: configuration, Latency: p.Levels[1].Latency[configuration]})
		}
	}
	run(onCPU, 50, 2)
	run(onGPU, doubtSensors*patience-1, 1)
	require.InDelta(t, 1.93, e.Estimate().Slowdown[onCPU], 0.05)
	run(onGPU, 1, 1)
	require.InDelta(t, 1, e.Estimate().Slowdown[onCPU], 0.05)
}
