package throttle

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
)

// With many CPUs, a look at all of them opens none that another stands for, and leaves nothing open.
func TestManyCPUs(t *testing.T) {
	const cpus = 100
	root := fakeroot.Root(t.TempDir())
	for cpu := range cpus {
		dir := fmt.Sprintf("sys/devices/system/cpu/cpu%d/", cpu)
		require.NoError(t, root.Write(dir+"topology/physical_package_id", fmt.Sprintln(cpu/(cpus/2))))
		count := "3\n"
		if cpu >= cpus/2 {
			count = "\n"
		}
		require.NoError(t, root.Write(dir+"thermal_throttle/package_throttle_count", count))
		require.NoError(t, root.Write(dir+"thermal_throttle/package_throttle_total_time_ms", "5\n"))
	}
	s := New(string(root))
	defer s.Close()
	var now time.Duration
	read := func() {
		now += 2 * time.Second
		s.Read(now)
	}
	read()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("SKIPPED: no /proc/self/fd")
	}
	per := testing.AllocsPerRun(20, read) / cpus
	require.Less(t, per, 10.)
	after, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	require.Len(t, after, len(open))
	t.Log(per, "allocations a CPU")
}
