package atomicfile_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
)

func TestLinkToNothingIsFollowed(t *testing.T) {
	dir := t.TempDir()
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	require.NoError(t, os.Symlink("target", link))
	require.NoError(t, atomicfile.Replace(link, func(w io.Writer) error {
		_, err := io.WriteString(w, "new")
		return err
	}))
	text, err := os.ReadFile(target)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	to, err := os.Readlink(link)
	require.NoError(t, err)
	require.Equal(t, "target", to)
}

func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "f.json")
	err := atomicfile.Replace(path, func(io.Writer) error { return nil })
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "open "+path+": no such file or directory")

	dir := t.TempDir()
	err = atomicfile.Replace(dir, func(io.Writer) error { return nil })
	require.EqualError(t, err, "replace "+dir+": not a regular file")
}

func TestFailedRenameNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.json")
	err := atomicfile.Replace(path, func(io.Writer) error { return os.Mkdir(path, 0o700) }) // meanwhile a folder
	require.ErrorContains(t, err, "rename "+path+": ")
	require.NotContains(t, err.Error(), ".tmp")
}

func TestCheckLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f.json")
	require.NoError(t, atomicfile.Check(path))
	requireEmpty(t, dir)

	require.EqualError(t, atomicfile.Check(dir), "replace "+dir+": not a regular file")
	absent := filepath.Join(dir, "absent", "f.json")
	require.EqualError(t, atomicfile.Check(absent), "open "+absent+": no such file or directory")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	require.NoError(t, atomicfile.Check(path))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(text))
	require.ErrorContains(t, atomicfile.Check("/proc/f.json"), "open /proc/f.json: ") // takes no files, not even root's
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
