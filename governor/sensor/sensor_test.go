package sensor

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

// step is the time between two samples of a rig: every sensor is due at each.
const step = 250 * time.Millisecond

// rig is a sampler on the tree of a board whose counters count.
type rig struct {
	t        *testing.T
	root     fakeroot.Root
	now      time.Duration
	ticks    int64
	counters map[string]func(n int64) string // by file, of the number of steps
	sampler  *Sampler
}

// memory is a temporary directory, in memory where that is possible: file systems on disks write a file out when it
// replaces another one.
func memory(t *testing.T) string {
	dir, err := os.MkdirTemp("/dev/shm", "dynofa")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func newRig(t *testing.T, board string, driver nvml.Driver) *rig {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: file names of sysfs are not possible here")
	}
	root, err := fakeroot.Unpack(board, memory(t))
	require.NoError(t, err)
	r := &rig{t: t, root: root}
	r.sampler = New(Config{Root: string(root), Clock: func() time.Duration { return r.now }, Driver: driver})
	t.Cleanup(func() { require.NoError(t, r.sampler.Close()) })
	r.counters = map[string]func(int64) string{
		// In 250 ms: some task waited 25 ms, the first thread ran 150 ms and waited 50 ms, the hypervisor took 5 % of
		// the CPUs, the quota stopped us 50 ms, a package used 10 J and throttled 25 ms.
		"proc/pressure/cpu": func(n int64) string {
			return fmt.Sprintf("some avg10=0.00 avg60=0.00 avg300=0.00 total=%d\n", n*25_000)
		},
		"proc/self/task/1001/schedstat":             func(n int64) string { return fmt.Sprintf("%d %d 9\n", 1+n*150e6, n*50e6) },
		"proc/self/task/4001/schedstat":             func(n int64) string { return fmt.Sprintf("%d %d 9\n", 1+n*150e6, n*50e6) },
		"proc/stat":                                 func(n int64) string { return fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 %d 0 0\n", n*50, n*45, n*5) },
		"sys/fs/cgroup/cpu.stat":                    func(n int64) string { return fmt.Sprintf("nr_periods 9\nthrottled_usec %d\n", n*50_000) },
		"sys/class/powercap/intel-rapl:1/energy_uj": func(n int64) string { return fmt.Sprintf("%d\n", n*10_000_000) },
		"sys/class/powercap/intel-rapl:0/energy_uj": func(n int64) string { // wraps between the first and the second
			return fmt.Sprintf("%d\n", (262_143_328_850-15_000_000+n*10_000_000)%262_143_328_850)
		},
		"sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms": func(n int64) string { return fmt.Sprintf("%d\n", n*25) },
		"sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state":                  func(n int64) string { return fmt.Sprintf("600000 %d\n1500000 %d\n", n*10, n*15) },
	}
	maps.DeleteFunc(r.counters, func(file string, _ func(int64) string) bool {
		_, err := os.Stat(root.Path(file))
		return err != nil
	})
	return r
}

// step lets the time pass and samples.
func (r *rig) step() governor.Hardware {
	r.now += step
	return r.sample()
}

func (r *rig) sample() governor.Hardware {
	r.ticks++
	for file, content := range r.counters {
		require.NoError(r.t, r.root.Write(file, content(r.ticks)))
	}
	r.sampler.Sample()
	return r.sampler.Hardware()
}

// row is a value as List shows it.
func (r *rig) row(sensor, name string) Row {
	list := r.sampler.List()
	i := slices.IndexFunc(list, func(row Row) bool { return row.Sensor == sensor && row.Name == name })
	require.GreaterOrEqual(r.t, i, 0, "%s has no %s", sensor, name)
	return list[i]
}

func TestFieldsAreThoseOfHardware(t *testing.T) {
	kind := reflect.TypeFor[governor.Hardware]()
	require.Equal(t, int(source.Fields)-1, kind.NumField())
	var hw governor.Hardware
	for f := source.None + 1; f < source.Fields; f++ {
		f.Of(&hw).Value = float64(f)
		require.Equal(t, f.String(), kind.Field(int(f)-1).Name)
		require.Equal(t, float64(f), reflect.ValueOf(hw).Field(int(f)-1).Field(0).Float())
	}
}

// What each board knows after its counters ran; what is not named is Missing.
func TestBoards(t *testing.T) {
	always := map[string]float64{"Contention": 0.25, "Pressure": 0.1, "Steal": 0.05}
	boards := map[string]map[string]float64{
		"nothing": {},
		"vm":      {"Cores": 2},
		"x86-server": {"Cores": 8, "Clock": 1, "Throttled": 0, "Temperature": 55, "Cooling": 0.1, "Power": 80,
			"Energy": 60}, // 3 differences of 20 J
		"raspberry-pi": {"Cores": 4, "Clock": 1, "Temperature": 58.426, "Cooling": 0},
		"nano-jetpack-4": {"Cores": 4, "Clock": 1, "Temperature": 45, "Power": 2.84, "Energy": 2.84 * 0.75, "GPUPower": 0.32,
			"GPUEnergy": 0.32 * 0.75, "GPUClock": 1, "GPULoad": 0, "GPUTemp": 36.5},
		"xavier-nx": {"Cores": 6, "Clock": 1420800. / 1907200, "Temperature": 43.5, "Cooling": 3. / 14, "Power": 5.08 * 1.24,
			"Energy": 5.08 * 1.24 * 0.75, "GPUClock": 1, "GPULoad": 0.187, "GPUTemp": 42},
		"orin-nx": {"Cores": 8, "Clock": 1, "Temperature": 47.343, "Cooling": 2. / 26, "Power": 5.016 * 1.184, "Energy": 5.016 * 1.184 * 0.75,
			"GPUClock": 612. / 918, "GPULoad": 0.421}, // its GPU's zone is off
		"thor": {"Cores": 14, "Clock": 1, "Temperature": 46.812, "Power": 12*0.41 + 12*0.73 + 5.016*0.912,
			"Energy": (12*0.41 + 12*0.73 + 5.016*0.912) * 0.75, "GPUPower": 12 * 0.41, "GPUEnergy": 12 * 0.41 * 0.75, "GPUClock": 1},
		"container": {"Cores": 1.5, "Clock": 1, "Throttled": 0.2},
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(boards)), fakeroot.Boards())
	for board, want := range boards {
		t.Run(board, func(t *testing.T) {
			r := newRig(t, board, nil)
			if _, has := r.counters["proc/self/task/4001/schedstat"]; has {
				require.NoError(t, r.root.Remove("proc/self/task/4002"))
			}
			var hw governor.Hardware
			for range 4 {
				hw = r.step()
			}
			if board != "nothing" {
				maps.Copy(want, always)
			}
			for f := source.None + 1; f < source.Fields; f++ {
				got := f.Of(&hw)
				if v, has := want[f.String()]; has {
					require.Equal(t, governor.Valid, got.Condition, "%s: %+v", f, r.sampler.List())
					require.InDelta(t, v, got.Value, 1e-9, f.String())
					require.Equal(t, r.now, got.At, f.String())
				} else {
					require.Equal(t, governor.Missing, got.Condition, "%s: %+v", f, *got)
				}
			}
		})
	}
}

// file is what feeds one row.
type file struct {
	sensor, row, board, path string
	counter                  bool     // the value is a difference
	without                  []string // other files that would give a value too
}

var files = []file{
	{sensor: "topology", row: "online", board: "raspberry-pi", path: "sys/devices/system/cpu/online"},
	{sensor: "topology", row: "affinity", board: "raspberry-pi", path: "proc/self/status"},
	{sensor: "topology", row: "capacity", board: "raspberry-pi", path: "sys/devices/system/cpu/cpu2/cpu_capacity"},
	{sensor: "cpufreq", row: "permitted", board: "raspberry-pi", path: "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"},
	{sensor: "cpufreq", row: "current", board: "raspberry-pi", path: "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"},
	{sensor: "cpufreq", row: "mean", board: "raspberry-pi", path: "sys/devices/system/cpu/cpufreq/policy0/stats/time_in_state", counter: true},
	{sensor: "cgroup", row: "quota", board: "container", path: "sys/fs/cgroup/cpu.max"},
	{sensor: "cgroup", row: "cpuset", board: "container", path: "sys/fs/cgroup/worker/cpuset.cpus.effective"},
	{sensor: "cgroup", row: "throttled", board: "container", path: "sys/fs/cgroup/cpu.stat", counter: true, without: []string{"sys/fs/cgroup/worker/cpu.stat"}},
	{sensor: "schedstat", row: "waiting", board: "vm", path: "proc/self/task/1001/schedstat", counter: true},
	{sensor: "psi", row: "some", board: "vm", path: "proc/pressure/cpu", counter: true},
	{sensor: "stat", row: "steal", board: "vm", path: "proc/stat", counter: true},
	{sensor: "devfreq", row: "permitted", board: "orin-nx", path: "sys/class/devfreq/17000000.gpu/max_freq"},
	{sensor: "devfreq", row: "permitted", board: "orin-nx", path: "sys/class/devfreq/17000000.gpu/available_frequencies"},
	{sensor: "devfreq", row: "load", board: "xavier-nx", path: "sys/class/devfreq/17000000.gv11b/device/load"},
	{sensor: "devfreq", row: "current", board: "xavier-nx", path: "sys/class/devfreq/17000000.gv11b/cur_freq"},
	{sensor: "ina3221", row: "power", board: "orin-nx", path: "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in1_input"},
	{sensor: "ina3221", row: "power", board: "thor", path: "sys/bus/i2c/devices/2-0040/hwmon/hwmon3/curr2_input"},
	{sensor: "ina3221", row: "energy", board: "nano-jetpack-4", path: "sys/bus/i2c/devices/6-0040/iio:device0/in_power0_input"},
	{sensor: "ina3221", row: "gpu power", board: "nano-jetpack-4", path: "sys/bus/i2c/devices/6-0040/iio:device0/in_power1_input"},
	{sensor: "rapl", row: "power", board: "x86-server", path: "sys/class/powercap/intel-rapl:1/energy_uj", counter: true,
		without: []string{"sys/class/powercap/intel-rapl:0"}},
	{sensor: "rapl", row: "energy", board: "x86-server", path: "sys/class/powercap/intel-rapl:0/energy_uj",
		without: []string{"sys/class/powercap/intel-rapl:1"}},
	{sensor: "thermal", row: "hottest", board: "raspberry-pi", path: "sys/class/thermal/thermal_zone0/temp"},
	{sensor: "thermal", row: "gpu", board: "xavier-nx", path: "sys/class/thermal/thermal_zone1/temp"},
	{sensor: "thermal", row: "cooling", board: "raspberry-pi", path: "sys/class/thermal/cooling_device0/cur_state"},
	{sensor: "throttle", row: "share", board: "x86-server", path: "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_total_time_ms",
		counter: true, without: otherThrottles()},
	{sensor: "throttle", row: "events", board: "x86-server", path: "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count",
		without: otherThrottles()},
}

// otherThrottles are the counters of the other CPUs, which would stand in.
func otherThrottles() []string {
	var dirs []string
	for cpu := 1; cpu < 8; cpu++ {
		dirs = append(dirs, fmt.Sprintf("sys/devices/system/cpu/cpu%d/thermal_throttle", cpu))
	}
	return dirs
}

// each runs a test on the row of every file, with a content that is good.
func each(t *testing.T, test func(t *testing.T, r *rig, f file)) {
	for _, f := range files {
		t.Run(f.sensor+"/"+f.row+"/"+f.path[strings.LastIndex(f.path, "/")+1:], func(t *testing.T) {
			r := newRig(t, f.board, nil)
			for _, path := range f.without {
				require.NoError(t, r.root.Remove(path))
			}
			if _, counts := r.counters[f.path]; !counts {
				data, err := os.ReadFile(r.root.Path(f.path))
				require.NoError(t, err)
				r.counters[f.path] = func(int64) string { return string(data) }
			}
			test(t, r, f)
		})
	}
}

// recover steps until the row is valid, for at most so long.
func (r *rig) recover(f file, within time.Duration) {
	began := r.now
	for r.row(f.sensor, f.row).Err != nil {
		require.LessOrEqual(r.t, r.now-began, within, "%+v", r.row(f.sensor, f.row))
		r.step()
	}
	require.Equal(r.t, governor.Valid, r.row(f.sensor, f.row).Reading.Condition)
}

// The row says what is wrong while a file is as it should not be, and has a value again soon after it is back.
func TestFaults(t *testing.T) {
	faults := []struct {
		name    string
		content string
		want    governor.Condition
	}{
		{"missing", "", governor.Missing},
		{"empty", "\n", governor.Missing},
		{"unsupported", "<unsupported>\n", governor.Unsupported},
		{"garbage", "\x00\xff some words: none=1 a number\n", governor.Wrong},
		{"huge", "some total=99999999999999999999999999 99999999999999999999999999\n", governor.Wrong},
	}
	each(t, func(t *testing.T, r *rig, f file) {
		r.step()
		r.recover(f, 6*time.Second)
		for _, fault := range faults {
			good := r.counters[f.path]
			delete(r.counters, f.path)
			if fault.content == "" {
				require.NoError(t, r.root.Remove(f.path))
			} else {
				require.NoError(t, r.root.Write(f.path, fault.content))
			}
			want := fault.want
			if f.row == "throttled" && want == governor.Wrong {
				want = governor.Missing // a cpu.stat without this key is what a group without quota has
			}
			began := r.now
			for r.row(f.sensor, f.row).Err == nil { // the slowest row is read every 5 s
				require.Less(t, r.now-began, 6*time.Second, fault.name)
				r.step()
			}
			for range 5 {
				r.step()
			}
			got := r.row(f.sensor, f.row)
			require.Equal(t, want, got.Reading.Condition, "%s: %+v", fault.name, got)
			require.Error(t, got.Err, fault.name)
			require.Zero(t, got.Reading.Value, fault.name)
			r.counters[f.path] = good
			r.step()
			r.recover(f, 6*time.Second)
		}
	})
}

// A CPU that is switched off keeps its directory and loses what is in it; another of its package tells the same.
func TestThrottleOfAnUnpluggedCPU(t *testing.T) {
	r := newRig(t, "x86-server", nil)
	const cpu0, cpu1 = "sys/devices/system/cpu/cpu0/", "sys/devices/system/cpu/cpu1/"
	r.step()
	r.step()
	counter := cpu0 + "thermal_throttle/package_throttle_total_time_ms"
	r.counters[cpu1+"thermal_throttle/package_throttle_total_time_ms"] = r.counters[counter]
	delete(r.counters, counter)
	require.NoError(t, r.root.Write(cpu0+"online", "0\n"))
	require.NoError(t, r.root.Remove(cpu0+"thermal_throttle"))
	require.NoError(t, r.root.Remove(cpu0+"topology"))
	for range 4 {
		r.step()
	}
	require.InDelta(t, 0.1, r.row("throttle", "share").Reading.Value, 1e-9)
}

// A file that is not there at first is found after it has appeared.
func TestAppearsLater(t *testing.T) {
	each(t, func(t *testing.T, r *rig, f file) {
		later := r.counters[f.path]
		delete(r.counters, f.path)
		dir := f.path[:strings.LastIndex(f.path, "/")] // the whole device is missing
		device := memory(t) + "/device"
		require.NoError(t, os.Rename(r.root.Path(dir), device))
		for r.now < 5*time.Second {
			r.step()
			got := r.row(f.sensor, f.row)
			require.Equal(t, governor.Missing, got.Reading.Condition, "%+v", got)
		}
		require.NoError(t, os.RemoveAll(r.root.Path(dir))) // counters of its other files
		require.NoError(t, os.Rename(device, r.root.Path(dir)))
		r.counters[f.path] = later
		r.recover(f, 6*time.Second)
	})
}

// Differences over a clock that went backwards are Wrong once; whatever is no difference just goes on.
func TestTimeGoesBackwards(t *testing.T) {
	each(t, func(t *testing.T, r *rig, f file) {
		for range 8 {
			r.step()
		}
		r.recover(f, 6*time.Second)
		r.now -= time.Second
		hw := r.sampler.Hardware()
		for field := source.None + 1; field < source.Fields; field++ {
			require.NotEqual(t, governor.Valid, field.Of(&hw).Condition, "%s is from the future", field)
		}
		r.sample()
		if got := r.row(f.sensor, f.row); f.counter {
			require.Equal(t, governor.Wrong, got.Reading.Condition, "%+v", got)
		}
		r.step()
		r.recover(f, 6*time.Second)
	})
}

// A counter that goes backwards is Wrong once, unless it may wrap.
func TestCounterGoesBackwards(t *testing.T) {
	each(t, func(t *testing.T, r *rig, f file) {
		if !f.counter || f.row == "mean" { // which is read once a second
			return
		}
		for range 8 {
			r.step()
		}
		r.recover(f, 2*time.Second)
		r.ticks = 0
		r.step()
		got := r.row(f.sensor, f.row)
		require.Equal(t, governor.Wrong, got.Reading.Condition, "%+v", got)
		r.step()
		r.recover(f, time.Second)
	})
}
