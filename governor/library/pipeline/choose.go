package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Candidate is a network that may become a level, as one device sees it.
type Candidate struct {
	Subnet    string  `json:"subnet"`
	MACs      int64   `json:"macs"`
	Predicted float64 `json:"predicted"` // top-1 in percent
	Top1      float64 `json:"top1"`      // measured on the held-out images, in percent
	Low       float64 `json:"low"`       // 95 % interval of Top1
	High      float64 `json:"high"`
	TableMS   float64 `json:"table_ms"` // latency by the table
	MS        float64 `json:"ms"`       // measured, else by the table
	Kept      bool    `json:"kept"`
	Why       string  `json:"why"` // it was kept or dropped
}

// score is what the choice goes by: the mean of the measured and the predicted accuracy. The best of many
// measurements is partly luck, which the prediction, a fit over all of them, does not share.
func (c *Candidate) score() float64 { return (c.Top1 + c.Predicted) / 2 }

// choose marks the candidates that become levels: from the first to the last of the Pareto-optimal that are not below
// floor, at most count, each at least gap points above the one before by score and above it as measured, and among all
// such chains the one with the most even steps. It sorts the candidates from fast to slow.
func choose(all []Candidate, count int, gap, floor float64) {
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(a.MS, b.MS), cmp.Compare(b.score(), a.score()), cmp.Compare(a.Subnet, b.Subnet))
	})
	var front []*Candidate
	for i := range all {
		c := &all[i]
		switch {
		case min(c.Top1, c.score()) < floor:
			c.Why = fmt.Sprintf("below %.2f %%", floor)
		case len(front) > 0 && front[len(front)-1].score() >= c.score():
			c.Why = fmt.Sprintf("%s is faster and as accurate", front[len(front)-1].Subnet)
		default:
			front = append(front, c)
		}
	}
	above := func(a, b *Candidate) bool { return a.score()-b.score() >= gap && a.Top1 > b.Top1 }
	for _, i := range chain(front, count, above) {
		front[i].Kept, front[i].Why = true, "on the chain of the most even steps"
	}
	var below *Candidate
	for i, c := range front {
		if c.Kept {
			below = c
			continue
		}
		next := slices.IndexFunc(front[i:], func(c *Candidate) bool { return c.Kept })
		switch {
		case below != nil && !above(c, below):
			c.Why = fmt.Sprintf("less than %.2f points above %s, or not above it as measured", gap, below.Subnet)
		case next >= 0 && !above(front[i+next], c):
			c.Why = fmt.Sprintf("less than %.2f points below %s, or not below it as measured", gap, front[i+next].Subnet)
		default:
			c.Why = "the steps are more even without it"
		}
	}
}

// chain is at most count places of a front, each above the one before, from the first to the last that can be reached: of
// all such chains the one whose steps have the least sum of squares, which favours many and even ones.
func chain(front []*Candidate, count int, above func(a, b *Candidate) bool) []int {
	if len(front) == 0 {
		return nil
	}
	type link struct {
		cost float64
		from int
	}
	// best[n][i] is the best chain of n+1 places that ends in i.
	best := make([][]link, count)
	for n := range best {
		best[n] = make([]link, len(front))
		for i := range front {
			best[n][i] = link{math.Inf(1), -1}
			if n == 0 {
				if i == 0 {
					best[n][i].cost = 0
				}
				continue
			}
			for k := range i {
				step := front[i].score() - front[k].score()
				if cost := best[n-1][k].cost + step*step; above(front[i], front[k]) && cost < best[n][i].cost {
					best[n][i] = link{cost, k}
				}
			}
		}
	}
	for end := len(front) - 1; ; end-- { // which ends at the first at the latest
		length := -1
		for n := range best {
			if !math.IsInf(best[n][end].cost, 1) && (length < 0 || best[n][end].cost < best[length][end].cost) {
				length = n
			}
		}
		if length < 0 {
			continue
		}
		var places []int
		for i := end; length >= 0; length-- {
			places = append(places, i)
			i = best[length][i].from
		}
		slices.Reverse(places)
		return places
	}
}
