package regress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/harness"
)

// grown is a history of 30 results, the last 12 of them 6 % slower.
func grown(t *testing.T) (folder string, h *History) {
	folder = t.TempDir()
	h, err := OpenHistory(folder, "m")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 30 {
		ms := 2 * (1 + 0.004*rng.NormFloat64())
		if i >= 18 {
			ms *= 1.06
		}
		require.NoError(t, h.add(Entry{Time: time.Unix(int64(i), 0), Revision: fmt.Sprintf("r%d", i), MS: map[string]float64{"a": ms, "b": 1 + 0.001*rng.NormFloat64()}}))
	}
	return folder, h
}

func TestHistoryFindsAndAcceptsShifts(t *testing.T) {
	folder, h := grown(t)
	s := h.Series(0.02)
	require.Len(t, s, 2)
	require.Empty(t, s[1].Shifts)
	require.Len(t, s[0].Shifts, 1)
	require.Equal(t, "r18", s[0].Shifts[0].Revision)
	require.InDelta(t, 0.06, s[0].Shifts[0].Change, 0.005)
	require.ErrorContains(t, h.Accept("r99", "no such", time.Now()), "expected one that was added")
	require.NoError(t, h.Accept("r18", "more accurate", time.Now()))
	again, err := OpenHistory(folder, "m")
	require.NoError(t, err)
	require.Equal(t, "more accurate", again.Series(0.02)[0].Shifts[0].Accepted)
	for _, name := range []string{"h.svg", "h.png"} {
		f, err := Plot(again.Series(0.02))
		require.NoError(t, err)
		path := filepath.Join(folder, name)
		require.NoError(t, f.Save(path))
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(2000))
	}
}

func TestResultOfSeveralProcesses(t *testing.T) {
	h, err := OpenHistory(t.TempDir(), "m")
	require.NoError(t, err)
	var processes []*harness.Result
	for _, ns := range []int64{2_000_000, 9_000_000, 2_100_000} {
		processes = append(processes, &harness.Result{Rows: []harness.Measured{{Row: harness.Row{Scenario: harness.SingleStream}, Chunks: []harness.Chunk{{NS: []int64{ns}}}}}})
	}
	require.NoError(t, h.Add("r", processes...))
	require.Len(t, h.Entries, 1)
	require.Equal(t, map[string]float64{processes[0].Rows[0].Name(): 2.1}, h.Entries[0].MS)
}

// The same file once more would be a further result without being one.
func TestHistoryTakesAResultOnce(t *testing.T) {
	folder := t.TempDir()
	h, err := OpenHistory(folder, "m")
	require.NoError(t, err)
	result := func(second, ns int64) *harness.Result {
		return &harness.Result{Environment: harness.Environment{Time: time.Unix(second, 0).UTC()},
			Rows: []harness.Measured{{Row: harness.Row{Scenario: harness.SingleStream}, Chunks: []harness.Chunk{{NS: []int64{ns}}}}}}
	}
	require.ErrorContains(t, h.Add("a", result(1, 5), result(1, 5)), "the result of 1970-01-01T00:00:01Z twice, expected results of different processes")
	require.NoError(t, h.Add("a", result(1, 5), result(1, 6), result(4, 7)), "two processes that began in the same second")
	require.NoError(t, h.Accept("a", "fine", time.Unix(2, 0)))
	h, err = OpenHistory(folder, "m")
	require.NoError(t, err)
	for _, again := range [][]*harness.Result{{result(1, 5)}, {result(3, 5), result(1, 5)}} {
		require.ErrorContains(t, h.Add("b", again...), `has the result of 1970-01-01T00:00:01Z already, as revision "a"`)
	}
	require.ErrorContains(t, h.Add("b", result(4, 7)), `has the result of 1970-01-01T00:00:04Z already, as revision "a"`)
	require.NoError(t, h.Add("b", result(2, 5)), "the time of an acceptance is no result's")
	require.Len(t, h.Entries, 3)
}

// A governor's quantities are series beside the times: they may be zero or negative, and shift by differences.
func TestHistoryOfAGovernor(t *testing.T) {
	folder := t.TempDir()
	h, err := OpenHistory(folder, "m")
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(3, 3))
	for i := range 16 {
		r := &harness.Result{Environment: harness.Environment{Time: time.Unix(int64(i), 0)}}
		late := 0.0 // simulated: the same until the policy changes
		if i >= 10 {
			late = 0.5
		}
		for _, scenario := range []string{"G1", "G2"} {
			r.Governed = append(r.Governed, harness.Governed{Scenario: scenario, Policy: "steady", Seeded: true,
				Miss: []float64{late, late}, Regret: []float64{-0.2, -0.4}, Switches: []float64{5, 7}})
		}
		r.Governed = append(r.Governed, harness.Governed{Scenario: "live", Policy: "steady",
			Miss: []float64{2 + 0.3*rng.NormFloat64()}, Regret: []float64{0.1 * rng.NormFloat64()}, Switches: []float64{20 + 10*late + rng.NormFloat64()}})
		require.NoError(t, h.Add(fmt.Sprintf("r%d", i), r))
	}
	h, err = OpenHistory(folder, "m")
	require.NoError(t, err)
	series := h.Series(0.02)
	require.Len(t, series, 3*4, "two scenarios, their mean and the live one")
	shifts := map[string]float64{}
	for _, s := range series {
		require.Len(t, s.Values, 16)
		if s.Name == "governor/scenario=G1/policy=steady/regret" {
			require.InDelta(t, -0.3, s.Values[15], 1e-12)
			require.Equal(t, "regret-points", s.Unit)
		}
		for _, shift := range s.Shifts {
			require.Equal(t, "r10", shift.Revision, s.Name)
			shifts[s.Name] = shift.Change
		}
	}
	// Half a point of misses matters in the mean of the suite, not in one scenario; switches jitter by less than they shift.
	require.Len(t, shifts, 1, "%v", shifts)
	require.InDelta(t, 0.5, shifts["governor/scenario=all/policy=steady/miss"], 1e-12)
	f, err := Plot(series)
	require.NoError(t, err)
	require.Len(t, f.Plots, 12)
	for i := range 5 {
		for _, s := range series[:3] { // G1
			s.Name = strings.Replace(s.Name, "G1", fmt.Sprintf("H%d", i), 1)
			series = append(series, s)
		}
	}
	f, err = Plot(series)
	require.NoError(t, err)
	require.Len(t, f.Plots, 3, "the mean of the suite")
}

// What is there is never changed: the file only grows.
func TestHistoryIsAppendOnly(t *testing.T) {
	folder, h := grown(t)
	before, err := os.ReadFile(filepath.Join(folder, "m", "history.jsonl"))
	require.NoError(t, err)
	require.NoError(t, h.Accept("r18", "why", time.Now()))
	after, err := os.ReadFile(filepath.Join(folder, "m", "history.jsonl"))
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(after, before) && len(after) > len(before))
}

const goodLine = `{"format":"dynofa-bench-history","version":1,"time":"2026-01-01T00:00:00Z","revision":"r","ms":{"a":1}}` + "\n"

func TestHistoryNamesLineAndReason(t *testing.T) {
	for text, want := range map[string]string{
		goodLine + "x\n": "h:2: invalid character",
		strings.Replace(goodLine, `"version":1`, `"version":2`, 1):                                            "h:1: format \"dynofa-bench-history\", version 2",
		strings.Replace(goodLine, `{"a":1}`, `{"a":-1}`, 1):                                                   "h:1: a takes -1 ms",
		strings.Replace(goodLine, `"ms":{"a":1}`, `"ms":{}`, 1):                                               "h:1: revision \"r\" with 0 rows",
		strings.Replace(goodLine, `"revision"`, `"commit"`, 1):                                                `h:1: json: unknown field "commit"`,
		strings.Replace(goodLine, `"ms":{"a":1}`, `"governed":{"a":1}`, 1):                                    "h:1: a is no quantity of a governor",
		strings.Replace(goodLine, `"ms":{"a":1}`, `"governed":{"governor/scenario=G1/policy=p/miss":1e4}`, 1): "h:1: governor/scenario=G1/policy=p/miss is 10000",
		goodLine + goodLine[:len(goodLine)-1]:                                                                 "h:2: the last line has no end",
		`{"format":"dynofa-bench","version":1,"environment":{"fingerprint":"x"},"meter":"n/a"}` + "\n":        "h:1:",
	} {
		h := &History{path: "h"}
		require.ErrorContains(t, h.parse([]byte(text)), want, "%s", text)
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(goodLine + strings.Replace(goodLine, `"ms":{"a":1}`, `"accepted":"why"`, 1)))
	f.Add([]byte(strings.Replace(goodLine, `"ms":{"a":1}`, `"governed":{"governor/scenario=G1/policy=p/miss":-1}`, 1)))
	f.Fuzz(func(_ *testing.T, data []byte) {
		h := &History{path: "fuzz"}
		if h.parse(data) == nil && len(h.Entries) < 50 {
			h.Series(0.02)
		}
	})
}

func TestLimitRefusesWhatTheMachineCannotFind(t *testing.T) {
	folder := t.TempDir()
	e := &harness.Environment{Fingerprint: "m"}
	l, err := ReadLimit(folder, e, false)
	require.NoError(t, err)
	require.NoError(t, l.Allows(Limits{Effect: 0.001}), "not measured yet")
	path, err := (&Limit{Format: limitFormat, Version: 1, Environment: *e, Finds: 0.015}).Save(folder)
	require.NoError(t, err)
	l, err = ReadLimit(folder, e, false)
	require.NoError(t, err)
	require.NoError(t, l.Allows(Limits{Effect: 0.02}))
	require.ErrorContains(t, l.Allows(Limits{Effect: 0.01}), "expected at least 1.50 %")
	require.NoError(t, os.WriteFile(path, []byte(`{"format":"other"}`), 0o644))
	_, err = ReadLimit(folder, e, false)
	require.ErrorContains(t, err, `format "other"`)
	require.InDelta(t, 0.0149, rateAtMost(0, 200), 1e-3) // 1 - 0.05^(1/200)
}

func TestVerdicts(t *testing.T) {
	l := Limits{Effect: 0.02, Alpha: 0.01}
	for _, c := range []struct {
		low, high, p float64
		want         Verdict
	}{
		{-0.01, 0.01, 1, Same},
		{0.002, 0.015, 1e-5, Same}, // certainly there, certainly small
		{0.01, 0.03, 1e-5, Regression},
		{0.01, 0.03, 0.02, Inconclusive},
		{0.006, 0.03, 1e-5, Inconclusive}, // not clear of zero by a third of the effect
		{-0.03, -0.006, 1e-5, Inconclusive},
		{-0.01, 0.03, 0.3, Inconclusive},
		{-0.03, -0.01, 1e-5, Improvement},
	} {
		r := Row{Rounds: 8, Low: c.low, High: c.high, P: c.p, Change: (c.low + c.high) / 2}
		r.judge(l)
		require.Equal(t, c.want, r.Verdict, "%+v", c)
	}
	wild := Row{Rounds: 16, Change: 0.053, Low: 0.045, High: 0.058, P: 0.0025}
	require.True(t, wild.precise(l, 1))
	require.False(t, wild.precise(l, 10), "p of one row of ten has not caught up with the interval")
	wild.Low, wild.High, wild.P = 0.006, 0.025, 1e-9
	require.False(t, wild.precise(l, 1), "more rounds may yet make it clear")
	wild.Low = -0.001
	wild.High = 0.019
	require.True(t, wild.precise(l, 10), "an interval with zero in it needs no p")
	never := Row{}
	never.judge(l)
	require.Equal(t, Inconclusive, never.Verdict, "what was never estimated is not the same")
	r := Row{Verdict: Regression, Change: 0.02}
	r.confirm(&Row{Change: 0.005}, l)
	require.Equal(t, Inconclusive, r.Verdict)
	require.Equal(t, Improvement, (&Comparison{Rows: []Row{{Verdict: Same}, {Verdict: Improvement}}}).overall())
	require.Equal(t, Inconclusive, (&Comparison{Rows: []Row{{Verdict: Inconclusive}, {Verdict: Improvement}}}).overall())
	require.Equal(t, Regression, (&Comparison{Rows: []Row{{Verdict: Inconclusive}, {Verdict: Regression}, {Verdict: Same}}}).overall())
}
