package harness

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math"
	"path"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

// Environment is the machine that a run was on. What the system does not tell is empty, zero or absent.
type Environment struct {
	// Fingerprint is equal for equal machines: processor, number of CPUs, system and whether it is virtual, and where a
	// device computes, its name and compute capability.
	Fingerprint string    `json:"fingerprint"`
	Time        time.Time `json:"time"`
	Version     string    `json:"version"` // of dynofa
	Go          string    `json:"go"`
	OS          string    `json:"os"`
	Arch        string    `json:"arch"`
	CPU         string    `json:"cpu"`
	CPUs        int       `json:"cpus"`
	Virtual     bool      `json:"virtual"`
	Kernel      string    `json:"kernel,omitempty"`
	Affinity    string    `json:"affinity,omitempty"` // CPUs this process may use, as "0-3,6"
	Governor    string    `json:"governor,omitempty"` // of the first CPU's frequency
	LimitKHz    int64     `json:"limit_khz,omitempty"`
	MaxKHz      int64     `json:"max_khz,omitempty"`
	Boost       string    `json:"boost,omitempty"`
	ASLR        string    `json:"aslr,omitempty"`
	// Device computes; nil for the CPU.
	Device *dynofa.Device `json:"device,omitempty"`
}

// On is the environment of a run on a device, or as it was for the zero one. The driver is no part of the fingerprint: what
// another one changes is for a history to show.
func (e *Environment) On(d dynofa.Device) *Environment {
	if d == (dynofa.Device{}) {
		return e
	}
	on := *e
	on.Device = &d
	on.Fingerprint = fingerprint("%s|%s|%s", e.Fingerprint, d.Name, d.Capability)
	return &on
}

func fingerprint(format string, parts ...any) string {
	sum := sha256.Sum256(fmt.Appendf(nil, format, parts...))
	return hex.EncodeToString(sum[:6])
}

// Look describes the machine. system is the root of its file system.
func Look(system fs.FS, version string, now time.Time) *Environment {
	e := &Environment{
		Time: now.UTC().Truncate(time.Second), Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(),
		Kernel: text(system, "proc/sys/kernel/osrelease"), Governor: text(system, cpufreq+"scaling_governor"),
		MaxKHz: number(system, cpufreq+"cpuinfo_max_freq"), LimitKHz: number(system, cpufreq+"scaling_max_freq"),
		Boost: text(system, "sys/devices/system/cpu/cpufreq/boost"), ASLR: text(system, "proc/sys/kernel/randomize_va_space"),
		Affinity: affinity(system),
	}
	info := text(system, "proc/cpuinfo")
	e.CPU = field(info, "model name")
	for _, part := range []string{"cpu family", "model", "CPU implementer", "CPU part"} { // the last two: ARM
		if v := field(info, part); v != "" {
			e.CPU = strings.TrimSpace(e.CPU + " " + strings.TrimPrefix(part, "cpu ") + " " + v)
		}
	}
	e.Virtual = strings.Contains(field(info, "flags")+" ", " hypervisor ")
	e.Fingerprint = fingerprint("%s|%s|%s|%d|%t", e.OS, e.Arch, e.CPU, e.CPUs, e.Virtual)
	return e
}

const cpufreq = "sys/devices/system/cpu/cpu0/cpufreq/"

func text(system fs.FS, name string) string {
	data, err := fs.ReadFile(system, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func number(system fs.FS, name string) int64 {
	n, _ := strconv.ParseInt(text(system, name), 10, 64)
	return n
}

// field is the value of the first "key : value" line.
func field(lines, key string) string {
	for l := range strings.Lines(lines) {
		if k, v, found := strings.Cut(l, ":"); found && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func affinity(system fs.FS) string {
	return field(text(system, "proc/self/status"), "Cpus_allowed_list")
}

// Watch is what happened to the machine during a slice of time. Shares are of that time; -1 says that the system
// does not tell.
type Watch struct {
	Steal     float64 `json:"steal"`     // of all CPUs' time that the hypervisor gave to others, per CPU
	Pressure  float64 `json:"pressure"`  // some task of the machine waited for a CPU
	Wait      float64 `json:"wait"`      // this process was ready and had no CPU, summed over its threads
	Throttled int64   `json:"throttled"` // events: thermal limits, and the control group's quota
}

func (w *Watch) check() error {
	for _, v := range []float64{w.Steal, w.Pressure, w.Wait} {
		if !(v >= -1 && v < 1e6) {
			return fmt.Errorf("watch has a share of %g, expected at least 0, or -1 for unknown", v)
		}
	}
	return nil
}

// Beyond these shares a slice of time is dirty: 1 % of a CPU stolen or waited for is half of the effect that a
// comparison is to find. Pressure alone is no harm as long as this process does not wait.
const (
	dirtySteal    = 0.01
	dirtyWait     = 0.01
	dirtyPressure = 0.5
)

// state is what Watch is the difference of.
type state struct {
	steal, pressure, wait float64 // seconds, NaN if unknown
	throttled             int64
	limit                 int64
	affinity              string
}

func look(system fs.FS) state {
	return state{
		steal: stolen(text(system, "proc/stat")), pressure: waited(text(system, "proc/pressure/cpu")), wait: ownWait(system),
		throttled: throttled(system), limit: number(system, cpufreq+"scaling_max_freq"), affinity: affinity(system),
	}
}

// guard watches the machine from the moment it is made; the returned function ends a slice of time and begins the
// next. It says what happened, and why values of that slice are not the machine's own.
func guard(system fs.FS) func() (Watch, []string) {
	before, began := look(system), time.Now()
	return func() (Watch, []string) {
		after, now := look(system), time.Now()
		w, dirty := difference(before, after, now.Sub(began).Seconds())
		before, began = after, now
		return w, dirty
	}
}

func difference(before, after state, seconds float64) (Watch, []string) {
	share := func(from, to float64) float64 {
		v := (to - from) / seconds
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return -1
		}
		return max(0, math.Round(v*1e4)/1e4)
	}
	w := Watch{Steal: share(before.steal, after.steal), Pressure: share(before.pressure, after.pressure),
		Wait: share(before.wait, after.wait), Throttled: after.throttled - before.throttled}
	var dirty []string
	add := func(is bool, format string, args ...any) {
		if is {
			dirty = append(dirty, fmt.Sprintf(format, args...))
		}
	}
	add(w.Steal > dirtySteal, "steal %.1f %%", 100*w.Steal)
	add(w.Wait > dirtyWait, "waited %.1f %%", 100*w.Wait)
	add(w.Pressure > dirtyPressure, "pressure %.0f %%", 100*w.Pressure)
	add(w.Throttled != 0, "throttled %d times", w.Throttled)
	add(before.limit != after.limit, "frequency limit %d to %d kHz", before.limit, after.limit)
	add(before.affinity != after.affinity, "affinity %s to %s", before.affinity, after.affinity)
	return w, dirty
}

// tick is the unit of /proc/stat, USER_HZ, the same on every Linux that Go runs on.
const tick = 0.01

// stolen is the seconds of the ninth field of the first line of /proc/stat.
func stolen(stat string) float64 {
	first, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(first)
	if len(f) < 9 || f[0] != "cpu" {
		return math.NaN()
	}
	return parsed(f[8]) * tick / float64(runtime.NumCPU())
}

// waited is the seconds of "total=" in the line "some" of /proc/pressure/cpu, which are microseconds there.
func waited(pressure string) float64 {
	for l := range strings.Lines(pressure) {
		if strings.HasPrefix(l, "some ") {
			_, total, _ := strings.Cut(l, "total=")
			return parsed(strings.TrimSpace(total)) * 1e-6
		}
	}
	return math.NaN()
}

func parsed(s string) float64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return math.NaN()
	}
	return float64(v)
}

// ownWait sums the second field of every thread's schedstat: nanoseconds ready to run without a CPU.
func ownWait(system fs.FS) float64 {
	files, _ := fs.Glob(system, "proc/self/task/*/schedstat")
	sum := math.NaN()
	for _, name := range files {
		if f := strings.Fields(text(system, name)); len(f) == 3 { // a thread that has just ended has none
			if math.IsNaN(sum) {
				sum = 0
			}
			sum += parsed(f[1]) * 1e-9
		}
	}
	return sum
}

// throttled counts thermal events of all CPUs and the times that this control group (version 2) ran out of quota.
func throttled(system fs.FS) int64 {
	var sum int64
	files, _ := fs.Glob(system, "sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
	for _, name := range files {
		sum += number(system, name)
	}
	for l := range strings.Lines(text(system, "proc/self/cgroup")) {
		if group, found := strings.CutPrefix(strings.TrimSpace(l), "0::/"); found {
			for l := range strings.Lines(text(system, path.Join("sys/fs/cgroup", group, "cpu.stat"))) {
				if n, found := strings.CutPrefix(l, "nr_throttled "); found {
					v, _ := strconv.ParseInt(strings.TrimSpace(n), 10, 64)
					sum += v
				}
			}
		}
	}
	return sum
}
