// Package steady is the project's own policy: of the options whose latency stays within the budget with the requested
// probability, the one whose answers are worth most when late ones are worth nothing; and no switch that the noise could
// have asked for.
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
	reserve  = 0.2   // deviations of the noise that a better option has to stay below the budget, or it waits
	least    = 0.005 // the same, where there is hardly any noise
	patience = 20    // inferences after which half of that is enough
	near     = 0.005 // of probability: options as good as the best where none is good enough
	saving   = 0.03  // of energy that is worth a switch
	worth    = 0.005 // of accuracy, the same
	sure     = 1.2   // deviations of what a difference of chances may be off by, the same
	oneIn20  = 1.64  // deviations that a share is off by to one side in one of 20 cases
	twice    = 2     // what a late answer costs, in answers: it is worth nothing, and it breaks the promise
)

// Next decides.
func (p *Policy) Next(s *governor.State) governor.Decision {
	e := s.Estimate
	var quantile float64
	if e.Residual != nil {
		// A level is in time with the probability until so many late values are no chance any more.
		asked := s.Constraints.Probability
		quantile = e.Residual.Quantile(asked - float64(oneIn20*math.Sqrt(asked*(1-asked)/e.Residual.Count())))
	} else {
		quantile = float64(e.Deviation * exact.Quantile(s.Constraints.Probability))
	}
	if e.Doubt > 1 && !p.config.NoDoubt {
		// The outlier may have been slow for a part of its time only, so the machine may be slower than it shows.
		d, late := p.pick(s, slower{float64(e.Doubt * e.Doubt), s.Profile.Configurations[s.Last.Configuration].GPU}, quantile)
		if late <= e.Doubt {
			return d
		}
		// Not even the fastest level would be in time: there is nothing to win before the doubt is settled.
	}
	d, late := p.pick(s, slower{by: 1}, quantile)
	if e.Threat > 1 && late <= 1 {
		// Being careful until it comes costs accuracy with every inference, not being careful an answer once. Whoever
		// does not know when it comes pays the former until it adds up to the latter: at most twice the best.
		careful, _ := p.pick(s, slower{e.Threat, true}, quantile)
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
	best := e.Residual.Below(exact.Log(max(1e-9, budget)/e.Median(s.Profile, d.Level, d.Configuration)) / e.Width(s.Profile, d.Level, d.Configuration))
	if best-near < 0.5 {
		return d
	}
	gaveUp := d.GaveUp
	d, _ = p.pick(s, slower{by: 1}, e.Residual.Quantile(best-near))
	d.GaveUp = max(d.GaveUp, gaveUp)
	return d
}

// slower is a slowdown of so many times the estimated one, of one kind of processor: what a GPU may do is nothing to
// the CPU.
type slower struct {
	by  float64
	gpu bool
}

func (x slower) of(s *governor.State, configuration int) float64 {
	if s.Profile.Configurations[configuration].GPU != x.gpu {
		return 1
	}
	return x.by
}

// pick is the best option at a slowdown beyond the estimated one, and its predicted latency over the budget.
func (p *Policy) pick(s *governor.State, slower slower, quantile float64) (best governor.Decision, late float64) {
	e, c, last := s.Estimate, &s.Constraints, s.Settled
	n := len(s.Profile.Configurations)
	var factor [governor.MaxConfigurations]float64 // from the expected latency to the median over the budget
	var about [governor.MaxConfigurations]float64  // to the predicted one, but for the option's own scatter
	for k := range n {
		factor[k] = float64(e.Slowdown[k]*slower.of(s, k)) / max(1e-9, s.Budget.Seconds())
		about[k] = float64(factor[k] * exact.Exp(float64(quantile*e.Widen[k])))
	}
	rank := [4]int{}
	for i, o := range c.Order {
		rank[o] = i + 1
	}
	hold, current, margin := last.Level >= 0 && !p.config.NoHysteresis, 0.0, 0.0
	if hold {
		current, margin = s.Profile.Levels[last.Level].Accuracy, p.margin(s)
	}
	energies := c.MaxPower > 0 || c.Objective == governor.LeastEnergy
	chances := e.Residual != nil && c.Objective == governor.MostAccurate
	now := 0.0
	if chances && hold {
		now = p.chance(s, last.Level, last.Configuration, slower.of(s, last.Configuration))
	}
	bestRank, bestValue, bestLate := 4, math.Inf(-1), math.Inf(1)
	for l := len(s.Profile.Levels) - 1; l >= 0; l-- { // mostly sorted by accuracy: the first that fits is the best
		level := &s.Profile.Levels[l]
		if bestRank == 0 && c.Objective == governor.MostAccurate && level.Accuracy < bestValue {
			continue
		}
		floor := 0
		if level.Accuracy < c.MinAccuracy {
			floor = rank[governor.Accuracy]
		}
		options := e.Expected[l*len(s.Profile.Configurations):][:n]
		fastest := 0
		for k, expected := range options {
			if float64(expected*about[k]) < float64(options[fastest]*about[fastest]) {
				fastest = k
			}
		}
		for k, expected := range options {
			if !energies && k != fastest && (l != last.Level || k != last.Configuration) {
				continue // where power does not count, there is no reason for a slower one
			}
			median := float64(expected * factor[k])
			ratio, limit := median, 1.0
			if median <= 1 || quantile < 0 {
				ratio = float64(median * exact.Exp(float64(quantile*e.Width(s.Profile, l, k))))
			}
			if hold && level.Accuracy > current {
				limit = float64(s.Least) / float64(s.Budget) / (1 + max(least, float64(margin*e.Spread[s.Profile.Option(l, k)])))
			}
			r, value := floor, level.Accuracy
			tooLate := ratio > limit
			if tooLate {
				r, value = max(r, rank[governor.Latency]), -median
			}
			if r > bestRank || r == bestRank && value < bestValue && !energies {
				continue
			}
			isCurrent := l == last.Level && k == last.Configuration
			if chances && !tooLate {
				chance := p.chance(s, l, k, slower.of(s, k))
				gained := 1 - float64(twice*(1-chance))
				if hold && !isCurrent && !(e.News > 0 && level.Accuracy <= current || e.News < 0 && level.Accuracy >= current) {
					// The difference of two chances is the share of values in between: so sure is who has seen so many of them,
					// and the next.
					n := e.Residual.Count()
					gained -= worth + float64(sure*math.Sqrt((math.Abs(chance-now)+1/n)/n))
				}
				value = float64(value * gained)
			}
			if energies && level.Power != nil {
				median := float64(float64(expected*e.Slowdown[k]) * slower.of(s, k))
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

// chance is the probability that an option keeps the deadline. A smaller budget is a limit that others set: it has to
// hold with the requested probability and no more.
func (p *Policy) chance(s *governor.State, level, configuration int, slower float64) float64 {
	e := s.Estimate
	room := exact.Log(s.Constraints.Deadline.Seconds() / float64(e.Median(s.Profile, level, configuration)*slower))
	width := e.Width(s.Profile, level, configuration)
	steady, stepped := e.Residual.Below(room/width), e.Residual.Below((room-e.Step)/width)
	return steady + float64(e.Hazard*(stepped-steady))
}

// margin is how far below the budget a more accurate level than the current one has to be: what the estimate may be
// off by, because the filter follows the noise, because the slowdown is young, and because few values tell a
// quantile. The longer nothing has changed, the less is asked for.
func (p *Policy) margin(s *governor.State) float64 {
	e := s.Estimate
	w := e.Widen[s.Settled.Configuration]
	off := float64(1.5 * math.Sqrt(float64(w*w)-1))
	if e.Residual != nil {
		off += 2 / math.Sqrt(e.Residual.Count())
	}
	off = reserve + float64(off*patience)/(patience+float64(s.Run))
	return float64(off * e.Deviation)
}
