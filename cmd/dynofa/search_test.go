package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// TestPredictorAndSearch trains a predictor for the shipped space from made-up accuracies and searches with it.
func TestPredictorAndSearch(t *testing.T) {
	model := filepath.Join("..", "..", "models", "fashion", "fashion.dofa")
	space, err := bundleSpace(model)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	var pairs []predictor.Pair
	for range 80 {
		n := space.Sample(rng)
		macs, _ := space.Cost(n)
		pairs = append(pairs, predictor.Pair{Subnet: n, Accuracy: 0.9 + float64(macs)/1e9, Images: 10000})
	}
	dir := t.TempDir()
	file, out := filepath.Join(dir, "pairs.json"), filepath.Join(dir, "p.safetensors")
	require.NoError(t, writeJSON(file, map[string]any{"pairs": pairs}))
	var report predictor.Report
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "predictor", file, "--space", model, "-o", out, "--json")), &report))
	require.Equal(t, 80, report.Pairs)
	require.Greater(t, report.Spearman, 0.8)
	require.Contains(t, succeed(t, "predictor", file, "--space", model, "-o", out), "80 networks; on 16 held out: ")

	var one searched
	args := []string{"search", "--space", model, "--predictor", out, "--generations", "20", "--max-macs", "1e6"}
	require.NoError(t, json.Unmarshal([]byte(succeed(t, append(args, "--json")...)), &one))
	require.NoError(t, space.Check(one.Subnet))
	macs, _ := space.Cost(one.Subnet)
	require.Equal(t, macs, one.MACs)
	require.LessOrEqual(t, macs, int64(1e6))
	require.Nil(t, one.LatencyMS)
	require.Positive(t, one.Seconds)
	require.Contains(t, succeed(t, args...), space.Text(one.Subnet))

	plot := filepath.Join(dir, "new", "front.svg")
	var front []searched
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "search", "--space", model, "--predictor", out, "--generations", "20", "--front", "6",
		"--plot", plot, "--json")), &front))
	require.Greater(t, len(front), 3)
	for i := 1; i < len(front); i++ {
		require.Greater(t, front[i].MACs, front[i-1].MACs)
		require.Greater(t, front[i].Accuracy, front[i-1].Accuracy)
	}
	svg, err := os.ReadFile(plot)
	require.NoError(t, err)
	require.Contains(t, string(svg), "predicted accuracy")

	for want, c := range map[string]struct {
		code int
		args []string
	}{
		"no sub-network within 1000 MACs, expected at least ": {exitNo, []string{"--max-macs", "1000"}},
		"accuracy 0.99 was not found within the limit":        {exitNo, []string{"--max-macs", "1e6", "--min-accuracy", "0.99"}},
		"no limit, expected --max-latency":                    {exitUsage, nil},
		"--max-latency without --table":                       {exitUsage, []string{"--max-latency", "5"}},
		"expected one of them":                                {exitUsage, []string{"--max-latency", "5", "--max-macs", "1e6"}},
		"the limit is NaN":                                    {exitUsage, []string{"--max-macs", "NaN"}},
		"--front is 1001, expected 1 to 1000":                 {exitUsage, []string{"--front", "1001"}},
		"--plot without --front, expected both":               {exitUsage, []string{"--max-macs", "1e6", "--plot", plot}},
		"--plot x.pdf: expected a name that ends in":          {exitUsage, []string{"--front", "2", "--plot", "x.pdf"}},
		"kernels is 9, expected one of [3 5 7]":               {exitUsage, []string{"--max-macs", "1e6", "--kernels", "9"}},
	} {
		code, _, errs := command(append([]string{"search", "--space", model, "--predictor", out, "--generations", "5"}, c.args...)...)
		require.Equal(t, c.code, code, want)
		require.Contains(t, errs, want)
	}
	code, _, errs := command("search", "--predictor", out, "--max-macs", "3e8")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "trained for another space")
}

func TestSearchAgainstReference(t *testing.T) {
	table, p := reference(t, "latency_table@jetson_GPU"), reference(t, "acc_predictor.pth")
	var f searched
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "search", "--table", table, "--max-latency", "18.61", "--predictor", p, "--json")), &f))
	require.NoError(t, ofa.MobileNetV3(1.2, 1000).Check(f.Subnet))
	require.LessOrEqual(t, *f.LatencyMS, 18.61)
	require.Greater(t, f.Accuracy, 0.8167, "the original's best of three")
}
