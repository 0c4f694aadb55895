//go:build cgo && linux && (amd64 || arm64)

package dynofa_test

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/internal/capi/capitest"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

func TestNativeIsTheDefault(t *testing.T) {
	t.Setenv("DYNOFA_ISA", "")
	backends := dynofa.Backends()
	require.Contains(t, backends, "native/ref")
	require.Equal(t, "purego", backends[len(backends)-1])
	c := tiny()
	for asked, got := range map[string]string{"": backends[0], "native": backends[0]} {
		require.Equal(t, got, backendOf(t, c, asked))
	}
	for _, name := range backends {
		require.Equal(t, name, backendOf(t, c, name))
	}

	t.Setenv("DYNOFA_ISA", "ref")
	require.Equal(t, "native/ref", backendOf(t, c, ""))
	require.Equal(t, "native/ref", backendOf(t, c, "native"))
	require.Equal(t, backends[0], backendOf(t, c, backends[0]), "a name is stronger than the environment")
	require.Equal(t, backends, dynofa.Backends())

	t.Setenv("DYNOFA_ISA", "mmx")
	_, err := dynofa.New(c, nil)
	require.ErrorContains(t, err, `DYNOFA_ISA is "mmx", expected an instruction set of this build: ref`)
	for _, name := range []string{"native/mmx", "native/", "native/purego", "Native"} {
		_, err = dynofa.New(c, &dynofa.Config{Backend: name})
		require.ErrorContains(t, err, `no backend "`+name+`" in this build on this CPU, expected one of ["native/`)
	}
}

func backendOf(t *testing.T, c *bundle.Contents, asked string) string {
	m, err := dynofa.New(c, &dynofa.Config{Backend: asked})
	require.NoError(t, err)
	defer m.Close()
	s, err := m.NewSession(&dynofa.Config{Backend: asked})
	require.NoError(t, err)
	defer s.Close()
	require.Equal(t, m.Backend(), s.Backend())
	if isa, native := strings.CutPrefix(s.Backend(), "native/"); native {
		require.NotEmpty(t, m.Kernels())
		require.Condition(t, func() bool {
			return slices.ContainsFunc(m.Kernels(), func(k string) bool { return strings.HasSuffix(k, "_"+isa) })
		}, "%v has none of %s", m.Kernels(), isa)
	}
	return s.Backend()
}

func TestAffinityPinsTheSessionsThreads(t *testing.T) {
	m, err := dynofa.New(tiny(), nil)
	require.NoError(t, err)
	defer m.Close()
	var allowed unix.CPUSet
	require.NoError(t, unix.SchedGetaffinity(0, &allowed))
	for cpu := range 64 {
		s, err := m.NewSession(&dynofa.Config{MaxThreads: 2, Affinity: []int{cpu}})
		if !allowed.IsSet(cpu) {
			require.ErrorContains(t, err, "pinned")
			continue
		}
		require.NoError(t, err)
		require.NoError(t, s.Close())
	}
}

// What Go adds to a run: the checks, the crossing and the account of what ran.
func TestRunCostsHardlyMoreThanFromC(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: times nothing under emulation or a detector")
	}
	data, err := bundle.Marshal(tiny())
	require.NoError(t, err)
	loop, err := capitest.Open(data, 0)
	require.NoError(t, err)
	defer loop.Close()
	m, err := dynofa.New(tiny(), nil)
	require.NoError(t, err)
	defer m.Close()
	s, err := m.NewSession(nil)
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.Select(0))
	ctx := context.Background()
	r := s.Subnet().Resolution
	image, logits := make([]float32, r*r*3), make([]float32, m.Classes())

	const rounds, runs = 61, 500
	var inC, inGo, extra []float64
	for range rounds {
		c := loop.Nanoseconds(runs)
		require.Positive(t, c)
		start := time.Now()
		for range runs {
			if err := s.Run(ctx, image, logits); err != nil {
				t.Fatal(err)
			}
		}
		g := float64(time.Since(start).Nanoseconds()) / runs
		inC, inGo, extra = append(inC, c), append(inGo, g), append(extra, g-c)
	}
	for _, v := range [][]float64{inC, inGo, extra} {
		slices.Sort(v)
	}
	t.Logf("a run takes %.0f ns from C and %.0f ns from Go; median difference %.0f ns", inC[rounds/2], inGo[rounds/2], extra[rounds/2])
	require.Less(t, extra[rounds/2], 5000.0, "ns a run")
}

// A million switches, each with a run: nothing may pile up.
func TestSwitchesLeakNothing(t *testing.T) {
	switches := 1_000_000
	if testing.Short() {
		switches = 20_000
	}
	m, err := dynofa.New(tiny(), nil)
	require.NoError(t, err)
	defer m.Close()
	s, err := m.NewSession(&dynofa.Config{Threads: 1, MaxThreads: 2})
	require.NoError(t, err)
	defer s.Close()
	ctx := context.Background()
	largest := m.Space().Largest()
	image, logits := make([]float32, 3*largest.Resolution*largest.Resolution), make([]float32, m.Classes())
	var warm int
	for i := range switches {
		r := largest.Resolution
		if level := i % 3; level < 2 {
			err = s.Select(level)
			r = m.Levels()[level].Subnet.Resolution
		} else {
			err = s.Configure(largest)
		}
		if err == nil {
			err = s.Run(ctx, image[:3*r*r], logits)
		}
		require.NoError(t, err)
		if i == switches/10 {
			warm = residentKiB(t)
		}
	}
	grown := residentKiB(t) - warm
	t.Logf("%d switches and runs: resident memory grew by %d KiB of %d", switches, grown, warm)
	require.Less(t, grown, 1024, "KiB")
}

func residentKiB(t *testing.T) int {
	data, err := os.ReadFile("/proc/self/statm")
	require.NoError(t, err)
	pages, err := strconv.Atoi(strings.Fields(string(data))[1])
	require.NoError(t, err)
	return pages * os.Getpagesize() / 1024
}

// tiny is a supernet whose runs take microseconds, with two levels.
func tiny() *bundle.Contents {
	space := &ofa.Space{
		Family: "tiny", Width: 1, Classes: 4, BNEps: 1e-5,
		Stem: ofa.Stem{Channels: 8, Stride: 2, Act: ofa.HSwish}, First: ofa.First{Channels: 8, Stride: 1, Act: ofa.ReLU},
		Stages:  []ofa.Stage{{Channels: 8, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1, 2}}},
		Head:    ofa.Head{Features: 16, Act: ofa.HSwish},
		Kernels: []int{3, 5}, Expands: []int{1, 2}, Resolutions: []int{4, 8},
		Preprocess: ofa.ImageNet(),
	}
	c := bundletest.Random(space, 1)
	bundletest.AddLevel(c, space.Smallest())
	bundletest.AddLevel(c, space.Largest())
	return c
}
