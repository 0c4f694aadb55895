package harness

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tools that read our formats, themselves. Each is skipped where it is not installed.

// slower is the sample with every time a half longer.
func slower(t *testing.T) *Result {
	r := sampleResult(t)
	for i := range r.Rows {
		for k := range r.Rows[i].Chunks {
			for n := range r.Rows[i].Chunks[k].NS {
				r.Rows[i].Chunks[k].NS[n] = r.Rows[i].Chunks[k].NS[n] * 3 / 2
			}
		}
	}
	return r
}

// governing is a result with rows of a governor, which misses more by so many points, after those of times.
func governing(t *testing.T, r *Result, more float64) *Result {
	g := *governedResult(t)
	miss := []float64{more + 1, more + 1.2, more + 0.9, more + 1.1, more + 1, more + 1.3, more + 0.8}
	g.Governed[0].Miss, g.Governed[0].Regret, g.Governed[0].Switches = miss, []float64{-0.1, 0, 0.1, 0, 0, 0.1, -0.1}, []float64{5, 6, 5, 6, 5, 6, 5}
	r.Governed = g.Governed
	return r
}

// written is a file with results in a format.
func written(t *testing.T, name, format string, results ...*Result) string {
	var b bytes.Buffer
	require.NoError(t, Export(&b, format, results))
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}

func TestBenchstatReadsGoText(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: benchstat is not built")
	}
	out, err := exec.Command("go", "run", "golang.org/x/perf/cmd/benchstat",
		written(t, "old.txt", "go", governing(t, sampleResult(t), 0)), written(t, "new.txt", "go", governing(t, slower(t), 5))).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `Governor/scenario=G1_load_step/policy=steady +1\.0\S* .* 6\.0\S* .*\+500\.00% \(p=0\.00\d n=7\)`, string(out), "%s", out)
	require.Contains(t, string(out), "regret-points", "%s", out)
	require.Regexp(t, `level=0\S*\s.*\+50\.00% \(p=0\.00\d n=7\)`, string(out), "%s", out)
	require.Contains(t, string(out), "dirty=yes")
	require.Regexp(t, `images/sec +vs base`, string(out), "%s", out)
	require.NotContains(t, string(out), "warning", "%s", out)
}

func TestGoogleBenchmarksCompare(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: another program's time")
	}
	const compare = "/usr/share/benchmark/compare.py"
	if _, err := os.Stat(compare); err != nil {
		t.Skipf("SKIPPED: no %s (Debian: libbenchmark-tools)", compare)
	}
	python := os.Getenv("DYNOFA_PYTHON")
	if python == "" {
		python = filepath.Join("..", "..", ".venv", "bin", "python")
	}
	if err := exec.Command(python, "-c", "import scipy").Run(); err != nil {
		t.Skip("SKIPPED: no scipy in .venv; make deps installs it")
	}
	out, err := exec.Command(python, compare, "--no-color", "benchmarks", written(t, "a.json", "gbench", governing(t, sampleResult(t), 0)),
		written(t, "b.json", "gbench", governing(t, slower(t), 5))).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NotContains(t, string(out), "governor/", "it compares times alone: %s", out)
	require.NotContains(t, string(out), "Warning", "%s", out)
	alone := written(t, "g.json", "gbench", governedResult(t))
	governed, err := exec.Command(python, compare, "--no-color", "benchmarks", alone, alone).CombinedOutput()
	require.NoError(t, err, "%s", governed)
	require.Regexp(t, `level=0\S*_median +\+0\.49`, string(out), "%s", out)
	require.Contains(t, string(out), "_pvalue", "%s", out)
}

func TestOtavaFindsTheShift(t *testing.T) {
	otava, err := exec.LookPath("otava")
	if err != nil {
		t.Skip("SKIPPED: no otava in PATH (Apache Otava 0.8.0 of PyPI; it wants another numpy than .venv has)")
	}
	var results []*Result
	for i := range 24 {
		r := sampleResult(t)
		if i >= 12 {
			r = slower(t)
		}
		for k := range r.Rows[0].Chunks { // some noise, or its test has no variance
			r.Rows[0].Chunks[k].NS[0] += int64(i % 3)
			for n := range r.Rows[0].Chunks[k].NS {
				r.Rows[0].Chunks[k].NS[n] += int64(i * 7 % 5)
			}
		}
		governing(t, r, float64(i%3)/10)
		if i >= 6 {
			governing(t, r, 3+float64(i%3)/10)
		}
		r.Environment.Time = r.Environment.Time.Add(time.Duration(i) * time.Hour)
		r.Environment.Version = fmt.Sprintf("v0.%d", i)
		results = append(results, r)
	}
	data := written(t, "series.csv", "otava", results...)
	head, err := os.ReadFile(data)
	require.NoError(t, err)
	columns := strings.Split(strings.SplitN(string(head), "\n", 2)[0], ",")
	miss := columns[slices.IndexFunc(columns, func(c string) bool { return strings.HasSuffix(c, "_miss") })]
	config := filepath.Join(filepath.Dir(data), "otava.yaml")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil,
		"tests:\n  bench:\n    type: csv\n    file: %s\n    time_column: time\n    attributes: [version]\n    metrics:\n"+
			"      latency:\n        column: %s\n        direction: -1\n      miss:\n        column: %s\n        direction: -1\n", data, columns[2], miss), 0o644))
	cmd := exec.Command(otava, "analyze", "bench", "--since", "2023-01-01", "--output", "json")
	cmd.Env = append(os.Environ(), "OTAVA_CONFIG="+config)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `(?s)v0\.6".*miss.*v0\.12".*latency`, string(out))
	for _, version := range []string{"v0.5", "v0.7", "v0.11", "v0.13"} {
		require.NotContains(t, string(out), version+`"`)
	}
}
