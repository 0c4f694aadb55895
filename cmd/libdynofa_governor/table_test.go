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
