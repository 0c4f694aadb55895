package sensor

import (
	"os"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/cgroup"
	"github.com/dynofa/dynofa/governor/sensor/cpufreq"
	"github.com/dynofa/dynofa/governor/sensor/devfreq"
	"github.com/dynofa/dynofa/governor/sensor/ina3221"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
	"github.com/dynofa/dynofa/governor/sensor/psi"
	"github.com/dynofa/dynofa/governor/sensor/rapl"
	"github.com/dynofa/dynofa/governor/sensor/schedstat"
	"github.com/dynofa/dynofa/governor/sensor/stat"
	"github.com/dynofa/dynofa/governor/sensor/thermal"
	"github.com/dynofa/dynofa/governor/sensor/throttle"
	"github.com/dynofa/dynofa/governor/sensor/topology"
)

// A group of sensors shares a goroutine: one that waits makes only its own group wait.
const (
	kernel = iota // files that the kernel writes from its memory
	device        // files behind which there is a bus or a firmware
	driver        // calls of a library
	groups
)

// all lists the sensors. Where several know a field, the first with a valid value counts (for Cores the smallest, for
// Cooling the deepest of all). every is the number of periods between two readings.
func all(c Config) []*entry {
	cpus := topology.New(c.Root)
	return []*entry{
		{name: "topology", group: kernel, every: 2, sensor: cpus},
		{name: "cpufreq", group: kernel, every: 1, sensor: cpufreq.New(c.Root, cpus)}, // after topology, which it asks
		{name: "cgroup", group: kernel, every: 2, sensor: cgroup.New(c.Root)},         // quotas mostly have periods of 100 ms
		{name: "schedstat", group: kernel, every: 1, sensor: schedstat.New(c.Root, c.Threads)},
		{name: "psi", group: kernel, every: 1, sensor: psi.New(c.Root)},
		{name: "stat", group: kernel, every: 5, sensor: stat.New(c.Root)},
		{name: "nvml", group: driver, every: 4, sensor: nvml.New(c.Driver, c.GPU, os.Getpid())},
		{name: "devfreq", group: device, every: 2, sensor: devfreq.New(c.Root)},
		{name: "ina3221", group: device, every: 2, sensor: ina3221.New(c.Root)},
		{name: "rapl", group: device, every: 2, sensor: rapl.New(c.Root)},
		{name: "thermal", group: device, every: 5, sensor: thermal.New(c.Root)},
		{name: "throttle", group: device, every: 5, sensor: throttle.New(c.Root)},
	}
}

// entry is a sensor of the sampler.
type entry struct {
	name   string
	group  int
	every  int
	sensor source.Sensor
	due    sysfs.Timer
	period time.Duration // between two readings, by what the last one found
	rows   []source.Row  // copies of the last ones; its own goroutine writes them, with the sampler's mutex
}
