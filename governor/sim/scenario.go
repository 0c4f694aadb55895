// Package sim runs policies through scenarios on a virtual clock. A run is a function of scenario, policy and seed:
// the same bits on every machine and for every number of threads.
package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// Scenario is a machine, what happens to it, and what is asked of the governor. Times are in ms.
type Scenario struct {
	Name    string `json:"name"`
	About   string `json:"about"`             // what it checks
	Sensing string `json:"sensing,omitempty"` // why the sensors show what they show

	Length      float64     `json:"length_ms"`
	Constraints Constraints `json:"constraints"` // to begin with

	Levels         []Level                  `json:"levels,omitempty"`         // default: the six of Dynamic-OFA's demonstrator
	Configurations []governor.Configuration `json:"configurations,omitempty"` // default: one, on the GPU
	Idle           float64                  `json:"idle_w,omitempty"`
	Error          []float64                `json:"error,omitempty"` // per level: true latency over profiled

	Noise    Noise              `json:"noise"`
	Arrivals *Arrivals          `json:"arrivals,omitempty"` // default: one inference after another
	Period   float64            `json:"period_ms,omitempty"`
	Cores    float64            `json:"cores,omitempty"`   // to begin with; default: enough
	Scaling  float64            `json:"scaling,omitempty"` // slowdown is (threads/cores)^scaling; default 1
	Compute  float64            `json:"compute,omitempty"` // of a GPU's time without launches, the share that follows its clock; default 1
	Sensors  map[string]float64 `json:"sensors,omitempty"` // fields of Hardware that there are, and their first values
	Events   []Event            `json:"events,omitempty"`  // in order
	Faults   []Fault            `json:"faults,omitempty"`  // of the sensors
	Others   []Stream           `json:"others,omitempty"`  // further models on the same machine
	Overlap  float64            `json:"overlap,omitempty"` // slowdown of an inference while another runs is 1 + overlap
}

// Level is what the governor is told of a level.
type Level struct {
	Accuracy float64   `json:"accuracy"`
	Latency  []float64 `json:"latency_ms"` // per configuration
	Power    []float64 `json:"power_w,omitempty"`
}

// Constraints are those of governor.Constraints; in an Event, what is absent stays.
type Constraints struct {
	Deadline    float64 `json:"deadline_ms,omitempty"`
	Probability float64 `json:"probability,omitempty"`
	MinAccuracy float64 `json:"min_accuracy,omitempty"`
	MaxPower    float64 `json:"max_power_w,omitempty"`
	Objective   string  `json:"objective,omitempty"` // accuracy or energy
}

// Noise is what multiplies each latency, independently.
type Noise struct {
	Sigma  float64 `json:"sigma"`            // of the logarithm
	Spikes []Spike `json:"spikes,omitempty"` // a further mode is a spike with a large share
	Tail   *Tail   `json:"tail,omitempty"`
}

// Spike multiplies a share of the inferences.
type Spike struct {
	Share  float64 `json:"share"`
	Factor float64 `json:"factor"`
}

// Tail multiplies a share of the inferences by a Pareto variable: P(factor > x) = x^-alpha, at most 20.
type Tail struct {
	Share float64 `json:"share"`
	Alpha float64 `json:"alpha"`
}

// Arrivals are requests that queue, with gamma-distributed gaps.
type Arrivals struct {
	Mean float64 `json:"mean_ms"`
	CV2  float64 `json:"cv2"` // squared coefficient of variation of the gaps
}

// Event changes what is named, at a time or, with a ramp, linearly from then on.
type Event struct {
	At          float64            `json:"at_ms"`
	Ramp        float64            `json:"ramp_ms,omitempty"`
	Slowdown    float64            `json:"slowdown,omitempty"`
	Cores       float64            `json:"cores,omitempty"`
	GPU         *GPU               `json:"gpu,omitempty"`
	Sensors     map[string]float64 `json:"sensors,omitempty"`
	Constraints *Constraints       `json:"constraints,omitempty"`
}

// GPU is what a card gives: its latency is, over that on the card undisturbed and alone, a roofline in sums,
//
//	(compute/Clock + (1-compute)/Memory) / Time
//
// but for the launches, which the host makes. In an Event, what is absent stays.
type GPU struct {
	Clock  float64 `json:"clock,omitempty"`  // of its multiprocessors, over the highest
	Memory float64 `json:"memory,omitempty"` // of its memory, the same
	Time   float64 `json:"time,omitempty"`   // share that other processes leave us: in slices of equal length 1/2 beside one that is always busy
}

func (g GPU) slower(compute float64) float64 {
	return (compute/g.Clock + (1-compute)/g.Memory) / g.Time
}

// toward is a part of the way to another state.
func (g GPU) toward(to GPU, part float64) GPU {
	for _, v := range []struct {
		at *float64
		to float64
	}{{&g.Clock, to.Clock}, {&g.Memory, to.Memory}, {&g.Time, to.Time}} {
		if v.to != 0 {
			*v.at += float64(part * (v.to - *v.at))
		}
	}
	return g
}

// Fault spoils sensors for a while.
type Fault struct {
	From   float64  `json:"from_ms"`
	To     float64  `json:"to_ms"`
	Kind   string   `json:"kind"`             // missing, unsupported, wrong, stuck, late, random
	Fields []string `json:"fields,omitempty"` // default: all
}

// Stream is a further model with its own governor.
type Stream struct {
	Start       float64     `json:"start_ms"`
	Constraints Constraints `json:"constraints"`
	Period      float64     `json:"period_ms"`
	Levels      []Level     `json:"levels"`
}

var seedLevels = []Level{
	{74.202, []float64{37.1}, nil}, {74.968, []float64{41.0}, nil}, {76.134, []float64{44.6}, nil},
	{77.54, []float64{46.0}, nil}, {78.346, []float64{51.1}, nil}, {79.03, []float64{55.6}, nil},
}

// Limits of what a file may ask for.
const (
	maxLength   = 24 * 3600e3 // ms
	maxItems    = 1 << 16     // of any list
	rampStep    = 20.0        // ms between the steps that a ramp is made of
	maxSegments = 1 << 18
	maxLevels   = 1024
)

// Parse reads a scenario and checks it.
func Parse(r io.Reader) (*Scenario, error) {
	data, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	s := &Scenario{}
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("scenario: %w", explain(data, err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("scenario: text behind the JSON object, expected one object")
	}
	return s, s.complete()
}

// explain says where the JSON is wrong, and what, in the file's own terms.
func explain(data []byte, err error) error {
	line := func(offset int64) int {
		return 1 + bytes.Count(data[:max(0, min(offset, int64(len(data))))], []byte("\n"))
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	name, unknown := strings.CutPrefix(err.Error(), "json: unknown field ")
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("the file is empty, expected a JSON object")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the file ends within its JSON object, expected all of it")
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d: %w, expected JSON", line(syntax.Offset), syntax)
	case errors.As(err, &kind):
		expected := map[reflect.Kind]string{reflect.String: "a string", reflect.Bool: "true or false", reflect.Slice: "an array",
			reflect.Struct: "an object", reflect.Map: "an object", reflect.Int: "a whole number"}[kind.Type.Kind()]
		if expected == "" {
			expected = "a number"
		}
		field := kind.Field
		if field == "" {
			field = "the file"
		}
		return fmt.Errorf("line %d: %s is of kind %s, expected %s", line(kind.Offset), field, kind.Value, expected)
	case unknown && bytes.Count(data, []byte(name)) == 1:
		return fmt.Errorf("line %d: unknown field %s", line(int64(bytes.Index(data, []byte(name)))), name)
	case unknown:
		return fmt.Errorf("unknown field %s", name)
	}
	return err
}

// complete fills in the defaults and checks everything.
func (s *Scenario) complete() error {
	if len(s.Levels) == 0 {
		s.Levels = seedLevels
	}
	if len(s.Configurations) == 0 {
		s.Configurations = []governor.Configuration{{GPU: true}}
	}
	if s.Scaling == 0 {
		s.Scaling = 1
	}
	if s.Cores == 0 {
		s.Cores = 1 << 16
	}
	if s.Compute == 0 {
		s.Compute = 1
	}
	bad := func(what string, value any, expected string) error {
		return fmt.Errorf("scenario %q: %s is %v, expected %s", s.Name, what, value, expected)
	}
	within := func(v, low, high float64) bool { return v >= low && v <= high }
	switch {
	case s.Name == "" || len(s.Name) > 100:
		return bad("name", fmt.Sprintf("%.20q", s.Name), "1 to 100 characters")
	case !within(s.Length, 1, maxLength):
		return bad("length_ms", s.Length, "1 to 86400000")
	case len(s.Levels) > maxLevels || len(s.Configurations) > governor.MaxConfigurations:
		return bad("number of levels and configurations", fmt.Sprint(len(s.Levels), ", ", len(s.Configurations)),
			fmt.Sprintf("at most %d and %d", maxLevels, governor.MaxConfigurations))
	case len(s.Events) > maxItems || len(s.Faults) > maxItems || len(s.Others) > 8 || len(s.Noise.Spikes) > 16:
		return bad("length of a list", "too large", "at most 65536 events and faults, 8 others, 16 spikes")
	case len(s.Error) != 0 && len(s.Error) != len(s.Levels):
		return bad("number of errors", len(s.Error), fmt.Sprintf("none or one for each of the %d levels", len(s.Levels)))
	case !within(s.Noise.Sigma, 0, 1):
		return bad("noise.sigma", s.Noise.Sigma, "0 to 1")
	case s.Period != 0 && !within(s.Period, 0.1, 3600e3):
		return bad("period_ms", s.Period, "0.1 to 3600000")
	case !within(s.Cores, 0.01, 1<<16) || !within(s.Scaling, 0, 4) || !within(s.Overlap, 0, 100):
		return bad("cores, scaling or overlap", fmt.Sprint(s.Cores, ", ", s.Scaling, ", ", s.Overlap), "0.01 to 65536, 0 to 4, 0 to 100")
	}
	if !within(s.Compute, 0, 1) {
		return bad("compute", s.Compute, "0 to 1")
	}
	for _, e := range s.Error {
		if !within(e, 0.01, 100) {
			return bad("error", e, "0.01 to 100")
		}
	}
	total := 0.0
	for _, spike := range s.Noise.Spikes {
		total += spike.Share
		if !within(spike.Share, 0, 1) || total > 1 || !within(spike.Factor, 0.1, 100) {
			return bad("noise.spikes", spike, "shares that add up to at most 1, factors 0.1 to 100")
		}
	}
	if t := s.Noise.Tail; t != nil && (!within(t.Share, 0, 1) || !within(t.Alpha, 0.5, 100)) {
		return bad("noise.tail", *t, "share 0 to 1, alpha 0.5 to 100")
	}
	if a := s.Arrivals; a != nil && (!within(a.Mean, 0.1, 3600e3) || !within(a.CV2, 0.01, 100)) {
		return bad("arrivals", *a, "mean_ms 0.1 to 3600000, cv2 0.01 to 100")
	}
	if err := s.sensors(s.Sensors); err != nil {
		return err
	}
	last := 0.0
	for _, e := range s.Events {
		if !within(e.At, last, s.Length) {
			return bad("at_ms", e.At, "events in order, within the length")
		}
		last = e.At
		at := func(what string) string { return fmt.Sprintf("%s of the event at %v", what, e.At) }
		switch {
		case e.Slowdown != 0 && !within(e.Slowdown, 0.05, 100):
			return bad(at("slowdown"), e.Slowdown, "0.05 to 100")
		case e.Cores != 0 && !within(e.Cores, 0.01, 1<<16):
			return bad(at("cores"), e.Cores, "0.01 to 65536")
		case !within(e.Ramp, 0, s.Length):
			return bad(at("ramp_ms"), e.Ramp, "0 to the length")
		case e.Slowdown == 0 && e.Cores == 0 && e.GPU == nil && len(e.Sensors) == 0 && e.Constraints == nil:
			return fmt.Errorf("scenario %q: the event at %v changes nothing, expected any of slowdown, cores, gpu, sensors and constraints", s.Name, e.At)
		}
		if g := e.GPU; g != nil {
			for _, v := range []float64{g.Clock, g.Memory, g.Time} {
				if v != 0 && !within(v, 0.01, 1) {
					return bad("gpu", *g, "clock, memory and time from 0.01 to 1")
				}
			}
		}
		for name := range e.Sensors {
			if _, ok := s.Sensors[name]; !ok {
				return bad("sensor", name, "one that the scenario's sensors name")
			}
		}
		if err := s.sensors(e.Sensors); err != nil {
			return err
		}
	}
	for _, f := range s.Faults {
		if !within(f.From, 0, s.Length) || !within(f.To, f.From, maxLength) || !slices.Contains(faultKinds, f.Kind) {
			return bad("fault", fmt.Sprint(f.Kind, " from ", f.From, " to ", f.To), fmt.Sprint("from_ms before to_ms, and one of ", faultKinds))
		}
		for _, name := range f.Fields {
			if _, ok := s.Sensors[name]; !ok {
				return bad("field of a fault", name, "one that the scenario's sensors name")
			}
		}
	}
	if _, err := s.compile(); err != nil {
		return err
	}
	for _, o := range s.streams() {
		if err := o.profile(s).Check(); err != nil {
			return fmt.Errorf("scenario %q: %w", s.Name, err)
		}
		if !within(o.Start, 0, s.Length) || o.Period != 0 && !within(o.Period, 0.1, 3600e3) || len(o.Levels) > maxLevels {
			return bad("other", fmt.Sprint("start_ms ", o.Start, ", period_ms ", o.Period), "a start within the length, a period of 0.1 to 3600000, at most 1024 levels")
		}
		if _, err := o.Constraints.governor(o.Period); err != nil {
			return fmt.Errorf("scenario %q: %w", s.Name, err)
		}
	}
	return nil
}

func (s *Scenario) sensors(values map[string]float64) error {
	for name, v := range values {
		f, ok := fields[name]
		if !ok {
			return fmt.Errorf("scenario %q: sensor %.30q, expected one of %v", s.Name, name, fieldNames())
		}
		if !(v >= 0 && v <= f.most) {
			return fmt.Errorf("scenario %q: sensor %s is %v, expected 0 to %v", s.Name, name, v, f.most)
		}
	}
	return nil
}

// streams are all models, the scenario's own first.
func (s *Scenario) streams() []Stream {
	return append([]Stream{{Constraints: s.Constraints, Period: s.Period, Levels: s.Levels}}, s.Others...)
}

// milliseconds rounds to whole ns.
func milliseconds(ms float64) time.Duration { return time.Duration(math.Round(ms * 1e6)) }

func (o *Stream) profile(s *Scenario) *governor.Profile {
	p := &governor.Profile{Configurations: s.Configurations, Idle: s.Idle}
	for _, l := range o.Levels {
		level := governor.Level{Accuracy: l.Accuracy, Power: l.Power}
		for _, ms := range l.Latency {
			if !(ms > 0 && ms < 24*3600e3) {
				ms = -1 // the profile's check refuses it
			}
			level.Latency = append(level.Latency, milliseconds(ms))
		}
		p.Levels = append(p.Levels, level)
	}
	return p
}

// over fills in what c leaves open.
func (c Constraints) over(old Constraints) Constraints {
	if c.Deadline == 0 {
		c.Deadline = old.Deadline
	}
	if c.Probability == 0 {
		c.Probability = old.Probability
	}
	if c.MinAccuracy == 0 {
		c.MinAccuracy = old.MinAccuracy
	}
	if c.MaxPower == 0 {
		c.MaxPower = old.MaxPower
	}
	if c.Objective == "" {
		c.Objective = old.Objective
	}
	return c
}

func (c Constraints) governor(period float64) (governor.Constraints, error) {
	if !(c.Deadline > 0 && c.Deadline <= 3600e3) {
		return governor.Constraints{}, fmt.Errorf("deadline_ms is %v, expected more than 0, at most 3600000", c.Deadline)
	}
	g := governor.Constraints{Deadline: milliseconds(c.Deadline), Probability: c.Probability, MinAccuracy: c.MinAccuracy, MaxPower: c.MaxPower, Period: milliseconds(period)}
	switch c.Objective {
	case "", "accuracy":
	case "energy":
		g.Objective = governor.LeastEnergy
	default:
		return g, fmt.Errorf("objective is %.20q, expected accuracy or energy", c.Objective)
	}
	return g.Complete()
}

// segment is a time in which the machine stays as it is.
type segment struct {
	from        time.Duration
	slow        []float64 // per configuration, on a GPU without its launches
	host        float64   // the same of launches
	sensors     [len(fieldList)]float64
	constraints governor.Constraints // of the scenario's own model
}

// compile turns the events into segments.
func (s *Scenario) compile() ([]segment, error) {
	slowdown, cores, gpu := 1.0, s.Cores, GPU{1, 1, 1}
	var sensors [len(fieldList)]float64
	for name, v := range s.Sensors {
		sensors[fields[name].index] = v
	}
	wanted := s.Constraints
	constraints, err := wanted.governor(s.Period)
	if err != nil {
		return nil, fmt.Errorf("scenario %q: %w", s.Name, err)
	}
	var list []segment
	add := func(at float64) {
		g := segment{from: milliseconds(at), sensors: sensors, constraints: constraints}
		onCPU := func(threads int) float64 {
			if over := float64(max(1, threads)) / cores; over > 1 {
				return float64(slowdown * exact.Exp(float64(s.Scaling*exact.Log(over))))
			}
			return slowdown
		}
		for _, c := range s.Configurations {
			if c.GPU {
				g.slow = append(g.slow, float64(slowdown*gpu.slower(s.Compute)))
			} else {
				g.slow = append(g.slow, onCPU(c.Threads))
			}
		}
		g.host = onCPU(1)
		if n := len(list); n > 0 && list[n-1].from == g.from {
			list[n-1] = g
			return
		}
		list = append(list, g)
	}
	add(0)
	for i, e := range s.Events {
		if e.Constraints != nil {
			wanted = e.Constraints.over(wanted)
			if constraints, err = wanted.governor(s.Period); err != nil {
				return nil, fmt.Errorf("scenario %q: event at %v: %w", s.Name, e.At, err)
			}
		}
		end := e.At + e.Ramp
		if i+1 < len(s.Events) && end > s.Events[i+1].At {
			return nil, fmt.Errorf("scenario %q: the ramp at %v ends after the next event, expected before", s.Name, e.At)
		}
		steps := int(math.Ceil(e.Ramp / rampStep))
		if len(list)+steps > maxSegments {
			return nil, fmt.Errorf("scenario %q: ramps of more than %d steps, expected fewer", s.Name, maxSegments)
		}
		slowdown0, cores0, gpu0, sensors0 := slowdown, cores, gpu, sensors
		for k := min(1, steps); k <= steps; k++ {
			part := 1.0
			if steps > 0 {
				part = float64(k) / float64(steps)
			}
			blend := func(from, to float64) float64 { return from + float64(part*(to-from)) }
			if e.Slowdown != 0 {
				slowdown = blend(slowdown0, e.Slowdown)
			}
			if e.Cores != 0 {
				cores = blend(cores0, e.Cores)
			}
			if e.GPU != nil {
				gpu = gpu0.toward(*e.GPU, part)
			}
			for name, v := range e.Sensors {
				f := fields[name].index
				sensors[f] = blend(sensors0[f], v)
			}
			add(e.At + float64(part*e.Ramp))
		}
	}
	return list, nil
}

// SetLevels replaces the levels by measured ones, sorted from fast to accurate, scaled so that the slowest takes as
// long as the scenario's slowest. Other configurations than the first keep their ratio to it, and powers stay.
func (s *Scenario) SetLevels(accuracy, ms []float64) error {
	slowest, most := 0.0, 0.0
	ratios := slices.Repeat([]float64{1}, len(s.Configurations))
	for _, l := range s.Levels {
		if l.Latency[0] > slowest {
			slowest = l.Latency[0]
			for c := range ratios {
				ratios[c] = l.Latency[c] / l.Latency[0]
			}
		}
	}
	for _, t := range ms {
		most = max(most, t)
	}
	old, wrong := s.Levels, s.Error
	s.Levels = nil
	for i, t := range ms {
		l := Level{Accuracy: accuracy[i]}
		for _, r := range ratios {
			l.Latency = append(l.Latency, float64(t*slowest)/most*r)
		}
		l.Power = old[0].Power
		s.Levels = append(s.Levels, l)
	}
	if len(wrong) > 0 { // the same share of the way up
		s.Error = nil
		for i := range ms {
			s.Error = append(s.Error, wrong[i*len(wrong)/len(ms)])
		}
	}
	return s.complete()
}
