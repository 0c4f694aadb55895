package bundle_test

import (
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
)

// writeLimited is another process, whose files cannot grow beyond 4096 bytes, as on a full disk.
func writeLimited(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096}); err != nil {
		return err
	}
	if err := bundle.Write(path, contents()); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("a write beyond the limit gives %w, expected EFBIG", err)
	}
	return nil
}

func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	path := filepath.Join(t.TempDir(), "m.dofa")
	require.NoError(t, bundle.Write(path, generation(0)))
	old := read(t, path)
	require.Greater(t, len(old), 4096)
	require.NoError(t, child(t, "limited", path).Run())
	require.Equal(t, old, read(t, path))
	onlyFile(t, path)
}
