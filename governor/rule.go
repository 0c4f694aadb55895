package governor

import "time"

// Rule is a first, simple governor. It keeps one number, the slowdown: how much longer inferences take now than
// when the levels were profiled. Next answers the most accurate level whose profiled latency, times the
// slowdown and a margin, meets the deadline. The slowdown rises fast and falls slowly, so that a level is left
// at the first late inference and regained only when the calm lasts. One goroutine uses a Rule at a time; no
// call allocates.
type Rule struct {
	deadline time.Duration
	profile  []time.Duration
	slowdown float64
	level    int
}

// Weights of a new observation in the slowdown, and the share of the deadline that is left unused because
// latencies scatter.
const (
	rising  = 0.6
	falling = 0.15
	margin  = 0.1
)

// NewRule makes a Rule for levels from fast to accurate with the given latencies on the undisturbed machine,
// all above zero.
func NewRule(deadline time.Duration, profile []time.Duration) *Rule {
	return &Rule{deadline: deadline, profile: profile, slowdown: 1}
}

// Next is the level for the next inference: 0, the fastest, where no level meets the deadline.
func (r *Rule) Next() int {
	budget := float64(r.deadline) * (1 - margin) / r.slowdown
	r.level = 0
	for i, p := range r.profile {
		if float64(p) <= budget {
			r.level = i
		}
	}
	return r.level
}

// Observe takes the latency of an inference at the level that Next answered last.
func (r *Rule) Observe(latency time.Duration) {
	now := float64(latency) / float64(r.profile[r.level])
	weight := falling
	if now > r.slowdown {
		weight = rising
	}
	r.slowdown += weight * (now - r.slowdown)
}

// Slowdown is the current estimate: 1 on the machine as it was profiled, 2 where everything takes twice as long.
func (r *Rule) Slowdown() float64 { return r.slowdown }
