package regress

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// noise is what a shared machine of two cores did to one program: testdata/README.md.
func noise(t *testing.T) map[string][][2]float64 {
	data, err := os.ReadFile("testdata/noise.json")
	require.NoError(t, err)
	var n map[string][][2]float64
	require.NoError(t, json.Unmarshal(data, &n))
	require.Len(t, n, 2)
	return n
}

// simulate compares with rounds drawn from recorded ones of a row, B slower by a share.
func simulate(rng *rand.Rand, recorded [][2]float64, slower float64) Verdict {
	l := Limits{Effect: 0.02, Alpha: 0.01}
	var s sample
	var again sample
	add := func(to *sample) {
		r := recorded[rng.IntN(len(recorded))]
		a, b := r[rng.IntN(2)], 0.0
		if b = r[0]; a == b {
			b = r[1]
		}
		b *= 1 + slower
		to.a, to.b, to.d = append(to.a, a), append(to.b, b), append(to.d, math.Log(b/a))
	}
	var row, second Row
	for round := 1; round <= firstPairs/fewPairs && !(round > leastRounds && row.precise(l, 1)); round++ {
		add(&s)
		if round >= leastRounds {
			s.estimate(&row, l)
		}
	}
	if !row.within(l) {
		for round := 1; len(s.d) < mostPairs/fewPairs && !(round > leastRounds && row.precise(l, 1)); round++ {
			add(&s)
			n := len(s.d) - 1
			again.a, again.b, again.d = append(again.a, s.a[n]), append(again.b, s.b[n]), append(again.d, s.d[n])
			if round >= leastRounds {
				s.estimate(&row, l)
			}
		}
		again.estimate(&second, l)
		row.Checked = true
	}
	row.judge(l)
	row.confirm(&second, l)
	return row.Verdict
}

func TestSimulatedComparisons(t *testing.T) {
	runs := 100
	if testing.Short() {
		runs = 30
	}
	for name, recorded := range noise(t) {
		for _, c := range []struct {
			slower float64
			want   Verdict
			least  float64
		}{{0, Same, 0.9}, {0.05, Regression, 0.95}, {0.02, Regression, 0.8}, {-0.05, Improvement, 0.95}} {
			rng := rand.New(rand.NewPCG(5, 5))
			counts := map[Verdict]int{}
			for range runs {
				counts[simulate(rng, recorded, c.slower)]++
			}
			t.Logf("%s, B slower by %+.0f %%: %v", name, 100*c.slower, counts)
			require.GreaterOrEqual(t, float64(counts[c.want]), c.least*float64(runs), "%s %g", name, c.slower)
			if c.slower == 0 {
				require.LessOrEqual(t, counts[Regression]+counts[Improvement], runs/100)
			}
		}
	}
}

// clean is a series of results as the machine would give them without any change.
func clean(rng *rand.Rand, recorded [][2]float64, n int) []float64 {
	v := make([]float64, n)
	for i := range v {
		v[i] = recorded[rng.IntN(len(recorded))][rng.IntN(2)] / 1e6
	}
	return v
}

func TestShiftsAreFoundAndPlaced(t *testing.T) {
	const runs, before, after = 200, 40, 5
	for name, recorded := range noise(t) {
		rng := rand.New(rand.NewPCG(9, 9))
		placed := 0
		for range runs {
			v := clean(rng, recorded, before+after)
			for i := before; i < len(v); i++ {
				v[i] *= 1.05
			}
			points := ChangePoints(v, 0.02)
			if len(points) == 1 && points[0].At >= before-1 && points[0].At <= before+1 {
				placed++
			}
		}
		t.Logf("%s: %d of %d shifts of 5 %% placed within one point after %d later points", name, placed, runs, after)
		require.GreaterOrEqual(t, placed, runs*9/10)
	}
}

func TestCleanSeriesHaveNoShifts(t *testing.T) {
	const runs = 100
	for name, recorded := range noise(t) {
		rng := rand.New(rand.NewPCG(11, 11))
		found := 0
		for range runs {
			found += len(ChangePoints(clean(rng, recorded, 100), 0.02))
		}
		t.Logf("%s: %d false shifts in %d clean series of 100", name, found, runs)
		require.LessOrEqual(t, found, 1)
	}
}

func TestChangePointsOfOddSeries(t *testing.T) {
	require.Empty(t, ChangePoints(nil, 0.02))
	require.Empty(t, ChangePoints([]float64{1}, 0.02))
	require.Empty(t, ChangePoints([]float64{1, 1, 1, 1, 1, 1, 1, 1, 1}, 0.02))
	require.Empty(t, ChangePoints([]float64{1, 1, 1, 1, 1, 7, 1, 1, 1, 1}, 0.02), "one wild point is no shift")
	up := []float64{1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1}
	points := ChangePoints(up, 0.02)
	require.Len(t, points, 2)
	require.Equal(t, []int{5, 10}, []int{points[0].At, points[1].At})
	require.InDelta(t, 1, points[0].Change, 1e-9)
	require.InDelta(t, -0.5, points[1].Change, 1e-9)
}
