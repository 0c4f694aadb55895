package governor_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/governortest"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

// Levels take 10 to 60 ms and about a tenth more with the probability; a period is 100 ms.
func TestShare(t *testing.T) {
	p := governortest.Profile()
	claim := func(priority int, floor float64) governor.Claim {
		c := governor.Constraints{Deadline: 90 * time.Millisecond, Period: 100 * time.Millisecond, MinAccuracy: floor}
		return governor.Claim{Profile: p, Estimate: estimator.New(p, nil).Estimate(), Constraints: c, Priority: priority}
	}
	for _, c := range []struct {
		name   string
		claims []governor.Claim
		budget float64
		levels []int // -1: nothing
		ok     bool
	}{
		{"alone", []governor.Claim{claim(0, 0)}, 1, []int{5}, true},
		{"equals, and the odd step for one of them", []governor.Claim{claim(0, 0), claim(0, 0)}, 1, []int{4, 3}, true},
		{"less", []governor.Claim{claim(0, 0), claim(0, 0)}, 0.8, []int{3, 2}, true},
		{"priority", []governor.Claim{claim(0, 0), claim(1, 0)}, 0.8, []int{0, 5}, true},
		{"a floor comes before another's wishes", []governor.Claim{claim(0, 74), claim(1, 0)}, 0.8, []int{2, 3}, true},
		{"not for all", []governor.Claim{claim(0, 78), claim(1, 78)}, 0.8, []int{-1, 5}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits, ok, err := governor.Share(c.claims, c.budget)
			require.NoError(t, err)
			require.Equal(t, c.ok, ok)
			busy := 0.0
			for i, limit := range limits {
				busy += limit.Seconds() / 0.1
				if c.levels[i] < 0 {
					require.Zero(t, limit)
					continue
				}
				g, err := governor.New(governor.Config{Profile: p, Estimator: estimator.New(p, nil), Policy: steady.New(nil), Constraints: c.claims[i].Constraints})
				require.NoError(t, err)
				d := g.NextWithin(limit)
				require.Equal(t, c.levels[i], d.Level, "model %d", i)
				require.Equal(t, governor.None, d.GaveUp)
			}
			require.LessOrEqual(t, busy, c.budget)
		})
	}
}

func TestShareRefusals(t *testing.T) {
	p := governortest.Profile()
	good := governor.Claim{Profile: p, Estimate: estimator.New(p, nil).Estimate(), Constraints: governor.Constraints{Deadline: time.Second}}
	for want, change := range map[string]func(*governor.Claim){
		"no profile":     func(c *governor.Claim) { *c = governor.Claim{} },
		"0 levels":       func(c *governor.Claim) { c.Profile = &governor.Profile{} },
		"no estimate":    func(c *governor.Claim) { c.Estimate = nil },
		"every option":   func(c *governor.Claim) { c.Estimate = &governor.Estimate{} },
		"deadline 0s":    func(c *governor.Claim) { c.Constraints.Deadline = 0 },
		"probability 95": func(c *governor.Claim) { c.Constraints.Probability = 95 },
	} {
		bad := good
		change(&bad)
		limits, ok, err := governor.Share([]governor.Claim{good, bad}, 1)
		require.ErrorContains(t, err, "claim 1: ")
		require.ErrorContains(t, err, want)
		require.Nil(t, limits)
		require.False(t, ok)
	}
	for _, budget := range []float64{-1, math.NaN()} {
		_, _, err := governor.Share([]governor.Claim{good}, budget)
		require.ErrorContains(t, err, "budget")
	}
}

// What no Duration holds is too long, and no difference of two priorities may overflow.
func TestShareOfExtremes(t *testing.T) {
	p := governortest.Profile()
	claim := func(priority int) governor.Claim {
		return governor.Claim{Profile: p, Estimate: estimator.New(p, nil).Estimate(), Constraints: governor.Constraints{Deadline: 100 * time.Millisecond}, Priority: priority}
	}
	for _, slowdown := range []float64{1e15, math.Inf(1), math.NaN()} {
		broken := claim(0)
		broken.Estimate.Slowdown[0] = slowdown
		limits, ok, err := governor.Share([]governor.Claim{broken, claim(0)}, 1)
		require.NoError(t, err)
		require.False(t, ok)
		require.Zero(t, limits[0], "%v", slowdown)
		require.Positive(t, limits[1])
	}
	limits, _, err := governor.Share([]governor.Claim{claim(math.MinInt), claim(math.MaxInt)}, 0.5)
	require.NoError(t, err)
	require.Less(t, limits[0], limits[1])
}

// Two models answer a camera's frames one after another on one device, which is half as slow again for a while. Without
// shares the second has what the first leaves; with them both are in time, and the first has priority.
func TestShareOnADevice(t *testing.T) {
	const period = 100 * time.Millisecond
	type model struct {
		*governor.Governor
		limit         time.Duration
		late, frames  int
		quiet, loaded float64 // sums of accuracies
	}
	play := func(shared bool) [2]model {
		p, r := governortest.Profile(), rand.New(rand.NewPCG(1, 1))
		c := governor.Constraints{Deadline: 95 * time.Millisecond, Period: period}
		var err error
		var models [2]model
		for i := range models {
			models[i].limit = c.Deadline
			models[i].Governor, err = governor.New(governor.Config{Profile: p, Estimator: estimator.New(p, nil), Policy: steady.New(nil), Constraints: c})
			require.NoError(t, err)
		}
		for frame := range 300 {
			if shared && frame%10 == 0 {
				limits, ok, err := governor.Share([]governor.Claim{models[0].Claim(1), models[1].Claim(0)}, c.Deadline.Seconds()/period.Seconds())
				require.NoError(t, err)
				require.True(t, ok)
				models[0].limit, models[1].limit = limits[0], limits[1]
			}
			loaded := frame >= 100 && frame < 200
			now := time.Duration(0) // since the frame is there
			for i := range models {
				m := &models[i]
				d := m.NextWithin(min(m.limit, c.Deadline-now))
				took := float64(p.Levels[d.Level].Latency[0]) * math.Exp(0.03*r.NormFloat64())
				if loaded {
					took *= 1.5
				}
				m.Observe(time.Duration(took))
				now += time.Duration(took)
				m.frames++
				if now > c.Deadline {
					m.late++
				}
				if loaded {
					m.loaded += p.Levels[d.Level].Accuracy / 100
				} else {
					m.quiet += p.Levels[d.Level].Accuracy / 200
				}
			}
		}
		return models
	}
	shared, alone := play(true), play(false)
	for i, m := range shared {
		t.Logf("model %d: late %d of %d, alone %d; accuracy %.1f %%, under load %.1f %%", i, m.late, m.frames, alone[i].late, m.quiet, m.loaded)
		require.LessOrEqual(t, m.late, 2)
	}
	require.Greater(t, alone[1].late, 10, "the other one leaves it too little when the load comes")
	require.Greater(t, shared[0].quiet, shared[1].quiet)
	require.Greater(t, shared[0].loaded, shared[1].loaded)
}
