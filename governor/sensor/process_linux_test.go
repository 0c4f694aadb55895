package sensor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BenchmarkProcess is a process that does nothing but sense: an operation is a second of it, and the CPU time is that of all
// its threads, waking up included.
func BenchmarkProcess(b *testing.B) {
	used := func() time.Duration {
		var r unix.Rusage
		require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &r))
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	s := Open(Config{})
	time.Sleep(time.Second) // what opening costs is paid
	began, from := time.Now(), used()
	for b.Loop() {
		time.Sleep(time.Second)
	}
	b.ReportMetric(100*(used()-from).Seconds()/time.Since(began).Seconds(), "%core")
	require.NoError(b, s.Close())
}
