package cpufreq

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/topology"
)

func TestParseTimeInState(t *testing.T) {
	ticks, product, err := parseTimeInState([]byte("600000 9000\n750000 100\n1500000 40000"))
	require.NoError(t, err)
	require.Equal(t, uint64(49100), ticks)
	require.Equal(t, uint64(600000*9000+750000*100+1500000*40000), product)
	for _, text := range []string{"600000", "x 1", "1 x", "600000 1\n\n700000 1"} {
		_, _, err := parseTimeInState([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func FuzzParseTimeInState(f *testing.F) {
	f.Add([]byte("600000 9000\n1500000 40000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ticks, _, err := parseTimeInState(text)
		if err != nil {
			return
		}
		// One more state adds its ticks.
		more, _, err := parseTimeInState(append([]byte("1 5\n"), text...))
		require.NoError(t, err)
		require.Equal(t, ticks+5, more)
	})
}

// A big core counts as much more than a little one, and a CPU that we may not use counts nothing.
func TestWeights(t *testing.T) {
	root := fakeroot.Root(t.TempDir())
	for name, content := range map[string]string{
		"online": "0-5\n", "cpu0/cpu_capacity": "256\n", "cpu1/cpu_capacity": "256\n", "cpu4/cpu_capacity": "1024\n", "cpu5/cpu_capacity": "1024\n",
		"cpufreq/policy0/related_cpus": "0 1 2 3\n", "cpufreq/policy0/cpuinfo_max_freq": "1800000\n", "cpufreq/policy0/scaling_max_freq": "1800000\n",
		"cpufreq/policy4/related_cpus": "4 5\n", "cpufreq/policy4/cpuinfo_max_freq": "2400000\n", "cpufreq/policy4/scaling_max_freq": "1200000\n",
	} {
		require.NoError(t, root.Write("sys/devices/system/cpu/"+name, content))
	}
	affinity := func(list string) {
		require.NoError(t, root.Write("proc/self/status", "Cpus_allowed_list:\t"+list+"\n"))
	}
	affinity("0-1,4-5")
	cpus := topology.New(string(root))
	s := New(string(root), cpus)
	defer cpus.Close()
	defer s.Close()
	clock := func(now time.Duration) float64 {
		cpus.Read(now)
		row := s.Read(now)[0]
		require.NoError(t, row.Err)
		return row.Reading.Value
	}
	require.InDelta(t, (2*256*1+2*1024*0.5)/(2*256+2*1024), clock(0), 1e-12)
	affinity("4")
	require.InDelta(t, 0.5, clock(1), 1e-12)
	affinity("2,4") // of CPU 2 the capacity is not known: all count the same
	require.InDelta(t, 0.75, clock(2), 1e-12)
}
