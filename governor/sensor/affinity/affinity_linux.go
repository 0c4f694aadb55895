package affinity

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

const path = "sched_getaffinity"

// get asks for the first thread of the process, whose mask the others inherit; of the runtime's threads the caller
// happens to run on one, and that may be pinned.
func get(set *sysfs.CPUs) (int, error) {
	var mask unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &mask); err != nil {
		return 0, err
	}
	*set = sysfs.CPUs{}
	n := mask.Count()
	for cpu, found := 0, 0; found < n; cpu++ {
		if mask.IsSet(cpu) {
			set.Add(cpu)
			found++
		}
	}
	return n, nil
}
