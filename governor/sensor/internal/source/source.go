// Package source is what all sensors have in common: the rows that they answer, and differences of counters.
package source

import (
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads one source. One goroutine uses it at a time.
type Sensor interface {
	// Read reads the source at the time now and answers its rows, which are valid until the next Read. The number of
	// rows and their names never change.
	Read(now time.Duration) []Row
	// Close gives back what the sensor holds open. Read opens it again.
	Close()
}

// Row is one value: where it comes from, what it is, and why it is missing.
type Row struct {
	Name    string        // what it is, within the sensor
	Field   Field         // what of governor.Hardware it is, if anything
	Unit    string        // empty for shares and counts
	Path    string        // the file, or the call of a library
	Keep    time.Duration // how long a value is valid, if longer than the sensor's others
	Reading governor.Reading
	Err     error // why there is no valid value
}

// Set takes a value, or the reason for its absence.
func (r *Row) Set(now time.Duration, value float64, err error) {
	r.Reading = governor.Reading{At: now, Condition: sysfs.Condition(err)}
	if err == nil {
		r.Reading.Value = value
	}
	r.Err = err
}

// Field is one Reading of governor.Hardware.
type Field uint8

// The fields, in the order of governor.Hardware. None is no field.
const (
	None Field = iota
	Clock
	Cores
	Contention
	Pressure
	Steal
	Throttled
	Temperature
	Cooling
	Power
	Energy
	GPUClock
	GPULoad
	GPUOthers
	GPUPower
	GPUEnergy
	GPUTemp
	GPUMemory
	GPUReasons
	GPUMemClock
	Fields // one more than the last
)

// Of is the field's Reading in hw.
func (f Field) Of(hw *governor.Hardware) *governor.Reading {
	switch f {
	case Clock:
		return &hw.Clock
	case Cores:
		return &hw.Cores
	case Contention:
		return &hw.Contention
	case Pressure:
		return &hw.Pressure
	case Steal:
		return &hw.Steal
	case Throttled:
		return &hw.Throttled
	case Temperature:
		return &hw.Temperature
	case Cooling:
		return &hw.Cooling
	case Power:
		return &hw.Power
	case Energy:
		return &hw.Energy
	case GPUClock:
		return &hw.GPUClock
	case GPULoad:
		return &hw.GPULoad
	case GPUOthers:
		return &hw.GPUOthers
	case GPUPower:
		return &hw.GPUPower
	case GPUEnergy:
		return &hw.GPUEnergy
	case GPUTemp:
		return &hw.GPUTemp
	case GPUMemory:
		return &hw.GPUMemory
	case GPUReasons:
		return &hw.GPUReasons
	case GPUMemClock:
		return &hw.GPUMemClock
	}
	panic("source: no field of governor.Hardware")
}

// String is the field's name in governor.Hardware.
func (f Field) String() string {
	return [Fields]string{
		"", "Clock", "Cores", "Contention", "Pressure", "Steal", "Throttled", "Temperature", "Cooling", "Power", "Energy",
		"GPUClock", "GPULoad", "GPUOthers", "GPUPower", "GPUEnergy", "GPUTemp", "GPUMemory", "GPUReasons", "GPUMemClock",
	}[f]
}

// Counter turns the readings of a counter into differences.
type Counter struct {
	last uint64
	at   time.Duration
	has  bool
}

// Step is what the counter and the clock gained since the last Step. The first Step, and one after the counter or the
// clock went backwards, only sets the beginning of the next difference.
func (c *Counter) Step(value uint64, now time.Duration) (gained uint64, passed time.Duration, err error) {
	had, last, at := c.has, c.last, c.at
	*c = Counter{value, now, true}
	switch {
	case !had:
		return 0, 0, sysfs.ErrFirst
	case value < last || now <= at:
		return 0, 0, sysfs.ErrBackwards
	}
	return value - last, now - at, nil
}

// Forget makes the next Step the first one: the counter was not there meanwhile.
func (c *Counter) Forget() { *c = Counter{} }

// Share is part over whole, at most 1.
func Share(part, whole float64) float64 { return min(part/whole, 1) }
