package arrows

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// listed is what go list says of a package.
type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	ImportMap       map[string]string
}

// checked is a package by import path, as its importers see it.
type checked struct {
	packages map[string]*types.Package
	names    map[string]string // the importer's ImportMap
}

func (c checked) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if name, ok := c.names[path]; ok {
		path = name
	}
	if p := c.packages[path]; p != nil {
		return p, nil
	}
	return nil, errors.New("not listed before it is imported")
}

// A system with neither mmap nor Linux's sensors has files in their place, and tests too. go vet would compile all that
// they import, the standard library first: two minutes of a CPU.
func TestAnotherSystemTypeChecks(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: the full run has it")
	}
	list := exec.Command("go", "list", "-deps", "-test", "-json=ImportPath,Dir,GoFiles,ImportMap", "./...")
	list.Dir, list.Env = root, append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	list.Stderr = os.Stderr
	out, err := list.Output()
	require.NoError(t, err)
	files, packages, ours, others := token.NewFileSet(), map[string]*types.Package{}, 0, 0
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if p.ImportPath == "unsafe" || strings.HasSuffix(p.ImportPath, ".test") { // whose source go test writes
			continue
		}
		var syntax []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			syntax = append(syntax, f)
			if strings.HasSuffix(name, "_other.go") || strings.HasSuffix(name, "_other_test.go") {
				others++
			}
		}
		module := below(strings.Fields(p.ImportPath)[0], module)
		if module {
			ours++
		}
		config := types.Config{
			Importer: checked{packages, p.ImportMap}, Sizes: types.SizesFor("gc", "amd64"), IgnoreFuncBodies: !module,
			Error: func(err error) { t.Errorf("%s: %s", p.ImportPath, err) },
		}
		packages[p.ImportPath], _ = config.Check(p.ImportPath, files, syntax, nil)
	}
	require.Greater(t, ours, 50)
	require.GreaterOrEqual(t, others, 5, "files for other systems")
}
