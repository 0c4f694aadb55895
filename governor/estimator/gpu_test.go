package estimator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

// card is a GPU as a roofline with launches: an inference is what the host launches and copies, what multiprocessors
// compute at their clock and what the memory moves at its own, the latter two shared with others in time slices.
type card struct{ launch, compute, memory float64 } // ms at full clocks

// ms is the latency at shares of the clocks, of the host's speed, and of the card's time.
func (c card) ms(clock, memory, host, time float64) float64 {
	return c.launch/host + (c.compute/clock+c.memory/memory)/time
}

// both has three levels on a card, the smallest mostly launches, and on 4 threads. Copies of the launch part.
func both() (*governor.Profile, []card) {
	cards := []card{{4, 2, 1}, {4, 8, 4}, {4, 22, 10}}
	p := &governor.Profile{Configurations: []governor.Configuration{{GPU: true, LaunchMS: 4}, {Threads: 4}}}
	for i, c := range cards {
		gpu := c.ms(1, 1, 1, 1)
		p.Levels = append(p.Levels, governor.Level{Accuracy: float64(70 + 5*i), Latency: []time.Duration{time.Duration(1e6 * gpu), time.Duration(4e6 * gpu)}})
	}
	return p, cards
}

// Each sensor moves the configurations of its own processor; the CPU's move the launches on the other, too.
func TestEachProcessorHasItsSensors(t *testing.T) {
	p, _ := both()
	for name, c := range map[string]struct {
		hardware governor.Hardware
		gpu, cpu float64 // slowdown of the middle level
	}{
		"GPU clock":        {governor.Hardware{GPUClock: valid(0.5, 1e9)}, math.Pow(1+0.75, 0.9), 1},
		"GPU memory clock": {governor.Hardware{GPUMemClock: valid(0.5, 1e9)}, math.Sqrt(1 + 0.75), 1},
		"CPU clock":        {governor.Hardware{Clock: valid(0.5, 1e9)}, math.Pow(1+0.25, 0.9), math.Pow(2, 0.9)},
		"quota of 2 CPUs":  {governor.Hardware{Cores: valid(2, 1e9)}, 1, math.Pow(2, 0.95)},
		"quota of half":    {governor.Hardware{Cores: valid(0.5, 1e9)}, math.Pow(1+0.25, 0.95), math.Pow(8, 0.95)},
		"waiting":          {governor.Hardware{Contention: valid(0.5, 1e9), Pressure: valid(0.5, 1e9)}, 1, 1},
		"GPU's other readings": {governor.Hardware{GPULoad: valid(1, 1e9), GPUReasons: valid(4, 1e9), GPUTemp: valid(90, 1e9), GPUPower: valid(300, 1e9),
			GPUMemory: valid(1, 1e9), GPUOthers: valid(1, 1e9)}, 1, 1},
	} {
		e := New(p, nil)
		e.Sense(1e9, &c.hardware)
		require.InDelta(t, c.gpu*p.Levels[1].Latency[0].Seconds(), e.Estimate().Median(p, 1, 0), 0.05*c.gpu*p.Levels[1].Latency[0].Seconds(), name)
		require.InDelta(t, c.cpu, e.Estimate().Slowdown[1], 1e-9, name)
		e.Sense(2e9, &governor.Hardware{Clock: valid(1, 2e9), Cores: valid(4, 2e9), GPUClock: valid(1, 2e9), GPUMemClock: valid(1, 2e9), GPUOthers: valid(0, 2e9)})
		for l := range p.Levels {
			for c := range p.Configurations {
				require.InEpsilon(t, p.Levels[l].Latency[c].Seconds(), e.Estimate().Median(p, l, c), 1e-9, "%s, and back", name)
			}
		}
	}
}

// A profile without launches has none that a CPU could slow down.
func TestWithoutLaunches(t *testing.T) {
	p, _ := both()
	p.Configurations[0].LaunchMS = 0
	e := New(p, nil)
	e.Sense(1e9, &governor.Hardware{Clock: valid(0.5, 1e9), Cores: valid(0.5, 1e9)})
	require.Equal(t, 1., e.Estimate().Slowdown[0])
	e.Sense(2e9, &governor.Hardware{GPUClock: valid(0.5, 2e9)})
	require.InEpsilon(t, math.Pow(2, 0.9), e.Estimate().Slowdown[0], 1e-9)
}

// The model against the card: before anything was felt within a few percent for every level, and within the noise
// once the gains are learned, also for levels that have not run at these clocks.
func TestGPULatencyModel(t *testing.T) {
	p, cards := both()
	e, r := New(p, nil), rand.New(rand.NewPCG(1, 1))
	now := time.Duration(0)
	clocks, memories := 1., 1.
	at := func(clock, memory float64) {
		now += 2 * time.Second
		clocks, memories = clock, memory
		e.Sense(now, &governor.Hardware{GPUClock: valid(clock, now), GPUMemClock: valid(memory, now)})
	}
	run := func(level, n int) {
		for range n {
			ms := cards[level].ms(clocks, memories, 1, 1) * math.Exp(0.02*r.NormFloat64())
			e.Observe(governor.Observation{At: now, Level: level, Latency: time.Duration(1e6 * ms)})
		}
	}
	worst := func() (worst float64) {
		for l, c := range cards {
			worst = max(worst, math.Abs(e.Estimate().Median(p, l, 0)*1e3/c.ms(clocks, memories, 1, 1)-1))
		}
		return worst
	}
	run(1, 50)
	at(0.6, 1)
	require.Less(t, worst(), 0.2, "two thirds of the work compute, which nobody knows yet")
	for range 10 {
		at(0.6, 1)
		run(1, 20)
		at(1, 1)
		run(1, 20)
		at(1, 0.5)
		run(1, 20)
		at(1, 1)
		run(1, 20)
	}
	at(0.6, 1)
	require.Less(t, worst(), 0.05)
	at(1, 0.5)
	require.Less(t, worst(), 0.05)
	at(0.8, 0.8)
	require.Less(t, worst(), 0.05)
}

// What CPU inferences learn is not of the GPU, and the other way round.
func TestProcessorsLearnApart(t *testing.T) {
	p, _ := both()
	e := New(p, nil)
	for range patience - 10 {
		e.Observe(governor.Observation{Level: 1, Configuration: 1, Latency: 2 * p.Levels[1].Latency[1]})
	}
	require.InDelta(t, 2, e.Estimate().Slowdown[1], 0.1)
	require.Equal(t, 1., e.Estimate().Slowdown[0])
	for range patience - 10 {
		e.Observe(governor.Observation{Level: 1, Configuration: 0, Latency: 3 * p.Levels[1].Latency[0]})
	}
	require.InDelta(t, 3, e.Estimate().Slowdown[0], 0.1)
	require.InDelta(t, 2, e.Estimate().Slowdown[1], 0.1)
}

// NVML is read every 200 ms, and not at once; other sensors more often.
func TestGPUReadingsMayBeOlder(t *testing.T) {
	p, _ := both()
	for age, moves := range map[time.Duration][2]bool{200e6: {true, true}, 400e6: {true, false}, 500e6: {false, false}} {
		e := New(p, nil)
		e.Sense(1e9, &governor.Hardware{GPUClock: valid(0.5, 1e9-age), Clock: valid(0.5, 1e9-age)})
		require.Equal(t, moves[0], e.effects[gpuClock].value == 0.5, "%v", age)
		require.Equal(t, moves[1], e.effects[clock].value == 0.5, "%v", age)
	}
}
