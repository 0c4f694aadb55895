package sim

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/internal/exact"
	"github.com/dynofa/dynofa/governor/policy"
)

// ours are the policies that promises are made for: with sensors, and without.
func ours() []policy.Entry { return policy.All()[:2] }

// bits is the sum of every decision and latency of ours in the suite with the seeds 1 and 2: the same on every
// architecture. Who changes the governor, the simulator or the suite on purpose puts the new one here.
const bits = uint64(0xd6ded55e3b03ebc1)

func TestSameBitsEverywhere(t *testing.T) {
	suite := Suite()
	many, err := Run(suite, ours(), 2)
	require.NoError(t, err)
	mean := Mean(many)
	require.Equal(t, bits, mean.Rows[0].Hash^mean.Rows[1].Hash^mean.Rows[2].Hash)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	one, err := Run(suite, ours(), 2)
	require.NoError(t, err)
	require.Equal(t, one, many, "on one processor")
}

func TestAnHourInASecond(t *testing.T) {
	s, err := Parse(strings.NewReader(`{"name": "hour", "about": "", "length_ms": 3600000, "constraints": {"deadline_ms": 60},
		"noise": {"sigma": 0.05, "spikes": [{"share": 0.01, "factor": 1.3}]}, "sensors": {"gpu_clock": 1, "gpu_others": 0, "temperature": 50}}`))
	require.NoError(t, err)
	m, err := newMachine(s)
	require.NoError(t, err)
	start := time.Now()
	r, err := m.run(ours()[0], 1, nil)
	require.NoError(t, err)
	t.Logf("%d inferences in %v", r.Inferences, time.Since(start))
	require.Greater(t, r.Inferences, 60000)
	require.Less(t, time.Since(start), 20*time.Second, "a second is the promise; race detector and emulators are slower")
	require.LessOrEqual(t, r.Switches, r.Inferences/1000)
}

// A disturbance within an inference slows down its rest only.
func TestLatencyIsWorkOverSpeed(t *testing.T) {
	s, err := Parse(strings.NewReader(`{"name": "step", "about": "", "length_ms": 1000, "constraints": {"deadline_ms": 100},
		"levels": [{"accuracy": 50, "latency_ms": [80]}], "noise": {"sigma": 0}, "events": [{"at_ms": 300, "slowdown": 2}, {"at_ms": 500, "slowdown": 1}]}`))
	require.NoError(t, err)
	frames, err := Trace(s, ours()[1], 1)
	require.NoError(t, err)
	for _, f := range frames {
		from, to := f.At, f.At+f.Latency
		slow := max(0, min(to, 500*time.Millisecond)-max(from, 300*time.Millisecond))
		require.InDelta(t, 80e6, float64(f.Latency-slow/2), 1e3, "%v", f.At)
	}
	require.Greater(t, len(frames), 8)
}

// The noise is what the scenario says, and is the same for every policy.
func TestNoise(t *testing.T) {
	n := Noise{Sigma: 0.05, Spikes: []Spike{{0.1, 2}}}
	sorted := n.quantiles()
	require.InDelta(t, 1.645*0.05, exact.Log(quantile(sorted, 0.9*0.95)), 0.002)
	require.InDelta(t, 0.693, exact.Log(quantile(sorted, 0.95)), 0.003, "the median of the spikes")
	r := newRandom(1, 1)
	sum, squares, count := 0.0, 0.0, 200000
	for range count {
		v := r.gamma(80, 4)
		sum += v
		squares += v * v
	}
	mean := sum / float64(count)
	require.InEpsilon(t, 80, mean, 0.02)
	require.InEpsilon(t, 4, squares/float64(count)/(mean*mean)-1, 0.05)
}

func TestRefusals(t *testing.T) {
	const good = `"name": "x", "about": "", "length_ms": 1000, "constraints": {"deadline_ms": 60}, "noise": {"sigma": 0}`
	_, err := Parse(strings.NewReader("{" + good + "}"))
	require.NoError(t, err)
	for text, want := range map[string]string{
		`{` + good + `, "lenght": 1}`:                                      `unknown field "lenght"`,
		`{` + good + `} {}`:                                                "text behind",
		`{` + good + `, "sensors": {"speed": 1}}`:                          `sensor "speed", expected one of`,
		`{` + good + `, "sensors": {"clock": 2}}`:                          "clock is 2, expected 0 to 1",
		`{` + good + `, "levels": [{"accuracy": 101, "latency_ms": [1]}]}`: "accuracy 101, expected percent",
		`{` + good + `, "levels": [{"accuracy": 50, "latency_ms": []}]}`:   "0 latencies",
		``:                         "scenario: the file is empty",
		`{` + good:                 "ends within",
		"{\n" + good + ",\n,}":     "line 3: invalid character ','",
		"{\n\"lenght\": 1}":        `line 2: unknown field "lenght"`,
		"{\n\"length_ms\": \"5\"}": "line 2: length_ms is of kind string, expected a number",
		"{\n\n\"events\": 5}":      "line 3: events is of kind number, expected an array",
		"{\n\"events\": [\n{\"at_ms\": 5, \"cores\": []}]}": "line 3: events.cores is of kind array, expected a number",
		`[1]`: "line 1: the file is of kind array, expected an object",
		`{` + good + `, "events": [{"at_ms": 5, "slowdown": -2}]}`:                                     "slowdown of the event at 5 is -2, expected 0.05 to 100",
		`{` + good + `, "events": [{"at_ms": 5, "cores": -2}]}`:                                        "cores of the event at 5 is -2, expected",
		`{` + good + `, "events": [{"at_ms": 5, "cores": 1, "ramp_ms": -2}]}`:                          "ramp_ms of the event at 5 is -2, expected",
		`{` + good + `, "events": [{"at_ms": 5}]}`:                                                     "the event at 5 changes nothing, expected any of",
		`{` + good + `, "events": [{"at_ms": 5, "cores": 1}, {"at_ms": 4, "cores": 1}]}`:               "events in order",
		`{` + good + `, "events": [{"at_ms": 5, "ramp_ms": 9, "cores": 1}, {"at_ms": 6, "cores": 1}]}`: "ramp at 5 ends after the next",
		`{` + good + `, "events": [{"at_ms": 5, "sensors": {"clock": 1}}]}`:                            "one that the scenario's sensors name",
		`{` + good + `, "events": [{"at_ms": 5, "constraints": {"probability": 2}}]}`:                  "probability 2",
		`{` + good + `, "faults": [{"from_ms": 0, "to_ms": 5, "kind": "shy"}]}`:                        "one of [missing",
		`{` + good + `, "error": [1, 2]}`:                                                              "one for each of the 6 levels",
		`{"name": "x", "about": "", "length_ms": 1000, "constraints": {}, "noise": {"sigma": 0}}`:      "deadline_ms is 0",
	} {
		_, err := Parse(strings.NewReader(text))
		require.ErrorContains(t, err, want, text)
	}
}

func FuzzParse(f *testing.F) {
	names, err := filepath.Glob("suite/*.json")
	require.NoError(f, err)
	for _, name := range names {
		data, err := os.ReadFile(name)
		require.NoError(f, err)
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(strings.NewReader(text))
		if err != nil {
			return
		}
		s.Length = min(s.Length, 500)
		s.Events = nil
		if s.complete() != nil {
			return
		}
		if a := s.Arrivals; a != nil && a.Mean < 1 {
			return // a run of very many
		}
		if _, err := Run([]*Scenario{s}, ours()[:1], 1); err != nil {
			t.Fatal(err)
		}
	})
}
