package sim

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/policy"
)

// ours are the policies that promises are made for.
func ours() []policy.Entry { return policy.All()[:2] }

func TestSuiteKeepsItsPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	tables, err := Run(Suite(), policy.All(), 30)
	require.NoError(t, err)
	mean := Mean(tables)
	sensing, blind, oracle := mean.Row("steady"), mean.Row("steady-blind"), mean.Row("oracle")
	require.LessOrEqual(t, sensing.Regret.Mean, 0.3)
	require.LessOrEqual(t, blind.Regret.Mean, 0.8)
	for _, r := range []*Row{sensing, blind} {
		require.LessOrEqual(t, r.Miss.Mean, 1.2*oracle.Miss.Mean+0.5, r.Policy)
	}
	require.LessOrEqual(t, tables[0].Row("steady").Rate.Mean, 1.0, "G0: switches per 1000 inferences")
	g1, without := tables[1].Row("steady"), tables[1].Row("steady-blind")
	require.LessOrEqual(t, g1.Regret.Mean, 0.3)
	require.LessOrEqual(t, without.Regret.Mean, 0.3)
	require.LessOrEqual(t, g1.Switches.Mean, 2.0)
	require.Zero(t, g1.Caused.Mean)
	require.LessOrEqual(t, without.Caused.Mean, 1.0)
}

func TestSameOnAnyNumberOfProcessors(t *testing.T) {
	suite := Suite()
	many, err := Run(suite, ours(), 3)
	require.NoError(t, err)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	one, err := Run(suite, ours(), 3)
	require.NoError(t, err)
	require.Equal(t, one, many)
}

// An hour of frames, and the bits of all it does: the same on every architecture.
func TestAnHourInASecond(t *testing.T) {
	s, err := Parse(strings.NewReader(hour))
	require.NoError(t, err)
	m, err := newMachine(s)
	require.NoError(t, err)
	start := time.Now()
	r, err := m.run(ours()[0], 1, nil)
	require.NoError(t, err)
	t.Logf("%d inferences in %v", r.Inferences, time.Since(start))
	require.Greater(t, r.Inferences, 60000)
	require.Less(t, time.Since(start), 20*time.Second, "a second is the promise; the race detector and emulators are slower")
}

const hour = `{"name": "hour", "about": "", "length_ms": 3600000, "constraints": {"deadline_ms": 60}, "noise": {"sigma": 0.05,
	"spikes": [{"share": 0.01, "factor": 1.3}]}, "sensors": {"gpu_clock": 1, "gpu_others": 0, "temperature": 50}}`
