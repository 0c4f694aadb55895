// Package arrows holds the tree to its own rules: which folder may import which, where cgo may appear, and a
// few habits (README files, package comments, no path of a developer's machine). It reads every source file,
// whatever its build tags, and needs no tool but go test. The same import rules are in .golangci.yml, where an
// editor shows them; a rule changes in both.
package arrows

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/dynofa/dynofa"

// root is the repository.
var root = filepath.Join("..", "..")

// rules says what the packages below a folder may import of this module: packages below one of the listed
// folders. The longest folder counts. Arrows point down only:
// cmd → bench → governor → gofacade → native → kernels, and cuda → native, kernels.
var rules = map[string][]string{
	"kernels": {"kernels"},
	"native":  {"native", "kernels"},
	"cuda":    {"cuda", "native", "kernels"},

	"gofacade":               {"gofacade"},
	"gofacade/ofa":           {},
	"gofacade/internal/capi": {"gofacade", "cuda", "native", "kernels"},

	"governor": {"governor", "gofacade/atomicfile", "gofacade/ofa", "gofacade/bundle", "gofacade/imageio"},
	"bench":    {"bench", "governor", "gofacade", "cuda", "native", "kernels"},
	"cmd":      {"cmd", "bench", "governor", "gofacade"},
	// Without the facade: a program in C brings its own engine, and two of them would not link.
	"cmd/libdynofa_governor": {"governor"},

	"models":      {"models", "gofacade"},
	"third_party": {},
}

// cgo lists the folders whose files may say import "C". All call C but cmd/libdynofa_governor, which C calls: a library
// for C can only be exported with cgo, and the governor itself stays without.
var cgo = []string{"gofacade/internal/capi", "native", "kernels", "cuda", "governor/sensor/nvml", "cmd/libdynofa_governor"}

// source is what one Go file imports.
type source struct {
	file    string // slash-separated, from the root
	imports []string
}

// violations names every import that the rules forbid.
func violations(sources []source) []string {
	var found []string
	for _, s := range sources {
		dir := path.Dir(s.file)
		layer := ""
		for folder := range rules {
			if below(dir, folder) && len(folder) > len(layer) {
				layer = folder
			}
		}
		if layer == "" {
			found = append(found, fmt.Sprintf("%s: Go code in a folder that has no rule", s.file))
			continue
		}
		for _, imp := range s.imports {
			if imp == "C" {
				if !slices.ContainsFunc(cgo, func(folder string) bool { return below(dir, folder) }) {
					found = append(found, fmt.Sprintf(`%s: import "C" outside of %s`, s.file, strings.Join(cgo, ", ")))
				}
				continue
			}
			if !below(imp, module) {
				continue
			}
			target := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			if !slices.ContainsFunc(rules[layer], func(folder string) bool { return below(target, folder) }) {
				found = append(found, fmt.Sprintf("%s: %s imports %q, may import of this module: %q", s.file, layer, target, rules[layer]))
			}
		}
	}
	return found
}

// below tells whether p is the folder or inside it.
func below(p, folder string) bool { return p == folder || strings.HasPrefix(p, folder+"/") }

func TestArrows(t *testing.T) {
	sources := parse(t)
	require.NotEmpty(t, sources)
	for _, v := range violations(sources) {
		t.Error(v)
	}
}

func TestViolationsAreFound(t *testing.T) {
	file := func(name string, imports ...string) source {
		for i, imp := range imports {
			if below(imp, "@") {
				imports[i] = module + strings.TrimPrefix(imp, "@")
			}
		}
		return source{name, imports}
	}
	for _, tc := range []struct {
		name  string
		file  source
		wrong int
	}{
		{"standard library and others' modules", file("gofacade/ofa/a.go", "fmt", "gonum.org/v1/gonum/blas"), 0},
		{"a module whose name begins like ours", file("gofacade/ofa/a.go", module+"x/gofacade/bundle"), 0},
		{"ofa on a sibling", file("gofacade/ofa/a.go", "@/gofacade/bundle"), 1},
		{"ofa on a package below", file("gofacade/ofa/sub/a.go", "@/gofacade/internal/purego"), 1},
		{"a folder that only begins like ofa", file("gofacade/ofax/a.go", "@/gofacade/ofa"), 0},
		{"facade on facade", file("gofacade/dynofa/a.go", "@/gofacade/ofa", "@/gofacade/internal/purego"), 0},
		{"facade on the folders above", file("gofacade/dynofa/a.go", "@/governor", "@/bench/harness", "@/cmd/dynofa"), 3},
		{"facade on C past capi", file("gofacade/dynofa/a.go", "@/native", "@/kernels", "C"), 3},
		{"capi", file("gofacade/internal/capi/a.go", "C", "@/native", "@/kernels", "@/cuda"), 0},
		{"capi on the governor", file("gofacade/internal/capi/a.go", "@/governor"), 1},
		{"governor on types and files", file("governor/library/a.go", "@/gofacade/ofa", "@/gofacade/bundle/torch", "@/gofacade/imageio", "@/governor/sim"), 0},
		{"governor on engines", file("governor/a.go", "@/gofacade/dynofa", "@/gofacade/internal/purego", "@/native"), 3},
		{"governor on the folders above", file("governor/sim/a.go", "@/bench/harness", "@/cmd/dynofa"), 2},
		{"tests obey too", file("governor/a_test.go", "@/gofacade/dynofa"), 1},
		{"nvml alone has cgo", file("governor/sensor/nvml/a.go", "C"), 0},
		{"no cgo beside nvml", file("governor/sensor/thermal/a.go", "C"), 1},
		{"bench on what is below", file("bench/harness/a.go", "@/governor", "@/gofacade/dynofa", "@/kernels/ref"), 0},
		{"bench on cmd", file("bench/harness/a.go", "@/cmd/dynofa"), 1},
		{"cmd", file("cmd/dynofa/a.go", "@/bench/harness", "@/governor/library", "@/gofacade/dynofa"), 0},
		{"the governor for C", file("cmd/libdynofa_governor/a.go", "C", "@/governor/policy", "@/governor/sensor"), 0},
		{"the governor for C on an engine", file("cmd/libdynofa_governor/a.go", "@/gofacade/dynofa"), 1},
		{"cmd past the facade", file("cmd/dynofa/a.go", "@/native", "C"), 2},
		{"models on the facade", file("models/fashion/testset/main.go", "@/gofacade/imageio"), 0},
		{"models on the governor", file("models/fashion/testset/main.go", "@/governor"), 1},
		{"nobody on models", file("bench/harness/a.go", "@/models/fashion"), 1},
		{"native", file("native/a.go", "C", "@/kernels"), 0},
		{"native upwards", file("native/a.go", "@/cuda", "@/gofacade/ofa"), 2},
		{"cuda", file("cuda/a.go", "C", "@/native", "@/kernels"), 0},
		{"kernels upwards", file("kernels/ref/a.go", "@/native"), 1},
		{"the module's root", file("cmd/dynofa/a.go", "@"), 1},
		{"a folder without rules", file("utils/a.go"), 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.Len(t, violations([]source{tc.file}), tc.wrong)
		})
	}
}

// parse reads the imports of every Go file of the module.
func parse(t *testing.T) []source {
	var sources []source
	walk(t, func(name string, _ fs.FileInfo) {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.ImportsOnly)
		require.NoError(t, err)
		s := source{file: name}
		for _, imp := range f.Imports {
			p, err := strconv.Unquote(imp.Path.Value)
			require.NoError(t, err)
			s.imports = append(s.imports, p)
		}
		sources = append(sources, s)
	})
	return sources
}

// notOurs are the folders of the repository's root that git ignores.
var notOurs = []string{"bin", "build", "out", "vendor"}

// walk visits every regular file of the module: not what git ignores, not modules within the module, and of the
// hidden folders only .ci.
func walk(t *testing.T, visit func(name string, info fs.FileInfo)) {
	require.FileExists(t, filepath.Join(root, "go.mod"))
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && name != "." && name != ".ci"
			training, _ := path.Match("models/*/work", name)
			_, nested := os.Stat(filepath.Join(p, "go.mod"))
			if hidden || training || slices.Contains(notOurs, name) || d.Name() == "__pycache__" || name != "." && nested == nil {
				return filepath.SkipDir
			}
			return nil
		}
		if name == ".git" || slices.Contains([]string{".test", ".prof"}, path.Ext(name)) {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() { // a file that is just being replaced may be gone
			visit(name, info)
		}
		return nil
	})
	require.NoError(t, err)
}
