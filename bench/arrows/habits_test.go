package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTopLevelFoldersHaveREADMEs(t *testing.T) {
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(notOurs, e.Name()) {
			if _, err := os.Stat(filepath.Join(root, e.Name(), "README.md")); err != nil {
				t.Errorf("%s/README.md is missing: what the folder owns, what it may import, how to add to it", e.Name())
			}
		}
	}
}

func TestPackagesHaveComments(t *testing.T) {
	packages := map[string]bool{}
	walk(t, func(name string, _ fs.FileInfo) {
		dir := path.Dir(name)
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(dir, "/"), "testdata") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.PackageClauseOnly|parser.ParseComments)
		require.NoError(t, err)
		packages[dir] = packages[dir] || f.Doc != nil
	})
	for dir, has := range packages {
		if !has {
			t.Errorf("%s: no file has a package comment", dir)
		}
	}
}

// machinePath is a path below someone's home or working folder. Spelled in parts, so that this file passes.
var machinePath = regexp.MustCompile(`(?:^|[^\w.~-])(/(?:` + `root|home|work|Users` + `)/[\w.~/-]+|` + `file` + `://[\w.~/-]+)`)

// A file larger than this is data; it is not searched.
const largest = 32 << 20

func TestNoPathOfAMachine(t *testing.T) {
	walk(t, func(name string, info fs.FileInfo) {
		if info.Size() > largest || name == "go.sum" {
			return
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) {
			return
		}
		require.NoError(t, err)
		for _, hit := range machinePath.FindAllSubmatch(data, 3) {
			t.Errorf("%s: %.80q is a path of one machine", name, hit[1])
		}
	})
}

func TestMachinePathsAreFound(t *testing.T) {
	for text, found := range map[string]bool{
		`open ` + `/ro` + `ot/x.dofa`:             true,
		`{"source":"/ho` + `me/user/a.pth"}`:      true,
		`-o=/wo` + `rk/main`:                      true,
		`fi` + `le:///tmp/x`:                      true,
		`/usr/share/datasets/fashion-mnist`:       false,
		`https://example.org/ho` + `me/page.html`: false,
		`$HOME/work/x and ../wo` + `rk/x`:         false,
	} {
		require.Equal(t, found, machinePath.MatchString(text), "%s", text)
	}
}
