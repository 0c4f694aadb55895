package profile

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

// TestDesignIsLatin: at every slot every pair stands once, and the first round holds every key of the space.
func TestDesignIsLatin(t *testing.T) {
	for _, s := range []*ofa.Space{ofa.MobileNetV3(1.2, 1000), ofa.ProxylessNAS(0.3, 10)} {
		rng := rand.New(rand.NewPCG(1, 1))
		found := map[string]bool{}
		for round := range 2 {
			networks := design(s, 160, round, rng)
			require.Len(t, networks, 9)
			for stage := range s.Stages {
				pairs := map[[2]int]bool{}
				for _, n := range networks {
					require.NoError(t, s.Check(n))
					pairs[[2]int{n.Kernels[4*stage], n.Expands[4*stage]}] = true
				}
				require.Len(t, pairs, 9)
			}
			for _, n := range networks {
				keys, err := latency.Keys(s, n)
				require.NoError(t, err)
				for _, k := range keys {
					if round > 0 {
						require.True(t, found[k])
					}
					found[k] = true
				}
			}
		}
		for _, k := range s.Kernels {
			for _, e := range s.Expands {
				keys, err := latency.Keys(s, s.Uniform(k, e, 4, 160))
				require.NoError(t, err)
				for _, key := range keys {
					require.True(t, found[key], key)
				}
			}
		}
	}
}

func TestUnseenNetworksAreNew(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	rng := rand.New(rand.NewPCG(1, 1))
	first := unseen(s, []int{128, 160}, 40, nil, rng)
	require.Len(t, first, 40)
	known := map[string]bool{}
	for _, n := range first {
		known[s.Text(n)] = true
	}
	require.Len(t, known, 40)
	for _, n := range unseen(s, []int{128, 160}, 40, known, rand.New(rand.NewPCG(1, 1))) {
		require.False(t, known[s.Text(n)])
	}
	s.Kernels, s.Expands, s.Resolutions = []int{3}, []int{3}, []int{128}
	for i := range s.Stages {
		s.Stages[i].Depths = []int{2}
	}
	require.Empty(t, unseen(s, []int{128}, 40, map[string]bool{s.Text(s.Smallest()): true}, rng))
}

func TestPartsGoToTheirKeys(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	n := s.Smallest()
	l, err := newLayers(s, n)
	require.NoError(t, err)
	third := s.Blocks(n)[3].Index // stages store four blocks and hold two here
	require.Equal(t, 5, third)
	ns, err := l.sum([]Part{{"stem", -1, 1}, {"expand and depthwise", third, 2}, {"project", third, 3}, {"head", -1, 4}, {"features", -1, 5}, {"classifier", -1, 6}})
	require.NoError(t, err)
	want := make([]int64, len(l.keys))
	want[0], want[4] = 1, 5
	last := len(want)
	want[last-4], want[last-3], want[last-2], want[last-1] = 4, 0, 5, 6
	require.Equal(t, want, ns)

	for _, p := range []Part{{"mystery", -1, 1}, {"project", 4, 1}, {"stem", 99, 1}, {"", -1, 1}} {
		_, err := l.sum([]Part{p})
		require.ErrorContains(t, err, "expected stem, head, pool")
	}
	proxyless := ofa.ProxylessNAS(1, 10)
	l, err = newLayers(proxyless, proxyless.Smallest())
	require.NoError(t, err)
	ns, err = l.sum([]Part{{"head", -1, 4}, {"pool", -1, 5}, {"classifier", -1, 6}})
	require.NoError(t, err)
	require.Equal(t, []int64{4, 5, 6}, ns[len(ns)-3:])
	_, err = l.sum([]Part{{"features", -1, 4}})
	require.ErrorContains(t, err, "which this network does not have")
}

// TestInterval: 95 % intervals hold the median of a skewed distribution about 95 times of 100.
func TestInterval(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{6, 20, 101} {
		held := 0
		for range 4000 {
			v := make([]float64, n)
			for i := range v {
				v[i] = rng.ExpFloat64()
			}
			slices.Sort(v)
			low, high, ok := interval(v)
			require.True(t, ok)
			if low <= math.Ln2 && math.Ln2 <= high {
				held++
			}
		}
		require.InDelta(t, 0.957, float64(held)/4000, 0.025, "%d", n)
	}
	low, high, ok := interval([]float64{1, 2, 3, 4, 5})
	require.False(t, ok)
	require.Equal(t, [2]float64{1, 5}, [2]float64{low, high})
}

func TestUsable(t *testing.T) {
	many := func(n int, v float64, d dirt) []sample { return slices.Repeat([]sample{{v, d}}, n) }
	count := func(lists ...[]sample) int { return len(usable(slices.Concat(lists...))) }
	require.Equal(t, 6, count(many(6, 1, clean), many(20, 2, disturbed)))
	require.Equal(t, 25, count(many(5, 1, clean), many(20, 2, shared), many(30, 3, disturbed)))
	require.Equal(t, 13, count(many(5, 1, clean), many(20, 2, disturbed)))
	require.Equal(t, []float64{1, 1, 2}, usable(slices.Concat(many(3, 2, disturbed), many(2, 1, disturbed))))
	require.Equal(t, 1, count(many(1, 1, clean)))
}

// TestCorrectRecovers: a correction that was planted in the runs is found, in spite of some that went wrong.
func TestCorrectRecovers(t *testing.T) {
	s := ofa.MobileNetV3(0.5, 10)
	a := &analysis{sides: map[int]map[string]latency.Entry{128: {}, 224: {}}}
	rng := rand.New(rand.NewPCG(1, 1))
	want := latency.Correction{BaseMS: map[int]float64{128: 0.2, 224: -0.1}, Scale: 1.04, LayerMS: -0.004, WeightMS: 0.1}
	var networks []ofa.Subnet
	for round := range 20 {
		for _, r := range []int{128, 224} {
			for _, n := range design(s, r, round, rng) {
				networks = append(networks, n)
				keys, err := latency.Keys(s, n)
				require.NoError(t, err)
				for _, key := range keys {
					if _, ok := a.sides[r][key]; !ok {
						a.sides[r][key] = latency.Entry{Mean: 0.1 + 0.4*rng.Float64()}
					}
				}
			}
		}
	}
	table, err := latency.NewProfiled(a.sides, latency.Profile{Correction: want})
	require.NoError(t, err)
	for i, n := range networks {
		v, err := table.Predict(s, n)
		require.NoError(t, err)
		o := observed{n: n, ms: v * (1 + 0.005*rng.NormFloat64())}
		if i%10 == 0 {
			o.ms *= 2
		}
		if i%7 == 0 {
			o.ms, o.dirt = o.ms*3, disturbed
		}
		a.runs = append(a.runs, o)
	}
	got, err := correct(s, a)
	require.NoError(t, err)
	table2, err := latency.NewProfiled(a.sides, latency.Profile{Correction: got})
	require.NoError(t, err)
	for _, n := range networks {
		v, err := table.Predict(s, n)
		require.NoError(t, err)
		v2, err := table2.Predict(s, n)
		require.NoError(t, err)
		require.InEpsilon(t, v, v2, 0.005)
	}
	// A single network says little; it must not make a wild correction.
	a.runs = a.runs[1:2]
	got, err = correct(s, a)
	require.NoError(t, err)
	require.InDelta(t, 1, got.Scale, 0.1)
}

func TestMachine(t *testing.T) {
	root := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	m := Machine{root}
	missing := m.read()
	require.Equal(t, reading{}, missing)
	require.Equal(t, clean, between(missing, m.read(), time.Millisecond))
	require.NotEmpty(t, m.cpu())

	put("proc/self/task/10/schedstat", "5000 300 7\n")
	put("proc/self/task/11/schedstat", "5000 400 7\n")
	put("proc/stat", "cpu  10 20 30 40 50 60 70 80 90 0\ncpu0 1 2 3 4 5 6 7 8 9 0\n")
	put("proc/pressure/cpu", "some avg10=0.00 avg60=0.06 avg300=0.54 total=11660\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
	put("proc/cpuinfo", "processor\t: 0\ncpu family\t: 25\nmodel\t\t: 17\nmodel name\t: Some CPU\n")
	for _, cpu := range []string{"cpu0", "cpu1"} {
		put("sys/devices/system/cpu/"+cpu+"/cpufreq/scaling_cur_freq", "2000000\n")
	}
	require.Equal(t, "Some CPU (family 25, model 17)", m.cpu())
	before := m.read()
	require.Equal(t, reading{700, 80, 11660 * time.Microsecond, []int{2000000, 2000000}}, before)
	wall := 10 * time.Millisecond
	for _, c := range []struct {
		name, file, text string
		want             dirt
	}{
		{"nothing", "proc/self/task/10/schedstat", "9000 300 9\n", clean},
		{"a little waiting", "proc/self/task/10/schedstat", "9000 40300 9\n", clean},
		{"waiting", "proc/self/task/10/schedstat", "9000 60300 9\n", disturbed},
		{"a thread that ended", "proc/self/task/10/schedstat", "0 0 0\n", clean},
		{"steal", "proc/stat", "cpu  10 20 30 40 50 60 70 81 90 0\n", disturbed},
		{"little pressure", "proc/pressure/cpu", "some avg10=0.00 avg60=0.06 avg300=0.54 total=12000\n", clean},
		{"pressure", "proc/pressure/cpu", "some avg10=0.00 avg60=0.06 avg300=0.54 total=12600\n", shared},
		{"a slower clock", "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "1900000\n", disturbed},
		{"nonsense", "proc/pressure/cpu", "\x00some total=-", clean},
		{"nonsense in stat", "proc/stat", "cpu a b c d e f g h i j k", clean},
		{"nothing in stat", "proc/stat", "", clean},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, err := os.ReadFile(filepath.Join(root, c.file))
			require.NoError(t, err)
			put(c.file, c.text)
			require.Equal(t, c.want, between(before, m.read(), wall))
			put(c.file, string(old))
		})
	}
}
