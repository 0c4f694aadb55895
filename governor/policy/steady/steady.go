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
	reserve  = 0.4   // deviations of the noise that a better option has to stay below the budget, or it waits
	least    = 0.01  // the same, where there is hardly any noise
	patience = 200   // inferences after which half of that is enough
	near     = 0.005 // of probability: options as good as the best where none is good enough
	saving   = 0.03  // of energy that is worth a switch
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
	if e.Threat > 1 && late <= 1 {
		// Being careful until it comes costs accuracy with every inference, not being careful an answer once. Whoever
		// does not know when it comes pays the former until it adds up to the latter: at most twice the best.
		careful, _ := p.pick(s, e.Threat, quantile)
		now, then := s.Profile.Levels[d.Level].Accuracy, s.Profile.Levels[careful.Level].Accuracy
		if float64((now-then)*float64(e.Waited+1)) <= now {
			careful.GaveUp = d.GaveUp
			return careful
		}
	}
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
	e, c, last := s.Estimate, &s.Constraints, s.Last
	n := min(len(s.Profile.Configurations), maxConfigurations)
	var factor [maxConfigurations]float64 // from the expected latency to the predicted one over the budget
	for k := range n {
		widened := exact.Exp(float64(quantile * e.Widen[k]))
		factor[k] = float64(float64(e.Slowdown[k]*slower)*widened) / max(1e-9, s.Budget.Seconds())
	}
	rank := [4]int{}
	for i, o := range c.Order {
		rank[o] = i + 1
	}
	hold, current, margin := last.Level >= 0 && !p.config.NoHysteresis, 0.0, 1.0
	if hold {
		current, margin = s.Profile.Levels[last.Level].Accuracy, p.margin(s)
	}
	energies := c.MaxPower > 0 || c.Objective == governor.LeastEnergy
	bestRank, bestValue, bestLate := 4, math.Inf(-1), math.Inf(1)
	for l := len(s.Profile.Levels) - 1; l >= 0; l-- { // mostly sorted by accuracy: the first that fits is the best
		level := &s.Profile.Levels[l]
		if bestRank == 0 && c.Objective == governor.MostAccurate && level.Accuracy < bestValue {
			continue
		}
		limit := 1.0
		if hold && level.Accuracy > current {
			limit = 1 / margin
		}
		floor := 0
		if level.Accuracy < c.MinAccuracy {
			floor = rank[governor.Accuracy]
		}
		for k, expected := range e.Expected[l*len(s.Profile.Configurations):][:n] {
			ratio := float64(expected * factor[k])
			r, value := floor, level.Accuracy
			tooLate := ratio > limit
			if tooLate {
				r, value = max(r, rank[governor.Latency]), -ratio
			}
			if r > bestRank || r == bestRank && value < bestValue && !energies {
				continue
			}
			isCurrent := l == last.Level && k == last.Configuration
			if energies && level.Power != nil {
				median := float64(float64(expected*e.Slowdown[k]) * slower)
				period := max(c.Period.Seconds(), median)
				energy := s.Profile.Energy(l, k, median, period)
				if c.MaxPower > 0 && energy > float64(c.MaxPower*period) {
					r = max(r, rank[governor.Power])
				}
				if c.Objective == governor.LeastEnergy && !tooLate {
					value = -energy
					if hold && isCurrent {
						value = float64(value * (1 - saving))
					}
				}
			}
			better := r < bestRank || r == bestRank && value > bestValue
			// Among equals what runs already, or else the fastest.
			if r == bestRank && value == bestValue {
				better = isCurrent || ratio < bestLate && (best.Level != last.Level || best.Configuration != last.Configuration)
			}
			if better {
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

// margin is how far below the budget a more accurate level than the current one has to be: what the estimate may be
// off by, because the filter follows the noise, because the slowdown is young, and because few values tell a
// quantile. The longer nothing has changed, the less is asked for.
func (p *Policy) margin(s *governor.State) float64 {
	e := s.Estimate
	w := e.Widen[s.Last.Configuration]
	off := float64(1.5 * math.Sqrt(float64(w*w)-1))
	if e.Residual != nil {
		off += 2 / math.Sqrt(e.Residual.Count())
	}
	off = reserve + float64(off*patience)/(patience+float64(s.Run))
	return 1 + max(least, float64(off*e.Deviation))
}
