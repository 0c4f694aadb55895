package main

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/ina3221"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

// gpu is a device that answers nothing but energy, and card its driver.
type gpu struct {
	nvml.Device
	joules float64
	err    error
}

func (g *gpu) Energy() (float64, error) { return g.joules, g.err }

type card struct {
	gpu
	index, initialized int
}

func (c *card) Init() error                           { c.initialized++; return nil }
func (c *card) Shutdown()                             { c.initialized-- }
func (c *card) Device(index int) (nvml.Device, error) { c.index = index; return &c.gpu, nil }

func TestMeters(t *testing.T) {
	lost := errors.New("lost")
	for _, c := range []struct {
		board, backend string
		driver         nvml.Driver
		want           string
	}{
		{"x86-server", "", nvml.None{}, "rapl"},
		{"x86-server", "native/avx2", &card{gpu: gpu{joules: 5}}, "rapl"},
		{"x86-server", "cuda:1", &card{gpu: gpu{joules: 5}}, "nvml"},
		{"x86-server", "cuda", &card{gpu: gpu{err: lost}}, ""}, // not the CPU's in its place
		{"x86-server", "cuda", nvml.None{}, ""},
		{"orin-nx", "", nvml.None{}, "ina3221"},
		{"nano-jetpack-4", "purego", nvml.None{}, "ina3221"},
		{"nano-jetpack-4", "cuda", nvml.None{}, "ina3221 (GPU)"},
		{"raspberry-pi", "", nvml.None{}, ""},
		{"nothing", "", nvml.None{}, ""},
	} {
		root, err := fakeroot.Unpack(c.board, t.TempDir())
		require.NoError(t, err)
		m := openMeter(string(root), c.backend, c.driver)
		if c.want == "" {
			require.Nil(t, m, "%+v", c)
		} else {
			require.NotNil(t, m, "%+v", c)
			require.Equal(t, c.want, m.Name())
			_, ok := m.Millijoules()
			require.True(t, ok)
			m.Close()
		}
		if g, is := c.driver.(*card); is {
			require.Zero(t, g.initialized, "every Init has its Shutdown")
		}
	}
}

func TestRAPLWrapsAndVanishes(t *testing.T) {
	root, err := fakeroot.Unpack("x86-server", t.TempDir())
	require.NoError(t, err)
	const counter = "sys/class/powercap/intel-rapl:0/energy_uj"
	require.NoError(t, root.Write(counter, "262143328840\n")) // its range ends at 262143328850
	m := openMeter(string(root), "", nvml.None{})
	defer m.Close()
	before, ok := m.Millijoules()
	require.True(t, ok)
	require.NoError(t, root.Write(counter, "20\n"))
	after, ok := m.Millijoules()
	require.True(t, ok)
	require.InDelta(t, 0.030, after-before, 1e-9, "10 uJ to the end and 20 from there")
	require.NoError(t, os.Remove(root.Path(counter)))
	_, ok = m.Millijoules()
	require.False(t, ok, "half of the packages is not the machine")
	require.NoError(t, root.Write(counter, "no number\n"))
	require.Nil(t, openMeter(string(root), "", nvml.None{}))
}

func TestNVMLMeter(t *testing.T) {
	g := &card{gpu: gpu{joules: 5000}}
	m := openMeter("/nowhere", "cuda:3", g)
	require.Equal(t, 3, g.index)
	g.joules = 5000.25
	mj, ok := m.Millijoules()
	require.True(t, ok)
	require.InDelta(t, 5000250, mj, 1e-6)
	g.err = nvml.ErrLost
	_, ok = m.Millijoules()
	require.False(t, ok)
}

func TestINA3221Integrates(t *testing.T) {
	root, err := fakeroot.Unpack("nano-jetpack-4", t.TempDir())
	require.NoError(t, err)
	s := ina3221.New(string(root))
	defer s.Close()
	for row, watts := range map[string]float64{"energy": 2.84, "gpu energy": 0.32} {
		m := &ina3221Meter{row: row}
		m.read(s, time.Second)
		before, ok := m.Millijoules()
		require.True(t, ok)
		m.read(s, 3*time.Second)
		after, ok := m.Millijoules()
		require.True(t, ok)
		require.InDelta(t, 2*1e3*watts, after-before, 1e-6)
		s.Close()
		s = ina3221.New(string(root))
	}
}

// A run on this machine names its meter, or says that there is none.
func TestBenchRunNamesTheMeter(t *testing.T) {
	_, out := benchRun(t, "--level", "0", "--duration", "5ms")
	want := "energy n/a;"
	if m := openMeter("/", "", nvml.System()); m != nil {
		want = "energy " + m.Name() + ";"
		m.Close()
	}
	require.Contains(t, strings.Join(strings.Fields(out), " "), want)
}
