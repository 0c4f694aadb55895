package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

func three() settings {
	s := settings{constraints: governor.Constraints{Deadline: 20 * time.Millisecond}}
	for i := range 3 {
		s.levels = append(s.levels, governor.Level{Accuracy: float64(70 + i), Latency: []time.Duration{time.Duration(4<<i) * time.Millisecond}})
	}
	return s
}

func TestHandles(t *testing.T) {
	var list table
	a, err := list.add(three())
	require.NoError(t, err)
	b, err := list.add(three())
	require.NoError(t, err)
	require.NotEqual(t, a, b)
	require.Nil(t, list.get(0))
	list.remove(a)
	list.remove(a)
	require.Nil(t, list.get(a))
	require.NotNil(t, list.get(b))
	c, err := list.add(three())
	require.NoError(t, err)
	require.Greater(t, c, b, "a handle that was freed never means another governor")
}

func TestLoopAllocatesNothing(t *testing.T) {
	var list table
	s := three()
	s.sensors = true
	handle, err := list.add(s)
	require.NoError(t, err)
	defer list.remove(handle)
	for range 100 { // the sensors' first readings allocate
		list.get(handle).next()
	}
	// The sensors go on in the background, so not a single call but the average has to be free of them.
	require.Less(t, testing.AllocsPerRun(20000, func() {
		n := list.get(handle)
		level := n.next()
		n.observe(s.levels[level].Latency[0])
	}), 1.0)
}

// A product's thread must not wait for another that makes or ends a governor.
func TestLookupTakesNoLock(t *testing.T) {
	var list table
	handle, err := list.add(three())
	require.NoError(t, err)
	list.mu.Lock()
	defer list.mu.Unlock()
	require.GreaterOrEqual(t, list.get(handle).next(), 0)
}

func TestNextWithin(t *testing.T) {
	var list table
	handle, err := list.add(three())
	require.NoError(t, err)
	n := list.get(handle)
	for _, c := range []struct {
		left time.Duration
		want int
	}{{11 * time.Millisecond, 1}, {6 * time.Millisecond, 0}, {0, 0}} {
		require.Equal(t, c.want, n.nextWithin(c.left), "%v left", c.left)
		require.True(t, n.observe(4*time.Millisecond<<c.want))
	}
}

func TestShare(t *testing.T) {
	var list table
	var claims []claim
	for i := range 2 {
		handle, err := list.add(three())
		require.NoError(t, err)
		claims = append(claims, claim{handle: handle, period: 30, priority: i})
	}
	limits, err := list.share(claims, 1)
	require.NoError(t, err)
	n := list.get(claims[1].handle)
	require.Equal(t, 2, n.nextWithin(time.Duration(limits[1]*1e6)), "who goes first has the most accurate level: %v", limits)
	n = list.get(claims[0].handle)
	require.Equal(t, 1, n.nextWithin(time.Duration(limits[0]*1e6)), "and leaves time for the other one: %v", limits)

	require.NoError(t, n.governor.SetConstraints(governor.Constraints{Deadline: 6 * time.Millisecond}))
	limits, err = list.share(claims, 1)
	require.NoError(t, err)
	require.Less(t, limits[0], 6.0, "the deadline of now counts")
	limits, err = list.share(claims, 0)
	require.NoError(t, err)
	require.Equal(t, []float64{0, 0}, limits)

	_, err = list.share(claims, -1)
	require.ErrorContains(t, err, "budget -1")
	claims[0].period = -3
	_, err = list.share(claims, 1)
	require.ErrorContains(t, err, "claim 0: period_ms is -3")
	claims[1].handle = 77
	claims[0].period = 0
	_, err = list.share(claims, 1)
	require.ErrorIs(t, err, errHandle)
}

func TestObserveTakesOneLatencyADecision(t *testing.T) {
	var list table
	handle, err := list.add(three())
	require.NoError(t, err)
	n := list.get(handle)
	require.False(t, n.observe(time.Millisecond), "nothing was decided")
	n.next()
	require.True(t, n.observe(time.Millisecond))
	before := n.governor.Estimate().Slowdown[0]
	require.False(t, n.observe(time.Second))
	require.InDelta(t, before, n.governor.Estimate().Slowdown[0], 0, "was taken in")
	n.next()
	n.next()
	require.True(t, n.observe(time.Millisecond))
}

func TestRefusals(t *testing.T) {
	for want, change := range map[string]func(*settings){
		`policy "dynamicofa", expected one of steady`: func(s *settings) { s.policy = "dynamicofa" },
		"0 levels":              func(s *settings) { s.levels = nil },
		"accuracy 101":          func(s *settings) { s.levels[0].Accuracy = 101 },
		"probability 2":         func(s *settings) { s.constraints.Probability = 2 },
		"accuracy floor -1":     func(s *settings) { s.constraints.MinAccuracy = -1 },
		"deadline 0s, expected": func(s *settings) { s.constraints.Deadline = 0 },
	} {
		s := three()
		s.sensors = true
		change(&s)
		_, err := (&table{}).add(s)
		require.ErrorContains(t, err, want)
	}
	_, err := constraints(-1, 0, 0)
	require.ErrorContains(t, err, "deadline_ms is -1")
}
