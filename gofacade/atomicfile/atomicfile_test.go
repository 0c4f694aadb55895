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
