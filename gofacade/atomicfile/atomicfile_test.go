package atomicfile_test

import (
	"io"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
)

func TestErrorsNameTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent", "f.json")
	err := atomicfile.Replace(path, func(io.Writer) error { return nil })
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, "open "+path+": no such file or directory")

	dir := t.TempDir()
	err = atomicfile.Replace(dir, func(io.Writer) error { return nil })
	require.EqualError(t, err, "replace "+dir+": not a regular file")
}
