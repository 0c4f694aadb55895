// Package topology reads which CPUs we may use: those in /sys/devices/system/cpu/online (a list as "0-3,6") that
// are in our affinity. It also knows their weights, from /sys/devices/system/cpu/cpu*/cpu_capacity (1024 is the
// biggest core of the machine), which only systems with cores of different size have to have.
package topology

import (
	"strconv"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/affinity"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads CPU sets. Other sensors of the same goroutine may ask it after its Read.
type Sensor struct {
	root   string
	online *sysfs.File
	mask   *affinity.Mask

	set, allowed, usable sysfs.CPUs
	count                int
	weights              map[int]float64
	retry                sysfs.Timer
	rows                 [4]source.Row
}

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{root: root, online: sysfs.At(root, "sys/devices/system/cpu/online"), mask: affinity.New(root)}
	s.rows = [4]source.Row{
		{Name: "usable", Field: source.Cores, Path: s.online.Path + ", " + s.mask.Path},
		{Name: "online", Path: s.online.Path},
		{Name: "affinity", Path: s.mask.Path},
		{Name: "capacity", Keep: time.Minute, Path: sysfs.At(root, "sys/devices/system/cpu/cpu*/cpu_capacity").Path},
	}
	return s
}

// Read counts the CPUs. One of online and affinity is enough.
func (s *Sensor) Read(now time.Duration) []source.Row {
	text, onlineErr := s.online.Read(now)
	online := 0
	if onlineErr == nil {
		online, onlineErr = sysfs.ParseCPUs(text, &s.set)
	}
	s.rows[1].Set(now, float64(online), onlineErr)
	allowed, err := s.mask.Read(now, &s.allowed)
	s.rows[2].Set(now, float64(allowed), err)

	var usable sysfs.CPUs
	switch {
	case onlineErr != nil && err != nil:
		s.usable, s.count = usable, 0
		s.rows[0].Set(now, 0, onlineErr)
		s.rows[3].Set(now, 0, onlineErr)
		return s.rows[:]
	case onlineErr != nil:
		usable = s.allowed
	case err != nil:
		usable = s.set
	default:
		for i := range usable {
			usable[i] = s.set[i] & s.allowed[i]
		}
	}
	if usable != s.usable {
		s.usable, s.count, s.retry = usable, usable.Count(), sysfs.Timer{}
	}
	if s.retry.Due(now, 5*sysfs.Again) {
		s.weigh(now)
	}
	if s.count == 0 {
		s.rows[0].Set(now, 0, sysfs.ErrFormat)
	} else {
		s.rows[0].Set(now, float64(s.count), nil)
	}
	return s.rows[:]
}

// weigh reads the capacities: after every change of the set, and now and then because they may come later.
func (s *Sensor) weigh(now time.Duration) {
	s.weights = map[int]float64{}
	sum := 0.0
	err := sysfs.ErrNoNode
	for cpu := range sysfs.MaxCPUs {
		if !s.usable.Has(cpu) {
			continue
		}
		f := sysfs.At(s.root, "sys/devices/system/cpu/cpu"+strconv.Itoa(cpu), "cpu_capacity")
		var capacity uint64
		capacity, err = f.Uint(now)
		f.Close()
		if err == nil && (capacity == 0 || capacity > 1<<20) {
			err = sysfs.ErrNumber
		}
		if err != nil { // half of the weights are worse than none
			s.weights = nil
			break
		}
		s.weights[cpu] = float64(capacity)
		sum += float64(capacity)
	}
	s.rows[3].Set(now, sum, err)
}

// Weight is what a CPU counts among those we may use: nothing where we may not use it, its capacity where all are known,
// 1 otherwise.
func (s *Sensor) Weight(cpu int) float64 {
	switch {
	case !s.usable.Has(cpu):
		return 0
	case s.weights == nil:
		return 1
	default:
		return s.weights[cpu]
	}
}

// Close closes the files.
func (s *Sensor) Close() {
	s.online.Close()
	s.mask.Close()
}
