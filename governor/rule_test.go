package governor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var profile = []time.Duration{2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond}

// run lets n inferences happen on a machine that is slower by the given factor, and counts the late ones.
func run(r *Rule, n int, slower float64) (late, level int) {
	for range n {
		level = r.Next()
		latency := time.Duration(slower * float64(profile[level]))
		if latency > r.deadline {
			late++
		}
		r.Observe(latency)
	}
	return late, level
}

func TestRuleFollowsTheMachine(t *testing.T) {
	r := NewRule(12*time.Millisecond, profile)
	late, level := run(r, 100, 1)
	require.Equal(t, [2]int{0, 2}, [2]int{late, level}, "undisturbed: the most accurate level")
	late, level = run(r, 100, 2)
	require.Equal(t, 1, level)
	require.LessOrEqual(t, late, 2, "one late inference tells")
	late, level = run(r, 100, 5)
	require.Equal(t, 0, level)
	require.LessOrEqual(t, late, 2)
	late, level = run(r, 200, 1)
	require.Equal(t, [2]int{0, 2}, [2]int{late, level}, "the calm is used again")
	require.InDelta(t, 1, r.Slowdown(), 0.05)
}

func TestRuleHasAnAnswerWhenNothingFits(t *testing.T) {
	r := NewRule(time.Millisecond, profile)
	require.Equal(t, 0, r.Next())
}

func TestRuleAllocatesNothing(t *testing.T) {
	r := NewRule(12*time.Millisecond, profile)
	require.Zero(t, testing.AllocsPerRun(100, func() { r.Next(); r.Observe(11 * time.Millisecond) }))
}
