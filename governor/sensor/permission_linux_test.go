package sensor

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dynofa/dynofa/governor"
)

// A file that we may not read is Unsupported, and read as soon as we may.
func TestPermissionDenied(t *testing.T) {
	// The administrator may read everything, except while this thread's file accesses are somebody else's.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	asNobody := func(f func()) { f() }
	if os.Geteuid() == 0 {
		asNobody = func(f func()) {
			require.NoError(t, unix.Setfsuid(65534))
			defer func() { require.NoError(t, unix.Setfsuid(0)) }()
			f()
		}
	}
	each(t, func(t *testing.T, r *rig, f file) {
		runtime.LockOSThread() // subtests have their own goroutine
		defer runtime.UnlockOSThread()
		for dir := filepath.Dir(r.root.Path(f.path)); dir != filepath.Dir(string(r.root)); dir = filepath.Dir(dir) {
			require.NoError(t, os.Chmod(dir, 0o755))
		}
		step := func() {
			r.now += step
			asNobody(r.sampler.Sample)
		}
		delete(r.counters, f.path) // it would get its permissions back
		require.NoError(t, os.Chmod(r.root.Path(f.path), 0))
		for range 8 {
			step()
		}
		got := r.row(f.sensor, f.row)
		require.Equal(t, governor.Unsupported, got.Reading.Condition, "%+v", got)
		require.ErrorIs(t, got.Err, unix.EACCES)

		require.NoError(t, os.Chmod(r.root.Path(f.path), 0o644))
		if f.counter {
			return // nobody counts here; that it is read again is the same for all files
		}
		for began := r.now; r.row(f.sensor, f.row).Err != nil; step() {
			require.Less(t, r.now-began, 6*time.Second, "%+v", r.row(f.sensor, f.row))
		}
	})
}
