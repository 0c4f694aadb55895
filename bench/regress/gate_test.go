package regress

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// What keeps the gate from measuring is status 2, never 1, which says regression.
func TestGateThatCannotMeasure(t *testing.T) {
	for _, name := range []string{"bash", "git"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("SKIPPED: no " + name)
		}
	}
	nowhere := filepath.Join(t.TempDir(), "nowhere")
	for name, argv := range map[string][]string{
		"no revision":            {"./gate.sh"},
		"a revision of nobody":   {"./gate.sh", "nobody/main"},
		"no room for the builds": {"env", "TMPDIR=" + nowhere, "./gate.sh", "HEAD"},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit, name)
		require.Equal(t, 2, exit.ExitCode(), "%s: %s", name, out)
	}
}
