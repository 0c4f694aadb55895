// Package cpufreq reads how fast the CPUs that we may use are permitted to run, from
// /sys/devices/system/cpu/cpufreq/policy*, in kHz:
//
//   - scaling_max_freq, the software limit of the moment: cooling, power modes and users lower it. Over
//     cpuinfo_max_freq, the highest of the hardware, it is the permitted clock.
//   - scaling_cur_freq and stats/time_in_state (in units of 10 ms), once a second and only to be shown: the clock of
//     an idle CPU says nothing about what it could do.
package cpufreq

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
	"github.com/dynofa/dynofa/governor/sensor/topology"
)

const dir = "sys/devices/system/cpu/cpufreq"

// Sensor reads every policy that has a CPU we may use.
type Sensor struct {
	cpus     *topology.Sensor
	policies *sysfs.Nodes[*policy]
	shown    sysfs.Timer
	rows     [3]source.Row
}

// policy is a group of CPUs with one clock.
type policy struct {
	cpus            []int
	highest         float64
	limit, cur      *sysfs.File
	states          *sysfs.File
	time, frequency source.Counter // of time_in_state: sums of ticks, and of ticks times kHz
}

// New reads below root; cpus says which CPUs count and how much.
func New(root string, cpus *topology.Sensor) *Sensor {
	s := &Sensor{cpus: cpus}
	at := sysfs.At(root, dir).Path
	s.policies = sysfs.Follow(at, func(name string) (*policy, bool) {
		if !strings.HasPrefix(name, "policy") {
			return nil, false
		}
		return open(at, name)
	})
	all := sysfs.At(at, "policy*").Path
	s.rows = [3]source.Row{
		{Name: "permitted", Field: source.Clock, Path: all + "/scaling_max_freq"},
		{Name: "current", Unit: "MHz", Keep: 5 * time.Second, Path: all + "/scaling_cur_freq"},
		{Name: "mean", Unit: "MHz", Keep: 5 * time.Second, Path: all + "/stats/time_in_state"},
	}
	return s
}

// open takes a policy that says what it is the limit of.
func open(at, name string) (*policy, bool) {
	top, related := sysfs.At(at, name, "cpuinfo_max_freq"), sysfs.At(at, name, "related_cpus")
	defer top.Close()
	defer related.Close()
	highest, err := top.Uint(0)
	if err != nil || highest == 0 {
		return nil, false
	}
	text, err := related.Read(0)
	if err != nil {
		return nil, false
	}
	p := &policy{highest: float64(highest), limit: sysfs.At(at, name, "scaling_max_freq"),
		cur: sysfs.At(at, name, "scaling_cur_freq"), states: sysfs.At(at, name, "stats/time_in_state")}
	for {
		word, rest := sysfs.Word(text)
		if len(word) == 0 {
			break
		}
		cpu, err := sysfs.ParseUint(word)
		if err != nil || cpu >= sysfs.MaxCPUs {
			return nil, false
		}
		p.cpus, text = append(p.cpus, int(cpu)), rest
	}
	return p, true
}

func (p *policy) Close() {
	p.limit.Close()
	p.cur.Close()
	p.states.Close()
}

// Read reads the limits, and once a second what is only shown.
func (s *Sensor) Read(now time.Duration) []source.Row {
	show := s.shown.Due(now, time.Second)
	var limit, current, mean average
	for _, p := range s.policies.List(now) {
		weight := 0.0
		for _, cpu := range p.cpus {
			weight += s.cpus.Weight(cpu)
		}
		if weight == 0 {
			continue
		}
		khz, err := p.limit.Uint(now)
		if err == nil && khz == 0 {
			err = sysfs.ErrNumber
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.policies.Rescan()
		}
		limit.add(weight, source.Share(float64(khz), p.highest), err)
		if show {
			khz, err = p.cur.Uint(now)
			current.add(weight, float64(khz)/1e3, err)
			khz, err = p.mean(now)
			mean.add(weight, float64(khz)/1e3, err)
		}
	}
	limit.row(&s.rows[0], now)
	if show {
		current.row(&s.rows[1], now)
		mean.row(&s.rows[2], now)
	}
	return s.rows[:]
}

// mean is the average clock since the last call, in kHz.
func (p *policy) mean(now time.Duration) (uint64, error) {
	text, err := p.states.Read(now)
	if err != nil {
		return 0, err
	}
	ticks, product, err := parseTimeInState(text)
	if err != nil {
		return 0, err
	}
	gained, _, err := p.time.Step(ticks, now)
	sum, _, err2 := p.frequency.Step(product, now)
	if err = errors.Join(err, err2); err != nil {
		return 0, err
	}
	if gained == 0 {
		return 0, sysfs.ErrFirst
	}
	return sum / gained, nil
}

// parseTimeInState sums the lines "kHz ticks": the ticks, and the ticks times the kHz. The second sum may wrap; its
// differences do not.
func parseTimeInState(text []byte) (ticks, product uint64, err error) {
	for len(text) > 0 {
		var line []byte
		line, text = sysfs.Line(text)
		word, rest := sysfs.Word(line)
		khz, err := sysfs.ParseUint(word)
		if err != nil {
			return 0, 0, err
		}
		n, err := sysfs.ParseUint(rest)
		if err != nil {
			return 0, 0, err
		}
		ticks += n
		product += khz * n
	}
	return ticks, product, nil
}

// average is a weighted mean of what has a value, or else the first error.
type average struct {
	sum, weight float64
	err         error
}

func (a *average) add(weight, value float64, err error) {
	if err != nil {
		if a.err == nil {
			a.err = err
		}
		return
	}
	a.sum += weight * value
	a.weight += weight
}

func (a *average) row(r *source.Row, now time.Duration) {
	switch {
	case a.weight > 0:
		r.Set(now, a.sum/a.weight, nil)
	case a.err != nil:
		r.Set(now, 0, a.err)
	default:
		r.Set(now, 0, sysfs.ErrNoNode)
	}
}

// Close closes the files.
func (s *Sensor) Close() { s.policies.Close() }
