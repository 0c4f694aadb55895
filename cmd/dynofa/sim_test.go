package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sim"
)

func TestSim(t *testing.T) {
	g1 := filepath.Join("..", "..", "governor", "sim", "suite", "g01.json")
	out := succeed(t, "sim", g1, "--policy", "steady", "--policy", "dynamicofa-free", "--seeds", "3", "--json")
	var tables []sim.Table
	require.NoError(t, json.Unmarshal([]byte(out), &tables))
	require.Len(t, tables, 1)
	require.Less(t, tables[0].Row("steady").Regret.Mean, 1.0)
	require.Greater(t, tables[0].Row("dynamicofa-free").Regret.Mean, 10.0)

	out = succeed(t, "sim", "--policy", "steady", "--seeds", "1")
	require.Contains(t, out, "Mean over 16 scenarios")
	require.Contains(t, out, "oracle")
	require.Contains(t, succeed(t, "sim", g1, "--ablation", "--seeds", "1"), "no feed-forward")
	require.Contains(t, succeed(t, "sim", g1, "--bundle", filepath.Join("..", "..", "models", "fashion", "fashion.dofa"), "--policy", "steady", "--seeds", "1"), "steady")

	// Folders that outputs need are made; where sensors say nothing, the picture has no place for them.
	plain := filepath.Join(t.TempDir(), "plain.json")
	require.NoError(t, os.WriteFile(plain, []byte(`{"name": "x", "length_ms": 2000, "constraints": {"deadline_ms": 60}}`), 0o600))
	for scenario, sensors := range map[string]bool{g1: true, plain: false} {
		plot := filepath.Join(t.TempDir(), "new", "g1.svg")
		succeed(t, "sim", scenario, "--policy", "steady", "--plot", plot)
		data, err := os.ReadFile(plot)
		require.NoError(t, err)
		require.Contains(t, string(data), "deadline")
		require.Contains(t, string(data), "time, s")
		require.Equal(t, sensors, strings.Contains(string(data), "sensors"), scenario)
	}
	require.NotContains(t, out, "without their sensors")
	run := filepath.Join(t.TempDir(), "run.jsonl")
	require.NoError(t, made().write(run))
	require.Contains(t, succeed(t, "sim", run, "--policy", "steady", "--seeds", "1"), "Recorded runs are replayed without their sensors")
	recorded := filepath.Join(t.TempDir(), "new", "r.jsonl")
	succeed(t, "sim", g1, "--policy", "steady", "--seeds", "2", "--record", recorded)
	require.FileExists(t, recorded)
	code, _, errs := command("sim", recorded)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, recorded+": a result file of bench, govern or sim, expected a scenario or a recorded run")
	require.Contains(t, strings.Join(strings.Fields(succeed(t, "sim", "--help")), " "), "alert-best, static-best.")
}

func TestSimRefuses(t *testing.T) {
	dir := t.TempDir()
	bad, good := filepath.Join(dir, "bad.json"), filepath.Join("..", "..", "governor", "sim", "suite", "g01.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"name": "x", "speed": 1}`), 0o644))
	for want, args := range map[string][]string{
		`unknown field "speed"`:                                 {bad},
		`policy "best", expected one of`:                        {"--policy", "best"},
		"--seeds is 0, expected 1":                              {"--seeds", "0"},
		"no such file":                                          {"absent.json"},
		"--plot with 16 scenarios, expected one":                {"--plot", filepath.Join(dir, "x.svg")},
		"--plot with 2 policies, expected one; default: steady": {good, "--plot", filepath.Join(dir, "x.svg"), "--policy", "steady,alert"},
		"x.pdf: expected a name that ends in .svg or .png":      {"--plot", "x.pdf"},
		"--plot and --record can't be used together":            {"--plot", filepath.Join(dir, "x.svg"), "--record", "r.jsonl"},
		"--policy and --ablation can't be used together":        {"--policy", "steady", "--ablation"},
		"mkdir " + bad + ": not a directory":                    {"--plot", filepath.Join(bad, "x.svg")},
	} {
		code, _, errs := command(append([]string{"sim"}, args...)...)
		require.Equal(t, exitUsage, code, want)
		require.Contains(t, errs, want)
		require.NotContains(t, errs, ".tmp")
	}
}
