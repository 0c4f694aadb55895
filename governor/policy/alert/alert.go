// Package alert is ALERT (Wan et al., USENIX ATC 2020) as its equations say: one slowdown for all options, followed by
// a Kalman filter with an adaptive process noise, and the option with the best expected accuracy, or the best that is
// in time with a probability.
package alert

import (
	"math"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// Config has the paper's constants as defaults and the readings that the text leaves open.
type Config struct {
	Q0, R    float64 // default 0.1 and 0.001
	Alpha    float64 // default 0.3
	Std      bool    // the filter's sigma is a standard deviation, not a variance
	Expected bool    // the best expected accuracy, where late answers count nothing, instead of a probability
}

func (c Config) complete() Config {
	if c.Q0 == 0 {
		c.Q0 = 0.1
	}
	if c.R == 0 {
		c.R = 0.001
	}
	if c.Alpha == 0 {
		c.Alpha = 0.3
	}
	return c
}

// Filter is the estimator.
type Filter struct {
	config             Config
	profile            *governor.Profile
	estimate           governor.Estimate
	mu, sigma, gain, q float64
}

// NewFilter makes a Filter.
func NewFilter(p *governor.Profile, c Config) *Filter {
	f := &Filter{config: c.complete(), profile: p, mu: 1, sigma: 0.1, gain: 0.5}
	f.q = f.config.Q0
	f.estimate.Slowdown = make([]float64, len(p.Configurations))
	f.publish()
	return f
}

func (f *Filter) publish() {
	for i := range f.estimate.Slowdown {
		f.estimate.Slowdown[i] = f.mu
	}
	f.estimate.Mean = f.mu
	f.estimate.Deviation = f.sigma
	if !f.config.Std {
		f.estimate.Deviation = math.Sqrt(f.sigma)
	}
}

// Sense does nothing: ALERT has no sensors.
func (f *Filter) Sense(time.Duration, *governor.Hardware) {}

// Observe is one step of the filter.
func (f *Filter) Observe(o governor.Observation) {
	c := f.config
	y := o.Latency.Seconds()/f.profile.Levels[o.Level].Latency[o.Configuration].Seconds() - f.mu
	moved := float64(f.gain * y)
	f.q = max(c.Q0, float64(c.Alpha*f.q)+float64((1-c.Alpha)*float64(moved*moved)))
	f.sigma = float64((1-f.gain)*f.sigma) + f.q
	f.gain = f.sigma / (f.sigma + c.R)
	f.mu += float64(f.gain * y)
	f.mu = max(f.mu, 0.01)
	f.publish()
}

// Estimate is the current estimate.
func (f *Filter) Estimate() *governor.Estimate { return &f.estimate }

// Policy implements governor.Policy.
type Policy struct{ config Config }

// New makes a Policy.
func New(c Config) Policy { return Policy{c.complete()} }

// Next decides.
func (p Policy) Next(s *governor.State) governor.Decision {
	e, c := s.Estimate, &s.Constraints
	budget, period := s.Budget.Seconds(), c.Period.Seconds()
	var best governor.Decision
	bestRank, bestValue := 4, math.Inf(-1)
	for l, level := range s.Profile.Levels {
		for k, latency := range level.Latency {
			t := latency.Seconds()
			chance := exact.Phi((budget/t - e.Mean) / e.Deviation)
			expected := float64(level.Accuracy * chance)
			energy := s.Profile.Energy(l, k, float64(e.Mean*t), period)
			// Given up in this order: power, accuracy, and never latency.
			rank := 0
			if c.MaxPower > 0 && energy > float64(c.MaxPower*max(period, float64(e.Mean*t))) {
				rank = 1
			}
			if level.Accuracy < c.MinAccuracy {
				rank = 2
			}
			if !p.config.Expected && chance < c.Probability || p.config.Expected && c.Objective == governor.LeastEnergy && chance < c.Probability {
				rank = 3
			}
			value := expected
			switch {
			case rank == 3:
				value = -float64(e.Mean * t) // the least late
			case c.Objective == governor.LeastEnergy:
				value = -energy
			case !p.config.Expected:
				value = level.Accuracy
			}
			if rank < bestRank || rank == bestRank && value > bestValue {
				bestRank, bestValue = rank, value
				best = governor.Decision{Level: l, Configuration: k, GaveUp: governor.Constraint(rank)}
			}
		}
	}
	return best
}
