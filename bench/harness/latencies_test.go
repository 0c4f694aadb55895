package harness

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"gonum.org/v1/plot/plotter"
)

func TestAtLeast(t *testing.T) {
	require.Equal(t, plotter.XYs{{X: 1, Y: 1}, {X: 2, Y: 0.75}, {X: 2, Y: 0.5}, {X: 5, Y: 0.25}}, atLeast([]int64{2e6, 5e6, 1e6, 2e6}))
	var ns []int64
	for i := range 100000 {
		ns = append(ns, int64(i+1))
	}
	line := atLeast(ns)
	require.Less(t, len(line), 1000, "a line needs no more")
	for _, p := range line { // values 1 to n are at least v in n-v+1 cases
		require.InDelta(t, 1-(1e6*p.X-1)/1e5, p.Y, 1e-9)
	}
	require.InDelta(t, 1e-5, line[len(line)-1].Y, 1e-12, "the largest value is the end")
}

func TestLatencies(t *testing.T) {
	r := sampleResult(t)
	offline := r.Rows[0]
	offline.Scenario = Offline
	server := r.Rows[1]
	server.Scenario = Server
	r.Rows = append(r.Rows, offline, server)
	f, err := Latencies(r)
	require.NoError(t, err)
	require.Len(t, f.Plots, 2, "a plot a scenario, offline has none")
	path := filepath.Join(t.TempDir(), "latencies.svg")
	require.NoError(t, f.Save(path))
	svg, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, text := range []string{"singlestream, m.dofa on native/ref, threads: 1", "level 0", "level 1", "dirty chunks", "p99", "server, "} {
		require.Contains(t, string(svg), text)
	}
	// Both levels have clean and dirty chunks, and the legends name dirty ones.
	require.Regexp(t, `(?s)(stroke-dasharray.*){5}`, string(svg))

	_, err = Latencies(&Result{Rows: []Measured{offline}, name: "sample"})
	require.ErrorContains(t, err, "sample: no row with latencies")
	many := &Result{}
	for threads := range 13 {
		m := r.Rows[0]
		m.Threads = threads + 1
		many.Rows = append(many.Rows, m)
	}
	_, err = Latencies(many)
	require.ErrorContains(t, err, "expected 1 to 12")
}
