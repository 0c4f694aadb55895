//go:build linux && cgo && nvml

package nvml

import (
	"fmt"
	"slices"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

// System is the driver of this system.
func System() Driver { return library("libnvidia-ml.so.1") }

func library(name string) Driver {
	loaded := false
	return binding{nvml.New(nvml.WithLibraryPath(name)), func() error {
		if loaded {
			return nil
		}
		l := dl.New(name, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
		if l.Open() != nil {
			return ErrNoDriver
		}
		for _, symbol := range []string{"nvmlInit_v2", "nvmlShutdown"} {
			if l.Lookup(symbol) != nil {
				_ = l.Close()
				return ErrNoFunction
			}
		}
		loaded = true // and never closed: see binding
		return nil
	}}
}

// binding guards go-nvml: calling a function that the installed driver lacks, or any function after a failed Init,
// does not answer an error there but ends the process, because the dynamic linker finds no symbol. So the library is
// asked for every symbol: for those of Init by load, for the others once a device. What the linker has found it never
// looks for again, so the library has to stay where it is: load keeps it open, whatever go-nvml closes.
type binding struct {
	lib  nvml.Interface
	load func() error
}

func (b binding) Init() error {
	if err := b.load(); err != nil {
		return err
	}
	ret := b.lib.Init()
	if ret == nvml.SUCCESS {
		return nil
	}
	if ret == nvml.ERROR_LIBRARY_NOT_FOUND {
		return ErrNoDriver
	}
	// The text of other errors would come from the library, which may be closed by now.
	return fmt.Errorf("nvmlInit answers error %d", int32(ret))
}

func (b binding) Shutdown() { _ = b.lib.Shutdown() }

func (b binding) Device(index int) (Device, error) {
	if !b.has("nvmlDeviceGetHandleByIndex_v2") {
		return nil, ErrNoFunction
	}
	d, ret := b.lib.DeviceGetHandleByIndex(index)
	if err := failure(ret); err != nil {
		return nil, err
	}
	return &device{
		d:            d,
		clocks:       b.has("nvmlDeviceGetClockInfo") && b.has("nvmlDeviceGetMaxClockInfo"),
		eventReasons: b.has("nvmlDeviceGetCurrentClocksEventReasons"),
		oldReasons:   b.has("nvmlDeviceGetCurrentClocksThrottleReasons"),
		utilization:  b.has("nvmlDeviceGetUtilizationRates"),
		memory:       b.has("nvmlDeviceGetMemoryInfo"),
		power:        b.has("nvmlDeviceGetPowerUsage"),
		energy:       b.has("nvmlDeviceGetTotalEnergyConsumption"),
		temperature:  b.has("nvmlDeviceGetTemperature"),
		temperatureV: b.has("nvmlDeviceGetTemperatureV"),
		processes:    b.has("nvmlDeviceGetComputeRunningProcesses_v3") || b.has("nvmlDeviceGetComputeRunningProcesses_v2"),
		mps:          b.has("nvmlDeviceGetMPSComputeRunningProcesses_v3") || b.has("nvmlDeviceGetMPSComputeRunningProcesses_v2"),
	}, nil
}

func (b binding) has(symbol string) bool { return b.lib.Extensions().LookupSymbol(symbol) == nil }

// device calls what the library has.
type device struct {
	d nvml.Device

	clocks, eventReasons, oldReasons, utilization, memory, power, energy, temperature, temperatureV, processes, mps bool
}

// failure turns NVML's codes into this package's errors.
func failure(ret nvml.Return) error {
	switch ret {
	case nvml.SUCCESS:
		return nil
	case nvml.ERROR_NOT_SUPPORTED:
		return ErrUnsupported
	case nvml.ERROR_FUNCTION_NOT_FOUND:
		return ErrNoFunction
	case nvml.ERROR_GPU_IS_LOST, nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED:
		return ErrLost
	case nvml.ERROR_LIBRARY_NOT_FOUND:
		return ErrNoDriver
	default:
		return fmt.Errorf("NVML answers error %d", int32(ret))
	}
}

func (d *device) Clocks() (current, highest float64, err error) { return d.clock(nvml.CLOCK_SM) }

func (d *device) MemoryClocks() (current, highest float64, err error) { return d.clock(nvml.CLOCK_MEM) }

func (d *device) clock(which nvml.ClockType) (current, highest float64, err error) {
	if !d.clocks {
		return 0, 0, ErrNoFunction
	}
	mhz, ret := d.d.GetClockInfo(which)
	if err := failure(ret); err != nil {
		return 0, 0, err
	}
	most, ret := d.d.GetMaxClockInfo(which)
	return float64(mhz), float64(most), failure(ret)
}

// Reasons prefers the call that drivers have since 535 over its deprecated name.
func (d *device) Reasons() (uint64, error) {
	switch {
	case d.eventReasons:
		bits, ret := d.d.GetCurrentClocksEventReasons()
		return bits, failure(ret)
	case d.oldReasons:
		bits, ret := d.d.GetCurrentClocksThrottleReasons() //nolint:staticcheck // for old drivers
		return bits, failure(ret)
	}
	return 0, ErrNoFunction
}

func (d *device) Utilization() (float64, error) {
	if !d.utilization {
		return 0, ErrNoFunction
	}
	u, ret := d.d.GetUtilizationRates()
	return float64(u.Gpu) / 100, failure(ret)
}

func (d *device) Memory() (used, total float64, err error) {
	if !d.memory {
		return 0, 0, ErrNoFunction
	}
	m, ret := d.d.GetMemoryInfo()
	return float64(m.Used), float64(m.Total), failure(ret)
}

func (d *device) Power() (float64, error) {
	if !d.power {
		return 0, ErrNoFunction
	}
	mw, ret := d.d.GetPowerUsage()
	return float64(mw) / 1e3, failure(ret)
}

func (d *device) Energy() (float64, error) {
	if !d.energy {
		return 0, ErrNoFunction
	}
	mj, ret := d.d.GetTotalEnergyConsumption()
	return float64(mj) / 1e3, failure(ret)
}

// Temperature falls back on the newer call where the older one, which is deprecated, has no answer.
func (d *device) Temperature() (float64, error) {
	err := ErrNoFunction
	if d.temperature {
		celsius, ret := d.d.GetTemperature(nvml.TEMPERATURE_GPU) //nolint:staticcheck // the newer call is in drivers since 560 only
		if err = failure(ret); err == nil {
			return float64(celsius), nil
		}
	}
	if d.temperatureV && (err == ErrNoFunction || err == ErrUnsupported) { //nolint:errorlint // sentinels of our own
		t, ret := d.d.GetTemperatureV().V1()
		return float64(t.Temperature), failure(ret)
	}
	return 0, err
}

// Processes joins those that compute directly and those behind MPS.
func (d *device) Processes() ([]int, error) {
	if !d.processes {
		return nil, ErrNoFunction
	}
	list, ret := d.d.GetComputeRunningProcesses()
	if err := failure(ret); err != nil {
		return nil, err
	}
	if d.mps {
		if more, ret := d.d.GetMPSComputeRunningProcesses(); ret == nvml.SUCCESS {
			list = append(list, more...)
		}
	}
	var pids []int
	for _, p := range list {
		if pid := int(p.Pid); !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
