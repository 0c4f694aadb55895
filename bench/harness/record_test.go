package harness

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

func fixed() *Environment {
	return &Environment{Fingerprint: "0123456789ab", Time: time.Unix(1700000000, 0).UTC(), Version: "v1", Go: "go1.26", OS: "linux", Arch: "amd64",
		CPU: "Test CPU", CPUs: 2}
}

// sampleFile is a result file with every kind of line.
func sampleFile(t testing.TB) string {
	var b bytes.Buffer
	w, err := NewWriter(&b, fixed(), NoMeter)
	require.NoError(t, err)
	for level := range 2 {
		id, err := w.row(&Row{Model: "m.dofa", SHA256: "00", Data: "test", Scenario: SingleStream, Level: level, Subnet: "r20_3x2", Resolution: 20, MACs: 5, Backend: "native/ref", Threads: 1})
		require.NoError(t, err)
		for k := range 8 {
			c := &Chunk{Row: id, Images: 1, Seconds: 0.5, Watch: Watch{Steal: -1, Pressure: 0.2, Wait: 0.001}}
			for i := range 100 {
				c.NS = append(c.NS, int64(1000*(level+1)+10*i+k))
			}
			if k == 3 {
				c.Dirty = []string{"steal 3.0 %"}
			}
			require.NoError(t, w.write(line{Chunk: c}))
		}
		require.NoError(t, w.write(line{Layers: &Layers{Row: id, Runs: 20, Overhead: 0.01, Parts: []Part{
			{Name: "stem", Kernel: "dynk_stem", Stage: -1, Block: -1, MACs: 2, NS: 400},
			{Name: "expand, depthwise", Kernel: "dynk_pointwise+dynk_dwconv", Stage: 1, Block: 2, MACs: 3, NS: 600}}}}))
		require.NoError(t, w.write(line{End: &end{id}}))
	}
	return b.String()
}

func sampleResult(t testing.TB) *Result {
	r, err := Read(strings.NewReader(sampleFile(t)), "sample")
	require.NoError(t, err)
	return r
}

func TestReadWhatWasWritten(t *testing.T) {
	r := sampleResult(t)
	require.Equal(t, *fixed(), r.Environment)
	require.Len(t, r.Rows, 2)
	s := r.Rows[1].Summarize()
	require.True(t, s.Valid && s.Complete)
	require.Equal(t, 800, s.Queries)
	require.InDelta(t, 1.0/8, s.Dirty, 1e-9)
	require.Nil(t, s.EnergyMJ, "no meter, no number")

	few := &Measured{Row: r.Rows[1].Row, Chunks: []Chunk{{NS: []int64{1000, 2000}, Images: 1, Seconds: 1, Dirty: []string{"steal"}}}}
	text, err := json.Marshal(few.Summarize())
	require.NoError(t, err)
	require.Contains(t, string(text), `"median_ms":0.00`)
	for _, unknown := range []string{"clean_median_ms", "p90_ms", "p99_ms", "p999_ms"} {
		require.NotContains(t, string(text), unknown, "two queries in a dirty chunk")
	}
}

// A run that is killed leaves whole lines and perhaps the beginning of one more.
func TestKilledRunIsReadable(t *testing.T) {
	file := sampleFile(t)
	first := strings.Index(file, "\n") + 1
	for cut := first; cut < len(file); cut += 97 {
		r, err := Read(strings.NewReader(file[:cut]), "cut")
		require.NoError(t, err)
		require.Equal(t, file[cut-1] != '\n', r.Truncated)
		for i := range r.Rows {
			s := r.Rows[i].Summarize()
			require.Equal(t, s.Complete, s.Valid)
		}
	}
}

func TestReaderNamesLineAndReason(t *testing.T) {
	file := sampleFile(t)
	lines := strings.SplitAfter(file, "\n")
	with := func(n int, text string) string {
		changed := append([]string{}, lines...)
		changed[n-1] = text
		return strings.Join(changed, "")
	}
	for _, c := range []struct{ name, file, want string }{
		{"empty", "", "x:1: the file is empty"},
		{"no whole line", "abc", "x:1:"},
		{"not ours", "BenchmarkX 1 2 ns/op\n", `x:1: "BenchmarkX 1 2 ns/op", expected the header of a dynofa-bench file`},
		{"newer", with(1, strings.Replace(lines[0], `"version":1`, `"version":2`, 1)), "x:1: version 2, expected 1"},
		{"unknown header key", with(1, strings.Replace(lines[0], `"meter"`, `"metre"`, 1)), `x:1: json: unknown field "metre"`},
		{"two runs in one file", file + file, "a second header: two runs in one file"},
		{"unknown key", with(3, strings.Replace(lines[2], `"images"`, `"pictures"`, 1)), `x:3: json: unknown field "pictures"`},
		{"row before", with(3, strings.Replace(lines[2], `"row":0`, `"row":1`, 1)), "x:3: row 1, expected one of the 1 before"},
		{"negative time", with(3, strings.Replace(lines[2], "[1000,", "[-1,", 1)), "x:3: value 0 of the chunk is -1 ns"},
		{"no values", with(3, `{"chunk":{"row":0,"images":1,"ns":[],"seconds":1,"watch":{"steal":0,"pressure":0,"wait":0,"throttled":0}}}`+"\n"), "x:3: chunk of 0 values"},
		{"scenario", with(2, strings.Replace(lines[1], "singlestream", "doublestream", 1)), `x:2: scenario "doublestream"`},
		{"row twice", with(3, lines[1]), "x:3: a second row"},
		{"nothing", with(3, "{}\n"), "x:3: 0 of row, chunk, layers, end and governed"},
		{"two values", with(3, "{} {}\n"), "x:3: more than one JSON value"},
		{"after its end", with(13, lines[2]), "x:13: row 0 has ended before"},
		{"no runs", with(3, `{"governed":{"scenario":"s","policy":"p","seeded":true,"miss":[],"regret":[],"switches":[]}}`+"\n"), "x:3: scenario \"s\", policy \"p\", 0 runs"},
		{"miss of 101", with(3, `{"governed":{"scenario":"s","policy":"p","seeded":true,"miss":[101],"regret":[0],"switches":[0]}}`+"\n"), "x:3: miss of 101, expected 0 to 100"},
		{"lonely miss", with(3, `{"governed":{"scenario":"s","policy":"p","seeded":true,"miss":[1],"regret":[],"switches":[0]}}`+"\n"), "x:3: 0 values of regret, expected 1"},
		{"no JSON", with(5, "not JSON\n"), "x:5: invalid character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(c.file), "x")
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(sampleFile(f)))
	f.Add([]byte(`{"format":"dynofa-bench","version":1,"environment":{"fingerprint":"x"},"meter":"n/a"}` + "\n" +
		`{"governed":{"scenario":"s","policy":"p","seeded":true,"miss":[1,2],"regret":[0,-1],"switches":[3,4]}}` + "\n"))
	f.Add([]byte(`{"format":"dynofa-bench","version":1,"environment":{"fingerprint":"x"},"meter":"n/a"}` + "\n" + `{"end":{"row":0}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(bytes.NewReader(data), "fuzz")
		if err != nil {
			return
		}
		for _, format := range []string{"go", "json", "otava", "gbench", "gha", "table"} {
			require.NoError(t, Export(&bytes.Buffer{}, format, []*Result{r}))
		}
		_ = Export(&bytes.Buffer{}, "pprof", []*Result{r})
	})
}

// machine is a file system as Linux shows it.
func machine() fstest.MapFS {
	m := fstest.MapFS{}
	for name, text := range map[string]string{
		"proc/stat":                          "cpu  100 0 50 1000 0 0 0 0 0 0\ncpu0 1 2 3\n",
		"proc/pressure/cpu":                  "some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		"proc/self/task/1/schedstat":         "5 1000000000 3\n",
		"proc/self/task/2/schedstat":         "5 500000000 3\n",
		"proc/self/status":                   "Name:\tx\nCpus_allowed_list:\t0-3\n",
		"proc/self/cgroup":                   "0::/a/b\n",
		"sys/fs/cgroup/a/b/cpu.stat":         "usage_usec 5\nnr_throttled 2\n",
		"proc/cpuinfo":                       "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor avx2\n",
		cpufreq + "scaling_max_freq":         "2000000\n",
		cpufreq + "scaling_governor":         "powersave\n",
		"proc/sys/kernel/randomize_va_space": "2\n",
		"sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "7\n",
	} {
		m[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return m
}

func TestEnvironmentIsRecorded(t *testing.T) {
	e := Look(machine(), "v1", time.Unix(0, 0))
	require.Equal(t, "Some CPU family 25 model 17", e.CPU)
	require.True(t, e.Virtual)
	require.Equal(t, "0-3", e.Affinity)
	require.Equal(t, "powersave", e.Governor)
	require.EqualValues(t, 2000000, e.LimitKHz)
	require.Equal(t, "2", e.ASLR)
	other := machine()
	other["proc/cpuinfo"].Data = []byte("model name : Other CPU\n")
	require.NotEqual(t, e.Fingerprint, Look(other, "v1", time.Unix(0, 0)).Fingerprint)
	require.Equal(t, e.Fingerprint, Look(machine(), "v2", time.Unix(9, 0)).Fingerprint)
}

// A card's results are of another machine than the CPU's and another card's, but not than those under another driver.
func TestDevicesAreMachines(t *testing.T) {
	look := func() *Environment { return Look(machine(), "v1", time.Unix(0, 0)) }
	require.Equal(t, look(), look().On(dynofa.Device{}))
	card := dynofa.Device{Name: "Some Card", Driver: "12.4", Capability: "8.7"}
	seen := map[string]bool{look().Fingerprint: true}
	for _, d := range []dynofa.Device{card, {Name: "Other Card", Driver: "12.4", Capability: "8.7"}, {Name: "Some Card", Driver: "12.4", Capability: "9.0"}} {
		e := look().On(d)
		require.False(t, seen[e.Fingerprint], "%v is taken for another one", d)
		seen[e.Fingerprint] = true
		require.Equal(t, d, *e.Device)
	}
	newer := card
	newer.Driver = "13.0"
	require.Equal(t, look().On(card).Fingerprint, look().On(newer).Fingerprint)

	var b bytes.Buffer
	_, err := NewWriter(&b, look().On(card), NoMeter)
	require.NoError(t, err)
	r, err := Read(&b, "card.jsonl")
	require.NoError(t, err)
	require.Equal(t, card, *r.Environment.Device)
	b.Reset()
	require.NoError(t, WriteGo(&b, r))
	require.Contains(t, b.String(), "\ndevice: Some Card, compute capability 8.7, CUDA 12.4\n")
}

func TestDisturbancesMakeDirty(t *testing.T) {
	for _, c := range []struct{ name, file, text, want string }{
		{"nothing", "", "", ""},
		{"own wait", "proc/self/task/2/schedstat", "5 600000000 3", "waited 10.0 %"},
		{"pressure", "proc/pressure/cpu", "some avg10=0 avg60=0 avg300=0 total=1700000\n", "pressure 70 %"},
		{"cgroup", "sys/fs/cgroup/a/b/cpu.stat", "nr_throttled 5\n", "throttled 3 times"},
		{"thermal", "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count", "8\n", "throttled 1 times"},
		{"frequency", cpufreq + "scaling_max_freq", "1000000\n", "frequency limit 2000000 to 1000000 kHz"},
		{"affinity", "proc/self/status", "Cpus_allowed_list:\t0\n", "affinity 0-3 to 0"},
		{"steal", "proc/stat", "cpu  100 0 50 1000 0 0 0 5000 0 0\n", "steal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := machine()
			before := look(m)
			if c.file != "" {
				m[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			}
			w, dirty := difference(before, look(m), 1)
			require.NoError(t, w.check())
			if c.want == "" {
				require.Empty(t, dirty)
				return
			}
			require.Len(t, dirty, 1)
			require.Contains(t, dirty[0], c.want)
		})
	}
}

// Where the system tells nothing (another system, a container that hides it), nothing is claimed.
func TestUnknownIsNotZero(t *testing.T) {
	w, dirty := difference(look(fstest.MapFS{}), look(fstest.MapFS{}), 1)
	require.Equal(t, Watch{Steal: -1, Pressure: -1, Wait: -1}, w)
	require.Empty(t, dirty)
	require.NotEmpty(t, Look(fstest.MapFS{}, "v1", time.Now()).Fingerprint)
}

func TestThisMachineIsWatched(t *testing.T) {
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skip("SKIPPED: no /proc/self/schedstat: waiting for a CPU is not seen here")
	}
	require.GreaterOrEqual(t, look(os.DirFS("/")).wait, 0.0)
}
