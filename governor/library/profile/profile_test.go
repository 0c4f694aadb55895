package profile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

// simulated is an engine on a clock of its own. Every key has a known cost; a run costs a base and its weights as
// well, a look at the clock a little; all of it scatters, drifts, and is disturbed in bursts that the simulated
// machine's files show.
type simulated struct {
	t     *testing.T
	space *ofa.Space
	rng   *rand.Rand
	root  string

	noise, drift float64
	burst        float64 // share of the time
	quietly      bool    // bursts do not show in the files
	runs, failAt int     // run that fails, 0: none

	now      float64 // seconds
	busy     bool
	until    float64
	waited   float64 // seconds
	written  float64 // of them
	shown    bool
	cost     map[string]float64
	current  ofa.Subnet
	keys     []string
	constant float64 // seconds beside the layers
}

const (
	simBase   = 200e-6
	simWeight = 300e-6 // per million
	simClock  = 2e-6
)

var errStop = errors.New("stopped")

func simulate(t *testing.T, s *ofa.Space) *simulated {
	e := &simulated{t: t, space: s, rng: rand.New(rand.NewPCG(5, 5)), root: t.TempDir(), cost: map[string]float64{}}
	for _, dir := range []string{"proc/self/task/1", "proc/thread-self"} {
		require.NoError(t, os.MkdirAll(filepath.Join(e.root, dir), 0o755))
	}
	e.write()
	return e
}

// write shows the waiting in the machine's files.
func (e *simulated) write() {
	if e.shown && e.waited == e.written {
		return
	}
	e.shown, e.written = true, e.waited
	text := fmt.Sprintf("1000 %d 5\n", int64(e.waited*1e9))
	for _, dir := range []string{"proc/self/task/1", "proc/thread-self"} {
		require.NoError(e.t, os.WriteFile(filepath.Join(e.root, dir, "schedstat"), []byte(text), 0o600))
	}
}

// seconds is the cost of a key, drawn when it is first asked for, the same in any order.
func (e *simulated) seconds(key string) float64 {
	if _, ok := e.cost[key]; !ok {
		h := uint64(14695981039346656037)
		for _, b := range []byte(key) {
			h = (h ^ uint64(b)) * 1099511628211
		}
		e.cost[key] = 50e-6 + 400e-6*rand.New(rand.NewPCG(h, 1)).Float64()
	}
	return e.cost[key]
}

func (e *simulated) Configure(n ofa.Subnet) error {
	keys, err := latency.Keys(e.space, n)
	e.current, e.keys = n, keys
	e.constant = simBase + simWeight*float64(weights(e.space, n))/1e6
	return err
}

// weights is the number that a correction counts.
func weights(s *ofa.Space, n ofa.Subnet) int {
	_, params := s.Cost(n)
	for _, norm := range s.Norms(n) {
		params -= 2 * int64(norm.Channels)
	}
	for _, b := range s.Blocks(n) {
		if b.Squeeze > 0 {
			params -= int64(b.Mid + b.Squeeze)
		}
	}
	return int(params) - s.Classes
}

// spend lets a cost pass and returns how long it took.
func (e *simulated) spend(seconds float64) float64 {
	took := seconds * (1 + e.noise*math.Abs(e.rng.NormFloat64()) - 0.6745*e.noise) * (1 + e.drift*math.Sin(e.now/1.5))
	if e.now >= e.until {
		e.busy = e.burst > 0 && e.rng.Float64() < e.burst
		e.until = e.now + 0.05*(0.5+e.rng.Float64())
	}
	if e.busy {
		took += 2 * seconds
		e.waited += 2 * seconds
	}
	e.now += took
	return took
}

func (e *simulated) step() error {
	if e.runs++; e.runs == e.failAt {
		return errStop
	}
	return nil
}

func (e *simulated) Run(_ context.Context, image, logits []float32) error {
	r := e.current.Resolution
	require.Len(e.t, image, 3*r*r)
	require.Len(e.t, logits, e.space.Classes)
	e.spend(e.constant)
	for _, key := range e.keys {
		e.spend(e.seconds(key))
	}
	if !e.quietly {
		e.write()
	}
	return e.step()
}

func (e *simulated) Profile(_ context.Context, _, _ []float32, parts []Part) (int, error) {
	e.spend(e.constant)
	part := func(i int, name string, block int, key string) {
		parts[i] = Part{name, block, time.Duration(1e9 * (e.spend(e.seconds(key)) + simClock))}
		e.now += simClock
	}
	blocks := e.space.Blocks(e.current)
	part(0, "stem", -1, e.keys[0])
	for i, b := range blocks {
		part(1+i, "project", b.Index, e.keys[1+i])
	}
	at := 1 + len(blocks)
	names := []string{"head", "pool", "features", "classifier"}
	for i, name := range names {
		part(at+i, name, -1, e.keys[at+i])
	}
	e.write()
	return at + len(names), e.step()
}

// ms is what a run costs without noise.
func (e *simulated) ms(n ofa.Subnet) float64 {
	require.NoError(e.t, e.Configure(n))
	sum := e.constant
	for _, key := range e.keys {
		sum += e.seconds(key)
	}
	return 1e3 * sum
}

func (e *simulated) options(dir string) Options {
	return Options{
		Engine: e, Space: e.space, Dir: dir, Resolutions: []int{160, 128}, Limit: 20 * time.Second, Seed: 3,
		Bundle: "abc", Backend: "simulated", Threads: 1, Machine: Machine{e.root},
		Now: func() time.Time { return time.Unix(1e9, 0).Add(time.Duration(1e9 * e.now)) },
	}
}

// TestRunRecoversCosts: through noise, drift and bursts, keys cost what they cost, within the intervals, and
// networks that the table has not seen are predicted.
func TestRunRecoversCosts(t *testing.T) {
	for name, set := range map[string]func(e *simulated){
		"quiet":          func(*simulated) {},
		"noise":          func(e *simulated) { e.noise = 0.05 },
		"noise, drift":   func(e *simulated) { e.noise, e.drift = 0.02, 0.05 },
		"bursts":         func(e *simulated) { e.noise, e.burst = 0.02, 0.3 },
		"unseen bursts":  func(e *simulated) { e.noise, e.burst, e.quietly = 0.02, 0.1, true },
		"all of it":      func(e *simulated) { e.noise, e.drift, e.burst = 0.03, 0.03, 0.3 },
		"hardly a break": func(e *simulated) { e.noise, e.burst = 0.02, 0.7 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := simulate(t, ofa.MobileNetV3(0.35, 10))
			set(e)
			dir := filepath.Join(t.TempDir(), "table")
			r, err := Run(t.Context(), e.options(dir))
			require.NoError(t, err)
			require.Equal(t, 192, r.Keys)
			require.Greater(t, e.now, 10.0)

			slack := 1e-3
			if e.drift > 0 {
				slack = 5e-3 // the table is of the anchor's median speed, not of the speed without drift
			}
			p := r.Table.Profile()
			entries := readTables(t, dir, 128, 160)
			inside, keys := 0, 0
			for side, table := range entries {
				require.Len(t, table, 96)
				for key, entry := range table {
					// Equal layers of a network come as a mean of up to three, and every block is one part here.
					want := 1e3 * (e.seconds(key) + simClock)
					require.InEpsilon(t, want, entry.Mean, 0.03, "%s", key)
					spread := p.Spread[side][key]
					require.LessOrEqual(t, spread.Low, entry.Mean)
					require.GreaterOrEqual(t, spread.High, entry.Mean)
					if keys++; spread.Low*(1-slack) <= want && want <= spread.High*(1+slack) {
						inside++
					}
				}
			}
			t.Logf("%d of %d keys in their intervals; mean error %.2f %%, worst %.2f %%; %d rounds, dirty %.2f, tight %.2f",
				inside, keys, 100*r.Proof.MeanError, 100*r.Proof.Worst, r.Rounds, r.Dirty, r.Tight)
			require.Greater(t, float64(inside)/float64(keys), 0.85)

			if e.burst > 0 && !e.quietly {
				require.Greater(t, r.Dirty, 0.01)
			} else if !e.quietly {
				require.Zero(t, r.Dirty)
			}
			require.Len(t, r.Networks, 40)
			require.Less(t, r.Proof.MeanError, 0.01)
			require.Less(t, r.Proof.Worst, 0.03)
			require.Greater(t, r.Proof.Rank, 0.99)
			for _, c := range r.Networks {
				n, err := e.space.Parse(c.Subnet)
				require.NoError(t, err)
				require.InEpsilon(t, e.ms(n), c.Predicted, 0.03, "the truth, not only what was measured")
			}
			loaded, err := latency.Load(dir)
			require.NoError(t, err)
			require.Equal(t, r.Table, loaded)
			require.Equal(t, r.Proof, *loaded.Profile().Proof)
			require.NoFileExists(t, filepath.Join(dir, partialName))
		})
	}
}

func readTables(t *testing.T, dir string, sides ...int) map[int]map[string]latency.Entry {
	t.Helper()
	tables := map[int]map[string]latency.Entry{}
	for _, r := range sides {
		data, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d_lookup_table.json", r)))
		require.NoError(t, err)
		var table map[string]latency.Entry
		require.NoError(t, json.Unmarshal(data, &table))
		tables[r] = table
	}
	return tables
}

func TestKilledRunGoesOn(t *testing.T) {
	dir := t.TempDir()
	e := simulate(t, ofa.MobileNetV3(0.35, 10))
	e.noise, e.failAt = 0.01, 1500
	_, err := Run(t.Context(), e.options(dir))
	require.ErrorIs(t, err, errStop)
	require.ErrorContains(t, err, "rounds are kept in partial.json, the same command goes on from there")
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 1)
	require.Equal(t, partialName, files[0].Name())

	var left partial
	data, err := os.ReadFile(filepath.Join(dir, partialName))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, &left))
	require.NotEmpty(t, left.Rounds)

	for want, change := range map[string]func(o *Options){
		`another bundle, "abc", not "abd"`:                     func(o *Options) { o.Bundle = "abd" },
		`another backend, "simulated", not "real"`:             func(o *Options) { o.Backend = "real" },
		`another device, "", not "card"`:                       func(o *Options) { o.Device = "card" },
		`another number of threads, "1", not "2"`:              func(o *Options) { o.Threads = 2 },
		`another list of resolutions, "[128 160]", not "[128`:  func(o *Options) { o.Resolutions = []int{128} },
		`another seed, "3", not "4"; remove it to begin again`: func(o *Options) { o.Seed = 4 },
	} {
		o := e.options(dir)
		change(&o)
		_, err := Run(t.Context(), o)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, partialName)
	}
	after, err := os.ReadFile(filepath.Join(dir, partialName))
	require.NoError(t, err)
	require.Equal(t, data, after)

	again := simulate(t, e.space)
	again.noise = 0.01
	counted, last := 0, 0.0
	o := again.options(dir)
	o.Progress = func(what string, of float64) {
		require.True(t, of >= last && of <= 1, "%v after %v", of, last)
		last = of
		if what == "layers" {
			counted++
		}
	}
	r, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, 18*(r.Rounds-len(left.Rounds)), counted, "what was measured is not measured again")

	// The same again makes the table anew; another one does not go there.
	o = again.options(dir)
	o.Backend = "real"
	_, err = Run(t.Context(), o)
	require.ErrorContains(t, err, "holds a table of simulated, threads 1")
	o = again.options(dir)
	o.Device = "card"
	_, err = Run(t.Context(), o)
	require.ErrorContains(t, err, "holds a table of simulated, threads 1")
	o.Dir = filepath.Join(dir, "other")
	require.NoError(t, os.Mkdir(o.Dir, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(o.Dir, "160_lookup_table.json"), []byte(`{"a": {"mean": 1}}`), 0o600))
	_, err = Run(t.Context(), o)
	require.ErrorContains(t, err, "holds tables without a profile")
	_, err = Run(t.Context(), again.options(dir))
	require.NoError(t, err)
}

func TestRunRefuses(t *testing.T) {
	e := simulate(t, ofa.MobileNetV3(0.35, 10))
	o := e.options(filepath.Join(t.TempDir(), "made"))
	o.Resolutions = []int{130}
	_, err := Run(t.Context(), o)
	require.ErrorContains(t, err, "profile: resolution is 130, expected one of [128 132")
	require.NoDirExists(t, o.Dir)
}

func FuzzPartial(f *testing.F) {
	s := ofa.ProxylessNAS(0.3, 10)
	id := identity{Bundle: "a", Backend: "b", Threads: 1, CPU: "c", Resolutions: []int{128}}
	n := s.Smallest()
	keys, err := latency.Keys(s, n)
	require.NoError(f, err)
	good := partial{identity: id, Rounds: []round{{
		Anchors: []block{{Subnet: s.Text(n), Whole: 5}},
		Blocks:  []block{{Subnet: s.Text(n), Whole: 5, Layers: make([]int64, len(keys)), Dirt: shared}},
	}}}
	good.Rounds[0].Blocks[0].Layers[0] = 3
	text, err := json.Marshal(good)
	require.NoError(f, err)
	_, err = parsePartial(text, s, id)
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"rounds": [{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePartial(data, s, id)
		if err != nil || len(p.Rounds) == 0 {
			return
		}
		a, err := analyse(s, p)
		if err != nil {
			t.Fatalf("%q: read and then refused: %v", data, err)
		}
		if _, err := correct(s, a); err != nil {
			t.Fatalf("%q: no correction: %v", data, err)
		}
	})
}
