package search

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// reference is the path of a file of the reference data beside the repository, or skips the test.
func reference(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

// published is the space of the published searches with a table and the published predictor.
func published(t testing.TB, table string) Problem {
	t.Helper()
	space := ofa.MobileNetV3(1.2, 1000)
	p, err := predictor.Load(reference(t, "acc_predictor.pth"), space)
	require.NoError(t, err)
	l, err := latency.Load(reference(t, table))
	require.NoError(t, err)
	return Problem{Space: space, Predictor: p, Table: l, Choices: Choices{Resolutions: []int{160, 176, 192, 208, 224}}}
}

// golden is the best of the original search's runs, by table and limit in milliseconds.
func golden(t *testing.T) map[string]map[float64]float64 {
	data, err := os.ReadFile(reference(t, "search_reference.json"))
	require.NoError(t, err)
	var file struct {
		Runs []struct {
			Table      string
			Constraint float64
			BestAcc    float64 `json:"best_acc"`
			P, N       int
		}
	}
	require.NoError(t, json.Unmarshal(data, &file))
	best := map[string]map[float64]float64{}
	for _, r := range file.Runs {
		require.Equal(t, 100, r.P)
		if best[r.Table] == nil {
			best[r.Table] = map[float64]float64{}
		}
		best[r.Table][r.Constraint] = max(best[r.Table][r.Constraint], r.BestAcc)
	}
	require.Len(t, best, 2)
	return best
}

// check holds what was found to the sources of its numbers, and to the limit.
func check(t *testing.T, p Problem, f Found, limit float64) {
	t.Helper()
	require.NoError(t, p.Space.Check(f.Subnet))
	require.Equal(t, p.Space.Canonical(f.Subnet), f.Subnet)
	accuracy, err := p.Predictor.Accuracy(f.Subnet)
	require.NoError(t, err)
	require.Equal(t, accuracy, f.Accuracy)
	macs, _ := p.Space.Cost(f.Subnet)
	require.Equal(t, macs, f.MACs)
	if p.Table == nil {
		require.Nil(t, f.LatencyMS)
		require.LessOrEqual(t, float64(macs), limit)
		return
	}
	ms, err := p.Table.Predict(p.Space, f.Subnet)
	require.NoError(t, err)
	require.Equal(t, ms, *f.LatencyMS)
	require.LessOrEqual(t, ms, limit)
}

// seeds is how often each search is repeated; the README's table is of 5.
var seeds = flag.Uint64("seeds", 2, "searches of each constraint")

// TestBestIsAtLeastTheReference: at every constraint, every run is as good as the best of the original's, and most
// are better.
func TestBestIsAtLeastTheReference(t *testing.T) {
	for table, limits := range golden(t) {
		p := published(t, table)
		for limit, want := range limits {
			if testing.Short() && limit != 18.61 {
				continue
			}
			t.Run(fmt.Sprintf("%s %v", table, limit), func(t *testing.T) {
				t.Parallel()
				better := 0
				for seed := range *seeds {
					f, err := Best(context.Background(), p, limit, Options{Seed: seed, Threads: 1})
					require.NoError(t, err)
					check(t, p, f, limit)
					require.GreaterOrEqual(t, f.Accuracy, want-0.0002, "seed %d", seed)
					if f.Accuracy > want {
						better++
					}
					t.Logf("seed %d: %.6f, %+.6f", seed, f.Accuracy, f.Accuracy-want)
				}
				require.Greater(t, 2*better, int(*seeds), "runs better than %v", want)
			})
		}
	}
}

// TestFrontIsAtLeastTheReference: one search has a point as good as the original's best at every constraint.
func TestFrontIsAtLeastTheReference(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	for table, best := range golden(t) {
		p := published(t, table)
		least, most, err := Bounds(p)
		require.NoError(t, err)
		limits := spread(least, most, 36)
		for limit := range best {
			limits = append(limits, limit)
		}
		found, err := Front(context.Background(), p, limits, Options{})
		require.NoError(t, err)
		for i, f := range found {
			check(t, p, f, most)
			if i > 0 {
				require.Greater(t, *f.LatencyMS, *found[i-1].LatencyMS)
				require.Greater(t, f.Accuracy, found[i-1].Accuracy)
			}
		}
		for limit, want := range best {
			at := slices.IndexFunc(found, func(f Found) bool { return *f.LatencyMS > limit })
			if at < 0 {
				at = len(found)
			}
			require.Positive(t, at)
			t.Logf("%s %v: %.6f, %+.6f", table, limit, found[at-1].Accuracy, found[at-1].Accuracy-want)
			require.GreaterOrEqual(t, found[at-1].Accuracy, want, "%s %v", table, limit)
		}
	}
}

func spread(least, most float64, n int) []float64 {
	var limits []float64
	for i := range n {
		limits = append(limits, least+(most-least)*float64(i)/float64(n-1))
	}
	return limits
}

func BenchmarkBest(b *testing.B) {
	p := published(b, "latency_table@jetson_GPU")
	for seed := uint64(0); b.Loop(); seed++ {
		_, err := Best(context.Background(), p, 23.88, Options{Seed: seed, Threads: 1})
		require.NoError(b, err)
	}
}

func BenchmarkFront40(b *testing.B) {
	p := published(b, "latency_table@jetson_GPU")
	least, most, err := Bounds(p)
	require.NoError(b, err)
	for seed := uint64(0); b.Loop(); seed++ {
		_, err := Front(context.Background(), p, spread(least, most, 40), Options{Seed: seed, Threads: 1})
		require.NoError(b, err)
	}
}
