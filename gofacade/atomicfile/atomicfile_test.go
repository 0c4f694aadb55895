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

// Of a link to a link to a file that is not there, in a folder that is a link, too.
func TestLinksToNothingAreFollowed(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "far", "deep"), 0o700))
	for link, to := range map[string]string{"folder": filepath.Join("far", "deep"), "far/deep/first": "second", "far/deep/second": "../target"} {
		require.NoError(t, os.Symlink(to, filepath.Join(dir, filepath.FromSlash(link))))
	}
	require.NoError(t, atomicfile.Write(filepath.Join(dir, "folder", "first"), []byte("new")))
	text, err := os.ReadFile(filepath.Join(dir, "far", "target"))
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	for _, link := range []string{"first", "second"} {
		_, err := os.Readlink(filepath.Join(dir, "folder", link))
		require.NoError(t, err, "still a link")
	}
	circle := filepath.Join(dir, "circle")
	require.NoError(t, os.Symlink("circle", circle))
	require.ErrorContains(t, atomicfile.Write(circle, nil), circle)
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
