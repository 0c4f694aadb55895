package harness

import (
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// writerOf is a file that the end of the test closes.
func writerOf(t *testing.T, path string) io.Writer {
	f, err := os.Create(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	return f
}
