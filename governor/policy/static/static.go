// Package static never switches: the most accurate level that the profile says to be in time, with a share of the
// deadline to spare. With the best share it is the best that a product without a governor can ship.
package static

import "github.com/dynofa/dynofa/governor"

// Policy implements governor.Policy.
type Policy struct {
	Level int // to stay at; -1: the most accurate whose profiled latency is within the deadline
}

// Next decides.
func (p Policy) Next(s *governor.State) governor.Decision {
	if s.Last.Level >= 0 {
		return s.Last
	}
	best := governor.Decision{Level: p.Level}
	if p.Level >= 0 {
		return best
	}
	best.Level = 0
	for l, level := range s.Profile.Levels {
		for c, latency := range level.Latency {
			if latency <= s.Constraints.Deadline && level.Accuracy > s.Profile.Levels[best.Level].Accuracy {
				best = governor.Decision{Level: l, Configuration: c}
			}
		}
	}
	return best
}
