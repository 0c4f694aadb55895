package sim

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/policy"
)

// The card's slowdown is that of the formula, but for the launches, which only the CPUs' number moves.
func TestCard(t *testing.T) {
	const head = `{"name": "card", "about": "", "length_ms": 4000, "constraints": {"deadline_ms": 400}, "noise": {"sigma": 0}, "cores": 4, "compute": 0.75,
		"levels": [{"accuracy": 50, "latency_ms": [40, 80]}], "configurations": [{"gpu": true, "launch_ms": 10}, {"threads": 2}], "events": [`
	for event, ms := range map[string][2]float64{
		`{"at_ms": 0, "gpu": {"clock": 0.5}}`:                                  {10 + 30*(0.75/0.5+0.25), 80},
		`{"at_ms": 0, "gpu": {"memory": 0.5}}`:                                 {10 + 30*(0.75+0.25/0.5), 80},
		`{"at_ms": 0, "gpu": {"clock": 0.5, "time": 0.5}}`:                     {10 + 2*30*(0.75/0.5+0.25), 80},
		`{"at_ms": 0, "cores": 1}`:                                             {40, 160},
		`{"at_ms": 0, "cores": 0.5}`:                                           {2*10 + 30, 320},
		`{"at_ms": 0, "slowdown": 2, "gpu": {"time": 0.5}}`:                    {2 * (10 + 2*30), 160},
		`{"at_ms": 0, "gpu": {"time": 0.5}}, {"at_ms": 0, "gpu": {"time": 1}}`: {40, 80},
	} {
		s, err := Parse(strings.NewReader(head + event + "]}"))
		require.NoError(t, err)
		for c, want := range ms {
			frames, err := Trace(s, policy.Entry{Name: "static", New: policy.Static(0, c)}, 1)
			require.NoError(t, err)
			require.InDelta(t, want*1e6, float64(frames[1].Latency), 2, "%s on %d", event, c)
		}
		frames, err := Trace(s, Oracle, 1)
		require.NoError(t, err)
		require.Equal(t, ms[1] < ms[0], frames[1].Config == 1, "the oracle knows which is faster: %s", event)
	}
	_, err := Parse(strings.NewReader(head + `{"at_ms": 0, "gpu": {"clock": 1.5}}]}`))
	require.ErrorContains(t, err, "clock, memory and time from 0.01 to 1")
	_, err = Parse(strings.NewReader(strings.Replace(head, "0.75", "1.5", 1) + "]}"))
	require.ErrorContains(t, err, "compute is 1.5")
}
