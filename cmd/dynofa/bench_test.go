package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/bench/regress"
	"github.com/dynofa/dynofa/gofacade/dynofa"
)

const fashion, fashionTest = "../../models/fashion/fashion.dofa", "../../models/fashion/test"

// benchRun measures the shipped model for a moment and returns the result file.
func benchRun(t *testing.T, flags ...string) (file, out string) {
	file = filepath.Join(t.TempDir(), "run.jsonl")
	args := []string{"bench", "run", fashion, "--data", fashionTest, "-o", file}
	return file, succeed(t, append(args, flags...)...)
}

func TestBenchRunEveryScenario(t *testing.T) {
	plot, pprof := filepath.Join(t.TempDir(), "new", "latencies.svg"), filepath.Join(t.TempDir(), "p.pb.gz")
	file, out := benchRun(t, "--scenario", "singlestream,multistream,server,offline", "--level", "0", "--duration", "20ms", "--qps", "200",
		"--bound", "1s", "--layers", "--pprof", pprof, "--plot", plot)
	require.FileExists(t, plot)
	for _, path := range []string{file, pprof, plot} {
		require.Contains(t, out, "wrote "+path+"\n")
	}
	for _, s := range harness.Scenarios() {
		require.Contains(t, out, string(s))
	}
	require.Contains(t, out, "energy n/a")
	require.NotContains(t, out, "MLPerf")
	r, err := harness.ReadFile(file)
	require.NoError(t, err)
	require.Len(t, r.Rows, 4)
	for i := range r.Rows {
		m := &r.Rows[i]
		require.True(t, m.Complete)
		require.NotEmpty(t, m.Layers.Parts)
		s := m.Summarize()
		if m.Scenario == harness.SingleStream {
			require.GreaterOrEqual(t, s.Queries, 64)
			require.True(t, s.Valid, "%+v", s)
			require.GreaterOrEqual(t, s.P90MS, s.MedianMS)
		}
		var macs int64
		for _, p := range m.Layers.Parts {
			macs += p.MACs
		}
		require.Equal(t, m.MACs, macs, "the parts are the whole network")
	}
	for _, format := range []string{"go", "json", "otava", "gbench", "gha", "table"} {
		require.NotEmpty(t, succeed(t, "bench", "export", file, "--format", format), format)
	}
	again := filepath.Join(t.TempDir(), "again.svg")
	require.Equal(t, "wrote "+again+"\n", succeed(t, "bench", "export", file, "--format", "plot", "-o", again))
	text := filepath.Join(t.TempDir(), "text")
	require.Equal(t, "wrote "+text+"\n", succeed(t, "bench", "export", file, "-o", text))
	require.FileExists(t, text)
	drawn, err := os.ReadFile(plot)
	require.NoError(t, err)
	redrawn, err := os.ReadFile(again)
	require.NoError(t, err)
	require.Equal(t, string(drawn), string(redrawn))
}

func TestBenchRunBackendsAndThreads(t *testing.T) {
	engines := slices.DeleteFunc(dynofa.Backends(), func(b string) bool { _, ok := dynofa.DeviceNumber(b); return ok }) // have files of their own
	file, out := benchRun(t, "--level", "0,1", "--threads", "1,2", "--duration", "5ms", "--backends", strings.Join(engines, ","), "--json")
	var v struct{ Rows []harness.Summary }
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.Len(t, v.Rows, 4*len(engines))
	// The same file is no regression of itself, but five chunks are more than 5 ms has.
	code, _, errs := command("bench", "compare", file, file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "measure with a longer --duration")
}

func TestBenchRefusesWrongInput(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		return path
	}
	file, _ := benchRun(t, "--level", "0", "--duration", "5ms")
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	mixed := write("mixed.jsonl", string(data)+string(data))
	broken := write("broken.jsonl", strings.Replace(string(data), `"ns":[`, `"ns":[-5,`, 1))
	text := write("text.jsonl", "BenchmarkX 1 2 ns/op\n")
	other := write("other.jsonl", strings.Replace(string(data), `"fingerprint":"`, `"fingerprint":"x`, 1))
	for _, c := range []struct {
		want string
		args []string
	}{
		{"a second header", []string{"export", mixed}},
		{"broken.jsonl:3: value 0 of the chunk is -5 ns", []string{"compare", file, broken}},
		{"text.jsonl:1:", []string{"history", "--add", text}},
		{"expected the same", []string{"compare", file, other}},
		{"expected two of a kind", []string{"compare", file, fashion}},
		{"no such file", []string{"compare", "none.jsonl", file}},
		{"expected a bundle (.dofa), a result file (.jsonl) or a build of dynofa", []string{"compare", write("a.txt", ""), write("b.txt", ""), "--model", fashion}},
		{`--scenario "x"`, []string{"run", fashion, "--scenario", "x"}},
		{"x.bmp: expected a name that ends in .svg or .png", []string{"run", fashion, "--plot", "x.bmp"}},
		{"--duration 0s, expected more than zero", []string{"run", fashion, "--duration", "0s"}},
		{"has a value twice, expected each once", []string{"run", fashion, "--duration", "1ms", "--level", "0,1,0", "-o", filepath.Join(t.TempDir(), "r.jsonl")}},
		{"has a value twice, expected each once", []string{"run", fashion, "--duration", "1ms", "--level", "0", "--threads", "1,1", "-o", filepath.Join(t.TempDir(), "r.jsonl")}},
		{"--qps -1, expected 0, which searches for it, to 1e9", []string{"run", fashion, "--qps=-1"}},
		{"--qps NaN", []string{"run", fashion, "--qps", "NaN"}},
		{"--bound -1s, expected 0, which is four inferences, or more", []string{"run", fashion, "--bound=-1s"}},
		{"--format plot without --output, expected a file that ends in .svg or .png", []string{"export", file, "--format", "plot"}},
		{"--format plot of 2 results, expected one", []string{"export", file, file, "--format", "plot", "-o", "x.svg"}},
		{file + ": no row has timed parts", []string{"export", file, "--format", "pprof"}},
		{"--effect 0, expected more than 0 and less than 100 percent", []string{"compare", file, file, "--effect", "0"}},
		{"--effect 100, expected more than 0 and less than 100 percent", []string{"history", "--effect", "100"}},
		{"--alpha 0, expected 0.1 to 20 percent", []string{"compare", file, file, "--alpha", "0"}},
		{"expected a fingerprint", []string{"history", "--machine", "../x"}},
		{"expected both or neither", []string{"history", "--accept", "x"}},
		{"expected one: bench history --add", []string{"history", "--baselines", dir}},
		{"--comparisons 0", []string{"aa", fashion, "--comparisons", "0"}},
		{"PART=SHARE", nil},
	} {
		args := append([]string{"bench"}, c.args...)
		if c.args == nil {
			t.Setenv("DYNOFA_BENCH_SLOW", "all")
			args = append(args, "worker", fashion)
		}
		code, _, errs := command(args...)
		require.Equal(t, exitUsage, code, "%s", args)
		require.Contains(t, errs, c.want)
		require.Equal(t, 1, strings.Count(errs, "\n"), "%s", errs)
	}
}

// One comparison of each kind; DYNOFA_BENCH_SLOW makes the second worker slower on purpose.
func TestBenchCompareBuilds(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: no comparison is measured")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	slow := filepath.Join(t.TempDir(), "slow")
	require.NoError(t, os.WriteFile(slow, []byte("#!/bin/sh\nDYNOFA_BENCH_SLOW=run=0.2 exec "+self+" \"$@\"\n"), 0o755))
	compare := func(a, b string) (int, regress.Comparison, string) {
		code, out, errs := command("bench", "compare", a, b, "--model", fashion, "--data", fashionTest, "--level", "2", "--json", "--baselines", t.TempDir())
		var c regress.Comparison
		require.NoError(t, json.Unmarshal([]byte(out), &c), errs)
		return code, c, errs
	}
	code, c, _ := compare(self, slow)
	require.Equal(t, exitNo, code, "%+v", c)
	require.Equal(t, regress.Regression, c.Verdict)
	require.InDelta(t, 0.2, c.Rows[0].Change, 0.1)
	code, c, _ = compare(fashion, fashion)
	require.Contains(t, []int{0, exitInconclusive}, code, "%+v", c)
	require.Contains(t, []regress.Verdict{regress.Same, regress.Inconclusive}, c.Verdict)
	code, _, errs := command("bench", "compare", "/bin/true", "/bin/true", "--model", fashion)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "does this build have bench worker?")
}

// retime gives a result file another time, so that it is another result.
func retime(t *testing.T, file string, second int) {
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	re := regexp.MustCompile(`"time":"[^"]*"`)
	require.Len(t, re.FindAll(data, -1), 1)
	require.NoError(t, os.WriteFile(file, re.ReplaceAll(data, fmt.Appendf(nil, `"time":"2026-01-01T00:00:%02dZ"`, second)), 0o644))
}

func TestBenchHistory(t *testing.T) {
	folder := t.TempDir()
	file, _ := benchRun(t, "--level", "0", "--duration", "5ms")
	code, _, errs := command("bench", "history", "--add", file, "--baselines", folder)
	require.Equal(t, exitUsage, code, "a test's program knows no version")
	require.Contains(t, errs, file+` is of version "devel", which is no revision, expected --revision`)
	out := succeed(t, "bench", "history", "--add", file, "--revision", "abc", "--baselines", folder)
	require.Contains(t, out, "1 results")
	code, _, errs = command("bench", "history", "--add", file, "--revision", "def", "--baselines", folder)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, `already, as revision "abc"`)
	require.Equal(t, 1, strings.Count(errs, "\n"))
	retime(t, file, 1)
	plot := filepath.Join(folder, "h.svg")
	out = succeed(t, "bench", "history", "--add", file, "--revision", "def", "--baselines", folder, "--accept", "def", "--why", "known", "--plot", plot, "--json")
	var s []regress.Series
	require.NoError(t, json.Unmarshal([]byte(out), &s))
	require.Equal(t, []string{"abc", "def"}, s[0].Revisions)
	require.FileExists(t, plot)
	require.Contains(t, succeed(t, "bench", "history", "--baselines", folder, "--plot", plot), "wrote "+plot+"\n")
}

func TestBenchSelfTestIsTheGatesFloor(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: no comparison is measured")
	}
	folder := t.TempDir()
	out := succeed(t, "bench", "aa", fashion, "--data", fashionTest, "--level", "0", "--comparisons", "1", "--baselines", folder, "--json")
	var l regress.Limit
	require.NoError(t, json.Unmarshal([]byte(out), &l))
	require.Greater(t, l.Finds, 0.0)
	code, _, errs := command("bench", "compare", fashion, fashion, "--data", fashionTest, "--effect", "0.001", "--baselines", folder)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "below what this machine finds")
}

// A governor's runs, simulated and live, are rows of the same record.
func TestGovernorInTheRecord(t *testing.T) {
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name+".jsonl") }
	g1 := filepath.Join("..", "..", "governor", "sim", "suite", "g01.json")
	play := func(name, policy string) { // the policy's name would tell them apart
		succeed(t, "sim", g1, "--policy", policy, "--seeds", "6", "--record", path(name))
		data, err := os.ReadFile(path(name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path(name), []byte(strings.ReplaceAll(string(data), policy, "steady")), 0o644))
	}
	play("good", "steady")
	play("again", "steady")
	play("bad", "dynamicofa-free")
	require.Contains(t, succeed(t, "bench", "compare", path("good"), path("again")), "same")
	code, out, errs := command("bench", "compare", path("good"), path("bad"))
	require.Equal(t, exitNo, code, "%s%s", out, errs)
	require.Contains(t, errs, "governor/scenario=G1_fig7/policy=steady/regret")
	for i := range 8 {
		name := "good"
		if i >= 4 {
			name = "bad"
		}
		retime(t, path(name), i)
		succeed(t, "bench", "history", "--add", path(name), "--revision", fmt.Sprint("r", i), "--baselines", folder)
	}
	require.Regexp(t, `(?m)^governor/scenario=G1_fig7/policy=steady/regret: 8 results, last \S+ regret-points\n  \+\S+ regret-points at r4 `,
		succeed(t, "bench", "history", "--baselines", folder))

	succeed(t, "govern", fashion, "--data", fashionTest, "--deadline", "25", "--compare", "steady,dynamicofa-free", "--repeat", "2", "--seconds", "100ms",
		"--record", path("live"))
	require.Regexp(t, `BenchmarkGovernor/scenario=live,_25_ms,_load_none/policy=steady 1 \S+ miss-% \S+ regret-points`, succeed(t, "bench", "export", path("live")))
}
