package harness

import (
	"context"
	"io"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

// Server at rates from one query in longer than a Duration holds: there is none within the row's time, and no wait for it
// outlasts an interrupt.
func TestRareQueries(t *testing.T) {
	m, err := Open(shipped+"/fashion.dofa", "purego", shipped+"/test")
	require.NoError(t, err)
	defer m.Close()
	w, err := NewWriter(io.Discard, &Environment{Fingerprint: "x"}, NoMeter)
	require.NoError(t, err)
	run := func(ctx context.Context, qps float64, d time.Duration) error {
		return Run(ctx, m, Plan{Scenarios: []Scenario{Server}, Levels: []int{0}, Threads: []int{1}, Duration: d, QPS: qps, Bound: time.Second, System: fstest.MapFS{}}, w)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, qps := range []float64{1e-3, 1e-12, 1e-300} {
		require.NoError(t, run(ctx, qps, time.Millisecond))
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, run(ctx, 1e-3, 24*time.Hour), context.DeadlineExceeded)
}
