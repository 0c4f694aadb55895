package sim

import (
	"math"
	"slices"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// A sensor shows the value that the scenario gives, as a real one would: sampled 20 times a second, at a phase that
// has nothing to do with the inferences, and known to the loop a moment later; averaged, where the source averages;
// with noise, where it has noise.
const (
	samplePeriod = 50 * time.Millisecond
	readTime     = time.Millisecond // from the sample to its publication
	lateness     = 10               // samples that the fault "late" holds values back
)

type field struct {
	index  int
	name   string
	most   float64
	window float64 // ms, of a first-order average: 0 where the value is a state
	noise  float64 // standard deviation; relative to the value from 2 on
	get    func(*governor.Hardware) *governor.Reading
}

var fieldList = [...]field{
	{name: "clock", most: 1, get: func(h *governor.Hardware) *governor.Reading { return &h.Clock }},
	{name: "cores", most: 1 << 16, get: func(h *governor.Hardware) *governor.Reading { return &h.Cores }},
	{name: "contention", most: 1, window: 50, noise: 0.01, get: func(h *governor.Hardware) *governor.Reading { return &h.Contention }},
	{name: "pressure", most: 1, window: 50, noise: 0.02, get: func(h *governor.Hardware) *governor.Reading { return &h.Pressure }},
	{name: "throttled", most: 1, window: 100, noise: 0, get: func(h *governor.Hardware) *governor.Reading { return &h.Throttled }},
	{name: "temperature", most: 150, window: 3000, noise: 0.25, get: func(h *governor.Hardware) *governor.Reading { return &h.Temperature }},
	{name: "cooling", most: 1, get: func(h *governor.Hardware) *governor.Reading { return &h.Cooling }},
	{name: "power", most: 1e4, window: 20, noise: 0.2, get: func(h *governor.Hardware) *governor.Reading { return &h.Power }},
	{name: "gpu_clock", most: 1, get: func(h *governor.Hardware) *governor.Reading { return &h.GPUClock }},
	{name: "gpu_load", most: 1, window: 170, noise: 0.02, get: func(h *governor.Hardware) *governor.Reading { return &h.GPULoad }},
	{name: "gpu_others", most: 1024, get: func(h *governor.Hardware) *governor.Reading { return &h.GPUOthers }},
	{name: "gpu_memory_clock", most: 1, get: func(h *governor.Hardware) *governor.Reading { return &h.GPUMemClock }},
	{name: "gpu_power", most: 1e4, window: 1000, noise: 0.3, get: func(h *governor.Hardware) *governor.Reading { return &h.GPUPower }},
}

var fields = func() map[string]field {
	m := map[string]field{}
	for i := range fieldList {
		fieldList[i].index = i
		m[fieldList[i].name] = fieldList[i]
	}
	return m
}()

func fieldNames() (names []string) {
	for _, f := range fieldList {
		names = append(names, f.name)
	}
	return names
}

var faultKinds = []string{"missing", "unsupported", "wrong", "stuck", "late", "random"}

// sensors plays the sensors of a run.
type sensors struct {
	scenario *Scenario
	random   random
	next     time.Duration // sample
	value    [len(fieldList)]float64
	present  [len(fieldList)]bool
	both     bool                    // kinds of processors
	weight   [len(fieldList)]float64 // of a new sample in the average
	history  [lateness + 1]governor.Hardware
	samples  int
	shown    governor.Hardware
}

func newSensors(s *Scenario, seed uint64) *sensors {
	p := &sensors{scenario: s, random: newRandom(seed, 2)}
	onGPU := func(c governor.Configuration) bool { return c.GPU }
	p.both = slices.ContainsFunc(s.Configurations, onGPU) && slices.ContainsFunc(s.Configurations, func(c governor.Configuration) bool { return !c.GPU })
	p.next = time.Duration(p.random.uniform() * float64(samplePeriod))
	for name := range s.Sensors {
		f := fields[name]
		p.present[f.index] = true
		p.value[f.index] = s.Sensors[name]
		p.weight[f.index] = 1
		if f.window > 0 {
			p.weight[f.index] = 1 - exact.Exp(-samplePeriod.Seconds()*1e3/f.window)
		}
	}
	return p
}

// sample takes the next sample; target is what the scenario says at that time. A scenario with one kind of processor
// says how busy the GPU is, one with both how busy others keep it: to what they leave, the share of time that our
// own inferences run on it is added.
func (p *sensors) sample(target *[len(fieldList)]float64, busy float64) {
	at := p.next
	p.next += samplePeriod
	h := &p.history[p.samples%len(p.history)]
	*h = governor.Hardware{}
	for i := range fieldList {
		if !p.present[i] {
			continue
		}
		f := &fieldList[i]
		to := target[i]
		if p.both && i == fields["gpu_load"].index {
			to += float64((1 - to) * busy)
		}
		p.value[i] += float64(p.weight[i] * (to - p.value[i]))
		v := p.value[i]
		if f.noise > 0 {
			v = min(f.most, math.Abs(v+float64(f.noise*p.random.normal())))
		}
		*f.get(h) = governor.Reading{Value: v, At: at, Condition: governor.Valid}
	}
	p.samples++
	before := p.shown
	p.shown = *h
	now := at.Seconds() * 1e3
	for i := range p.scenario.Faults {
		f := &p.scenario.Faults[i]
		if now < f.From || now >= f.To {
			continue
		}
		for k := range fieldList {
			if p.present[k] && (len(f.Fields) == 0 || slices.Contains(f.Fields, fieldList[k].name)) {
				p.spoil(f.Kind, &fieldList[k], &before)
			}
		}
	}
}

func (p *sensors) spoil(kind string, f *field, before *governor.Hardware) {
	r := f.get(&p.shown)
	switch kind {
	case "missing":
		*r = governor.Reading{}
	case "unsupported":
		*r = governor.Reading{Condition: governor.Unsupported}
	case "wrong":
		r.Condition = governor.Wrong
	case "stuck": // the reader is well and the source repeats itself
		if old := f.get(before); old.Condition == governor.Valid {
			r.Value = old.Value
		}
	case "late": // honest about the time of reading
		*r = governor.Reading{}
		if p.samples > lateness {
			*r = *f.get(&p.history[(p.samples-1-lateness)%len(p.history)])
		}
	case "random": // nonsense within the range
		most := f.most
		if most > 16 {
			most = 16
		}
		r.Value = float64(most * p.random.uniform())
	}
}

// Announced is what the state sensors said before an inference, by field.
func (f *Frame) Announced() map[string]float64 {
	m := map[string]float64{}
	for i := range fieldList {
		if v, ok := fieldList[i].get(&f.Hardware).Get(); ok && fieldList[i].window == 0 {
			m[fieldList[i].name] = v
		}
	}
	return m
}
