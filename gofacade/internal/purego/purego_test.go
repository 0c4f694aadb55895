package purego

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/internal/reference"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// spaces covers both heads, every activation, squeeze-excitation in the first block, channels that are no
// multiple of eight, and kernels with and without transforms.
func spaces() map[string]*ofa.Space {
	odd := &ofa.Space{
		Family: "odd", Width: 1, Classes: 7, BNEps: 1e-3,
		Stem:  ofa.Stem{Channels: 12, Stride: 1, Act: ofa.ReLU6},
		First: ofa.First{Channels: 12, Stride: 1, Act: ofa.ReLU, SE: true, Residual: true},
		Stages: []ofa.Stage{
			{Channels: 20, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1, 2}},
			{Channels: 33, Stride: 1, Act: ofa.ReLU6, Depths: []int{2}},
		},
		Head:    ofa.Head{Expand: 70, Features: 130, Act: ofa.HSwish},
		Kernels: []int{3, 5}, Expands: []int{1, 2, 3}, Resolutions: []int{1, 5, 17, 24},
		Preprocess: ofa.ImageNet(),
	}
	return map[string]*ofa.Space{"mbv3": ofa.MobileNetV3(0.25, 10), "proxyless": ofa.ProxylessNAS(0.3, 13), "odd": odd}
}

func randomImage(rng *rand.Rand, r int) []float32 {
	image := make([]float32, r*r*3)
	for i := range image {
		image[i] = float32(rng.NormFloat64())
	}
	return image
}

func newSession(t testing.TB, m *Model, threads, resolution int) *Session {
	s, err := m.NewSession(threads, resolution)
	require.NoError(t, err)
	return s
}

// worst is max|got-want| / max|want|.
func worst(got []float32, want []float64) float64 {
	var diff, largest float64
	for i := range want {
		diff = max(diff, math.Abs(float64(got[i])-want[i]))
		largest = max(largest, math.Abs(want[i]))
	}
	return diff / largest
}

func TestRunEqualsReference(t *testing.T) {
	for name, s := range spaces() {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, s.Validate())
			c := bundletest.Random(s, 11)
			m := New(s, c.Tensor)
			rng := rand.New(rand.NewPCG(5, 0))
			largest, rounds := 65, 12
			if testing.Short() { // under emulation
				largest, rounds = 33, 3
			}
			var sessions []*Session
			for threads := 1; threads <= 3; threads++ {
				session := newSession(t, m, threads, largest)
				defer session.Close()
				sessions = append(sessions, session)
			}
			for i := range rounds {
				n := s.Sample(rng)
				n.Resolution = 1 + rng.IntN(largest)
				if i == 0 {
					n = s.Largest()
					n.Resolution = largest
				}
				image := randomImage(rng, n.Resolution)
				want := reference.Forward(s, n, c.Tensor, bundle.FoldNorms(s, n, c.Tensor), image)
				var first []float32
				for threads, session := range sessions {
					session.Use(m.Plan(n, nil))
					got := make([]float32, s.Classes)
					require.NoError(t, session.Run(context.Background(), image, got, nil))
					require.LessOrEqual(t, worst(got, want), 1e-5, "%s", s.Text(n))
					if first == nil {
						first = got
					}
					require.Equal(t, first, got, "%d threads differ from 1: %s", threads+1, s.Text(n))
				}
			}
		})
	}
}

func TestPlanUsesTheGivenNorms(t *testing.T) {
	s := spaces()["odd"]
	c := bundletest.Random(s, 3)
	rng := rand.New(rand.NewPCG(9, 0))
	bundletest.AddLevel(c, s.Sample(rng))
	level := c.Levels[0]
	m := New(s, c.Tensor)
	session := newSession(t, m, 1, s.MaxResolution())
	defer session.Close()
	image := randomImage(rng, level.Subnet.Resolution)
	want := reference.Forward(s, level.Subnet, c.Tensor, level.Norms, image)
	session.Use(m.Plan(level.Subnet, level.Norms))
	got := make([]float32, s.Classes)
	require.NoError(t, session.Run(context.Background(), image, got, nil))
	require.LessOrEqual(t, worst(got, want), 1e-5)
}

func TestRunStopsBetweenSteps(t *testing.T) {
	s := spaces()["odd"]
	m := New(s, bundletest.Random(s, 1).Tensor)
	session := newSession(t, m, 2, s.MaxResolution())
	defer session.Close()
	session.Use(m.Plan(s.Largest(), nil))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, session.Run(ctx, make([]float32, 24*24*3), make([]float32, 7), nil), context.Canceled)
}

func TestRunAllocatesNothing(t *testing.T) {
	s := spaces()["odd"]
	s.Resolutions = []int{40, 80} // maps of more than one tile, steps that wake other goroutines
	m := New(s, bundletest.Random(s, 1).Tensor)
	for threads := 1; threads <= 2; threads++ {
		session := newSession(t, m, threads, 80)
		defer session.Close()
		small := m.Plan(s.Smallest(), nil)
		large := m.Plan(s.Largest(), nil)
		image, logits := make([]float32, 80*80*3), make([]float32, s.Classes)
		require.Zero(t, testing.AllocsPerRun(3, func() {
			for _, p := range []*Plan[float32]{small, large} {
				session.Use(p)
				r := p.Subnet.Resolution
				if err := session.Run(context.Background(), image[:r*r*3], logits, nil); err != nil {
					t.Fatal(err)
				}
			}
		}), "%d threads", threads)
	}
}

// After calibration on a single batch the network normalises that batch with the batch's own statistics, so
// the reference, given the result, must see in front of each depthwise BN exactly the statistics returned, and
// behind each projecting BN the mean and variance that its weight and bias prescribe.
func TestCalibrationIsAFixedPointOfOneBatch(t *testing.T) {
	for name, s := range spaces() {
		t.Run(name, func(t *testing.T) {
			c := bundletest.Random(s, 21)
			rng := rand.New(rand.NewPCG(2, 0))
			n := s.Sample(rng)
			n.Resolution = 33
			const count = 5
			var batch []float32
			for range count {
				batch = append(batch, randomImage(rng, n.Resolution)...)
			}
			stats, err := Calibrate(context.Background(), s, c.Tensor, n, batches(batch))
			require.NoError(t, err)
			norms := make([]ofa.Affine, len(stats))
			index := map[string]int{}
			for i, norm := range s.Norms(n) {
				index[norm.Name] = i
				norms[i] = ofa.Fold(c.Tensor(norm.Name + ".weight")[:norm.Channels], c.Tensor(norm.Name + ".bias")[:norm.Channels],
					stats[i].Mean, stats[i].Var, s.BNEps)
			}
			// The norms were rounded to float32 on the way, 6e-8 relative each, which 20 blocks in a row amplify.
			const tolerance = 2e-5
			maps := map[string][]float64{} // all images' maps, channels last
			net := reference.Net{Space: s, Subnet: n, Tensor: c.Tensor, Norms: norms,
				Tap: func(name string, nhwc []float64, _, _, _ int) { maps[name] = append(maps[name], nhwc...) }}
			size := len(batch) / count
			for i := range count {
				net.Forward(batch[i*size : (i+1)*size])
			}
			for _, b := range s.Blocks(n) {
				bn := ".bn"
				if b.Expand > 0 {
					bn = ".bn.bn"
				}
				i := index[b.Name()+".depth_conv"+bn]
				mean, variance := moments(maps[b.Name()+".depth_conv.conv"], b.Mid)
				for ch := range b.Mid {
					sd := math.Sqrt(stats[i].Var[ch])
					require.InDelta(t, mean[ch], stats[i].Mean[ch], tolerance*(sd+math.Abs(mean[ch])), "%s mean %d", b.Name(), ch)
					require.InEpsilon(t, variance[ch]+1e-12, stats[i].Var[ch]+1e-12, tolerance, "%s variance %d", b.Name(), ch)
				}
				name := b.Name() + ".point_linear" + bn
				i = index[name]
				mean, variance = moments(maps[b.Name()+".point_linear"], b.Out)
				for ch := range b.Out {
					weight, bias, v := float64(c.Tensor(name + ".weight")[ch]), float64(c.Tensor(name + ".bias")[ch]), stats[i].Var[ch]
					require.InDelta(t, bias, mean[ch], tolerance, "%s mean %d", name, ch)
					require.InDelta(t, weight*weight*v/(v+s.BNEps), variance[ch], tolerance*weight*weight, "%s variance %d", name, ch)
				}
			}
		})
	}
}

func TestCalibrationWeighsBatchesByTheirImages(t *testing.T) {
	s := spaces()["odd"]
	c := bundletest.Random(s, 4)
	n := s.Smallest()
	n.Resolution = 9
	rng := rand.New(rand.NewPCG(8, 0))
	size := 9 * 9 * 3
	var all []float32
	for range 5 {
		all = append(all, randomImage(rng, 9)...)
	}
	a, err := Calibrate(context.Background(), s, c.Tensor, n, batches(all[:2*size]))
	require.NoError(t, err)
	b, err := Calibrate(context.Background(), s, c.Tensor, n, batches(all[2*size:]))
	require.NoError(t, err)
	both, err := Calibrate(context.Background(), s, c.Tensor, n, batches(all[:2*size], all[2*size:]))
	require.NoError(t, err)
	for i := range both {
		for ch := range both[i].Mean {
			require.InDelta(t, (2*a[i].Mean[ch]+3*b[i].Mean[ch])/5, both[i].Mean[ch], 1e-12)
			require.InDelta(t, (2*a[i].Var[ch]+3*b[i].Var[ch])/5, both[i].Var[ch], 1e-12)
		}
	}
	_, err = Calibrate(context.Background(), s, c.Tensor, n, batches())
	require.ErrorContains(t, err, "no calibration images")
	_, err = Calibrate(context.Background(), s, c.Tensor, n, batches(all[:size+1]))
	require.ErrorContains(t, err, "expected a multiple of 243 (r 9)")
}

func batches(list ...[]float32) func(func([]float32, error) bool) {
	return func(yield func([]float32, error) bool) {
		for _, b := range list {
			if !yield(b, nil) {
				return
			}
		}
	}
}

// moments are the mean and the biased variance of each channel.
func moments(x []float64, channels int) (mean, variance []float64) {
	mean, variance = make([]float64, channels), make([]float64, channels)
	count := float64(len(x) / channels)
	for i, v := range x {
		mean[i%channels] += v / count
	}
	for i, v := range x {
		d := v - mean[i%channels]
		variance[i%channels] += d * d / count
	}
	return mean, variance
}

func BenchmarkRun(b *testing.B) {
	s := ofa.MobileNetV3(1, 1000)
	m := New(s, bundletest.Random(s, 1).Tensor)
	for name, n := range map[string]ofa.Subnet{"smallest": s.Uniform(3, 3, 2, 160), "largest": s.Largest()} {
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("subnet=%s/threads=%d", name, threads), func(b *testing.B) {
				session := newSession(b, m, threads, n.Resolution)
				defer session.Close()
				session.Use(m.Plan(n, nil))
				image := randomImage(rand.New(rand.NewPCG(1, 1)), n.Resolution)
				logits := make([]float32, s.Classes)
				macs, _ := s.Cost(n)
				b.ReportAllocs()
				for b.Loop() {
					if err := session.Run(context.Background(), image, logits, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(2*float64(macs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
