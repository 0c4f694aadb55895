package atomicfile_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
)

// A limit of the size of files stands in for a full disk, in a process of its own: go test writes files, too.
func TestFailedWriteNamesTheFile(t *testing.T) {
	if path := os.Getenv("ATOMICFILE_TEST_LIMITED"); path != "" {
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 1, Max: 1}))
		fmt.Println(atomicfile.Replace(path, func(w io.Writer) error {
			_, err := io.WriteString(w, "content")
			return fmt.Errorf("content: %w", err)
		}))
		return
	}
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "f.json")
	c := exec.Command(self, "-test.run", "^TestFailedWriteNamesTheFile$")
	c.Env = append(os.Environ(), "ATOMICFILE_TEST_LIMITED="+path)
	text, err := c.CombinedOutput()
	require.NoError(t, err)
	require.Contains(t, string(text), "content: write "+path+": file too large\n")
	requireEmpty(t, filepath.Dir(path))
}
