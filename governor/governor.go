package governor

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Event is something to tell an operator once: from now on, a constraint cannot be met, or all can again.
type Event struct {
	GaveUp   Constraint // None: all constraints hold again
	Decision Decision
}

// Config is what a Governor joins. Profile, Estimator, Policy and Constraints are required.
type Config struct {
	Profile     *Profile
	Estimator   Estimator
	Policy      Policy
	Constraints Constraints
	Hardware    func() Hardware      // the sensors' latest publication; nil: feedback only
	Now         func() time.Duration // clock of the loop, that of the readings; required with Hardware
	Event       func(Event)          // called from Next; nil: nobody listens
}

// Governor decides, before every inference, what to run. One goroutine calls Next and Observe in turn; SetConstraints
// may be called from any.
type Governor struct {
	config      Config
	constraints atomic.Pointer[Constraints]
	state       State
	hardware    Hardware
	told        Constraint   // the event that was told last
	asked       *Constraints // that the budgets of late belong to
	calm        int          // decisions in a row with less given up than told
}

// New makes a Governor.
func New(c Config) (*Governor, error) {
	switch {
	case c.Profile == nil:
		return nil, errors.New("governor: Config.Profile is nil, expected one")
	case c.Estimator == nil:
		return nil, errors.New("governor: Config.Estimator is nil, expected one such as estimator.New(profile, nil)")
	case c.Policy == nil:
		return nil, errors.New("governor: Config.Policy is nil, expected one such as steady.New(nil)")
	}
	if err := c.Profile.Check(); err != nil {
		return nil, err
	}
	if c.Hardware != nil && c.Now == nil {
		return nil, errors.New("governor: sensors without a clock, expected Config.Now beside Config.Hardware")
	}
	g := &Governor{config: c, state: State{Profile: c.Profile, Last: Decision{Level: -1}, Settled: Decision{Level: -1}}}
	if err := g.SetConstraints(c.Constraints); err != nil {
		return nil, err
	}
	return g, nil
}

// SetConstraints changes what is asked for, from the next call of Next on. Any goroutine may call it.
func (g *Governor) SetConstraints(c Constraints) error {
	c, err := c.Complete()
	if err != nil {
		return err
	}
	if now := g.constraints.Load(); now == nil || *now != c { // the same again are no other goals
		g.constraints.Store(&c)
	}
	return nil
}

// Next is what to run now.
func (g *Governor) Next() Decision { return g.NextWithin(g.constraints.Load().Deadline) }

// lately is how many requests it takes to forget most of a small budget: the filter, too, averages about 50.
const lately = 50

// NextWithin is Next for a request that has waited: left is the time until its answer is late, zero or less if it is.
// With others behind it, the caller asks for less, so that they are in time, too.
func (g *Governor) NextWithin(left time.Duration) Decision {
	s := &g.state
	left = max(left, 1)
	asked := g.constraints.Load()
	if asked != g.asked { // other goals, other budgets
		g.asked, s.Least = asked, left
	}
	s.Constraints, s.Budget, s.Least = *asked, left, min(left, s.Least+(left-s.Least)/lately)
	if g.config.Hardware != nil {
		g.hardware = g.config.Hardware()
		g.config.Estimator.Sense(g.config.Now(), &g.hardware)
	}
	s.Estimate = g.config.Estimator.Estimate()
	d := g.config.Policy.Next(s)
	if s.Last.Level >= 0 && (d.Level != s.Last.Level || d.Configuration != s.Last.Configuration) {
		s.Run = 0
	}
	s.Last = d
	if s.Estimate.Doubt == 0 {
		s.Settled = d
	}
	g.tell(d)
	return d
}

// A constraint that comes and goes is told when it goes first, and again only after it has held for a while.
const calmEnough = 20

func (g *Governor) tell(d Decision) {
	switch {
	case d.GaveUp > g.told:
		g.calm = 0
	case d.GaveUp == g.told:
		g.calm = 0
		return
	default:
		if g.calm++; g.calm < calmEnough {
			return
		}
		g.calm = 0
	}
	g.told = d.GaveUp
	if g.config.Event != nil {
		g.config.Event(Event{d.GaveUp, d})
	}
}

// Observe takes in how long the inference took that the last Next had decided.
func (g *Governor) Observe(latency time.Duration) {
	s := &g.state
	if s.Last.Level < 0 || latency <= 0 {
		return
	}
	s.Run++
	o := Observation{Level: s.Last.Level, Configuration: s.Last.Configuration, Latency: latency}
	if g.config.Now != nil {
		o.At = g.config.Now()
	}
	g.config.Estimator.Observe(o)
}

// Estimate is what the estimator thinks now, for displays; valid until the next call of any method.
func (g *Governor) Estimate() *Estimate { return g.config.Estimator.Estimate() }

// Claim is what Share needs to know of this model, valid as the Estimate is.
func (g *Governor) Claim(priority int) Claim {
	return Claim{Profile: g.config.Profile, Estimate: g.Estimate(), Constraints: *g.constraints.Load(), Priority: priority}
}

func (d Decision) String() string {
	return fmt.Sprintf("level %d, configuration %d", d.Level, d.Configuration)
}
