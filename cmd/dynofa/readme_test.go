package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

// block is the fenced block of a language in the README that holds a text.
func block(t *testing.T, language, holds string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(m[1], holds) {
			return m[1]
		}
	}
	t.Fatalf("README.md has no block of %s with %q", language, holds)
	return ""
}

// What the README tells a reader to type in a clone works as it stands there.
func TestReadmeCommands(t *testing.T) {
	if testing.Short() || dynofa.Backends()[0] == "purego" {
		t.Skip("SKIPPED: half a minute, which the native engine's run takes already")
	}
	models, err := filepath.Abs("../../models")
	require.NoError(t, err)
	lines := strings.Split(block(t, "sh", "bin/dynofa info")+block(t, "sh", "bin/dynofa bench run"), "\n")
	t.Chdir(t.TempDir())
	require.NoError(t, os.Symlink(models, "models"))
	require.NoError(t, os.Mkdir("out", 0o700)) // where make demo has written
	ran := 0
	for _, line := range lines {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "bin/dynofa" || words[1] == "bench" && words[2] == "compare" { // of two files of the reader's
			continue
		}
		t.Log(line)
		require.NotEmpty(t, succeed(t, words[1:]...))
		ran++
	}
	require.GreaterOrEqual(t, ran, 9)
}

// The Go and C of the README compile, and the Go program runs.
func TestReadmePrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: compiles")
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	main := write("main.go", `package main

import (
	"context"
	"fmt"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
)

func use(ctx context.Context) error {
`+strings.ReplaceAll(block(t, "go", "dynofa.Open"), "shoe.png", filepath.Join(dir, "shoe.png"))+`
	return nil
}

func main() {
	if err := use(context.Background()); err != nil {
		panic(err)
	}
}
`)
	var shoe bytes.Buffer
	require.NoError(t, png.Encode(&shoe, image.NewGray(image.Rect(0, 0, 28, 28))))
	write("shoe.png", shoe.String())
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	// A folder that is only in the overlay: part of the module, and never on the disk.
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "cmd", "readme", "main.go"): main}})
	require.NoError(t, err)
	run := exec.Command("go", "run", "-overlay", write("overlay.json", string(overlay)), "./cmd/readme")
	run.Dir = root
	out, err := run.CombinedOutput()
	require.NoError(t, err, "%s", out)
	labels, err := os.ReadFile(filepath.Join(root, "models", "fashion", "labels.txt"))
	require.NoError(t, err)
	require.Contains(t, strings.Split(string(labels), "\n"), strings.TrimSpace(string(out)))

	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("SKIPPED: no cc: the C program of the README is not compiled")
	}
	use := write("use.c", block(t, "c", "dynofa_model_open"))
	out, err = exec.Command("cc", "-std=c99", "-Wall", "-Werror", "-fsyntax-only", "-I", filepath.Join(root, "native", "include"), use).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
