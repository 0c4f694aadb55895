package dynofa_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// write makes a bundle with two levels.
func write(t testing.TB) string {
	space := ofa.MobileNetV3(0.25, 10)
	c := bundletest.Random(space, 1)
	bundletest.AddLevel(c, space.Smallest())
	bundletest.AddLevel(c, space.Uniform(5, 4, 3, 160))
	path := filepath.Join(t.TempDir(), "m.dofa")
	require.NoError(t, bundle.Write(path, c))
	return path
}

func TestSessionsOutliveTheirBundle(t *testing.T) {
	m, err := dynofa.Open(write(t), nil)
	require.NoError(t, err)
	s, err := m.NewSession(nil)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Select(0))
	image, before, after := make([]float32, 128*128*3), make([]float32, 10), make([]float32, 10)
	require.NoError(t, s.Run(context.Background(), image, before))
	require.NoError(t, m.Close())
	require.NoError(t, s.Select(0))
	require.NoError(t, s.Run(context.Background(), image, after))
	require.Equal(t, before, after)
	require.NoError(t, s.Configure(m.Space().Largest()))
	require.Len(t, m.Levels()[1].Norms, len(m.Space().Norms(m.Levels()[1].Subnet)))
}

func TestNewKeepsACopy(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(0.25, 10), 1)
	bundletest.AddLevel(c, c.Space.Uniform(3, 3, 2, 128))
	for _, backend := range dynofa.Backends() {
		m, err := dynofa.New(c, &dynofa.Config{Backend: backend})
		require.NoError(t, err)
		defer m.Close()
		s, err := m.NewSession(nil)
		require.NoError(t, err)
		defer s.Close()
		require.NoError(t, s.Select(0))
		image, before, after := make([]float32, 128*128*3), make([]float32, 10), make([]float32, 10)
		require.NoError(t, s.Run(context.Background(), image, before))
		clear(c.Tensors["classifier.linear.bias"])
		clear(c.Levels[0].Norms[0].Shift)
		require.NoError(t, s.Run(context.Background(), image, after))
		require.Equal(t, before, after)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bad.dofa")
	_, err := dynofa.Open(path, nil)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("no bundle at all"), 0o600))
	_, err = dynofa.Open(path, nil)
	require.ErrorContains(t, err, path)
}

// A small file that asks for more memory than any network needs: the system would end the process.
func TestMemoryOfHostileBundles(t *testing.T) {
	wide := func(channels int) *ofa.Space {
		return &ofa.Space{
			Family: "wide", Classes: 2, BNEps: 1e-5,
			Stem:   ofa.Stem{Channels: channels, Stride: 1, Act: ofa.ReLU},
			First:  ofa.First{Channels: 1, Stride: 1, Act: ofa.ReLU},
			Stages: []ofa.Stage{{Channels: 1, Stride: 1, Act: ofa.ReLU, Depths: []int{1}}},
			Head:   ofa.Head{Features: 1, Act: ofa.ReLU}, Kernels: []int{3}, Expands: []int{1}, Resolutions: []int{16, 2048},
			Preprocess: ofa.ImageNet(),
		}
	}
	for _, backend := range dynofa.Backends() {
		for _, channels := range []int{128, 1 << 14} {
			m, err := dynofa.New(bundletest.Random(wide(channels), 1), &dynofa.Config{Backend: backend})
			require.NoError(t, err)
			if m.Device() == (dynofa.Device{}) {
				_, err = m.NewSession(nil)
				require.ErrorContains(t, err, "images of 2048 x 2048 need memory for ", "%s, %d", backend, channels)
			}
			_, err = m.Calibrate(t.Context(), wide(channels).Largest(), func(yield func([]float32, error) bool) {
				yield(make([]float32, 2048*2048*3), nil)
			})
			require.ErrorContains(t, err, "images of 2048 x 2048 need memory for ")
			s, err := m.NewSession(&dynofa.Config{MaxResolution: 16})
			require.NoError(t, err)
			require.NoError(t, s.Close())
			require.NoError(t, m.Close())
		}
	}
}

func TestClassify(t *testing.T) {
	require.Equal(t, []int{2, 0}, dynofa.Classify([]float32{1, -1, 3, 1}, 2))
	require.Equal(t, []int{0, 1}, dynofa.Classify([]float32{1, 1}, 5))
	nan := float32(math.NaN())
	require.Equal(t, []int{3, 1, 0, 2}, dynofa.Classify([]float32{nan, 1, nan, 2}, 4))
	require.Empty(t, dynofa.Classify([]float32{1}, -1))
}

func ExampleOpen() {
	class, err := classify("../../models/fashion/fashion.dofa", 3)
	fmt.Println(class, err)
	// Output: Ankle boot <nil>
}

// classify names what the first shipped test image shows.
func classify(path string, level int) (string, error) {
	m, err := dynofa.Open(path, nil)
	if err != nil {
		return "", err
	}
	defer m.Close()
	s, err := m.NewSession(&dynofa.Config{Threads: 2})
	if err != nil {
		return "", err
	}
	defer s.Close()
	if err := s.Select(level); err != nil {
		return "", err
	}
	images, err := imageio.Open("../../models/fashion/test", "test")
	if err != nil {
		return "", err
	}
	sample, err := images.At(0)
	if err != nil {
		return "", err
	}
	r := s.Subnet().Resolution
	image, logits := make([]float32, r*r*3), make([]float32, m.Classes())
	if err := imageio.Transform(m.Space().Preprocess).Apply(image, sample.Image, r); err != nil {
		return "", err
	}
	if err := s.Run(context.Background(), image, logits); err != nil {
		return "", err
	}
	return m.Space().Label(dynofa.Classify(logits, 1)[0]), nil
}

// BenchmarkSwitch is the cost of making another network current: a level, one of two sub-networks that take
// turns, and one of many, which the pure-Go engine has to plan.
func BenchmarkSwitch(b *testing.B) {
	path := write(b)
	for _, backend := range dynofa.Backends() {
		m, err := dynofa.Open(path, &dynofa.Config{Backend: backend})
		require.NoError(b, err)
		defer m.Close()
		s, err := m.NewSession(nil)
		require.NoError(b, err)
		defer s.Close()
		rng := rand.New(rand.NewPCG(1, 1))
		many := make([]ofa.Subnet, 1000)
		for i := range many {
			many[i] = m.Space().Sample(rng)
		}
		for name, choose := range map[string]func(i int) error{
			"level": func(i int) error { return s.Select(i % 2) },
			"two":   func(i int) error { return s.Configure(many[i%2]) },
			"many":  func(i int) error { return s.Configure(many[i%len(many)]) },
		} {
			b.Run("backend="+backend+"/to="+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := choose(i); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestDeviceNumber(t *testing.T) {
	for backend, want := range map[string]int{"cuda": 0, "cuda:1": 1, "cuda/fp16:12": 12, "cuda/tf32": 0} {
		number, ok := dynofa.DeviceNumber(backend)
		require.True(t, ok, backend)
		require.Equal(t, want, number, backend)
	}
	for _, backend := range []string{"", "native", "native/avx2", "purego", "cudax", "cudax:1"} {
		_, ok := dynofa.DeviceNumber(backend)
		require.False(t, ok, backend)
	}
}

// What Backends lists there is; what it does not list is refused for the same reason by who asks first and by Open.
func TestCheckBackend(t *testing.T) {
	path := write(t)
	for _, backend := range append(dynofa.Backends(), "") {
		require.NoError(t, dynofa.CheckBackend(backend))
	}
	for _, backend := range []string{"tpu", "native/avx1024", "cuda:4321", "cuda/fp32", "cudax", "purego/"} {
		why := dynofa.CheckBackend(backend)
		require.Error(t, why, backend)
		_, err := dynofa.Open(path, &dynofa.Config{Backend: backend})
		require.ErrorContains(t, err, why.Error())
	}
	why := dynofa.CheckBackend("cuda")
	require.Equal(t, slices.Contains(dynofa.Backends(), "cuda"), why == nil)
	if why != nil {
		require.ErrorContains(t, dynofa.CheckBackend("tpu"), why.Error(), "a list without cuda says why")
	}
}
