package profile

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Machine reads from Linux's /proc and /sys what else happens on the machine. Files that are not there are missing,
// never zero: without them nothing is found dirty.
type Machine struct {
	Root string // of the file system, "" for "/"
}

// reading is a state of the counters; those that are missing stay at zero and so never grow.
type reading struct {
	wait     time.Duration // own threads ready and not running: /proc/self/task/*/schedstat, second number, ns
	steal    int64         // of all CPUs, ticks: /proc/stat, "cpu" line, eighth number
	pressure time.Duration // some task waited for a CPU: /proc/pressure/cpu, "some ... total=", µs
	khz      []int         // of every CPU: /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq
}

// Bounds of what a clean measurement has seen.
const (
	maxWait      = 0.005 // share of the time that own threads waited for a CPU
	maxPressure  = 0.05  // share of the time that any task waited for a CPU
	maxFrequency = 0.02  // change of a CPU's clock
)

func (m Machine) path(name string) string { return filepath.Join("/", m.Root, name) }

func (m Machine) read() reading {
	var r reading
	tasks, _ := filepath.Glob(m.path("proc/self/task/*/schedstat"))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		r.wait += parseWait(text)
	}
	text, _ := os.ReadFile(m.path("proc/stat"))
	r.steal = parseSteal(text)
	text, _ = os.ReadFile(m.path("proc/pressure/cpu"))
	r.pressure = parsePressure(text)
	clocks, _ := filepath.Glob(m.path("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
	for _, clock := range clocks {
		text, _ := os.ReadFile(clock)
		khz, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		r.khz = append(r.khz, khz)
	}
	return r
}

// waitedHere is how long the calling thread has waited for a CPU, or zero if nobody knows.
func (m Machine) waitedHere() time.Duration {
	text, _ := os.ReadFile(m.path("proc/thread-self/schedstat"))
	return parseWait(text)
}

func parseWait(text []byte) time.Duration {
	f := bytes.Fields(text)
	if len(f) < 2 {
		return 0
	}
	ns, _ := strconv.ParseInt(string(f[1]), 10, 64)
	return time.Duration(ns)
}

func parseSteal(text []byte) int64 {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	f := bytes.Fields(line)
	if len(f) < 9 || string(f[0]) != "cpu" {
		return 0
	}
	ticks, _ := strconv.ParseInt(string(f[8]), 10, 64)
	return ticks
}

func parsePressure(text []byte) time.Duration {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	_, total, ok := bytes.Cut(line, []byte("total="))
	if !ok || !bytes.HasPrefix(line, []byte("some ")) {
		return 0
	}
	us, _ := strconv.ParseInt(string(bytes.TrimSpace(total)), 10, 64)
	return time.Duration(us) * time.Microsecond
}

// dirt says how much a measurement was disturbed; what is cleaner counts first.
type dirt int

const (
	clean     dirt = iota
	shared         // someone on the machine waited for a CPU, so caches and memory were shared
	disturbed      // own threads waited, the host had the CPU, or the clock changed
)

// between says what happened between two readings.
func between(before, after reading, wall time.Duration) dirt {
	for i := range min(len(before.khz), len(after.khz)) {
		change := float64(after.khz[i] - before.khz[i])
		if max(change, -change) > maxFrequency*float64(before.khz[i]) {
			return disturbed
		}
	}
	switch {
	case after.steal > before.steal, float64(after.wait-before.wait) > maxWait*float64(wall):
		return disturbed
	case float64(after.pressure-before.pressure) > maxPressure*float64(wall):
		return shared
	}
	return clean
}

// cpu names the processor, or the architecture where /proc/cpuinfo does not.
func (m Machine) cpu() string {
	text, _ := os.ReadFile(m.path("proc/cpuinfo"))
	field := func(name string) string {
		for line := range strings.Lines(string(text)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == name {
				return strings.TrimSpace(v)
			}
		}
		return ""
	}
	name := field("model name")
	if name == "" {
		return runtime.GOARCH
	}
	if family := field("cpu family"); family != "" {
		name += fmt.Sprintf(" (family %s, model %s)", family, field("model"))
	}
	return name
}
