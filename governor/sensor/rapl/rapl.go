// Package rapl reads the energy meters of x86 packages: /sys/class/powercap/intel-rapl:N/energy_uj, in microjoules,
// where name begins with "package" (AMD's are there under the same name). The counter wraps at max_energy_range_uj.
// Most distributions let only root read it.
package rapl

import (
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// most is the power of a package in W that is still believed: what looks like more is a counter that was reset.
const most = 5000

// Sensor sums the packages.
type Sensor struct {
	zones  *sysfs.Nodes[*zone]
	joules float64
	rows   [2]source.Row
}

type zone struct {
	energy *sysfs.File
	span   uint64
	last   uint64
	at     time.Duration
	has    bool
}

func (z *zone) Close() { z.energy.Close() }

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{}
	at := sysfs.At(root, "sys/class/powercap").Path
	s.zones = sysfs.Follow(at, func(name string) (*zone, bool) {
		number, ok := strings.CutPrefix(name, "intel-rapl:")
		if !ok || strings.Contains(number, ":") { // sub-zones are part of their package
			return nil, false
		}
		kind, span := sysfs.At(at, name, "name"), sysfs.At(at, name, "max_energy_range_uj")
		defer kind.Close()
		defer span.Close()
		text, err := kind.Read(0)
		if err != nil || !strings.HasPrefix(string(text), "package") {
			return nil, false
		}
		z := &zone{energy: sysfs.At(at, name, "energy_uj")}
		z.span, _ = span.Uint(0)
		return z, true
	})
	path := at + "/intel-rapl:*/energy_uj"
	s.rows = [2]source.Row{
		{Name: "power", Field: source.Power, Unit: "W", Path: path},
		{Name: "energy", Field: source.Energy, Unit: "J", Path: path},
	}
	return s
}

// Read sums what the packages used since the last Read.
func (s *Sensor) Read(now time.Duration) []source.Row {
	zones := s.zones.List(now)
	var watts float64
	var failed, unread error
	if len(zones) == 0 {
		failed, unread = sysfs.ErrNoNode, sysfs.ErrNoNode
	}
	for _, z := range zones {
		uj, err := z.energy.Uint(now)
		if err != nil {
			z.has = false
			failed, unread = err, err
			if sysfs.Condition(err) == governor.Missing {
				s.zones.Rescan()
			}
			continue
		}
		joules, seconds, err := z.step(uj, now)
		if err != nil {
			failed = err
			if sysfs.Condition(err) != sysfs.Condition(sysfs.ErrFirst) {
				unread = err
			}
			continue
		}
		s.joules += joules
		watts += joules / seconds
	}
	s.rows[0].Set(now, watts, failed)
	s.rows[1].Set(now, s.joules, unread)
	return s.rows[:]
}

// step is the energy since the last call, with at most one wrap in between.
func (z *zone) step(uj uint64, now time.Duration) (joules, seconds float64, err error) {
	had, last, at := z.has, z.last, z.at
	z.last, z.at, z.has = uj, now, true
	if !had {
		return 0, 0, sysfs.ErrFirst
	}
	gained := uj - last
	if uj < last {
		if last > z.span {
			return 0, 0, sysfs.ErrBackwards
		}
		gained = z.span - last + uj
	}
	joules, seconds = float64(gained)/1e6, (now - at).Seconds()
	if seconds <= 0 || joules > most*seconds {
		return 0, 0, sysfs.ErrBackwards
	}
	return joules, seconds, nil
}

// Close closes the files.
func (s *Sensor) Close() { s.zones.Close() }
