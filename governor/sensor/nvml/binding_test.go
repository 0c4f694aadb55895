//go:build linux && cgo && nvml

package nvml

import (
	"errors"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// dgx is go-nvml's model of a machine with eight A100, with answers to the calls that the model has none for.
func dgx(missing map[string]bool) (binding, *mock.Device) {
	model := dgxa100.New()
	model.LookupSymbolFunc = func(symbol string) error {
		if missing[symbol] {
			return errors.New("undefined symbol")
		}
		return nil
	}
	d := &model.Devices[3].(*server.Device).Device
	d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 705, nvml.SUCCESS }
	d.GetMaxClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 1410, nvml.SUCCESS }
	d.GetCurrentClocksEventReasonsFunc = func() (uint64, nvml.Return) { return nvml.ClocksEventReasonSwPowerCap, nvml.SUCCESS }
	d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{Gpu: 80, Memory: 20}, nvml.SUCCESS }
	d.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) {
		return nvml.Memory{Total: 40e9, Free: 30e9, Used: 10e9}, nvml.SUCCESS
	}
	d.GetPowerUsageFunc = func() (uint32, nvml.Return) { return 250_500, nvml.SUCCESS }
	d.GetTotalEnergyConsumptionFunc = func() (uint64, nvml.Return) { return 7_000, nvml.SUCCESS }
	d.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) { return 64, nvml.SUCCESS }
	d.GetComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 10}, {Pid: 11}}, nvml.SUCCESS
	}
	d.GetMPSComputeRunningProcessesFunc = func() ([]nvml.ProcessInfo, nvml.Return) {
		return []nvml.ProcessInfo{{Pid: 11}, {Pid: 12}}, nvml.SUCCESS
	}
	return binding{model, func() error { return nil }}, d
}

func TestMock(t *testing.T) {
	b, _ := dgx(nil)
	s := New(b, 3, 10)
	valid := func(v float64) governor.Reading { return governor.Reading{Value: v, Condition: governor.Valid} }
	require.Equal(t, governor.Hardware{
		GPUClock: valid(0.5), GPUReasons: valid(4), GPULoad: valid(0.8), GPUMemory: valid(0.25), GPUPower: valid(250.5), GPUEnergy: valid(0),
		GPUTemp: valid(64), GPUOthers: valid(2), GPUMemClock: valid(0.5),
	}, hardware(s.Read(0)))
	s = New(b, 8, 10)
	require.ErrorContains(t, s.Read(0)[load].Err, "NVML answers error 2", "there is no ninth GPU")
}

// A symbol that is missing is not called: the mocks would panic, the library would end the process.
func TestMockMissingSymbols(t *testing.T) {
	clocks := []source.Field{source.GPUClock, source.GPUMemClock}
	for symbol, field := range map[string]source.Field{
		"nvmlDeviceGetClockInfo": source.GPUClock, "nvmlDeviceGetMaxClockInfo": source.GPUClock, "nvmlDeviceGetUtilizationRates": source.GPULoad,
		"nvmlDeviceGetMemoryInfo": source.GPUMemory, "nvmlDeviceGetPowerUsage": source.GPUPower, "nvmlDeviceGetTotalEnergyConsumption": source.GPUEnergy,
	} {
		b, d := dgx(map[string]bool{symbol: true})
		d.GetClockInfoFunc = nil
		if field != source.GPUClock {
			d.GetClockInfoFunc = func(nvml.ClockType) (uint32, nvml.Return) { return 705, nvml.SUCCESS }
		}
		hw := hardware(New(b, 3, 10).Read(0))
		for f := source.GPUClock; f < source.Fields; f++ {
			want := governor.Valid
			if f == field || slices.Contains(clocks, field) && slices.Contains(clocks, f) {
				want = governor.Unsupported
			}
			require.Equal(t, want, f.Of(&hw).Condition, "%s without %s", f, symbol)
		}
	}

	b, d := dgx(map[string]bool{"nvmlDeviceGetCurrentClocksEventReasons": true, "nvmlDeviceGetTemperature": true, "nvmlDeviceGetTemperatureV": true,
		"nvmlDeviceGetMPSComputeRunningProcesses_v2": true, "nvmlDeviceGetMPSComputeRunningProcesses_v3": true})
	d.GetCurrentClocksThrottleReasonsFunc = func() (uint64, nvml.Return) { return 8, nvml.SUCCESS }
	hw := hardware(New(b, 3, 10).Read(0))
	require.Equal(t, 8., hw.GPUReasons.Value, "the old name")
	require.Equal(t, governor.Unsupported, hw.GPUTemp.Condition)
	require.Equal(t, 1., hw.GPUOthers.Value, "without MPS")

	b, _ = dgx(map[string]bool{"nvmlDeviceGetHandleByIndex_v2": true})
	require.ErrorIs(t, New(b, 3, 10).Read(0)[load].Err, ErrNoFunction)
}

func TestMockErrors(t *testing.T) {
	for ret, want := range map[nvml.Return]error{
		nvml.ERROR_NOT_SUPPORTED: ErrUnsupported, nvml.ERROR_FUNCTION_NOT_FOUND: ErrNoFunction, nvml.ERROR_GPU_IS_LOST: ErrLost,
		nvml.ERROR_UNINITIALIZED: ErrLost, nvml.ERROR_LIBRARY_NOT_FOUND: ErrNoDriver,
	} {
		b, d := dgx(nil)
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) { return nvml.Utilization{}, ret }
		require.ErrorIs(t, New(b, 3, 10).Read(0)[load].Err, want)
	}
	b, _ := dgx(nil)
	init := nvml.ERROR_LIBRARY_NOT_FOUND
	b.lib.(*server.Server).InitFunc = func() nvml.Return { return init }
	s := New(b, 3, 10)
	require.ErrorIs(t, s.Read(0)[load].Err, ErrNoDriver)
	init = nvml.ERROR_DRIVER_NOT_LOADED
	require.ErrorContains(t, s.Read(2 * sysfs.Again)[load].Err, "nvmlInit answers error 9")
	init = nvml.SUCCESS
	require.NoError(t, s.Read(6 * sysfs.Again)[load].Err)
}

// The real binding on a library that has a few functions only, whose Init fails twice and which loses its GPU
// for a while. Whatever was called unguarded would end this process.
func TestFakeLibrary(t *testing.T) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("SKIPPED: no C compiler to build a library that stands in for the driver")
	}
	so := filepath.Join(t.TempDir(), "libnvidia-ml.so.1")
	out, err := exec.Command(cc, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o", so, filepath.Join("testdata", "driver.c")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	s := New(library(so), 0, 1)
	again := sysfs.Again
	require.ErrorContains(t, s.Read(0)[load].Err, "nvmlInit answers error 9")
	require.ErrorContains(t, s.Read(2 * again)[load].Err, "nvmlInit answers error 9")

	rows := s.Read(6 * again)
	hw := hardware(rows)
	require.Equal(t, governor.Reading{Value: 0.5, At: 6 * again, Condition: governor.Valid}, hw.GPULoad)
	require.Equal(t, governor.Reading{Value: 47, At: 6 * again, Condition: governor.Valid}, hw.GPUTemp, "by its newer name")
	require.ErrorIs(t, rows[memory].Err, ErrUnsupported)
	for _, row := range []int{clock, memoryClock, reasons, power, energy, others} {
		require.ErrorIs(t, rows[row].Err, ErrNoFunction, rows[row].Name)
	}

	require.ErrorIs(t, s.Read(7 * again)[load].Err, ErrLost)
	require.NoError(t, s.Read(8 * again)[load].Err, "initialised again")
	s.Close()

	require.ErrorIs(t, New(library(filepath.Join(t.TempDir(), "none.so")), 0, 1).Read(0)[load].Err, ErrNoDriver)
	out, err = exec.Command(cc, "-shared", "-fPIC", "-DNO_INIT", "-o", so+".2", filepath.Join("testdata", "driver.c")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.ErrorIs(t, New(library(so+".2"), 0, 1).Read(0)[load].Err, ErrNoFunction)
}
