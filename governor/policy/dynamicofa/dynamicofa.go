// Package dynamicofa is the rule of the Dynamic-OFA demonstrator, number by number: latencies of 90 ms and more are
// not looked at; down one level when the last 20 average more than the deadline, which cannot happen before 41
// inferences at a level; up one level only for the accuracy floor, after 72.
package dynamicofa

import (
	"time"

	"github.com/dynofa/dynofa/governor"
)

const (
	warmUp   = 21   // inferences at a level that are not recorded
	window   = 20   // records that are averaged
	ignored  = 90.0 // ms: latencies from here on are not recorded
	patience = 72   // inferences at a level before it is left for a more accurate one
)

// Policy implements governor.Policy. Levels are taken to be sorted from fast to accurate.
type Policy struct {
	Start int // level to begin with
}

// Next decides.
func (p Policy) Next(s *governor.State) governor.Decision {
	if s.Last.Level < 0 {
		return governor.Decision{Level: min(p.Start, len(s.Profile.Levels)-1)}
	}
	d, e := s.Last, s.Estimate
	switch {
	case e.Mean > s.Constraints.Deadline.Seconds()*1e3:
		d.Level = max(0, d.Level-1) // the demonstrator ends below the lowest
	case s.Run >= patience && s.Profile.Levels[d.Level].Accuracy < s.Constraints.MinAccuracy:
		d.Level = min(len(s.Profile.Levels)-1, d.Level+1)
	}
	return d
}

// Window is its estimator: the sum of the last 20 records over 20, however many there are. The records begin anew
// with every level.
type Window struct {
	estimate governor.Estimate
	records  [window]float64
	count    int
	images   int
	level    int
}

// NewWindow makes a Window.
func NewWindow() *Window { return &Window{level: -1} }

// Sense does nothing: the demonstrator has no sensors.
func (w *Window) Sense(time.Duration, *governor.Hardware) {}

// Observe takes in a latency.
func (w *Window) Observe(o governor.Observation) {
	if o.Level != w.level {
		*w = Window{level: o.Level}
	}
	w.images++
	ms := o.Latency.Seconds() * 1e3
	if w.images <= warmUp || ms >= ignored {
		return
	}
	w.records[w.count%window] = ms
	w.count++
	sum := 0.0
	for _, r := range w.records {
		sum += r
	}
	w.estimate.Mean = sum / window
}

// Estimate is the current estimate.
func (w *Window) Estimate() *governor.Estimate { return &w.estimate }
