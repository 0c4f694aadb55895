// Package governortest has a profile, a clock, sensors and an engine for tests of whatever sits around a governor.
package governortest

import (
	"time"

	"github.com/dynofa/dynofa/governor"
)

// Profile has levels of 10 to 60 ms and 70 to 80 %, with one configuration on the CPU.
func Profile() *governor.Profile {
	p := &governor.Profile{Configurations: []governor.Configuration{{Threads: 4}}}
	for i := range 6 {
		p.Levels = append(p.Levels, governor.Level{Accuracy: float64(70 + 2*i), Latency: []time.Duration{time.Duration(10+10*i) * time.Millisecond}})
	}
	return p
}

// Large has so many levels and configurations, all with powers.
func Large(levels, configurations int) *governor.Profile {
	p := &governor.Profile{Idle: 1}
	for c := range configurations {
		p.Configurations = append(p.Configurations, governor.Configuration{Threads: 1 + c, GPU: c%3 == 2})
	}
	for l := range levels {
		level := governor.Level{Accuracy: 70 + 10*float64(l)/float64(levels)}
		for c := range configurations {
			level.Latency = append(level.Latency, time.Duration(20+l)*time.Millisecond*4/time.Duration(4+c))
			level.Power = append(level.Power, float64(3+c))
		}
		p.Levels = append(p.Levels, level)
	}
	return p
}

// Machine is an engine on a clock of its own: inferences take the profiled time, times Slow.
type Machine struct {
	Profile  *governor.Profile
	Slow     float64
	Clock    time.Duration
	Hardware governor.Hardware
}

// Now is the clock.
func (m *Machine) Now() time.Duration { return m.Clock }

// Sense is what the sensors know; what is valid is as fresh as can be.
func (m *Machine) Sense() governor.Hardware {
	h := m.Hardware
	for _, r := range []*governor.Reading{&h.Clock, &h.Cores, &h.GPUClock, &h.GPUOthers, &h.Temperature, &h.Contention, &h.Pressure} {
		r.At = m.Clock
	}
	return h
}

// Run lets n inferences happen and counts the late ones; level is the last one's.
func (m *Machine) Run(g *governor.Governor, deadline time.Duration, n int) (late, level int) {
	for range n {
		d := g.Next()
		latency := time.Duration(m.Slow * float64(m.Profile.Levels[d.Level].Latency[d.Configuration]))
		m.Clock += latency
		g.Observe(latency)
		if latency > deadline {
			late++
		}
		level = d.Level
	}
	return late, level
}
