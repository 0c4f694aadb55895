package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/profile"
)

// small is a bundle of OFA's own architecture at toy size.
func small(t *testing.T, dir string) (*ofa.Space, string) {
	t.Helper()
	s := ofa.MobileNetV3(0.25, 10)
	s.Resolutions = []int{24, 32}
	path := filepath.Join(dir, "small.dofa")
	require.NoError(t, bundle.Write(path, bundletest.Random(s, 3)))
	return s, path
}

// TestProfileThenScore: the table that profile measures is one that score and the plain format's readers take.
func TestProfileThenScore(t *testing.T) {
	dir := t.TempDir()
	space, model := small(t, dir)
	table := filepath.Join(dir, "made", "table")
	var reports []profile.Report
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "profile", model, "-o", table, "--limit", "1s", "--resolutions", "24", "--json")), &reports))
	require.Len(t, reports, 1)
	r := reports[0]
	require.Equal(t, dynofa.Backends()[0], r.Backend)
	require.Equal(t, 96, r.Keys)
	require.Len(t, r.Networks, 40)
	require.Positive(t, r.Proof.Rank, "this machine may be busy, but larger networks still take longer")

	loaded, err := latency.Load(table)
	require.NoError(t, err)
	require.Equal(t, []int{24}, loaded.Resolutions())
	p := loaded.Profile()
	require.Equal(t, r.Proof, *p.Proof)
	require.Equal(t, "ofa-mbv3, width 0.25, 10 classes", p.Space)
	require.Len(t, p.Bundle, 64)
	require.Contains(t, p.Command, "dynofa profile small.dofa --backend "+r.Backend)
	require.NotContains(t, p.Command, dir)

	// score predicts what the report said.
	cases := struct {
		Cases []ofa.Subnet `json:"cases"`
	}{}
	for _, c := range r.Networks {
		n, err := space.Parse(c.Subnet)
		require.NoError(t, err)
		cases.Cases = append(cases.Cases, n)
	}
	specs := filepath.Join(dir, "specs.json")
	require.NoError(t, writeJSON(specs, cases))
	var scored []library.Scored
	out := succeed(t, "score", "--specs", specs, "--width", "0.25", "--classes", "10", "--table", table, "--json")
	require.NoError(t, json.Unmarshal([]byte(out), &scored))
	for i, c := range r.Networks {
		require.InEpsilon(t, c.Predicted, *scored[i].LatencyMS, 1e-12)
	}
	for _, name := range []string{"scatter.svg", "scatter.png"} {
		info, err := os.Stat(filepath.Join(table, name))
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(1000), name)
	}

	// Another bundle's table does not go there.
	other := filepath.Join(dir, "other.dofa")
	require.NoError(t, bundle.Write(other, bundletest.Random(space, 4)))
	code, _, errs := command("profile", other, "-o", table, "--limit", "1s")
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "holds a table of "+r.Backend)
	require.Equal(t, 1, strings.Count(errs, "\n"), errs)
}

// TestProfileOfSeveral: engines and numbers of threads have a folder each.
func TestProfileOfSeveral(t *testing.T) {
	dir, model, _ := workshop(t)
	out := succeed(t, "profile", model, "-o", dir, "--limit", "1s", "--backend", "purego", "--threads", "1,2")
	require.Contains(t, out, "purego_t2: purego, threads 2: ")
	for threads, folder := range map[int]string{1: "purego_t1", 2: "purego_t2"} {
		table, err := latency.Load(filepath.Join(dir, folder))
		require.NoError(t, err)
		require.Equal(t, []int{20, 28}, table.Resolutions(), "all of the space's")
		require.Equal(t, threads, table.Profile().Threads)
	}
	_, err := latency.Load(dir)
	require.ErrorContains(t, err, `there are tables in its folders ["purego_t1" "purego_t2"], name one`)
}

func TestProfileRefuses(t *testing.T) {
	dir := t.TempDir()
	_, model := small(t, dir)
	out := filepath.Join(dir, "out")
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"resolution": {[]string{model, "-o", out, "--resolutions", "24,25"}, "resolution is 25, expected one of [24 32]"},
		"limit":      {[]string{model, "-o", out, "--limit", "0s"}, "--limit is 0s, expected a time above zero"},
		"threads":    {[]string{model, "-o", out, "--threads", "1,0"}, "--threads is 0, expected 1 or more"},
		"backend":    {[]string{model, "-o", out, "--backend", "tpu"}, `no backend "tpu"`},
		"no bundle":  {[]string{filepath.Join(dir, "none.dofa"), "-o", out}, "none.dofa"},
		"no folder":  {[]string{model, "-o", model}, "small.dofa"},
		"no output":  {[]string{model}, "--output"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := command(append([]string{"profile"}, c.args...)...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, errs, c.want)
			require.Equal(t, 1, strings.Count(errs, "\n"), errs)
			require.NoDirExists(t, out)
		})
	}
}

func TestPlotProfile(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var r profile.Report
	require.NoError(t, plotProfile(&r).Save(filepath.Join(t.TempDir(), "empty.svg")), "a space of one network")
	for range 3 {
		v := 1 + rng.Float64()
		r.Networks = append(r.Networks, profile.Compared{Predicted: v, Measured: v, Low: v, High: v})
	}
	require.NoError(t, plotProfile(&r).Save(filepath.Join(t.TempDir(), "some.png")))
}
