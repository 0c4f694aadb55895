package affinity

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

func TestParseStatus(t *testing.T) {
	var set sysfs.CPUs
	n, err := parseStatus([]byte("Name:\tx\nCpus_allowed:\t4f\nCpus_allowed_list:\t0-3,6\n"), &set)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	require.True(t, set.Has(6) && !set.Has(4))
	for _, text := range []string{"", "Cpus_allowed_list:", "Cpus_allowed_list:\tx", "Cpus_allowed:\t3"} {
		_, err := parseStatus([]byte(text), &set)
		require.Error(t, err, "%q", text)
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add([]byte("Name:\tx\nCpus_allowed:\t4f\nCpus_allowed_list:\t0-3,6\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		var set sysfs.CPUs
		if n, err := parseStatus(text, &set); err == nil {
			require.Positive(t, n)
			require.Equal(t, n, set.Count())
		}
	})
}

// The system call and the file agree.
func TestSystem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: sched_getaffinity is Linux's")
	}
	text, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	root := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/self"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/self/status"), text, 0o644))
	var called, read sysfs.CPUs
	n, err := New("/").Read(0, &called)
	require.NoError(t, err)
	m, err := New(root).Read(0, &read)
	require.NoError(t, err)
	require.Equal(t, m, n)
	require.Equal(t, read, called)
}
