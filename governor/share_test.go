package governor_test

import (
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
		c, err := governor.Constraints{Deadline: 90 * time.Millisecond, Period: 100 * time.Millisecond, MinAccuracy: floor}.Complete()
		require.NoError(t, err)
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
			limits, ok := governor.Share(c.claims, c.budget)
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
