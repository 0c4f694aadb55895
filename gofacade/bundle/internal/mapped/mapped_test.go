package mapped

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir)
	require.ErrorContains(t, err, "not a regular file")
	empty := filepath.Join(dir, "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err = Open(empty)
	require.ErrorContains(t, err, "is empty")
	_, err = Open(filepath.Join(dir, "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCloseTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, []byte("abc"), 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	require.Equal(t, "abc", string(f.Bytes()))
	require.NoError(t, f.Close())
	require.NoError(t, f.Close())
}

func TestTruncatedWhileMapped(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: the fault is Linux's")
	}
	if testing.Short() {
		t.Skip("SKIPPED: -short: user-mode emulators deliver the fault without its address")
	}
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, os.WriteFile(path, make([]byte, 1<<20), 0o600))
	f, err := Open(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, os.Truncate(path, 0))
	sum := 0
	err = Guard(func() error {
		for _, b := range f.Bytes() {
			sum += int(b)
		}
		return nil
	})
	require.ErrorIs(t, err, ErrChanged)
	require.PanicsWithValue(t, "ours", func() { _ = Guard(func() error { panic("ours") }) })
}
