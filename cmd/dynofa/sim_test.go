package main

import (
	"encoding/json"
	"os"
	"path/filepath"
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

	plot := filepath.Join(t.TempDir(), "g1.svg")
	succeed(t, "sim", g1, "--policy", "steady", "--plot", plot)
	data, err := os.ReadFile(plot)
	require.NoError(t, err)
	require.Contains(t, string(data), "deadline")
}

func TestSimRefuses(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte(`{"name": "x", "speed": 1}`), 0o644))
	for want, args := range map[string][]string{
		`unknown field "speed"`:          {bad},
		`policy "best", expected one of`: {"--policy", "best"},
		"--seeds is 0, expected 1":       {"--seeds", "0"},
		"no such file":                   {"absent.json"},
		"expected one scenario":          {"--plot", "x.svg"},
	} {
		code, _, errs := command(append([]string{"sim"}, args...)...)
		require.Equal(t, exitUsage, code, want)
		require.Contains(t, errs, want)
	}
}
