// Package steady is the project's own policy: the best option whose latency stays within the budget with the requested
// probability, and no switch that the noise could have asked for.
package steady

import (
	"math"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// Config switches mechanisms off, so that their worth can be measured. The zero value has them all.
type Config struct {
	NoHysteresis bool // switch whenever another option looks better
	NoDoubt      bool // an outlier is an outlier until the next inference says otherwise
}

// Policy implements governor.Policy.
type Policy struct{ config Config }

// New makes a Policy.
func New(c *Config) *Policy {
	if c == nil {
		c = &Config{}
	}
	return &Policy{*c}
}

const (
	reserve = 0.3   // deviations of the noise that a better option has to stay below the budget, or it waits
	least   = 0.01  // the same, where there is hardly any noise
	near    = 0.005 // of probability: options as good as the best where none is good enough
	saving  = 0.03  // of energy that is worth a switch
)

// Next decides.
func (p *Policy) Next(s *governor.State) governor.Decision {
	e := s.Estimate
	var quantile float64
	if e.Residual != nil {
		quantile = e.Residual.Quantile(s.Constraints.Probability)
	} else {
		quantile = float64(e.Deviation * exact.Quantile(s.Constraints.Probability))
	}
	if e.Doubt > 1 && !p.config.NoDoubt {
		// The outlier may have been slow for a part of its time only, so the machine may be slower than it shows.
		d, late := p.pick(s, float64(e.Doubt*e.Doubt), quantile)
		if late <= e.Doubt {
			return d
		}
		// Not even the fastest level would be in time: there is nothing to win before the doubt is settled.
	}
	d, late := p.pick(s, 1, quantile)
	if late <= 1 || e.Residual == nil {
		return d
	}
	// Nothing reaches the probability. If that is for outliers that hit every level, speed does not help.
	budget := s.Budget.Seconds()
	best := e.Residual.Below(exact.Log(max(1e-9, budget)/e.Median(s.Profile, d.Level, d.Configuration)) / e.Widen[d.Configuration])
	if best-near < 0.5 {
		return d
	}
	gaveUp := d.GaveUp
	d, _ = p.pick(s, 1, e.Residual.Quantile(best-near))
	d.GaveUp = max(d.GaveUp, gaveUp)
	return d
}

const maxConfigurations = 64

// pick is the best option at a slowdown of so many times the estimated one, and its predicted latency over the
// budget.
func (p *Policy) pick(s *governor.State, slower, quantile float64) (best governor.Decision, late float64) {
	e, c := s.Estimate, &s.Constraints
	var factor, median [maxConfigurations]float64 // from profiled to predicted latency over the budget
	budget := max(1e-9, s.Budget.Seconds())
	n := min(len(s.Profile.Configurations), maxConfigurations)
	for i := range n {
		median[i] = float64(float64(e.Slowdown[i]*slower) * 1e-9)
		factor[i] = float64(median[i]*exact.Exp(float64(quantile*e.Widen[i]))) / budget
	}
	rank := [4]int{}
	for i, o := range c.Order {
		rank[o] = i + 1
	}
	last, current := s.Last, 0.0
	if last.Level >= 0 {
		current = s.Profile.Levels[last.Level].Accuracy
	}
	hold := last.Level >= 0 && !p.config.NoHysteresis
	margin := 1.0
	if hold {
		// What the estimate may be off by: the noise of the filter, of a slowdown that is still young, and of a
		// quantile that few values tell.
		w := e.Widen[last.Configuration]
		off := reserve + float64(1.5*math.Sqrt(float64(w*w)-1))
		if e.Residual != nil {
			off += 2 / math.Sqrt(e.Residual.Count())
		}
		margin = 1 + max(least, float64(off*e.Deviation))
	}
	period := c.Period.Seconds()
	bestRank, bestValue, bestLate := 4, math.Inf(-1), math.Inf(1)
	for l := range s.Profile.Levels {
		level := &s.Profile.Levels[l]
		for k := range n {
			profiled := float64(float64(level.Latency[k]) * e.Correction[l*len(s.Profile.Configurations)+k])
			ratio := float64(profiled * factor[k])
			isCurrent := l == last.Level && k == last.Configuration
			need := ratio
			if hold && level.Accuracy > current {
				need = float64(ratio * margin)
			}
			r, tooLate := 0, need > 1
			if tooLate {
				r = rank[governor.Latency]
			}
			if level.Accuracy < c.MinAccuracy {
				r = max(r, rank[governor.Accuracy])
			}
			energy := 0.0
			if level.Power != nil && (c.MaxPower > 0 || c.Objective == governor.LeastEnergy) {
				energy = s.Profile.Energy(l, k, float64(profiled*median[k]), period)
				if c.MaxPower > 0 && energy > float64(c.MaxPower*max(period, float64(profiled*median[k]))) {
					r = max(r, rank[governor.Power])
				}
			}
			if r > bestRank {
				continue
			}
			var value float64
			switch {
			case tooLate:
				value = -ratio
			case c.Objective == governor.LeastEnergy:
				value = -energy
				if hold && isCurrent {
					value = float64(value * (1 - saving))
				}
			default:
				value = level.Accuracy
			}
			if r < bestRank || value > bestValue || value == bestValue && (isCurrent || ratio < bestLate && (best.Level != last.Level || best.Configuration != last.Configuration)) {
				bestRank, bestValue, bestLate = r, value, ratio
				best = governor.Decision{Level: l, Configuration: k}
			}
		}
	}
	for o, r := range rank {
		if r == bestRank && r > 0 {
			best.GaveUp = governor.Constraint(o)
		}
	}
	return best, bestLate
}
