package governor

import (
	"fmt"
	"math"
	"time"
)

// Objective is what is made as good as the constraints allow.
type Objective uint8

// Objectives.
const (
	MostAccurate Objective = iota // of what is in time with the probability, the most worth if late answers are worth nothing
	LeastEnergy
)

// Constraint names one of the constraints.
type Constraint uint8

// Constraints by name, in the order in which they are given up unless Constraints.Order says otherwise.
const (
	None Constraint = iota
	Power
	Accuracy
	Latency
)

func (c Constraint) String() string {
	return [...]string{"none", "power", "accuracy", "latency"}[min(c, Latency)]
}

// Constraints is what the application asks for. The zero value of a field asks for nothing, or for the default.
type Constraints struct {
	Deadline    time.Duration // of an inference; required
	Probability float64       // that an inference meets it; default 0.95
	MinAccuracy float64       // percent
	MaxPower    float64       // W, averaged over an inference and the idle rest of its period
	Period      time.Duration // between inferences, for MaxPower and LeastEnergy; default: the deadline
	Objective   Objective
	Order       [3]Constraint // which to give up first, second and last; default: Power, Accuracy, Latency
}

// Complete fills in the defaults and tells what is wrong, if anything.
func (c Constraints) Complete() (Constraints, error) {
	if c.Probability == 0 {
		c.Probability = 0.95
	}
	if c.Period == 0 {
		c.Period = c.Deadline
	}
	if c.Order == [3]Constraint{} {
		c.Order = [3]Constraint{Power, Accuracy, Latency}
	}
	seen := [4]bool{}
	for _, o := range c.Order {
		seen[min(o, 3)] = o <= Latency
	}
	switch {
	case c.Deadline <= 0 || c.Deadline > 24*time.Hour:
		return c, fmt.Errorf("governor: deadline %v, expected more than zero and at most a day", c.Deadline)
	case !(c.Probability > 0 && c.Probability < 1):
		return c, fmt.Errorf("governor: probability %v, expected between 0 and 1", c.Probability)
	case !(c.MinAccuracy >= 0 && c.MinAccuracy <= 100):
		return c, fmt.Errorf("governor: accuracy floor %v, expected percent", c.MinAccuracy)
	case !(c.MaxPower >= 0):
		return c, fmt.Errorf("governor: power budget %v, expected watts", c.MaxPower)
	case c.Period < 0:
		return c, fmt.Errorf("governor: period %v, expected more than zero", c.Period)
	case c.Objective > LeastEnergy:
		return c, fmt.Errorf("governor: objective %d, expected MostAccurate or LeastEnergy", c.Objective)
	case !seen[Power] || !seen[Accuracy] || !seen[Latency]:
		return c, fmt.Errorf("governor: order %v, expected each of power, accuracy and latency once", c.Order)
	}
	return c, nil
}

// Estimate is what an Estimator knows about the machine of the moment. Policies read it during a call of Next only.
type Estimate struct {
	Slowdown []float64 // per configuration: median latency over Expected
	Expected []float64 // per option, s: the profiled latency, corrected by what the profile is found to have wrong
	Spread   []float64 // per option: how much wider than Residual its latencies scatter, in logarithms; short ones do more
	Widen    []float64 // per configuration: how much wider than Residual the prediction is, as long as Slowdown is young
	Residual *Residual // of the latencies around their predicted medians
	Doubt    float64   // Slowdown of the last inference's kind of processor times this if that was no outlier; 0 without a doubt
	Threat   float64   // the GPU's Slowdown times this from any inference on, as something was announced; 0 without a threat
	Waited   int       // inferences since the announcement
	News     float64   // of this moment, by a jump or a sensor: what the logarithm of the slowdown was moved by
	Hazard   float64   // chance that the next inference meets a slower machine
	Step     float64   // logarithm of how much slower

	Deviation float64 // standard deviation of the slowdown, for policies that think in normal distributions
	Mean      float64 // ms, of the latest latencies, for policies that look at no more than that
}

// Median is the predicted median latency of an option, in s.
func (e *Estimate) Median(p *Profile, level, configuration int) float64 {
	return float64(e.Expected[p.Option(level, configuration)] * e.Slowdown[configuration])
}

// Width is how much wider than Residual the prediction of an option is, by its own scatter and by what nobody knows yet.
func (e *Estimate) Width(p *Profile, level, configuration int) float64 {
	spread, widen := e.Spread[p.Option(level, configuration)], e.Widen[configuration]
	return math.Sqrt(float64(spread*spread) + float64(widen*widen) - 1)
}

// Observation is one inference that has ended.
type Observation struct {
	At            time.Duration // when it ended, on the clock of the loop; 0 where there is none
	Level         int
	Configuration int
	Latency       time.Duration
}

// Estimator learns from latencies and sensors. One goroutine uses it at a time; no call allocates.
type Estimator interface {
	// Sense takes in what the sensors know at a time, before a decision.
	Sense(now time.Duration, h *Hardware)
	// Observe takes in an inference that has ended.
	Observe(o Observation)
	// Estimate is the current estimate, valid until the next call.
	Estimate() *Estimate
}

// Uncorrected is the Expected of a profile that has nothing wrong.
func (p *Profile) Uncorrected() []float64 {
	var list []float64
	for _, l := range p.Levels {
		for _, t := range l.Latency {
			list = append(list, t.Seconds())
		}
	}
	return list
}

// State is everything that a Policy decides from.
type State struct {
	Profile     *Profile
	Estimate    *Estimate
	Constraints Constraints   // complete
	Budget      time.Duration // that this inference may take: the deadline, less what the request has waited
	Least       time.Duration // the smallest budget of late, slowly forgotten: what a queue leaves comes and goes
	Last        Decision      // Level -1 before the first inference
	Settled     Decision      // the last that was no answer to a doubt
	Run         int           // inferences since the last switch
}

// Decision is what to run.
type Decision struct {
	Level         int
	Configuration int
	GaveUp        Constraint // the last constraint that had to be given up; None where all hold
}

// Policy decides. Next is a pure function of the state: no clock, no I/O, no memory, no allocation.
type Policy interface {
	Next(s *State) Decision
}
