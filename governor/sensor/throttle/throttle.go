// Package throttle reads how long the hardware of x86 packages slowed itself down because of heat, which no limit of
// cpufreq shows: /sys/devices/system/cpu/cpu*/thermal_throttle/package_throttle_total_time_ms. The share of time counts
// as cooling. package_throttle_count, which older kernels have alone, is only shown.
package throttle

import (
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads one CPU of each package.
type Sensor struct {
	packages *sysfs.Nodes[*pack]
	rows     [2]source.Row
}

type pack struct {
	time, count *sysfs.File
	total       source.Counter
	closed      func()
}

func (p *pack) Close() {
	p.time.Close()
	p.count.Close()
	p.closed()
}

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{}
	at := sysfs.At(root, "sys/devices/system/cpu").Path
	seen := map[uint64]bool{}        // packages that have their CPU
	packageOf := map[string]uint64{} // read once: there may be hundreds of CPUs, and all are looked at every two seconds
	s.packages = sysfs.Follow(at, func(name string) (*pack, bool) {
		if number, ok := strings.CutPrefix(name, "cpu"); !ok || number == "" || number[0] < '0' || number[0] > '9' {
			return nil, false
		}
		number, known := packageOf[name]
		if !known {
			id := sysfs.At(at, name, "topology/physical_package_id")
			defer id.Close()
			var err error
			if number, err = id.Uint(0); err != nil {
				return nil, false
			}
			packageOf[name] = number
		}
		if seen[number] {
			return nil, false
		}
		p := &pack{time: sysfs.At(at, name, "thermal_throttle/package_throttle_total_time_ms"),
			count: sysfs.At(at, name, "thermal_throttle/package_throttle_count")}
		if _, err := p.count.Uint(0); sysfs.Condition(err) == governor.Missing {
			p.count.Close()
			return nil, false
		}
		seen[number] = true
		p.closed = func() { delete(seen, number) }
		return p, true
	})
	path := at + "/cpu*/thermal_throttle/"
	s.rows = [2]source.Row{
		{Name: "share", Field: source.Cooling, Path: path + "package_throttle_total_time_ms"},
		{Name: "events", Path: path + "package_throttle_count"},
	}
	return s
}

// Read takes the package that was slowed down most.
func (s *Sensor) Read(now time.Duration) []source.Row {
	share, events, found, gone := 0.0, uint64(0), false, false
	var failed, uncounted error
	for _, p := range s.packages.List(now) {
		ms, err := p.time.Uint(now)
		if err != nil {
			p.total.Forget()
		} else {
			var gained uint64
			var passed time.Duration
			if gained, passed, err = p.total.Step(ms, now); err == nil {
				found = true
				share = max(share, source.Share(float64(gained)*1e3, float64(passed.Microseconds())))
			}
		}
		if err != nil {
			failed = err
		}
		n, err := p.count.Uint(now)
		if err != nil {
			uncounted = err
			gone = gone || sysfs.Condition(err) == governor.Missing
		}
		events += n
	}
	if gone { // a CPU that is off-line keeps its directory: another of its package takes its place
		s.packages.Close()
	}
	switch {
	case len(s.packages.List(now)) == 0:
		failed, uncounted = sysfs.ErrNoNode, sysfs.ErrNoNode
	case found:
		failed = nil
	}
	s.rows[0].Set(now, share, failed)
	s.rows[1].Set(now, float64(events), uncounted)
	return s.rows[:]
}

// Close closes the files.
func (s *Sensor) Close() { s.packages.Close() }
