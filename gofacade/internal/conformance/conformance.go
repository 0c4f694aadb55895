// Package conformance is the one suite that every engine has to pass, through the public API. A backend's test
// is one line: conformance.Run(t, "purego").
package conformance

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/internal/reference"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// tolerance is how far logits may be from the reference, relative to the largest of them.
func tolerance(backend string) float64 {
	if rounds11(backend) {
		// A factor that is rounded to 11 bits is off by up to 2^-11 of itself, by 2e-4 in the mean square, a product of
		// two and a sum of products by 3e-4. The errors of 41 layers are independent of each other: 2e-3 together.
		return 2e-3
	}
	// For float32 arithmetic through 20 blocks. PyTorch's own float32 results differ from float64 by up to 2e-6 on
	// networks of this depth.
	return 1e-5
}

// rounds11 says whether pointwise convolutions round their factors to 11 bits.
func rounds11(backend string) bool { return dynofa.SignificantBits(backend) == 11 }

// Run checks a backend.
func Run(t *testing.T, backend string) {
	for name, space := range Spaces() {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, backend, space)
			t.Run("logits equal the reference", f.logits)
			t.Run("levels run with their own normalisation", f.levels)
			t.Run("a batch equals its images", f.batch)
			t.Run("a batch runs in passes", f.passes)
			t.Run("what is prepared runs as before", f.prepared)
			t.Run("switching leaves no trace", f.switching)
			t.Run("sessions share a model", f.sessions)
			t.Run("threads change between runs", f.threads)
			t.Run("results say what ran", f.ran)
			t.Run("a profile is a run in parts", f.profile)
			t.Run("the hot path allocates nothing", f.allocations)
			t.Run("errors keep the session", f.errors)
			t.Run("calibration", f.calibration)
			t.Run("use after close", f.closed)
			if rounds11(backend) {
				t.Logf("%s, %s: worst difference %.1e of the largest logit, calibrated %.1e", backend, name, f.worst, f.calibrated)
				require.Greater(t, f.worst, 1e-5, "float32 has answered")
			}
		})
	}
}

// Spaces are small supernets that between them use every feature of a Space.
func Spaces() map[string]*ofa.Space {
	small := &ofa.Space{
		Family: "small-images", Width: 1, Classes: 10, BNEps: 1e-5,
		Stem:  ofa.Stem{Channels: 16, Stride: 1, Act: ofa.HSwish},
		First: ofa.First{Channels: 16, Stride: 2, Act: ofa.ReLU, SE: true},
		Stages: []ofa.Stage{
			{Channels: 16, Stride: 1, Act: ofa.ReLU, Depths: []int{1, 2, 3}},
			{Channels: 32, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1, 2}},
			{Channels: 36, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{2}},
		},
		Head:    ofa.Head{Expand: 100, Features: 130, Act: ofa.HSwish},
		Kernels: []int{3, 5, 7}, Expands: []int{2, 3, 4}, Resolutions: []int{16, 20, 25, 28},
		Preprocess: ofa.ImageNet(),
	}
	mbv3, proxyless := ofa.MobileNetV3(0.25, 10), ofa.ProxylessNAS(0.25, 21)
	mbv3.Resolutions, proxyless.Resolutions = []int{32, 48, 65}, []int{32, 40, 49}
	return map[string]*ofa.Space{"mbv3": mbv3, "proxyless": proxyless, "small images": small}
}

// rounds is n, or a fifth of it with -short: under emulation everything takes a hundred times as long.
func rounds(n int) int {
	if testing.Short() {
		return n / 5
	}
	return n
}

type fixture struct {
	backend    string
	space      *ofa.Space
	contents   *bundle.Contents
	model      *dynofa.Model
	rng        *rand.Rand
	worst      float64 // difference from the reference, of the largest logit
	calibrated float64 // the same behind a calibration
}

func newFixture(t *testing.T, backend string, space *ofa.Space) *fixture {
	require.NoError(t, space.Validate())
	f := &fixture{backend: backend, space: space, contents: bundletest.Random(space, 77), rng: rand.New(rand.NewPCG(1, 2))}
	for range 3 {
		bundletest.AddLevel(f.contents, space.Sample(f.rng))
	}
	f.model = f.open(t)
	return f
}

func (f *fixture) open(t *testing.T) *dynofa.Model {
	m, err := dynofa.New(f.contents, &dynofa.Config{Backend: f.backend})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func (f *fixture) session(t *testing.T, threads int) *dynofa.Session {
	s, err := f.model.NewSession(&dynofa.Config{Backend: f.backend, Threads: threads})
	require.NoError(t, err)
	require.Equal(t, f.backend, s.Backend())
	require.Equal(t, threads, s.Threads())
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func (f *fixture) image(r int) []float32 {
	image := make([]float32, r*r*3)
	for i := range image {
		image[i] = float32(f.rng.NormFloat64())
	}
	return image
}

// run executes the current sub-network.
func run(t *testing.T, s *dynofa.Session, classes int, image []float32) []float32 {
	logits := make([]float32, classes)
	require.NoError(t, s.Run(context.Background(), image, logits))
	return logits
}

func (f *fixture) requireClose(t *testing.T, want []float64, got []float32, what string) {
	t.Helper()
	d := difference(want, got)
	require.LessOrEqual(t, d, tolerance(f.backend), what)
	f.worst = max(f.worst, d)
}

// difference is the largest one, of the largest value.
func difference(want []float64, got []float32) float64 {
	var diff, largest float64
	for i := range want {
		diff = math.Max(diff, math.Abs(float64(got[i])-want[i])) // keeps a NaN
		largest = math.Max(largest, math.Abs(want[i]))
	}
	return diff / largest
}

func (f *fixture) logits(t *testing.T) {
	for _, threads := range []int{1, 2} {
		s := f.session(t, threads)
		subnets := []ofa.Subnet{f.space.Smallest(), f.space.Largest()}
		for range rounds(10) {
			subnets = append(subnets, f.space.Sample(f.rng))
		}
		for _, n := range subnets {
			image := f.image(n.Resolution)
			require.NoError(t, s.Configure(n))
			require.Equal(t, f.space.Canonical(n), s.Subnet())
			require.Equal(t, -1, s.Level())
			want := reference.Forward(f.space, n, f.contents.Tensor, bundle.FoldNorms(f.space, n, f.contents.Tensor), image)
			f.requireClose(t, want, run(t, s, f.space.Classes, image), f.space.Text(n))
		}
	}
}

func (f *fixture) levels(t *testing.T) {
	s := f.session(t, 1)
	for i, l := range f.contents.Levels {
		require.NoError(t, s.Select(i))
		require.Equal(t, i, s.Level())
		require.Equal(t, f.space.Canonical(l.Subnet), s.Subnet())
		image := f.image(l.Subnet.Resolution)
		want := reference.Forward(f.space, l.Subnet, f.contents.Tensor, l.Norms, image)
		f.requireClose(t, want, run(t, s, f.space.Classes, image), "level")
		require.NoError(t, s.ConfigureNorms(l.Subnet, l.Norms))
		require.Equal(t, -1, s.Level())
		f.requireClose(t, want, run(t, s, f.space.Classes, image), "the level's normalisation by hand")
	}
}

func (f *fixture) batch(t *testing.T) {
	s := f.session(t, 2)
	n := f.space.Smallest()
	require.NoError(t, s.Configure(n))
	var images, want []float32
	for range 3 {
		image := f.image(n.Resolution)
		images = append(images, image...)
		want = append(want, run(t, s, f.space.Classes, image)...)
	}
	got := make([]float32, len(want))
	require.NoError(t, s.RunBatch(context.Background(), 3, images, got))
	require.Equal(t, want, got)
}

// passes runs two whole passes and a part of one, of a level and of a configured sub-network.
func (f *fixture) passes(t *testing.T) {
	const batch, count = 4, 11
	ctx := context.Background()
	s, err := f.model.NewSession(&dynofa.Config{Batch: batch})
	require.NoError(t, err)
	defer s.Close()
	level := f.contents.Levels[2]
	for _, what := range []struct {
		choose func() error
		norms  []ofa.Affine
		n      ofa.Subnet
	}{
		{func() error { return s.Select(2) }, level.Norms, level.Subnet},
		{func() error { return s.Configure(f.space.Smallest()) },
			bundle.FoldNorms(f.space, f.space.Smallest(), f.contents.Tensor), f.space.Smallest()},
	} {
		require.NoError(t, what.choose())
		var images []float32
		for range count {
			images = append(images, f.image(what.n.Resolution)...)
		}
		classes, size := f.space.Classes, len(images)/count
		logits := make([]float32, count*classes)
		require.NoError(t, s.RunBatch(ctx, count, images, logits))
		for i := range count {
			want := reference.Forward(f.space, what.n, f.contents.Tensor, what.norms, images[i*size:(i+1)*size])
			f.requireClose(t, want, logits[i*classes:(i+1)*classes], "in a batch")
		}
		cancelled, cancel := context.WithCancel(ctx)
		cancel()
		require.ErrorIs(t, s.RunBatch(cancelled, count, images, logits), context.Canceled)
		require.Zero(t, testing.AllocsPerRun(2, func() {
			if s.RunBatch(ctx, count, images, logits) != nil {
				t.Error("failed")
			}
		}))
	}
	for _, wrong := range []int{-1, 65} {
		_, err := f.model.NewSession(&dynofa.Config{Batch: wrong})
		require.ErrorContains(t, err, "expected 0 to 64")
	}
}

func (f *fixture) prepared(t *testing.T) {
	ctx := context.Background()
	s, err := f.model.NewSession(&dynofa.Config{Batch: 3})
	require.NoError(t, err)
	defer s.Close()
	require.ErrorIs(t, s.Prepare(1), dynofa.ErrState)
	level := f.contents.Levels[0]
	choices := []func() error{
		func() error { return s.Select(0) },
		func() error { return s.Configure(level.Subnet) },
		func() error { return s.ConfigureNorms(level.Subnet, level.Norms) },
		func() error { return s.Configure(f.space.Smallest()) },
	}
	logits := make([]float32, 5*f.space.Classes)
	var images, want [][]float32
	for i, choose := range choices {
		require.NoError(t, choose())
		r := s.Subnet().Resolution
		images = append(images, f.image(r))
		for range 4 {
			images[i] = append(images[i], f.image(r)...)
		}
		require.NoError(t, s.RunBatch(ctx, 5, images[i], logits))
		want = append(want, slices.Clone(logits))
		for _, n := range []int{1, 2, 3} {
			require.NoError(t, s.Prepare(n))
		}
		require.Equal(t, s.Level(), s.Ran().Level)
	}
	for round := range 2 {
		for i, choose := range choices {
			require.NoError(t, choose())
			require.NoError(t, s.RunBatch(ctx, 5, images[i], logits))
			require.Equal(t, want[i], logits, "round %d, choice %d", round, i)
		}
	}
	require.NoError(t, s.Configure(level.Subnet))
	require.Zero(t, testing.AllocsPerRun(2, func() {
		if s.Configure(level.Subnet) != nil || s.Prepare(3) != nil || s.RunBatch(ctx, 5, images[1], logits) != nil {
			t.Error("failed")
		}
	}))
	require.ErrorIs(t, s.Prepare(0), dynofa.ErrSize)
	require.ErrorIs(t, s.Prepare(4), dynofa.ErrSize)
}

func (f *fixture) switching(t *testing.T) {
	s := f.session(t, 1)
	var want [][]float32
	var images [][]float32
	for i, l := range f.contents.Levels {
		images = append(images, f.image(l.Subnet.Resolution))
		require.NoError(t, s.Select(i))
		want = append(want, run(t, s, f.space.Classes, images[i]))
	}
	for range rounds(50) {
		i := f.rng.IntN(len(want))
		if f.rng.IntN(3) == 0 {
			n := f.space.Sample(f.rng)
			require.NoError(t, s.Configure(n))
			run(t, s, f.space.Classes, f.image(n.Resolution))
		}
		require.NoError(t, s.Select(i))
		require.Equal(t, want[i], run(t, s, f.space.Classes, images[i]))
	}
}

// sessions runs many sessions of one model at once, which come and go.
func (f *fixture) sessions(t *testing.T) {
	first := f.session(t, 1)
	var images, want [][]float32
	for i, l := range f.contents.Levels {
		images = append(images, f.image(l.Subnet.Resolution))
		require.NoError(t, first.Select(i))
		want = append(want, run(t, first, f.space.Classes, images[i]))
	}
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			got := make([]float32, f.space.Classes)
			for i := range rounds(10) {
				s, err := f.model.NewSession(&dynofa.Config{Threads: 1 + worker%2})
				if err != nil {
					t.Error(err)
					return
				}
				level := (worker + i) % len(want)
				if err := errors.Join(s.Select(level), s.Run(context.Background(), images[level], got), s.Close()); err != nil {
					t.Error(err)
				}
				if !slices.Equal(got, want[level]) {
					t.Errorf("level %d gives %v beside other sessions, %v alone", level, got, want[level])
				}
			}
		})
	}
	wg.Wait()
}

func (f *fixture) threads(t *testing.T) {
	s, err := f.model.NewSession(&dynofa.Config{MaxThreads: 3})
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, 1, s.Threads())
	require.NoError(t, s.Select(2))
	image := f.image(s.Subnet().Resolution)
	want := run(t, s, f.space.Classes, image)
	for _, n := range []int{3, 1, 2} {
		require.NoError(t, s.SetThreads(n))
		require.Equal(t, n, s.Threads())
		require.Equal(t, want, run(t, s, f.space.Classes, image), "%d threads", n)
	}
	require.ErrorContains(t, s.SetThreads(0), "0, expected 1 to 3")
	require.ErrorContains(t, s.SetThreads(4), "4, expected 1 to 3")
	require.Equal(t, 2, s.Threads())
}

// ran compares with the pure-Go engine, whose ids are computed apart from the native ones.
func (f *fixture) ran(t *testing.T) {
	m, err := dynofa.New(f.contents, &dynofa.Config{Backend: "purego"})
	require.NoError(t, err)
	defer m.Close()
	other, err := m.NewSession(nil)
	require.NoError(t, err)
	defer other.Close()
	s := f.session(t, 1)
	require.Equal(t, dynofa.Ran{Level: -1}, s.Ran())

	seen := map[uint64]string{}
	step := func(what string, choose func(*dynofa.Session) error) {
		before := s.Ran()
		require.NoError(t, choose(s))
		require.NoError(t, choose(other))
		require.Equal(t, before, s.Ran(), "a choice is no run")
		image := f.image(s.Subnet().Resolution)
		run(t, s, f.space.Classes, image)
		run(t, other, f.space.Classes, image)
		require.Equal(t, other.Ran(), s.Ran(), what)
		require.Equal(t, s.Level(), s.Ran().Level)
		require.Empty(t, seen[s.Ran().Plan], "%s has the id of another plan", what)
		seen[s.Ran().Plan] = what
	}
	for i, l := range f.contents.Levels {
		step("level", func(s *dynofa.Session) error { return s.Select(i) })
		level := s.Ran()
		step("the level's network", func(s *dynofa.Session) error { return s.Configure(l.Subnet) })
		require.Equal(t, level.Subnet, s.Ran().Subnet)
		step("its normalisation by hand", func(s *dynofa.Session) error { return s.ConfigureNorms(l.Subnet, l.Norms) })
		require.Equal(t, level.Subnet, s.Ran().Subnet)
	}
	n := f.space.Largest()
	n.Depths[0] = f.space.Stages[0].Depths[0]
	step("slots past the depth", func(s *dynofa.Session) error { return s.Configure(n) })
	last := s.Ran()
	require.NoError(t, s.Configure(f.space.Canonical(n)))
	run(t, s, f.space.Classes, f.image(n.Resolution))
	require.Equal(t, last, s.Ran(), "the same network in canonical form")
}

func (f *fixture) profile(t *testing.T) {
	ctx := context.Background()
	s := f.session(t, 1)
	n := f.space.Sample(f.rng)
	require.NoError(t, s.Configure(n))
	image, logits := f.image(n.Resolution), make([]float32, f.space.Classes)
	want := run(t, s, f.space.Classes, image)
	times := make([]dynofa.LayerTime, 1000)
	parts, err := s.Profile(ctx, image, logits, times)
	require.NoError(t, err)
	require.Equal(t, want, logits)
	var macs int64
	for _, p := range times[:parts] {
		require.NotEmpty(t, p.Name)
		require.GreaterOrEqual(t, p.Time, time.Duration(0))
		macs += p.MACs
	}
	cost, _ := f.space.Cost(n)
	require.Equal(t, cost, macs)
	require.Equal(t, dynofa.LayerTime{}, times[parts])
	few := make([]dynofa.LayerTime, 2)
	all, err := s.Profile(ctx, image, logits, few[:1])
	require.NoError(t, err)
	require.Equal(t, parts, all)
	require.Equal(t, "stem", few[0].Name)
	require.Equal(t, dynofa.LayerTime{}, few[1])
	_, err = s.Profile(ctx, image, logits, nil)
	require.NoError(t, err)
	_, err = s.Profile(ctx, image[1:], logits, nil)
	require.ErrorIs(t, err, dynofa.ErrSize)
}

func (f *fixture) allocations(t *testing.T) {
	ctx := context.Background()
	s := f.session(t, 2)
	n := f.space.Largest()
	level := f.contents.Levels[1].Subnet
	large, small := f.image(n.Resolution), f.image(level.Resolution)
	logits := make([]float32, f.space.Classes)
	require.NoError(t, s.Configure(n))
	require.Zero(t, testing.AllocsPerRun(5, func() {
		if s.Configure(n) != nil || s.Run(ctx, large, logits) != nil || s.RunBatch(ctx, 1, large, logits) != nil ||
			s.SetThreads(1) != nil || s.Select(1) != nil || s.Run(ctx, small, logits) != nil || s.SetThreads(2) != nil {
			t.Error("failed")
		}
	}))
}

func (f *fixture) errors(t *testing.T) {
	ctx := context.Background()
	s := f.session(t, 1)
	logits := make([]float32, f.space.Classes)
	require.ErrorIs(t, s.Run(ctx, f.image(8), logits), dynofa.ErrState)
	require.Equal(t, ofa.Subnet{}, s.Subnet())
	require.Equal(t, -1, s.Level())
	require.NoError(t, s.Select(1))
	was := s.Subnet()

	require.ErrorIs(t, s.Select(3), dynofa.ErrLevel)
	require.ErrorIs(t, s.Select(-1), dynofa.ErrLevel)
	n := f.space.Largest()
	n.Kernels[1] = 4
	var field *ofa.FieldError
	require.ErrorAs(t, s.Configure(n), &field)
	require.Equal(t, "ks[1]", field.Field)
	n = f.space.Largest()
	n.Resolution = f.space.MaxResolution() + 1
	require.ErrorIs(t, s.Configure(n), dynofa.ErrSize)
	level := f.contents.Levels[0]
	require.ErrorContains(t, s.ConfigureNorms(level.Subnet, nil), "0 batch normalisations given")
	require.ErrorContains(t, s.ConfigureNorms(level.Subnet, level.Norms[1:]), "batch normalisations given, the sub-network has")
	norms := slices.Clone(level.Norms)
	norms[2] = ofa.Affine{Scale: norms[2].Scale}
	require.ErrorContains(t, s.ConfigureNorms(level.Subnet, norms), "blocks.0.conv.point_linear.bn has")
	norms[2].Shift = slices.Clone(level.Norms[2].Shift)
	norms[2].Shift[1] = float32(math.Inf(1))
	require.ErrorContains(t, s.ConfigureNorms(level.Subnet, norms), "channel 1 has scale")
	require.Equal(t, was, s.Subnet(), "an error must keep the sub-network")
	require.Equal(t, 1, s.Level())

	image := f.image(was.Resolution)
	require.ErrorIs(t, s.Run(ctx, image[1:], logits), dynofa.ErrSize)
	require.ErrorIs(t, s.Run(ctx, image, logits[1:]), dynofa.ErrSize)
	require.ErrorIs(t, s.Run(ctx, nil, logits), dynofa.ErrSize)
	require.ErrorIs(t, s.RunBatch(ctx, 2, image, logits), dynofa.ErrSize)
	require.ErrorIs(t, s.RunBatch(ctx, 0, nil, nil), dynofa.ErrSize)
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.Run(cancelled, image, logits), context.Canceled)
	require.NoError(t, s.Run(ctx, image, logits))

	for _, cfg := range []*dynofa.Config{{Threads: -1}, {Threads: 1 << 20}, {MaxResolution: -1}, {MaxResolution: 1 << 20}, {Backend: "none"},
		{Threads: 2, MaxThreads: 1}, {MaxThreads: 1 << 20}, {Affinity: []int{64}}, {Affinity: []int{-1}}} {
		_, err := f.model.NewSession(cfg)
		require.Error(t, err, "%+v", cfg)
	}
	_, err := dynofa.New(f.contents, &dynofa.Config{Backend: "none"})
	require.ErrorContains(t, err, `no backend "none"`)
}

// calibration runs with the estimated statistics, whose exactness is the engine's own test's concern.
func (f *fixture) calibration(t *testing.T) {
	n := f.space.Smallest()
	n.Resolution = f.space.MaxResolution() // the last maps need some pixels, or a variance amplifies every rounding
	var batch []float32
	for range 16 {
		batch = append(batch, f.image(n.Resolution)...)
	}
	c, err := f.model.Calibrate(context.Background(), n, func(yield func([]float32, error) bool) { yield(batch, nil) })
	require.NoError(t, err)
	require.Equal(t, 16, c.Images)
	require.Len(t, c.Norms, len(f.space.Norms(n)))
	s := f.session(t, 1)
	require.NoError(t, s.ConfigureNorms(n, c.Norms))
	image := batch[:len(batch)/16]
	want := reference.Forward(f.space, n, f.contents.Tensor, c.Norms, image)
	within := tolerance(f.backend)
	if rounds11(f.backend) {
		// From few images and small maps: errors are divided by what little variance channels have. What that comes to
		// shows in float64 with weights of 11 bits, half of the factors; 1.2 times that was seen.
		within = max(within, 5*difference(want, floats(reference.Forward(f.space, n, f.rounded, c.Norms, image))))
	}
	f.calibrated = difference(want, run(t, s, f.space.Classes, image))
	require.LessOrEqual(t, f.calibrated, within)

	// Batches that are measured apart, as by several machines, give the same bits.
	third := len(batch) / 16 * 5
	sizes := func(yield func([]float32, error) bool) {
		_ = yield(batch[:third], nil) && yield(batch[third:2*third], nil) && yield(batch[2*third:], nil)
	}
	whole, err := f.model.Calibrate(context.Background(), n, sizes)
	require.NoError(t, err)
	var parts []dynofa.BatchStatistics
	for images, err := range sizes {
		require.NoError(t, err)
		for part, err := range f.model.CalibrateBatches(context.Background(), n, func(yield func([]float32, error) bool) { yield(images, nil) }) {
			require.NoError(t, err)
			parts = append(parts, part)
		}
	}
	require.Len(t, parts, 3)
	apart, err := f.model.AverageBatches(n, parts)
	require.NoError(t, err)
	require.Equal(t, whole, apart)
	require.NotEqual(t, c.Mean, apart.Mean)
	parts[1].Mean = parts[1].Mean[1:]
	_, err = f.model.AverageBatches(n, parts)
	require.ErrorContains(t, err, "batch 1: 5 images")
	parts[0].Var[2] = parts[0].Var[2][1:]
	_, err = f.model.AverageBatches(n, parts)
	require.ErrorContains(t, err, "batch 0: ")
	_, err = f.model.AverageBatches(n, nil)
	require.ErrorContains(t, err, "no calibration images")
	_, err = f.model.Calibrate(context.Background(), n, func(yield func([]float32, error) bool) { yield(nil, context.DeadlineExceeded) })
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// rounded is a tensor with its values rounded to 11 bits.
func (f *fixture) rounded(name string) []float32 {
	values := slices.Clone(f.contents.Tensor(name))
	for i, v := range values {
		values[i] = math.Float32frombits((math.Float32bits(v) + 1<<12) &^ (1<<13 - 1))
	}
	return values
}

func floats(values []float64) []float32 {
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v)
	}
	return out
}

func (f *fixture) closed(t *testing.T) {
	m := f.open(t)
	s, err := m.NewSession(nil)
	require.NoError(t, err)
	require.NoError(t, s.Select(0))
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
	_, err = m.NewSession(nil)
	require.ErrorIs(t, err, dynofa.ErrClosed)
	_, err = m.Calibrate(context.Background(), f.space.Smallest(), nil)
	require.ErrorIs(t, err, dynofa.ErrClosed)
	run(t, s, f.space.Classes, f.image(s.Subnet().Resolution)) // sessions outlive their model
	require.NoError(t, s.Close())
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Select(0), dynofa.ErrClosed)
	require.ErrorIs(t, s.Configure(f.space.Smallest()), dynofa.ErrClosed)
	require.ErrorIs(t, s.Prepare(1), dynofa.ErrClosed)
	require.ErrorIs(t, s.SetThreads(1), dynofa.ErrClosed)
	require.ErrorIs(t, s.Run(context.Background(), nil, nil), dynofa.ErrClosed)
}
