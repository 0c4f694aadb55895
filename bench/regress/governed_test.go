package regress

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/sim"
)

// played is a result file of the suite, played by a policy that goes by the name of the project's.
func played(t *testing.T, p policy.Entry, scenarios []*sim.Scenario, seeds int) string {
	p.Name = "steady"
	tables, err := sim.Run(scenarios, []policy.Entry{p}, seeds)
	require.NoError(t, err)
	var b bytes.Buffer
	w, err := harness.NewWriter(&b, &harness.Environment{Fingerprint: "0123456789ab", Time: time.Unix(1700000000, 0)}, harness.NoMeter)
	require.NoError(t, err)
	require.NoError(t, w.Simulated(tables))
	path := filepath.Join(t.TempDir(), "result.jsonl")
	require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
	return path
}

// Switching off a mechanism of the policy is a regression of the suite; nothing switched off is none.
func TestGateFindsAWorseGovernor(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: five plays of the whole suite")
	}
	const seeds = 10
	l := Limits{Effect: 0.02, Alpha: 0.01}
	whole := policy.Ablation()[0]
	before := played(t, whole, sim.Suite(), seeds)
	same, err := CompareFiles(before, played(t, whole, sim.Suite(), seeds), l)
	require.NoError(t, err)
	require.Equal(t, Same, same.Verdict)
	require.Len(t, same.Governed, 3*(16+1))
	var table strings.Builder
	same.Print(&table)
	require.Equal(t, 3, strings.Count(table.String(), "policy=steady"), "the means alone: %s", &table)
	require.Contains(t, table.String(), "48 rows of single scenarios are the same, too")
	for _, p := range policy.Ablation()[1:] {
		if !slices.Contains([]string{"no feed-forward", "no jumps", "no hysteresis", "no sensors"}, p.Name) {
			continue
		}
		c, err := CompareFiles(before, played(t, p, sim.Suite(), seeds), l)
		require.NoError(t, err)
		require.Equal(t, Regression, c.Verdict, p.Name)
		table.Reset()
		c.Print(&table)
		for _, name := range append(c.Names(Regression), c.Names(Inconclusive)...) {
			require.Contains(t, table.String(), name)
		}
	}
}

func TestGovernedRowsByHand(t *testing.T) {
	g := Governed{Effect: 1}
	// Differences 1, 2, 3: mean 2, standard error 1/sqrt 3, Student's 97.5 % quantile of two degrees 4.3027.
	g.estimate([]float64{0, 0, 0}, []float64{1, 2, 3}, true, 0.05)
	require.InDelta(t, 2, g.Change, 1e-12)
	require.InDelta(t, 2-4.30265/1.7320508, g.Low, 1e-4)
	require.Equal(t, Inconclusive, g.Verdict)
	// Without pairs: variance 0.625 of five each, so a standard error of 0.5, with eight degrees.
	g.estimate([]float64{0, 0.5, 1, 1.5, 2}, []float64{10, 10.5, 11, 11.5, 12}, false, 0.05)
	require.InDelta(t, 10-2.306*0.5, g.Low, 1e-3)
	require.Equal(t, Regression, g.Verdict)
	g.estimate([]float64{10, 11, 10, 11}, []float64{1, 2, 1, 2}, true, 0.05)
	require.Equal(t, Improvement, g.Verdict)
	require.Equal(t, g.Low, g.High, "equal differences have no spread")
}

// A scenario that is gone is no scenario that is the same; one that is new has nothing to be compared with.
func TestMissingRowsAreInconclusive(t *testing.T) {
	l := Limits{Effect: 0.02, Alpha: 0.01}
	p := policy.Ablation()[0]
	two, one := played(t, p, sim.Suite()[:2], 5), played(t, p, sim.Suite()[:1], 5)
	c, err := CompareFiles(two, one, l)
	require.NoError(t, err)
	require.Equal(t, Inconclusive, c.Verdict)
	require.Len(t, c.Missing, 1)
	require.Equal(t, c.Missing, c.Names(Inconclusive))
	var table strings.Builder
	c.Print(&table)
	require.Contains(t, table.String(), "B has no "+c.Missing[0])
	c, err = CompareFiles(one, two, l)
	require.NoError(t, err)
	require.Equal(t, Same, c.Verdict)
}

func TestGovernedRefuses(t *testing.T) {
	one := sim.Suite()[:1]
	l := Limits{Effect: 0.02, Alpha: 0.01}
	p := policy.Ablation()[0]
	_, err := CompareFiles(played(t, p, one, 6), played(t, p, one, 7), l)
	require.ErrorContains(t, err, "6 and 7 runs, expected")
	_, err = CompareFiles(played(t, p, one, 2), played(t, p, one, 2), l)
	require.ErrorContains(t, err, "2 and 2 runs, expected at least 5")
}
