package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/pipeline"
)

// tabled is the folder of a latency table for the workshop's model.
func tabled(t *testing.T, dir, model string) string {
	t.Helper()
	b, err := bundle.Open(model)
	require.NoError(t, err)
	defer b.Close()
	s := b.Space()
	sides := map[int]map[string]latency.Entry{}
	for _, r := range s.Resolutions {
		sides[r] = map[string]latency.Entry{}
		for _, k := range s.Kernels {
			for _, e := range s.Expands {
				keys, err := latency.Keys(s, s.Uniform(k, e, 2, r))
				require.NoError(t, err)
				for _, key := range keys {
					sides[r][key] = latency.Entry{Count: 1, Mean: float64(k*e*r) / 1e3}
				}
			}
		}
	}
	table, err := latency.New(sides)
	require.NoError(t, err)
	path := filepath.Join(dir, "table")
	require.NoError(t, os.MkdirAll(path, 0o755))
	require.NoError(t, table.Save(path))
	return path
}

func buildArgs(model, data, out, table string, more ...string) []string {
	return append([]string{"build", model, "--data", data, "-o", out, "--table", "board=" + table, "--networks", "30", "--images", "20",
		"--level-images", "30", "--batch", "10", "--holdout", "20", "--candidates", "4", "--gap", "0"}, more...)
}

// shifted is noise of other numbers.
type shifted struct{ noise }

func (s shifted) At(i int) (imageio.Sample, error) { return s.noise.At(i + 1000) }

func TestBuildVerb(t *testing.T) {
	outside(t)
	dir, model, _ := workshop(t)
	data := filepath.Join(dir, "two")
	require.NoError(t, imageio.WriteIDX(data, "train", noise(60)))
	require.NoError(t, imageio.WriteIDX(data, "test", shifted{60}))
	table := tabled(t, dir, model)
	out := filepath.Join(dir, "out.dofa")
	text := succeed(t, buildArgs(model, data, out, table, "--device", "desk", "--table", "desk="+table, "--test-split", "test")...)
	require.Contains(t, text, "rank correlation")

	b, err := bundle.Open(out)
	require.NoError(t, err)
	defer b.Close()
	for i, l := range b.Levels() {
		require.Equal(t, "two/test", l.Accuracy[0].Data)
		require.Equal(t, 60, l.Accuracy[0].Images)
		require.Equal(t, "two/train, the last 20, which chose the level", l.Accuracy[1].Data)
		require.Equal(t, "board", l.Latency[0].Device)
		require.Zero(t, l.Latency[0].Runs, "another device is not measured here")
		require.Equal(t, "desk", l.Latency[1].Device)
		require.Positive(t, l.Latency[1].Runs)
		require.Positive(t, l.Latency[1].MedianMS)
		if i > 0 {
			require.GreaterOrEqual(t, l.Latency[0].MedianMS, b.Levels()[i-1].Latency[0].MedianMS)
		}
	}
	commands := b.Provenance().Commands
	require.Contains(t, commands[len(commands)-1], "dynofa build m.dofa --data two --split train")
	var report pipeline.Report
	require.NoError(t, readJSON(filepath.Join(out+".work", "report.json"), &report))
	require.Len(t, report.Networks, 30)
	markdown, err := os.ReadFile(filepath.Join(out+".work", "report.md"))
	require.NoError(t, err)
	for _, name := range []string{"predictions", "front-0", "front-1"} {
		require.Contains(t, string(markdown), "("+name+".svg)")
		for _, ext := range []string{".svg", ".png"} {
			info, err := os.Stat(filepath.Join(out+".work", name+ext))
			require.NoError(t, err)
			require.Greater(t, info.Size(), int64(1000))
		}
	}
	// What was evaluated for the record is what the bundle gives.
	var again evalReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "eval", out, "--data", data, "--json")), &again))
	for i, l := range b.Levels() {
		require.InDelta(t, l.Accuracy[0].Top1, again.Levels[i].Top1, 1e-9)
	}
	// What was measured serves searches of one's own.
	learnt := filepath.Join(dir, "learnt.safetensors")
	require.Contains(t, succeed(t, "predictor", filepath.Join(out+".work", pipeline.PairsName), "--space", out, "-o", learnt), "rank correlation")
	for _, p := range []string{learnt, filepath.Join(out+".work", pipeline.PredictorName)} {
		require.Contains(t, succeed(t, "search", "--space", out, "--table", table, "--predictor", p, "--front", "2", "--generations", "3"), "r")
	}
	// From its own output it builds the same.
	require.NoError(t, os.RemoveAll(out+".work"))
	same := filepath.Join(dir, "same.dofa")
	succeed(t, buildArgs(out, data, same, table)...)
	succeed(t, buildArgs(same, data, same, table, "--work", filepath.Join(dir, "another"))...)
}

// A build that is killed at any time goes on, and its bundle is that of one that was not.
func TestKilledBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	outside(t)
	dir, model, data := workshop(t)
	table := tabled(t, dir, model)
	self, err := os.Executable()
	require.NoError(t, err)
	out, killed := filepath.Join(dir, "out.dofa"), filepath.Join(dir, "killed.dofa")
	start := func(path string) *exec.Cmd {
		c := exec.Command(self, buildArgs(model, data, path, table)...)
		c.Env = append(os.Environ(), "DYNOFA_TEST_COMMAND=1")
		require.NoError(t, c.Start())
		return c
	}
	begin := time.Now()
	require.NoError(t, start(out).Wait())
	took := time.Since(begin)
	want, err := os.ReadFile(out)
	require.NoError(t, err)
	kills := 0
	for i := range 6 {
		c := start(killed)
		time.Sleep(took * time.Duration(i+1) / 12)
		require.NoError(t, c.Process.Kill())
		if c.Wait() == nil {
			break
		}
		kills++
		if got, err := os.ReadFile(killed); err == nil {
			require.Equal(t, want, got, "a killed build left half a bundle")
		}
	}
	require.Positive(t, kills)
	require.NoError(t, start(killed).Wait())
	got, err := os.ReadFile(killed)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestBuildProfilesThisDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: measures latencies for some seconds")
	}
	outside(t)
	dir, model, data := workshop(t)
	out := filepath.Join(dir, "out.dofa")
	args := append(buildArgs(model, data, out, "-", "--profile-time", "100ms"), "--networks", "25")
	for i := range args {
		if args[i] == "--table" {
			args = append(args[:i], args[i+2:]...)
			break
		}
	}
	succeed(t, args...)
	profiled, err := os.Stat(filepath.Join(out+".work", "table", "profile.json"))
	require.NoError(t, err)
	succeed(t, args...)
	again, err := os.Stat(filepath.Join(out+".work", "table", "profile.json"))
	require.NoError(t, err)
	require.Equal(t, profiled.ModTime(), again.ModTime(), "the table was measured once more")
	b, err := bundle.Open(out)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, "this device", b.Levels()[0].Latency[0].Device)
}

func TestBuildErrorsWriteNothing(t *testing.T) {
	outside(t)
	dir, model, data := workshop(t)
	table := tabled(t, dir, model)
	out := filepath.Join(dir, "out.dofa")
	for want, more := range map[string][]string{
		`expected NAME=DIR`:         {"--table", "board"},
		`"board" is there twice`:    {"--table", "board=" + table},
		"no image in both":          {"--holdout", "55"},
		"3000 networks":             {"--networks", "3000"},
		"has the images of --split": {"--test-split", "train"},
		"none":                      {"--table", "x=" + filepath.Join(dir, "none")},
		`"tpu"`:                     {"--backend", "tpu"},
		"an accuracy of 100 %":      {"--min-accuracy", "1"},
		"--min-accuracy is 1.01, expected a fraction": {"--min-accuracy", "1.01"},
	} {
		code, stdout, errs := command(buildArgs(model, data, out, table, more...)...)
		require.Equal(t, exitUsage, code, want)
		require.Empty(t, stdout)
		require.Contains(t, errs, want)
		require.Equal(t, 1, strings.Count(errs, "\n"), errs)
		require.NoFileExists(t, out)
	}
}
