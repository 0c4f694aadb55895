package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func example(t *testing.T) *report {
	t.Helper()
	rounds := func(ms float64) []block { return []block{{Wall: []float64{ms, ms}, CPU: []float64{ms, ms}}} }
	results := map[string]*measured{
		"dynofa": {Version: "1", Blocks: map[int][]block{1: rounds(10), 2: rounds(5)}},
		"peer":   {Version: "2", Blocks: map[int][]block{1: rounds(12), 2: rounds(8)}, Disagreement: 3e-7},
		"wrong":  {Version: "3", Blocks: map[int][]block{}, Disagreement: 0.5, Failure: "logits differ"},
	}
	list := []*engine{{name: "dynofa", title: "dynofa"}, {name: "peer", title: "Peer"}, {name: "wrong", title: "Wrong"}}
	peaks := map[int][]float64{1: {4e11}, 2: {8e11}}
	r := &report{Machine: "2 cores of a test", Date: "2000-01-02", Command: "go run .", Rounds: 1, Runs: 2, Skipped: []string{"Other: not installed"}}
	for _, name := range []string{"a", "b"} {
		n := &network{name: name, macs: 1e9}
		r.Networks = append(r.Networks, compare(n, list, results, peaks))
		r.Busy = append(r.Busy, compareBusy(n, list, results))
	}
	r.summarise(list, []int{1, 2})
	return r
}

func TestMarkdown(t *testing.T) {
	var page bytes.Buffer
	example(t).markdown(&page, []int{1, 2}, "img/peers.svg")
	for _, want := range []string{
		"2000-01-02, on 2 cores of a test",
		"![ratio of each engine to dynofa](img/peers.svg)",
		"| network | dynofa ms | % of peak | Peer ms | ratio | Wrong ms | ratio |\n|---|---:|---:|---:|---:|---:|---:|\n| a | 10.00 | 50 | 12.00 | 1.20 | - | - |\n",
		"| geometric mean |  |  |  | 1.20 |  | - |",
		"| network | dynofa ms | % of peak | speed-up | Peer ms | ratio |",
		"| a | 5.00 | 50 | 2.00 | 8.00 | 1.60 | - | - |",
		"The fastest peer of each network takes 1.60 times as long",
		"| a | 0.50 | 0.67 | - |",
		"| Peer | 2 | 3e-07 |",
		"not ranked: logits differ",
		"SKIPPED: Other: not installed",
	} {
		require.Contains(t, page.String(), want)
	}
}

func TestOutput(t *testing.T) {
	dir := t.TempDir()
	o := &options{json: filepath.Join(dir, "r.json"), markdown: filepath.Join(dir, "docs", "p.md"), plot: filepath.Join(dir, "docs", "img", "p.svg")}
	require.NoError(t, os.MkdirAll(filepath.Dir(o.plot), 0o755))
	var text bytes.Buffer
	require.NoError(t, output(o, example(t), []int{1, 2}, &text))
	require.Contains(t, text.String(), "geometric mean")

	page, err := os.ReadFile(o.markdown)
	require.NoError(t, err)
	require.Contains(t, string(page), "](img/p.svg)")
	picture, err := os.ReadFile(o.plot)
	require.NoError(t, err)
	require.Contains(t, string(picture), "<svg")
	var back report
	data, err := os.ReadFile(o.json)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &back))
	require.Equal(t, example(t), &back)

	o.plot = filepath.Join(dir, "p.gif")
	require.ErrorContains(t, output(o, example(t), []int{1}, &text), "expected .svg or .png")
}

func TestFlags(t *testing.T) {
	for _, tc := range []struct {
		arguments []string
		want      string
	}{
		{[]string{"-rounds", "0"}, "expected 1 or more"},
		{[]string{"-runs", "-3"}, "expected 1 or more"},
		{[]string{"-runs", "1001"}, "at most 1000"},
		{[]string{"w12_n0"}, "expected flags only"},
		{[]string{"-engines", "none"}, "no engine"},
	} {
		err := run(tc.arguments, &bytes.Buffer{}, &bytes.Buffer{})
		require.ErrorContains(t, err, tc.want)
	}
}
