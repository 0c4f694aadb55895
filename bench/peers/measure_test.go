package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// fake is an engine whose worker is a shell script; ms is the time it claims for every run.
func fake(t *testing.T, name string, ms int, logits string) (*engine, []string) {
	t.Helper()
	text := `echo '{"version":"` + name + ` 1"}'
		while read -r what n; do case $what in
		run) v=$(yes ` + fmt.Sprint(ms*1000000) + ` | head -n $n | paste -sd, -); echo "{\"wall\":[$v],\"cpu\":[$v]}" ;;
		logits) echo '{"logits":` + logits + `}' ;;
		esac; done`
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return &engine{name: name, title: strings.ToUpper(name), layout: "nhwc", file: "dofa"}, []string{"sh", path}
}

func fakes(t *testing.T) (*network, plan) {
	n := &network{name: "net", macs: 1e9, classes: 2, bundle: "net.dofa", images: map[string]string{"nhwc": "image"}}
	p := plan{rounds: 3, runs: 2, threads: []int{1, 2}, programs: map[*engine][]string{}, progress: func() {}, warn: func(string) {}}
	for _, e := range []struct {
		name   string
		ms     int
		logits string
	}{{"dynofa", 10, "[1,2]"}, {"slow", 15, "[1,2.00001]"}, {"wrong", 1, "[1,2.1]"}} {
		engine, program := fake(t, e.name, e.ms, e.logits)
		p.engines = append(p.engines, engine)
		p.programs[engine] = program
	}
	return n, p
}

func TestMeasure(t *testing.T) {
	n, p := fakes(t)
	broken, _ := fake(t, "broken", 1, "[1,2]")
	p.engines = append(p.engines, broken)
	p.programs[broken] = []string{"sh", "-c", "echo its library is missing >&2; exit 1"}
	var warnings []string
	p.warn = func(text string) { warnings = append(warnings, text) }
	rounds := 0
	p.progress = func() { rounds++ }

	results, peaks, err := measure(&shop{root: "nowhere"}, n, p)
	require.NoError(t, err)
	require.Empty(t, peaks)
	require.Equal(t, p.rounds, rounds)
	require.Len(t, warnings, 2)
	require.Contains(t, warnings[0], "WRONG")
	require.Contains(t, warnings[1], "its library is missing")
	for _, e := range []string{"dynofa", "slow"} {
		require.Empty(t, results[e].Failure)
		for _, threads := range p.threads {
			require.Len(t, results[e].Blocks[threads], p.rounds)
			for _, b := range results[e].Blocks[threads] {
				require.Len(t, b.Wall, p.runs)
			}
		}
	}

	require.True(t, results["wrong"].Wrong)
	require.False(t, results["broken"].Wrong)
	r := report{Networks: []networkReport{compare(n, p.engines, results, map[int][]float64{1: {4e11}, 2: {8e11}})}}
	r.summarise(p.engines, p.threads)
	require.ErrorIs(t, r.agree(), errWrong)
	require.InDelta(t, 1.5, r.Geomean["slow"][1], 1e-9)
	require.InDelta(t, 1.5, r.Best[2], 1e-9, "a wrong engine is not ranked, however fast")
	require.NotContains(t, r.Geomean, "wrong")
	require.NotContains(t, r.Networks[0].Engines, "broken")
	require.InDelta(t, 0.5, r.Networks[0].Engines["dynofa"].OfPeak[1], 1e-9) // 2e9 / 10 ms / 4e11
	require.InDelta(t, 1, r.Networks[0].Speedup, 1e-9)
	require.InDelta(t, 1, compareBusy(n, p.engines, results).Ratio["slow"], 1e-9)
	delete(results, "wrong")
	require.NoError(t, r.agree())
}

func TestOursMustNotFail(t *testing.T) {
	n, p := fakes(t)
	p.programs[p.engines[0]] = []string{"sh", "-c", "echo no such level >&2; exit 1"}
	_, _, err := measure(&shop{root: "nowhere"}, n, p)
	require.ErrorContains(t, err, "no such level")
}

func TestEnginesThatAreMissingAreSkippedAloud(t *testing.T) {
	dir := t.TempDir()
	s := &shop{root: dir, folder: dir, cache: dir, environments: []string{filepath.Join(dir, ".venv"), filepath.Join(dir, "other")}}
	list, err := choose(nil)
	require.NoError(t, err)
	ours := *list[0]
	ours.build = func(*shop) ([]string, error) { return []string{"true"}, nil }
	list = slices.Clone(list)
	list[0] = &ours

	var warnings []string
	programs, there, err := build(s, list, func(text string) { warnings = append(warnings, text) })
	require.NoError(t, err)
	require.Equal(t, []*engine{&ours}, there)
	require.Len(t, programs, 1)
	require.Len(t, warnings, len(engines)-1)
	for i, e := range engines[1:] {
		require.True(t, strings.HasPrefix(warnings[i], e.title+": "), warnings[i])
		require.NotContains(t, warnings[i], dir, "no path of this machine")
	}

	ours.build = func(*shop) ([]string, error) { return nil, os.ErrNotExist }
	_, _, err = build(s, list, func(string) {})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestChoose(t *testing.T) {
	list, err := choose([]string{"mnn", "onnxruntime"})
	require.NoError(t, err)
	var got []string
	for _, e := range list {
		got = append(got, e.name)
	}
	require.Equal(t, []string{"dynofa", "onnxruntime", "mnn"}, got)
	_, err = choose([]string{"tensorrt"})
	require.ErrorContains(t, err, `no engine "tensorrt", expected some of dynofa, onnxruntime`)
}

// Every engine has what its line promises, and only files that exist are converted.
func TestEngineTable(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range engines {
		require.False(t, seen[e.name], e.name)
		seen[e.name] = true
		require.Contains(t, []string{"nhwc", "nchw"}, e.layout, e.name)
		require.NotNil(t, e.build, e.name)
		own := e.file != "dofa" && e.file != "onnx"
		require.Equal(t, own, e.convert != nil, e.name)
		if own {
			require.FileExists(t, filepath.Join("workers", "peer_"+e.name+".py"))
		}
	}
}
