package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/imageio"
)

// outside makes a test independent of a scheduler that may run it.
func outside(t *testing.T) {
	for _, name := range []string{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "JOB_COMPLETION_INDEX", "DYNOFA_SHARDS"} {
		t.Setenv(name, "")
	}
}

// withLevels is a workshop whose bundle has two levels.
func withLevels(t *testing.T) (dir, model, data string) {
	outside(t)
	dir, model, data = workshop(t)
	succeed(t, "calibrate", model, "--data", data, "--images", "50", "--batch", "20", "--subnet", "r20_3x2", "--subnet", "r28_5x3.5x3")
	return dir, model, data
}

func TestShardedEvaluationIsTheWhole(t *testing.T) {
	dir, model, data := withLevels(t)
	var whole evalReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "eval", model, "--data", data, "--json")), &whole))
	require.Positive(t, whole.EngineBusy)
	for i := range whole.Levels {
		whole.Levels[i].Latency = nil
	}
	whole.EngineBusy = 0
	for _, n := range []int{1, 2, 7, 60} {
		t.Setenv("DYNOFA_SHARDS", fmt.Sprint(n))
		args := []string{"eval", "merge", "--json"}
		for i := range n {
			part := filepath.Join(dir, fmt.Sprintf("part-%d-%d.json", n, i))
			args = append(args, part)
			if i%2 == 0 {
				succeed(t, "eval", model, "--data", data, "--shard", fmt.Sprintf("%d/%d", i, n), "-o", part)
				continue
			}
			t.Setenv("JOB_COMPLETION_INDEX", fmt.Sprint(i))
			code, _, errs := command("eval", model, "--data", data, "-o", part)
			require.Zero(t, code, errs)
			require.Equal(t, fmt.Sprintf("dynofa: shard %d/%d, from JOB_COMPLETION_INDEX and DYNOFA_SHARDS\n", i, n), errs)
		}
		var merged evalReport
		require.NoError(t, json.Unmarshal([]byte(succeed(t, args...)), &merged))
		require.Equal(t, whole, merged, "%d shards", n)
		if n == 7 {
			code, out, errs := command(args[:len(args)-2]...)
			require.Equal(t, exitUsage, code)
			require.Empty(t, out)
			require.Contains(t, errs, "images 42 to 59 of 60 are in none of the 5 parts")
			require.Equal(t, 1, strings.Count(errs, "\n"))
		}
	}
}

// The number of cores changes how fast it is, and nothing else.
func TestEvaluationIsTheSameOnAnyNumberOfCores(t *testing.T) {
	dir, model, data := withLevels(t)
	var first []byte
	for _, cores := range []int{1, 2, 5} {
		before := runtime.GOMAXPROCS(cores)
		part := filepath.Join(dir, "part.json")
		succeed(t, "eval", model, "--data", data, "-o", part)
		copied := filepath.Join(dir, "copy.dofa")
		succeed(t, "calibrate", model, "-o", copied, "--data", data, "--images", "50", "--batch", "20", "--subnet", "r20_3x3")
		runtime.GOMAXPROCS(before)
		got, err := os.ReadFile(part)
		require.NoError(t, err)
		calibrated, err := os.ReadFile(copied)
		require.NoError(t, err)
		got = append(got, calibrated...)
		if first == nil {
			first = got
		}
		require.True(t, bytes.Equal(first, got), "%d cores", cores)
	}
}

func TestShardedCalibrationIsTheWhole(t *testing.T) {
	dir, model, data := withLevels(t)
	calibrate := func(args ...string) []string {
		return append([]string{"calibrate", model, "--data", data, "--images", "47", "--batch", "10", "--subnet", "r20_3x2", "--subnet", "r28_5x3"}, args...)
	}
	whole := filepath.Join(dir, "whole.dofa")
	succeed(t, calibrate("-o", whole)...)
	want, err := os.ReadFile(whole)
	require.NoError(t, err)
	for _, n := range []int{1, 2, 5} {
		args := []string{"calibrate", "merge", model, "-o", filepath.Join(dir, "merged.dofa")}
		for i := range n {
			part := filepath.Join(dir, fmt.Sprintf("c-%d-%d.json", n, i))
			succeed(t, calibrate("--shard", fmt.Sprintf("%d/%d", i, n), "-o", part)...)
			args = append(args, part)
		}
		require.Contains(t, succeed(t, args...), "2 levels calibrated with 47 images of data/train in batches of 10, 3 in all")
		got, err := os.ReadFile(args[4])
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got), "%d shards", n)
	}
	other := filepath.Join(dir, "other.dofa")
	c, err := bundle.Import(model, bundle.ImportOptions{})
	require.NoError(t, err)
	c.Levels = nil
	require.NoError(t, bundle.Write(other, c))
	code, _, errs := command("calibrate", "merge", other, filepath.Join(dir, "c-1-0.json"))
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "the parts were measured with")
}

func TestShardErrorsWriteNothing(t *testing.T) {
	dir, model, data := withLevels(t)
	part := filepath.Join(dir, "part.json")
	half := filepath.Join(dir, "half.json")
	succeed(t, "eval", model, "--data", data, "-o", half)
	text, err := os.ReadFile(half)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(half, text[:len(text)/2], 0o600))

	eight := filepath.Join(dir, "eight")
	require.NoError(t, imageio.WriteIDX(eight, "test", narrow{noise(60)}))
	broken := filepath.Join(dir, "broken")
	empty := filepath.Join(dir, "empty")
	hollow := filepath.Join(dir, "hollow")
	for i := range 10 {
		require.NoError(t, os.MkdirAll(filepath.Join(broken, fmt.Sprint(i)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(broken, fmt.Sprint(i), "x.png"), []byte("no picture"), 0o600))
	}
	require.NoError(t, os.MkdirAll(filepath.Join(hollow, "class"), 0o755))
	require.NoError(t, os.MkdirAll(empty, 0o755))

	eval := func(args ...string) []string { return append([]string{"eval", model, "-o", part}, args...) }
	calibrate := func(args ...string) []string {
		return append([]string{"calibrate", model, "--subnet", "r20_3x2", "--data", data, "--images", "50", "-o", part}, args...)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"shard":               {eval("--data", data, "--shard", "2/2"), "expected 0/2 to 1/2"},
		"too many shards":     {eval("--data", data, "--shard", "2/100"), "expected at most 60 shards"},
		"record":              {eval("--data", data, "--record", "r.dofa"), "--record with one shard"},
		"no place for a file": {[]string{"eval", model, "--data", filepath.Join(dir, "none"), "-o", "/proc/part.json"}, "open /proc/part.json"},
		"no folder":           {[]string{"eval", model, "--data", data, "-o", filepath.Join(dir, "none", "part.json")}, "none"},
		"classes":             {eval("--data", eight), "8 classes, expected the network's 10"},
		"unreadable image":    {eval("--data", broken), filepath.Join("broken", "0", "x.png")},
		"empty folder":        {eval("--data", empty), empty},
		"empty class":         {eval("--data", hollow), "class"},
		"unreadable to learn": {[]string{"calibrate", model, "--subnet", "r20_3x2", "--data", broken, "--images", "10", "-o", part}, "x.png: found unknown data"},
		"shard of a bundle":   {[]string{"calibrate", model, "--subnet", "r20_3x2", "--data", data, "--images", "50", "--shard", "0/1", "-o", model}, "ends in .json"},
		"more than batches":   {calibrate("--shard", "0/2"), "expected at most 1 shards"},
		"half a part":         {[]string{"eval", "merge", half}, "half.json: not the parts of one whole: not a whole part file"},
		"half a calibration":  {[]string{"calibrate", "merge", model, half, "-o", part}, "not a whole part file"},
		"no part":             {[]string{"eval", "merge", filepath.Join(dir, "none.json")}, "none.json"},
		"nothing to merge":    {[]string{"eval", "merge"}, "expected \"<parts>"},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, errs := command(c.args...)
			require.Equal(t, exitUsage, code)
			require.Empty(t, out)
			require.Contains(t, errs, c.want)
			require.Equal(t, 1, strings.Count(errs, "\n"), errs)
			require.NoFileExists(t, part)
		})
	}
}

// narrow is noise with eight classes.
type narrow struct{ noise }

func (n narrow) Classes() []string { return n.noise.Classes()[:8] }

func (n narrow) At(i int) (imageio.Sample, error) {
	s, err := n.noise.At(i)
	s.Label %= 8
	return s, err
}

// A shard that is killed at any time leaves no part or a whole one, and the next try writes the same.
func TestKilledShard(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	dir, model, data := withLevels(t)
	self, err := os.Executable()
	require.NoError(t, err)
	part := filepath.Join(dir, "part.json")
	start := func() *exec.Cmd {
		c := exec.Command(self, "eval", model, "--data", data, "--shard", "1/2", "-o", part)
		c.Env = append(os.Environ(), "DYNOFA_TEST_COMMAND=1")
		require.NoError(t, c.Start())
		return c
	}
	begin := time.Now()
	require.NoError(t, start().Wait())
	took := time.Since(begin)
	want, err := os.ReadFile(part)
	require.NoError(t, err)
	killed := 0
	for i := range 20 {
		require.NoError(t, os.Remove(part))
		c := start()
		time.Sleep(took * time.Duration(i) / 20)
		require.NoError(t, c.Process.Kill())
		if c.Wait() != nil {
			killed++
		}
		got, err := os.ReadFile(part)
		if err == nil {
			require.Equal(t, want, got, "kill %d left half a part", i)
		}
		require.NoError(t, start().Wait())
		got, err = os.ReadFile(part)
		require.NoError(t, err)
		require.Equal(t, want, got, "after kill %d", i)
	}
	require.Positive(t, killed, "the shard was always faster")
}

func TestProgressOfALog(t *testing.T) {
	var log bytes.Buffer
	p := (&env{stderr: &log}).progress(400, "evaluate")
	require.NoError(t, p.Add(100))
	require.Empty(t, log.String())
	require.Equal(t, "evaluate: 100 of 400 (25 %), 30s left", p.line(10*time.Second))
	p.last = p.last.Add(-progressInterval)
	require.NoError(t, p.Add(100))
	require.Contains(t, log.String(), "evaluate: 200 of 400 (50 %)")
	p.Describe("compare")
	p.last = p.last.Add(-progressInterval)
	require.NoError(t, p.Set(300))
	require.Contains(t, log.String(), "compare: 300 of 400 (75 %)")
	require.NoError(t, p.Finish())
	share := (&env{stderr: &log}).progressShare("profile")
	share.last = share.last.Add(-progressInterval)
	require.NoError(t, share.SetShare(0.5))
	require.Contains(t, log.String(), "profile: 50 %, ")
}
