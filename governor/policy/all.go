// Package policy lists all policies with the estimators that they go with.
package policy

import (
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/policy/alert"
	"github.com/dynofa/dynofa/governor/policy/dynamicofa"
	"github.com/dynofa/dynofa/governor/policy/slackfit"
	"github.com/dynofa/dynofa/governor/policy/static"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

// Entry is a policy by name.
type Entry struct {
	Name    string
	About   string
	Sensors bool // has a use for sensors
	Restart bool // pays the demonstrator's restart of 24 s for a switch
	New     func(*governor.Profile) (governor.Estimator, governor.Policy)
}

// All lists the policies: ours first, then the baselines, each in the paper's form and in its best.
func All() []Entry {
	return []Entry{
		{Name: "steady", About: "ours, with sensors", Sensors: true, New: Steady(nil, nil)},
		{Name: "steady-blind", About: "ours, without sensors", New: Steady(nil, nil)},
		{Name: "dynamicofa", About: "Dynamic-OFA's rule, 24 s for a switch as in its logs", Restart: true, New: dynamicOFA},
		{Name: "dynamicofa-free", About: "Dynamic-OFA's rule, switches for nothing", New: dynamicOFA},
		{Name: "slackfit", About: "SlackFit, as profiled", New: func(p *governor.Profile) (governor.Estimator, governor.Policy) {
			return slackfit.NewNone(p), slackfit.Policy{}
		}},
		{Name: "slackfit-scaled", About: "SlackFit, profile scaled by a filtered slowdown, 10 % margin", New: func(p *governor.Profile) (governor.Estimator, governor.Policy) {
			return alert.NewFilter(p, alert.Config{Std: true}), slackfit.Policy{Scaled: true, Margin: 0.1}
		}},
		{Name: "alert", About: "ALERT, sigma as variance", New: Alert(alert.Config{})},
		{Name: "alert-std", About: "ALERT, sigma as standard deviation", New: Alert(alert.Config{Std: true})},
		{Name: "alert-expected", About: "ALERT, best expected accuracy", New: Alert(alert.Config{Expected: true})},
		{Name: "alert-best", About: "ALERT, constants tuned on this suite", New: Alert(Tuned)},
	}
}

// Tuned is ALERT with the constants that give it the best mean effective accuracy over the suite.
var Tuned = alert.Config{Q0: 0.02, R: 0.1}

// Steady makes ours with mechanisms switched off.
func Steady(e *estimator.Config, s *steady.Config) func(*governor.Profile) (governor.Estimator, governor.Policy) {
	return func(p *governor.Profile) (governor.Estimator, governor.Policy) {
		return estimator.New(p, e), steady.New(s)
	}
}

// Alert makes ALERT with constants.
func Alert(c alert.Config) func(*governor.Profile) (governor.Estimator, governor.Policy) {
	return func(p *governor.Profile) (governor.Estimator, governor.Policy) {
		return alert.NewFilter(p, c), alert.New(c)
	}
}

func dynamicOFA(*governor.Profile) (governor.Estimator, governor.Policy) {
	return dynamicofa.NewWindow(), dynamicofa.Policy{Start: 4}
}

// Static is a policy that stays at an option.
func Static(level, configuration int) func(*governor.Profile) (governor.Estimator, governor.Policy) {
	return func(p *governor.Profile) (governor.Estimator, governor.Policy) {
		return slackfit.NewNone(p), static.Policy{Level: min(level, len(p.Levels)-1), Configuration: configuration}
	}
}

// Ablation lists ours with each mechanism switched off in turn.
func Ablation() []Entry {
	return []Entry{
		{Name: "steady", Sensors: true, New: Steady(nil, nil)},
		{Name: "no feed-forward", Sensors: true, New: Steady(&estimator.Config{NoFeedForward: true}, nil)},
		{Name: "no jumps", Sensors: true, New: Steady(&estimator.Config{NoJumps: true}, nil)},
		{Name: "no correction", Sensors: true, New: Steady(&estimator.Config{NoCorrection: true}, nil)},
		{Name: "no tail", Sensors: true, New: Steady(&estimator.Config{NoTail: true}, nil)},
		{Name: "no hysteresis", Sensors: true, New: Steady(nil, &steady.Config{NoHysteresis: true})},
		{Name: "no doubt", Sensors: true, New: Steady(nil, &steady.Config{NoDoubt: true})},
		{Name: "no sensors", New: Steady(nil, nil)},
		{Name: "... no jumps", New: Steady(&estimator.Config{NoJumps: true}, nil)},
		{Name: "... no doubt", New: Steady(nil, &steady.Config{NoDoubt: true})},
	}
}
