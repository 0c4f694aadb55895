// Package nvml reads NVIDIA GPUs through the driver's library, libnvidia-ml.so.1, by way of go-nvml. The sensor knows
// only the narrow Driver and Device, so that a script can stand in for them; the binding is in binding.go, and without
// Linux, cgo and the build tag nvml there is no driver. Every value fails by itself: boards and drivers differ in what they answer.
//
// A call may take long or never end: the sensor wants a goroutine of its own. A driver that is missing or lost is
// tried again, after one second at first, then less and less often up to every half minute.
package nvml

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// What a Driver or a Device answers when it has no value. Other errors are passed on as they are.
var (
	ErrNoDriver    = fmt.Errorf("no NVIDIA driver: %w", sysfs.ErrNoNode)
	ErrNoFunction  = errors.New("the driver has no such function")
	ErrUnsupported = errors.New("not supported by the device")
	ErrLost        = fmt.Errorf("the GPU is lost: %w", sysfs.ErrNoNode)
	ErrIdle        = fmt.Errorf("the GPU is idle, its last limit may hold or not: %w", sysfs.ErrNoNode)
)

// Driver is what the sensor needs of NVML.
type Driver interface {
	Init() error
	// Device is the GPU with an index. The driver is initialised.
	Device(index int) (Device, error)
	// Shutdown ends what a successful Init began.
	Shutdown()
}

// Device is one GPU.
type Device interface {
	Clocks() (current, highest float64, err error) // of the SMs, in MHz
	MemoryClocks() (current, highest float64, err error)
	Reasons() (uint64, error)                 // bits: why the clocks are where they are
	Utilization() (float64, error)            // share of the last 1/6 to 1 s in which a kernel ran
	Memory() (used, total float64, err error) // bytes
	Power() (float64, error)                  // W
	Energy() (float64, error)                 // J since the driver was loaded
	Temperature() (float64, error)            // degrees Celsius
	Processes() ([]int, error)                // process ids of those that compute
}

// idle is the bit of Reasons that says that the clocks are low because there is nothing to do.
const idle = 1

// Sensor reads one GPU.
type Sensor struct {
	driver Driver
	index  int
	pid    int
	device Device
	retry  sysfs.Timer
	wait   time.Duration
	err    error

	limited [current + 1]bool // rows of clocks: whether it was when the GPU last worked
	energy  struct {
		last, sum float64
		has       bool
	}
	rows [10]source.Row
}

// Rows of the sensor.
const (
	clock = iota
	reasons
	load
	memory
	power
	energy
	temperature
	others
	memoryClock
	current
)

// New reads the GPU with an index; pid is the process that is not counted among the others.
func New(driver Driver, index, pid int) *Sensor {
	s := &Sensor{driver: driver, index: index, pid: pid, wait: sysfs.Again}
	s.rows = [10]source.Row{
		clock:       {Name: "permitted", Field: source.GPUClock, Path: "nvmlDeviceGetClockInfo"},
		reasons:     {Name: "reasons", Field: source.GPUReasons, Path: "nvmlDeviceGetCurrentClocksEventReasons"},
		load:        {Name: "load", Field: source.GPULoad, Path: "nvmlDeviceGetUtilizationRates"},
		memory:      {Name: "memory", Field: source.GPUMemory, Path: "nvmlDeviceGetMemoryInfo"},
		power:       {Name: "power", Field: source.GPUPower, Unit: "W", Path: "nvmlDeviceGetPowerUsage"},
		energy:      {Name: "energy", Field: source.GPUEnergy, Unit: "J", Path: "nvmlDeviceGetTotalEnergyConsumption"},
		temperature: {Name: "temperature", Field: source.GPUTemp, Unit: "°C", Path: "nvmlDeviceGetTemperature"},
		others:      {Name: "others", Field: source.GPUOthers, Path: "nvmlDeviceGetComputeRunningProcesses"},
		memoryClock: {Name: "memory clock", Field: source.GPUMemClock, Path: "nvmlDeviceGetClockInfo"},
		current:     {Name: "current", Unit: "MHz", Path: "nvmlDeviceGetClockInfo"},
	}
	return s
}

// Read asks the driver for every value. Where the GPU is lost, the rest is not asked for.
func (s *Sensor) Read(now time.Duration) []source.Row {
	if s.device == nil && !s.open(now) {
		for i := range s.rows {
			s.rows[i].Set(now, 0, s.err)
		}
		return s.rows[:]
	}
	lost := false
	set := func(row int, value float64, err error) {
		lost = lost || errors.Is(err, ErrLost)
		s.rows[row].Set(now, value, err)
	}
	for _, ask := range []func(){
		func() {
			mhz, highest, err := s.device.Clocks()
			err = inRange(mhz, math.Inf(1), positive(highest, err))
			set(current, mhz, err)
			set(clock, source.Share(mhz, highest), err)
		},
		func() {
			mhz, highest, err := s.device.MemoryClocks()
			set(memoryClock, source.Share(mhz, highest), inRange(mhz, math.Inf(1), positive(highest, err)))
		},
		func() {
			bits, err := s.device.Reasons()
			set(reasons, float64(bits), err)
		},
		func() {
			v, err := s.device.Utilization()
			set(load, v, inRange(v, 1, err))
			s.rest(now)
		},
		func() {
			used, total, err := s.device.Memory()
			set(memory, used/total, inRange(used, total, positive(total, err)))
		},
		func() { v, err := s.device.Power(); set(power, v, inRange(v, 1e5, err)) },
		func() { v, err := s.device.Energy(); v, err = s.count(v, err); set(energy, v, err) },
		func() { v, err := s.device.Temperature(); set(temperature, v, inRange(v, 150, err)) },
		func() {
			pids, err := s.device.Processes()
			n := 0
			for _, pid := range pids {
				if pid != s.pid {
					n++
				}
			}
			set(others, float64(n), err)
		},
	} {
		if ask(); lost {
			s.lose(now)
			break
		}
	}
	return s.rows[:]
}

// rest is what clocks say while the GPU does nothing: they are low, but that is no limit. Whether a limit that was
// there has gone meanwhile, nobody knows before it works again. Where the driver has no reasons, no load has to do.
func (s *Sensor) rest(now time.Duration) {
	bits, err := s.rows[reasons].Reading.Value, s.rows[reasons].Err
	idle := uint64(bits)&idle != 0
	if err != nil {
		idle = s.rows[load].Err == nil && s.rows[load].Reading.Value == 0
	}
	for _, row := range []int{clock, memoryClock} {
		r := &s.rows[row]
		switch {
		case r.Err != nil:
		case !idle:
			s.limited[row] = r.Reading.Value < 1
		case s.limited[row]:
			r.Set(now, 0, ErrIdle)
		default:
			r.Reading.Value = 1
		}
	}
}

func positive(v float64, err error) error {
	if err == nil && !(v > 0) {
		return sysfs.ErrNumber
	}
	return err
}

func inRange(v, most float64, err error) error {
	if err == nil && !(v >= 0 && v <= most) {
		return sysfs.ErrNumber
	}
	return err
}

// count makes a counter that begins at zero and survives a driver that was loaded again.
func (s *Sensor) count(joules float64, err error) (float64, error) {
	if err != nil {
		return 0, err
	}
	e := &s.energy
	had, last := e.has, e.last
	e.last, e.has = joules, true
	switch {
	case had && joules < last:
		return 0, sysfs.ErrBackwards
	case had:
		e.sum += joules - last
	}
	return e.sum, nil
}

// open initialises the driver and takes the device, if it is time to try.
func (s *Sensor) open(now time.Duration) bool {
	if !s.retry.Due(now, s.wait) {
		return false
	}
	if s.err != nil {
		s.wait = min(2*s.wait, 32*sysfs.Again)
	}
	if s.err = s.driver.Init(); s.err != nil {
		return false
	}
	if s.device, s.err = s.driver.Device(s.index); s.err != nil {
		s.device = nil
		s.driver.Shutdown()
		return false
	}
	s.wait = sysfs.Again
	return true
}

// lose gives up a lost device: the driver has to be initialised again before it can come back.
func (s *Sensor) lose(now time.Duration) {
	s.Close()
	s.err = ErrLost
	s.retry.Due(now, 0)
	for i := range s.rows {
		s.rows[i].Set(now, 0, s.err)
	}
}

// Close gives the driver back.
func (s *Sensor) Close() {
	if s.device != nil {
		s.device = nil
		s.driver.Shutdown()
	}
}

// None is the driver of a system without one.
type None struct{}

// Init says that there is no driver.
func (None) Init() error { return ErrNoDriver }

// Device says that there is no driver.
func (None) Device(int) (Device, error) { return nil, ErrNoDriver }

// Shutdown does nothing.
func (None) Shutdown() {}
