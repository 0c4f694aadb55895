package governor

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dynofa/dynofa/governor/internal/exact"
)

// Claim is what one of several models on a device asks of it.
type Claim struct {
	Profile     *Profile
	Estimate    *Estimate
	Constraints Constraints // Period is the time between inferences
	Priority    int         // higher goes first
}

// Share divides one device among models: it answers how long an inference of each may take, for NextWithin, so that
// all together are busy for no more than the given share of the time, 1 for one device. Each model first gets its
// cheapest option that keeps its accuracy floor. What is left goes to the models in the order of their priority; those of
// the same priority take turns, the least accurate first. ok tells whether the first round already was too much: then
// the models of the lowest priority get nothing, a limit of 0. It is a pure function for once in a while, not for every
// inference, and claims stay as they are. An error is a claim that Constraints.Complete or Profile.Check refuses, or whose
// estimate is not one of its profile, or a budget below zero.
func Share(claims []Claim, budget float64) (limits []time.Duration, ok bool, err error) {
	if !(budget >= 0) {
		return nil, false, fmt.Errorf("governor: share: budget %v, expected a share of the time, 1 for one device", budget)
	}
	claims = slices.Clone(claims)
	for i := range claims {
		if err := claims[i].complete(); err != nil {
			return nil, false, fmt.Errorf("governor: share: claim %d: %w", i, err)
		}
	}
	limits = make([]time.Duration, len(claims))
	order := make([]int, len(claims))
	accuracy := make([]float64, len(claims))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(claims[b].Priority, claims[a].Priority) })
	ok = true
	for _, i := range order {
		limit, reached, found := claims[i].next(-1, 0, budget)
		if !found {
			ok = false
			continue
		}
		limits[i], accuracy[i] = limit, reached
		budget -= claims[i].busy(limit)
	}
	for from := 0; from < len(order); {
		to := from
		for to < len(order) && claims[order[to]].Priority == claims[order[from]].Priority {
			to++
		}
		turns := slices.Clone(order[from:to])
		for len(turns) > 0 {
			least := 0
			for k := range turns {
				if accuracy[turns[k]] < accuracy[turns[least]] {
					least = k
				}
			}
			i := turns[least]
			limit, reached, found := claims[i].next(accuracy[i], limits[i], budget)
			if limits[i] == 0 || !found {
				turns = slices.Delete(turns, least, least+1)
				continue
			}
			budget -= claims[i].busy(limit) - claims[i].busy(limits[i])
			limits[i], accuracy[i] = limit, reached
		}
		from = to
	}
	return limits, ok, nil
}

// complete fills in the defaults and tells what is wrong, if anything.
func (c *Claim) complete() (err error) {
	if c.Profile == nil {
		return errors.New("no profile, expected one")
	}
	if err := c.Profile.Check(); err != nil {
		return err
	}
	configurations := len(c.Profile.Configurations)
	options, e := len(c.Profile.Levels)*configurations, c.Estimate
	if e == nil || e.Residual == nil || len(e.Slowdown) != configurations || len(e.Widen) != configurations || len(e.Expected) != options || len(e.Spread) != options {
		return errors.New("no estimate of every option of the profile, expected one such as Governor.Estimate of estimator.New")
	}
	c.Constraints, err = c.Constraints.Complete()
	return err
}

func (c *Claim) busy(latency time.Duration) float64 {
	return latency.Seconds() / c.Constraints.Period.Seconds()
}

// next is the cheapest option more accurate than the given accuracy whose latency is within the deadline with the
// requested probability, and which needs no more than spare beyond what the old limit does.
func (c *Claim) next(above float64, old time.Duration, spare float64) (limit time.Duration, accuracy float64, found bool) {
	quantile := c.Estimate.Residual.Quantile(c.Constraints.Probability)
	for l := range c.Profile.Levels {
		a := c.Profile.Levels[l].Accuracy
		if a <= above || a < c.Constraints.MinAccuracy {
			continue
		}
		for k := range c.Profile.Configurations {
			margin := exact.Exp(float64(quantile * c.Estimate.Width(c.Profile, l, k)))
			ns := float64(float64(c.Estimate.Median(c.Profile, l, k)*margin) * 1e9)
			if !(ns < float64(c.Constraints.Deadline)) { // of a broken machine it may be more than a Duration holds
				continue
			}
			t := time.Duration(ns) + 1
			if c.busy(t)-c.busy(old) > spare {
				continue
			}
			if !found || t < limit || t == limit && a > accuracy {
				limit, accuracy, found = t, a, true
			}
		}
	}
	return limit, accuracy, found
}
