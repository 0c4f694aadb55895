package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/sensor"
)

// twoLevels is a live run on the shipped model at two of its levels.
func twoLevels(t testing.TB) *live {
	m, err := dynofa.Open(shipped+"fashion.dofa", nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	s, err := m.NewSession(nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	l := &live{classes: m.Classes(), images: 3, watch: &watcher{}}
	subnets := []int{0, 6}
	all, accuracy := m.Levels(), []float64{91, 94}
	chosen := all[:0:0]
	for _, i := range subnets {
		chosen = append(chosen, all[i])
	}
	l.ways = []way{{s, func(level int) error { return s.Select(subnets[level]) }}}
	require.NoError(t, l.load(m, []ofa.Subnet{chosen[0].Subnet, chosen[1].Subnet}, nil))
	configurations := []governor.Configuration{{Threads: 1}}
	latency, err := l.measure(t.Context(), configurations, 0)
	require.NoError(t, err)
	require.Less(t, latency[0][0], latency[1][0], "the small network is the faster one")
	l.describe(m, []ofa.Subnet{chosen[0].Subnet, chosen[1].Subnet}, accuracy, latency, configurations)
	l.constrain(governor.Constraints{Deadline: 2 * time.Millisecond})
	return l
}

func TestStepAllocatesNothing(t *testing.T) {
	l := twoLevels(t)
	for _, p := range policy.All() {
		start := time.Now()
		clock := func() time.Duration { return time.Since(start) }
		y, err := l.player(p, clock, 2000)
		require.NoError(t, err)
		s := sensor.New(sensor.Config{Clock: clock})
		s.Sample()
		y.sense = s.Hardware
		require.Zero(t, testing.AllocsPerRun(60, func() {
			_, err := y.step(context.Background(), false)
			require.NoError(t, err)
		}), p.Name)
		require.Len(t, y.frames, 61)
		require.NoError(t, s.Close())
	}
}

// made is a trace with a load from frame 20 to 39 that makes level 1 late, and a policy that needs three frames to see
// it and five to climb again.
func made() *trace {
	t := &trace{head: traceHead{Trace: traceVersion, Policy: "p", DeadlineMS: 10, Probability: 0.95, Images: 2, Labels: true, Load: []string{},
		Levels:         []traceLevel{{Subnet: "a", Accuracy: 60, LatencyMS: []float64{4}}, {Subnet: "b", Accuracy: 80, LatencyMS: []float64{8}}},
		Configurations: []governor.Configuration{{Threads: 1}}}}
	for i := range 60 {
		f := frame{Seconds: float64(i) / 100, Level: 1, LatencyMS: 8, Images: 2, Correct: 1, GaveUp: "none", SwitchUS: 1, Slowdown: 1}
		f.Loaded = i >= 20 && i < 40
		if i >= 23 && i < 45 {
			f.Level, f.LatencyMS = 0, 4
		}
		if f.Loaded {
			f.LatencyMS *= 2
		}
		t.frames = append(t.frames, f)
	}
	return t
}

func TestMetricsOfATrace(t *testing.T) {
	m := made().metrics()
	require.Equal(t, 60, m.Frames)
	require.InDelta(t, 100*3./60, m.Late, 1e-9)
	require.InDelta(t, (22*60+38*80)/60., m.Accuracy, 1e-9)
	require.InDelta(t, (22*60+35*80)/60., m.Effective, 1e-9)
	require.InDelta(t, 50, *m.Correct, 1e-9)
	require.Equal(t, 2, m.Switches)
	require.InDelta(t, 18, m.LatenessMS, 1e-9)
	require.Equal(t, 3, m.LongestLate)
	require.InDelta(t, 30, *m.SettleMS, 1e-6)
	require.InDelta(t, 50, *m.ClimbMS, 1e-6)
	never := made()
	never.frames = never.frames[:44]
	require.Nil(t, never.metrics().ClimbMS)
}

// The summary says what was given up, and compares with the time before a load only where there is one.
func TestSummaryOfATrace(t *testing.T) {
	summary := func(change func(*frame)) string {
		var out bytes.Buffer
		tr := made()
		for i := range tr.frames {
			change(&tr.frames[i])
		}
		(&env{stdout: &out}).summary(tr)
		return out.String()
	}
	plain := summary(func(*frame) {})
	require.Contains(t, plain, "as accurate as before (within 0.3 points) after its end: 50 ms")
	require.NotContains(t, plain, "gave up")
	require.Contains(t, summary(func(f *frame) { f.Loaded = f.Seconds >= 0.2 }), "the load did not end before the run")
	require.Contains(t, summary(func(f *frame) { f.Loaded = f.Seconds < 0.2 }), "no frame before the load to compare with")
	text := summary(func(f *frame) {
		if f.Loaded {
			f.GaveUp = governor.Accuracy.String()
		}
	})
	require.Contains(t, text, "gave up accuracy in 20 of 60 frames")
}

func TestTraceReadsWhatItWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.jsonl")
	was := made()
	was.frames[3].hardware.Contention = governor.Reading{Value: 0.25, Condition: governor.Valid}
	was.finish()
	require.NoError(t, was.write(path))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	is, err := parseTrace(data)
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"Contention": 0.25}, is.frames[3].Sensors)
	was.frames[3].hardware = governor.Hardware{}
	require.Equal(t, was, is)

	out := succeed(t, "sim", path, "--seeds", "2", "--policy", "steady", "--policy", "dynamicofa-free", "--json")
	require.Contains(t, out, `"steady"`)

	lines := strings.SplitAfter(string(data), "\n")
	for name, c := range map[string]struct{ line, old, new, want string }{
		"version":      {"head", `"trace":1`, `"trace":7`, "line 1: version 7, expected 1"},
		"unknown key":  {"head", `"policy"`, `"polices"`, "line 1: json: unknown field"},
		"no levels":    {"head", `"levels":[`, `"levels":[],"x":[`, "line 1: json: unknown field"},
		"level":        {"frame", `"level":1`, `"level":2`, "line 3: level 2"},
		"latency":      {"frame", `"latency_ms":8`, `"latency_ms":-1`, "line 3: latency_ms -1"},
		"order":        {"frame", `"seconds":0.01`, `"seconds":-0.01`, "line 3: seconds"},
		"two in a row": {"frame", "\n", "{}\n", "line 3: more than one value"},
		"correct":      {"frame", `"correct":1`, `"correct":9`, "line 3: 9 of 2 images"},
		"cut":          {"frame", `}`, ``, "line 3: unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := slices.Clone(lines)
			at := map[string]int{"head": 0, "frame": 2}[c.line]
			changed[at] = strings.Replace(changed[at], c.old, c.new, 1)
			require.NotEqual(t, lines[at], changed[at])
			_, err := parseTrace([]byte(strings.Join(changed, "")))
			require.ErrorContains(t, err, c.want)
		})
	}
}

func FuzzTrace(f *testing.F) {
	f.Add([]byte(`{"trace":1,"deadline_ms":1,"probability":0.9,"levels":[{"accuracy":1,"latency_ms":[1]}],"configurations":[{}]}` + "\n" +
		`{"latency_ms":1}` + "\n" + `{"latency_ms":2,"seconds":1}`))
	f.Fuzz(func(_ *testing.T, data []byte) {
		tr, err := parseTrace(data)
		if err != nil || len(tr.frames) > 100 || len(data) == 0 {
			return
		}
		_ = tr.metrics()
		_, _ = tr.scenario("fuzz")
	})
}

func TestGovernLive(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	dir := t.TempDir()
	events := filepath.Join(dir, "new", "events")
	out := succeed(t, "govern", shipped+"fashion.dofa", "--data", shipped+"test", "--deadline", "25", "--compare", "steady,dynamicofa-free",
		"--repeat", "2", "--seconds", "1.5s", "--load", "cpu:300ms-1200ms", "--load", "memory:300ms-1200ms", "-o", dir, "--events", events,
		"--metrics", ":0", "--json")
	var report governReport
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Len(t, report.Runs, 4)
	played := map[string]int{}
	for _, m := range report.Runs {
		played[m.Policy]++
		require.Positive(t, m.Frames)
		require.NotNil(t, m.Correct)
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%s-%d.jsonl", m.Policy, m.Repetition)))
		require.NoError(t, err)
		recorded, err := parseTrace(data)
		require.NoError(t, err)
		require.True(t, slices.ContainsFunc(recorded.frames, func(f frame) bool { return f.Loaded }), "the load never ran")
		require.FileExists(t, filepath.Join(dir, fmt.Sprintf("%s-%d.svg", m.Policy, m.Repetition)))
	}
	require.Equal(t, map[string]int{"steady": 2, "dynamicofa-free": 2}, played)
	log, err := os.ReadFile(events)
	require.NoError(t, err)
	require.Contains(t, string(log), `"running":true`)
	for line := range strings.Lines(string(log)) {
		require.True(t, json.Valid([]byte(line)), line)
	}
	text := succeed(t, "govern", shipped+"fashion.dofa", "--deadline", "25", "--seconds", "100ms", "--subnet", "r20_3x2_3x2_3x2", "--subnet", "r28_7x3.7x3_7x3.7x3_7x3.7x3",
		"--accuracy", "60,70", "--threads", "1,2")
	require.Contains(t, text, "as given by --accuracy, not measured here")
	require.Contains(t, text, "2 threads")
	for _, runs := range []string{"1", "2"} {
		text = succeed(t, "govern", shipped+"fashion.dofa", "--deadline", "25", "--seconds", "100ms", "--min-accuracy", "99", "--repeat", runs)
		require.Contains(t, text, "gave up accuracy in ")
	}
}

// Each engine is a configuration for each number of threads; one on a GPU is one.
func TestGovernChoosesTheEngine(t *testing.T) {
	engines := dynofa.Backends()
	if len(engines) < 2 {
		t.Skip("SKIPPED: one engine in this build")
	}
	first, second := engines[0], engines[len(engines)-1]
	var report governReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "govern", shipped+"fashion.dofa", "--deadline", "50", "--seconds", "200ms", "--images", "1",
		"--threads", "1,2", "--backend", first, "--backend", second, "--json")), &report))
	require.Equal(t, first+", "+second, report.Profile.Engine)
	require.Equal(t, []governor.Configuration{{Name: first + ", 1 thread", Threads: 1}, {Name: first + ", 2 threads", Threads: 2},
		{Name: second + ", 1 thread", Threads: 1}, {Name: second + ", 2 threads", Threads: 2}}, report.Profile.Configurations)
	require.Positive(t, report.Runs[0].Frames)

	c := governCmd{Threads: []int{1, 2}, Backend: []string{"native", "cuda:1"}}
	require.Equal(t, []governor.Configuration{{Name: "cuda:1", GPU: true}}, c.configurations("cuda:1"))
	require.Equal(t, 1, c.device())
}

// The session of the chosen configuration is the one that runs.
func TestStepRunsTheChosenEngine(t *testing.T) {
	l := twoLevels(t)
	m, err := dynofa.Open(shipped+"fashion.dofa", &dynofa.Config{Backend: "purego"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.Close() })
	s, err := m.NewSession(nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	require.Equal(t, -1, s.Ran().Level)
	l.ways = append(l.ways, way{s, func(level int) error { return s.Select(6 * level) }})
	l.profile.Configurations = append(l.profile.Configurations, governor.Configuration{GPU: true})
	for level := range l.profile.Levels {
		l.profile.Levels[level].Latency = []time.Duration{time.Millisecond, time.Millisecond}
	}
	l.constrain(governor.Constraints{Deadline: time.Second})
	y, err := l.player(policy.Entry{New: policy.Static(1, 1)}, func() time.Duration { return 0 }, 1)
	require.NoError(t, err)
	before := l.ways[0].session.Ran()
	f, err := y.step(t.Context(), false)
	require.NoError(t, err)
	require.Equal(t, 1, f.Configuration)
	require.Equal(t, 6, s.Ran().Level)
	require.Equal(t, before, l.ways[0].session.Ran(), "the other one rests")
}

func TestGovernRefusals(t *testing.T) {
	model := shipped + "fashion.dofa"
	for want, args := range map[string][]string{
		"--deadline is 0, expected":                      {"--deadline", "0"},
		"policy \"dynamicofa\", expected one of":         {"--deadline", "9", "--policy", "dynamicofa"},
		"load \"fire:1s-2s\": unknown kind":              {"--deadline", "9", "--load", "fire:1s-2s"},
		"no two times in order":                          {"--deadline", "9", "--load", "cpu:2s-1s"},
		"amount is no number":                            {"--deadline", "9", "--load", "cpu:1s-2s:0"},
		"--accuracy has 2 values, expected one":          {"--deadline", "9", "--accuracy", "60,70"},
		"level 0 has no record of device \"nowhere\"":    {"--deadline", "9", "--device", "nowhere"},
		"--threads is [0], expected numbers from 1 to":   {"--deadline", "9", "--threads", "0"},
		"--threads is [257], expected numbers from 1 to": {"--deadline", "9", "--threads", "257"},
		"mkdir " + model + ": not a directory":           {"--deadline", "9", "--events", filepath.Join(model, "x")},
		"labels.txt: not a directory":                    {"--deadline", "9", "-o", shipped + "labels.txt", "--device", "nowhere"},
		"--pin with --threads [2]":                       {"--deadline", "9", "--pin", "--threads", "2"},
		"--threads is [1 1] and":                         {"--deadline", "9", "--threads", "1,1"},
		"--compare [\"steady\" \"steady\"], expected":    {"--deadline", "9", "--compare", "steady,steady"},
		"--backend is [\"cuda\" \"cuda:1\"], expected":   {"--deadline", "9", "--backend", "cuda,cuda:1"},
		"no backend \"tpu\" in this build":               {"--deadline", "9", "--backend", "purego,tpu"},
		"probability 1.5, expected":                      {"--deadline", "9", "--p", "1.5", "--device", "nowhere"},
		"--metrics \"nine\", expected [HOST]:PORT":       {"--deadline", "9", "--metrics", "nine", "--device", "nowhere"},
	} {
		code, _, errs := command(append([]string{"govern", model}, args...)...)
		require.Equal(t, exitUsage, code, want)
		require.Contains(t, errs, want)
		require.Equal(t, 1, strings.Count(errs, "\n"), errs)
	}
}

// A quota is set and taken back, in a tree that looks like a kernel's.
func TestQuota(t *testing.T) {
	root := t.TempDir()
	group := filepath.Join(root, "sys/fs/cgroup/mine")
	require.NoError(t, os.MkdirAll(group, 0o755))
	require.NoError(t, os.MkdirAll(filepath.Join(root, "proc/self"), 0o755))
	d := disturbance{kind: "quota", from: time.Second, to: 2 * time.Second, amount: 50}
	l := &load{list: []disturbance{d}, root: root, on: make([]*running, 1)}
	require.Error(t, l.possible(d))
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/self/cgroup"), []byte("1:cpu:/\n"), 0o600))
	require.ErrorContains(t, l.possible(d), "no cgroup of version 2")
	require.NoError(t, os.WriteFile(filepath.Join(root, "proc/self/cgroup"), []byte("0::/mine\n"), 0o600))
	file := filepath.Join(group, "cpu.max")
	require.NoError(t, os.WriteFile(file, []byte("max 100000\n"), 0o600))
	require.NoError(t, l.possible(d))
	content := func() string {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(data)
	}
	require.NoError(t, l.at(0))
	require.Equal(t, "max 100000\n", content())
	require.NoError(t, l.at(time.Second))
	require.Contains(t, content(), "50000 100000"[:11])
	require.True(t, l.any())
	require.NoError(t, l.at(2*time.Second))
	require.Contains(t, content(), "max 100000\n")
	require.False(t, l.any())

	require.NoError(t, l.at(time.Second))
	require.NoError(t, l.on[0].quota.Close())
	require.ErrorContains(t, l.at(2*time.Second), `the quota could not be put back to "max 100000`)
}
