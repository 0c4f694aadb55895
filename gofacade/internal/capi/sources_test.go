//go:build cgo && linux && (amd64 || arm64)

package capi

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The go command looks at a C file only where its folder is a package that embeds it: what it does not look at, it
// does not rebuild and does not vendor. So an edit of each source, in an overlay, has to make this package stale.
func TestEveryEditOfTheEngineIsRebuilt(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	out, err := exec.Command("go", "build", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "false", stale(t, nil))

	var sources []string
	folders := []string{
		"kernels/include", "kernels/simd", "kernels/dispatch", "kernels/ref", "native/include", "native/src",
		"cuda/include", "cuda/ptx", "cuda/src",
		map[string]string{"amd64": "kernels/avx*", "arm64": "kernels/neon"}[runtime.GOARCH],
	}
	for _, folder := range folders {
		for _, ext := range []string{"*.c", "*.h", "*.inc", "*.ptx"} {
			found, err := filepath.Glob(filepath.Join(root, folder, ext))
			require.NoError(t, err)
			sources = append(sources, found...)
		}
	}
	require.Greater(t, len(sources), 50)
	for _, source := range sources {
		text, err := os.ReadFile(source)
		require.NoError(t, err)
		edited := filepath.Join(t.TempDir(), "edited")
		require.NoError(t, os.WriteFile(edited, append(text, "\n/* edited */\n"...), 0o600))
		require.Equal(t, "true", stale(t, map[string]string{source: edited}), "%s: go build does not see an edit", source)
	}
}

// stale says whether the go command would build this package again, with some files replaced.
func stale(t *testing.T, replace map[string]string) string {
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": replace})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(path, overlay, 0o600))
	out, err := exec.Command("go", "list", "-overlay", path, "-f", "{{.Stale}}", ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return strings.TrimSpace(string(out))
}
