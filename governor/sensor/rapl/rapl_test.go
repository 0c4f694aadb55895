package rapl

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

func TestStep(t *testing.T) {
	z := zone{span: 262_143_328_850}
	for _, tc := range []struct {
		uj     uint64
		now    time.Duration
		joules float64
		err    error
	}{
		{262_143_000_000, 0, 0, sysfs.ErrFirst},
		{262_143_300_000, time.Second, 0.3, nil},
		{1_000_000, 2 * time.Second, 1.02885, nil}, // wraps
		{1_000_000, 3 * time.Second, 0, nil},
		{2_000_000, 3 * time.Second, 0, sysfs.ErrBackwards}, // no time
		{3_000_000, 2 * time.Second, 0, sysfs.ErrBackwards}, // time
		{0, 3 * time.Second, 0, sysfs.ErrBackwards},         // a reset: as a wrap it would be 262 kJ in a second
		{40_000_000, 4 * time.Second, 40, nil},
	} {
		joules, seconds, err := z.step(tc.uj, tc.now)
		require.ErrorIs(t, err, tc.err)
		require.InDelta(t, tc.joules, joules, 1e-9)
		if err == nil {
			require.Equal(t, 1., seconds)
		}
	}
	z = zone{} // the range is not known
	_, _, _ = z.step(10, 0)
	_, _, err := z.step(5, time.Second)
	require.ErrorIs(t, err, sysfs.ErrBackwards)
}

// Most systems let only root read the meter: that it is not ours is no reason to look for others all the time.
func TestUnreadableMeterIsCheap(t *testing.T) {
	root := fakeroot.Root(t.TempDir())
	require.NoError(t, root.Write("sys/class/powercap/intel-rapl:0/name", "package-0\n"))
	require.NoError(t, root.Write("sys/class/powercap/intel-rapl:0/energy_uj", "<unsupported>\n")) // as root, nothing is forbidden
	s := New(string(root))
	defer s.Close()
	var now time.Duration
	require.Less(t, testing.AllocsPerRun(100, func() {
		now += 100 * time.Millisecond
		require.ErrorIs(t, s.Read(now)[0].Err, sysfs.ErrUnsupported)
	}), 1., "a look into the directory every two seconds")
}
