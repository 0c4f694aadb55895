package estimator

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/governortest"
)

// feed lets n inferences at a level be slower by a factor, with 3 % of noise.
func feed(e *Estimator, p *governor.Profile, r *rand.Rand, level, n int, slow float64) {
	for range n {
		latency := float64(p.Levels[level].Latency[0]) * slow * math.Exp(0.03*r.NormFloat64())
		e.Observe(governor.Observation{Level: level, Latency: time.Duration(latency)})
	}
}

func TestJump(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e, slow := New(p, nil), New(p, &Config{NoJumps: true})
	for _, x := range []*Estimator{e, slow} {
		feed(x, p, r, 2, 100, 1)
		require.InDelta(t, 1, x.Estimate().Slowdown[0], 0.03)
		feed(x, p, r, 2, 2, 1.5)
	}
	require.InDelta(t, 1.5, e.Estimate().Slowdown[0], 0.1, "two inferences tell")
	require.Less(t, slow.Estimate().Slowdown[0], 1.3, "without jumps it takes a while")
	feed(e, p, r, 2, 3, 1)
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.05)
}

func TestOutlierRaisesDoubtAndNoMore(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	feed(e, p, r, 2, 100, 1)
	feed(e, p, r, 2, 1, 1.6)
	require.InDelta(t, 1.6, e.Estimate().Doubt, 0.15)
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.03)
	for range 6 {
		feed(e, p, r, 2, 20, 1)
		feed(e, p, r, 2, 1, 1.6)
	}
	require.Zero(t, e.Estimate().Doubt, "who has been fooled five times is not any more")
}

// Sensors that watch announce limits, not another process on the CPU.
func TestAnOutlierThatNoSensorWouldAnnounce(t *testing.T) {
	for factor, doubted := range map[float64]bool{1.3: false, 2: true} {
		p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
		e := New(p, nil)
		for i := range 100 {
			now := time.Duration(i) * 50 * time.Millisecond
			e.Sense(now, &governor.Hardware{Clock: valid(1, now), Cores: valid(4, now), Contention: valid(0.02*r.Float64(), now)})
			feed(e, p, r, 2, 1, 1)
		}
		require.Equal(t, 1, e.watch.index(), "they watch")
		feed(e, p, r, 2, 1, factor)
		require.Equal(t, doubted, e.Estimate().Doubt > 1, "%v times as long", factor)
	}
}

// The first inference at a level is an outlier: the level is avoided until the next one elsewhere says which it was.
func TestFirstOutlierAtALevelIsTheProfileUntilTheNextSaysOtherwise(t *testing.T) {
	for _, slower := range []bool{false, true} {
		p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
		e := New(p, nil)
		feed(e, p, r, 1, 100, 1)
		tail := e.Estimate().Residual.Quantile(0.99)
		feed(e, p, r, 3, 1, 1.6)
		require.InDelta(t, 1.6*p.Levels[3].Latency[0].Seconds(), e.Estimate().Expected[3], 0.1*0.04)
		wrong, factor := 1.6, 1.0
		if slower {
			wrong, factor = 1, 1.6
		}
		feed(e, p, r, 1, 2, factor)
		require.InDelta(t, wrong*p.Levels[3].Latency[0].Seconds(), e.Estimate().Expected[3], 0.1*0.04)
		require.InDelta(t, factor, e.Estimate().Slowdown[0], 0.1)
		require.InDelta(t, tail, e.Estimate().Residual.Quantile(0.99), 0.02, "no noise")
	}
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	feed(e, p, r, 1, 100, 1)
	feed(e, p, r, 3, 1, 1.6)
	feed(e, p, r, 3, 1, 1)
	require.InDelta(t, p.Levels[3].Latency[0].Seconds(), e.Estimate().Expected[3], 0.05*0.04, "the same level says otherwise")
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.03)
}

func TestWhatALoadDoesToTheNoiseEndsWithIt(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	feed(e, p, r, 2, 200, 1)
	calm, hazard := *e.Estimate().Residual, e.Estimate().Hazard
	for range 30 { // between one and two slices of another process
		feed(e, p, r, 2, 2, 2+r.Float64())
		feed(e, p, r, 2, 1, 3+r.Float64())
	}
	require.Greater(t, e.Estimate().Residual.Quantile(0.9), 2*calm.Quantile(0.9))
	require.Less(t, e.Estimate().Residual.Count(), 130.0)
	feed(e, p, r, 2, 4, 1)
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.05)
	require.InDelta(t, calm.Quantile(0.99), e.Estimate().Residual.Quantile(0.99), 0.02)
	require.LessOrEqual(t, e.Estimate().Hazard, 2*hazard, "one load, however often it came and went")
}

func TestWrongProfileOfOneLevel(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	feed(e, p, r, 1, 100, 1)
	feed(e, p, r, 3, 2, 1.5)
	feed(e, p, r, 1, 2, 1)
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.05)
	require.InDelta(t, 1.5*p.Levels[3].Latency[0].Seconds(), e.Estimate().Expected[3], 0.1*0.04)
	require.InDelta(t, p.Levels[1].Latency[0].Seconds(), e.Estimate().Expected[1], 0.02*0.02)
}

func valid(v float64, at time.Duration) governor.Reading {
	return governor.Reading{Value: v, At: at, Condition: governor.Valid}
}

func TestFeedForwardAndItsGain(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	now := time.Duration(0)
	clockIs := func(v float64) {
		now += 100 * time.Millisecond
		e.Sense(now, &governor.Hardware{Clock: valid(v, now)})
	}
	for range 10 { // half of the time does not depend on the clock
		clockIs(1)
		feed(e, p, r, 2, 20, 1)
		clockIs(0.5)
		feed(e, p, r, 2, 20, math.Sqrt2)
		now += time.Second
	}
	clockIs(1)
	feed(e, p, r, 2, 20, 1)
	clockIs(0.5)
	require.InDelta(t, math.Sqrt2, e.Estimate().Slowdown[0], 0.1, "learned")
}

// What was lost while the machine changed is not counted a second time when it is back.
func TestLostSensor(t *testing.T) {
	for _, condition := range []governor.Condition{governor.Missing, governor.Unsupported, governor.Stale, governor.Wrong} {
		p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
		e := New(p, nil)
		e.Sense(0, &governor.Hardware{Clock: valid(1, 0)})
		feed(e, p, r, 2, 50, 1)
		e.Sense(1e9, &governor.Hardware{Clock: governor.Reading{Value: 0.1, At: 1e9, Condition: condition}})
		require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.05)
		feed(e, p, r, 2, 20, 1.5)
		e.Sense(2e9, &governor.Hardware{Clock: valid(0.6, 2e9)})
		require.InDelta(t, 1.5, e.Estimate().Slowdown[0], 0.05)
		e.Sense(3e9, &governor.Hardware{Clock: valid(1, 2e9)})
		require.InDelta(t, 1.5, e.Estimate().Slowdown[0], 0.05, "a second old")
		e.Sense(3e9, &governor.Hardware{Clock: valid(1, 3e9)})
		require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.15)
	}
}

func TestNonsenseIsIgnored(t *testing.T) {
	p := governortest.Profile()
	for _, v := range []float64{math.NaN(), math.Inf(1), -1, 0, 1e300} {
		e := New(p, nil)
		e.Sense(0, &governor.Hardware{Clock: valid(v, 0), Cores: valid(v, 0), GPUClock: valid(v, 0), GPUOthers: valid(v, 0), Temperature: valid(v, 0)})
		require.InDelta(t, 1, e.Estimate().Slowdown[0], 1e-9, "%v", v)
	}
	e := New(p, nil)
	for _, latency := range []time.Duration{1, math.MaxInt64, 1} {
		e.Observe(governor.Observation{Level: 1, Latency: latency})
	}
	require.False(t, math.IsNaN(e.Estimate().Slowdown[0]))
}

// Time slices take the same from short and long inferences, so they scatter the logarithm of a short one more; a slower
// machine stretches both alike.
func TestShortOnesScatterMore(t *testing.T) {
	for name, c := range map[string]struct {
		latency  func(profiled, z float64) float64
		from, to float64 // of the scatter of 10 ms over that of 60 ms; proportional to 1/length it would be 6
	}{
		"slices":  {func(profiled, z float64) float64 { return profiled + 0.5e6*z }, 2.5, 6},
		"stretch": {func(profiled, z float64) float64 { return profiled * math.Exp(0.05*z) }, 1, 1.4},
	} {
		p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
		e := New(p, nil)
		for i := range 600 {
			level := i / 10 % 2 * 5
			latency := c.latency(float64(p.Levels[level].Latency[0]), r.NormFloat64())
			e.Observe(governor.Observation{Level: level, Latency: time.Duration(latency)})
		}
		ratio := e.Estimate().Spread[0] / e.Estimate().Spread[5]
		require.GreaterOrEqual(t, ratio, c.from, name)
		require.LessOrEqual(t, ratio, c.to, name)
	}
}

// A gain is uncertain only for changes that have not been felt yet.
func TestWhatWasFeltIsKnown(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	e.Sense(0, &governor.Hardware{Clock: valid(1, 0)})
	feed(e, p, r, 2, 100, 1)
	calm := e.Estimate().Widen[0]
	e.Sense(1e9, &governor.Hardware{Clock: valid(0.5, 1e9)})
	require.Greater(t, e.Estimate().Widen[0], 2*calm, "nobody knows what half of the clock does")
	feed(e, p, r, 2, 100, 1.9)
	require.InDelta(t, calm, e.Estimate().Widen[0], 0.1, "now everybody does")
	e.Sense(2e9, &governor.Hardware{Clock: valid(1, 2e9)})
	require.InDelta(t, 1, e.Estimate().Slowdown[0], 0.1, "and what its end does")
}

func TestHazard(t *testing.T) {
	p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
	e := New(p, nil)
	feed(e, p, r, 2, 100, 1)
	before := e.Estimate().Hazard
	feed(e, p, r, 2, 20, 2)
	require.Greater(t, e.Estimate().Hazard, before)
	require.Less(t, e.Estimate().Step, 0.1, "it has come to pass")
	feed(e, p, r, 2, 20, 1)
	require.InDelta(t, (math.Log(2)+0.33)/2, e.Estimate().Step, 0.1)
}
