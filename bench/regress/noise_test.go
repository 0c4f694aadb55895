package regress

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/harness"
)

// recorded reads what a shared machine of two cores did to one program: testdata/README.md.
func recorded[T any](t *testing.T, name string) map[string][]T {
	data, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	var n map[string][]T
	require.NoError(t, json.Unmarshal(data, &n))
	require.NotEmpty(t, n)
	return n
}

// round is what both sides of a round took, a burst at a time.
type round [2][]int64

// replayed stands in for the workers of a comparison: its rounds are drawn from recorded ones, B slower by a share. With
// a part, that one is slower and the whole inference is not.
type replayed struct {
	whole, part []round // part may be nil
	slower      float64
	rng         *rand.Rand
	started     int // sides
	at, swap    int // the recorded round that is at hand, and which of its sides is A
}

// replayedSide is one of the workers in a round.
type replayedSide struct {
	*replayed
	b        bool
	recorded int // side
	bursts   int // so far
}

func (r *replayed) start(side int) (asked, error) {
	if r.started%2 == 0 {
		r.at, r.swap = r.rng.IntN(len(r.whole)), r.rng.IntN(2)
	}
	r.started++
	return &replayedSide{replayed: r, b: side == 1, recorded: side ^ r.swap}, nil
}

func (s *replayedSide) greeting() harness.Hello { return harness.Hello{Levels: []string{"net"}} }
func (s *replayedSide) close() error            { return nil }

func (s *replayedSide) burst(_, n int, profile bool) (*harness.Burst, error) {
	b := &harness.Burst{Wall: make([]int64, n), CPU: make([]int64, n), Wait: -1}
	fill := func(values []int64, recorded []int64, slower bool) {
		ns := float64(burst / leastRuns) // warm-up: as many inferences a burst as warm it up
		if s.bursts > 0 {
			ns = float64(recorded[s.bursts-1])
		}
		if slower && s.b {
			ns *= 1 + s.slower
		}
		for i := range values {
			values[i] = int64(ns)
		}
	}
	fill(b.Wall, s.whole[s.at][s.recorded], s.part == nil)
	if profile {
		b.Parts = map[string][]int64{"part": make([]int64, n)}
		fill(b.Parts["part"], s.part[s.at][s.recorded], true)
	}
	s.bursts++
	return b, nil
}

func TestReplayedComparisons(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a statistic of many comparisons, in one goroutine")
	}
	const runs = 100
	bursts := recorded[round](t, "bursts.json")
	for name, r := range map[string]replayed{
		"level 2": {whole: bursts["level 2"]},
		"level 6": {whole: bursts["level 6"]},
		"project": {whole: bursts["level 2 profiled"], part: bursts["level 2 project"]},
	} {
		for _, c := range []struct {
			slower float64
			want   Verdict
			least  float64
		}{{0, Same, 0.9}, {0.05, Regression, 0.95}, {0.02, Regression, 0.8}, {-0.05, Improvement, 0.95}} {
			r.rng, r.slower = rand.New(rand.NewPCG(5, 5)), c.slower
			counts, pairs := map[Verdict]int{}, 0
			for i := range runs {
				compare := comparer{Options: usual, start: r.start}
				compare.Seed, compare.Kernels = uint64(i+1), r.part != nil
				found, err := compare.compare()
				require.NoError(t, err)
				row := found.Rows[len(found.Rows)-1] // the part's, if there is one
				require.LessOrEqual(t, row.Pairs, mostPairs)
				counts[row.Verdict]++
				pairs += row.Pairs
			}
			t.Logf("%s, B slower by %+.0f %%: %v, %d pairs", name, 100*c.slower, counts, pairs/runs)
			require.GreaterOrEqual(t, float64(counts[c.want]), c.least*float64(runs), "%s %g", name, c.slower)
			if c.slower == 0 {
				require.LessOrEqual(t, counts[Regression]+counts[Improvement], runs/100)
			}
		}
	}
}

// How often the interval has the truth in it, by kind of noise: README.md gives these numbers.
func TestIntervalsHold(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a statistic of many comparisons, in one goroutine")
	}
	const runs = 300
	noises := map[string]func(*rand.Rand) float64{
		"normal":    func(r *rand.Rand) float64 { return r.NormFloat64() },
		"heavy":     func(r *rand.Rand) float64 { return r.NormFloat64() / math.Sqrt(r.ExpFloat64()) },          // Student's of two degrees
		"two modes": func(r *rand.Rand) float64 { return float64(10*r.IntN(2)-10*r.IntN(2)) + r.NormFloat64() }, // of each side
	}
	for name, noise := range noises {
		for rounds, least := range map[int]float64{leastRounds: 0.92, 16: 0.94} {
			rng := rand.New(rand.NewPCG(3, 4))
			held, alarms := 0, 0
			for range runs {
				s := sample{d: make([]float64, rounds), a: []float64{1}, b: []float64{1}}
				for i := range s.d {
					s.d[i] = noise(rng) / 1000
				}
				var r Row
				s.estimate(&r, usual.Limits)
				if r.Low <= 0 && r.High >= 0 {
					held++
				}
				if r.P < usual.Alpha {
					alarms++
				}
			}
			t.Logf("%s, %d rounds: %d of %d intervals hold, %d have p < %g", name, rounds, held, runs, alarms, usual.Alpha)
			require.GreaterOrEqual(t, held, int(least*runs), name)
			require.LessOrEqual(t, alarms, 9, name)
		}
	}
}

// results are what rows come to in series of one machine.
func results(t *testing.T) map[string][]float64 {
	values := map[string][]float64{}
	for name, rounds := range recorded[[2]float64](t, "noise.json") {
		for _, r := range rounds {
			values["slower machine, "+name] = append(values["slower machine, "+name], r[0], r[1])
		}
	}
	for name, rounds := range recorded[round](t, "bursts.json") {
		for _, r := range rounds {
			for _, side := range r {
				values[name] = append(values[name], float64(slices.Min(side)))
			}
		}
	}
	return values
}

const usualProcesses = 3 // of a result, as the README advises

// clean is a series as the machine would give it without any change, each result of so many processes.
func clean(rng *rand.Rand, values []float64, n, processes int) []float64 {
	v, of := make([]float64, n), make([]float64, processes)
	for i := range v {
		for k := range of {
			of[k] = values[rng.IntN(len(values))] / 1e6
		}
		v[i] = median(of)
	}
	return v
}

func TestShiftsAreFoundAndPlaced(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a statistic of many series, in one goroutine")
	}
	const runs, before, after = 200, 40, 5
	for name, recorded := range results(t) {
		for _, processes := range []int{1, usualProcesses} {
			rng := rand.New(rand.NewPCG(9, 9))
			placed := 0
			for range runs {
				v := clean(rng, recorded, before+after, processes)
				for i := before; i < len(v); i++ {
					v[i] *= 1.05
				}
				points := ChangePoints(v, 0.02)
				if len(points) == 1 && points[0].At >= before-1 && points[0].At <= before+1 {
					placed++
				}
			}
			t.Logf("%s: %d of %d shifts of 5 %% placed within one point after %d later points of %d processes", name, placed, runs, after, processes)
			if processes == usualProcesses {
				require.GreaterOrEqual(t, placed, runs*9/10, name)
			}
		}
	}
}

func TestCleanSeriesHaveNoShifts(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: a statistic of many series, in one goroutine")
	}
	const runs = 100
	for name, recorded := range results(t) {
		rng := rand.New(rand.NewPCG(11, 11))
		found := 0
		for range runs {
			found += len(ChangePoints(clean(rng, recorded, 100, usualProcesses), 0.02))
		}
		t.Logf("%s: %d false shifts in %d clean series of 100", name, found, runs)
		require.LessOrEqual(t, found, 1, name)
	}
}

// The cut is that of the definition, with all sums made anew.
func TestFarthest(t *testing.T) {
	rng := rand.New(rand.NewPCG(13, 13))
	mean := func(a, b []float64, pairs float64) float64 {
		var sum float64
		for _, x := range a {
			sum += distance(x, b)
		}
		return sum / pairs
	}
	for range 100 {
		v := make([]float64, 8+rng.IntN(40))
		for i := range v {
			v[i] = rng.NormFloat64() + float64(i/12)
		}
		want, best := 0, 0.0
		for cut := segment; cut <= len(v)-segment; cut++ {
			a, b := v[:cut], v[cut:]
			n, m := float64(len(a)), float64(len(b))
			q := n * m / (n + m) * (2*mean(a, b, n*m) - mean(a, a, n*(n-1)) - mean(b, b, m*(m-1)))
			if q > best {
				want, best = cut, q
			}
		}
		require.Equal(t, want, farthest(v))
	}
	for n := range 2 * segment {
		require.Zero(t, farthest(make([]float64, n)))
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
