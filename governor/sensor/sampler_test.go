package sensor

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

// What nobody has read for five periods is stale.
func TestStale(t *testing.T) {
	r := newRig(t, "raspberry-pi", nil)
	r.step()
	read := r.now
	r.now += 250 * time.Millisecond
	hw := r.sampler.Hardware()
	require.Equal(t, governor.Reading{Value: 1, At: read, Condition: governor.Valid}, hw.Clock)
	r.now++
	hw = r.sampler.Hardware()
	require.Equal(t, governor.Reading{Value: 1, At: read, Condition: governor.Stale}, hw.Clock)
	require.Equal(t, governor.Valid, hw.Temperature.Condition, "is read less often")
	require.ErrorIs(t, r.row("cpufreq", "permitted").Err, errStale)
	require.Equal(t, governor.Valid, r.row("cpufreq", "current").Reading.Condition, "is read once a second")
}

// gpu is a GPU that knows its load alone, and tells it when it may.
type gpu struct {
	nvml.None
	asked, may chan struct{}
	calls      atomic.Int64
}

func (g *gpu) Init() error                           { return nil }
func (g *gpu) Device(int) (nvml.Device, error)       { return g, nil }
func (g *gpu) Clocks() (_, _ float64, _ error)       { return 0, 0, nvml.ErrUnsupported }
func (g *gpu) MemoryClocks() (_, _ float64, _ error) { return 0, 0, nvml.ErrUnsupported }
func (g *gpu) Reasons() (uint64, error)              { return 0, nvml.ErrNoFunction }
func (g *gpu) Memory() (_, _ float64, _ error)       { return 0, 0, nvml.ErrUnsupported }
func (g *gpu) Power() (float64, error)               { return 0, nvml.ErrUnsupported }
func (g *gpu) Energy() (float64, error)              { return 0, nvml.ErrUnsupported }
func (g *gpu) Temperature() (float64, error)         { return 0, nvml.ErrUnsupported }
func (g *gpu) Processes() ([]int, error)             { return nil, nvml.ErrUnsupported }
func (g *gpu) Utilization() (float64, error) {
	g.calls.Add(1)
	g.asked <- struct{}{}
	<-g.may
	return 0.5, nil
}

// A call of the driver that does not come back holds up nothing else: the other sensors go on, and what the driver
// knew becomes stale, or is taken from another source.
func TestHangingDriver(t *testing.T) {
	root, err := fakeroot.Unpack("xavier-nx", memory(t))
	require.NoError(t, err)
	load := "sys/class/devfreq/17000000.gv11b/device/load"
	require.NoError(t, root.Remove(load))
	var now atomic.Int64
	g := &gpu{asked: make(chan struct{}), may: make(chan struct{})}
	s := Open(Config{Root: string(root), Driver: g, Period: time.Millisecond,
		Clock: func() time.Duration { return time.Duration(now.Add(1)) * 10 * time.Microsecond }})
	defer s.Close()
	<-g.asked
	g.may <- struct{}{}
	<-g.asked // the second call hangs
	require.Equal(t, 0.5, s.Hardware().GPULoad.Value)
	for s.Hardware().GPULoad.Condition != governor.Stale { // the clock moves with every look at it
		runtime.Gosched()
	}
	at := s.Hardware().Cores.At
	for s.Hardware().Cores.At == at {
		runtime.Gosched()
	}
	require.Equal(t, int64(2), g.calls.Load())

	require.NoError(t, root.Write(load, "187\n"))
	for hw := s.Hardware(); hw.GPULoad.Value != 0.187 || hw.GPULoad.Condition != governor.Valid; hw = s.Hardware() {
		runtime.Gosched()
	}
	require.NoError(t, s.Close(), "does not wait for the driver")
	require.NoError(t, s.Close())
	g.may <- struct{}{}
}

// Everything may be asked at any time from any goroutine; meant for the race detector.
func TestManyReaders(t *testing.T) {
	s := Open(Config{Period: time.Millisecond})
	var readers sync.WaitGroup
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for i := range 2000 {
				if hw := s.Hardware(); hw.Cores.Condition == governor.Valid && hw.Cores.Value <= 0 {
					panic("no cores")
				}
				if i%500 == 0 {
					s.List()
				}
			}
		}()
	}
	readers.Wait()
	require.NoError(t, s.Close())
}

// Readers of a cell never see two writes mixed, however fast it is written.
func TestCellIsWhole(t *testing.T) {
	var c cell
	var stop atomic.Bool
	var writer sync.WaitGroup
	writer.Add(1)
	go func() {
		defer writer.Done()
		for n := 1; !stop.Load(); n++ {
			var p [source.Fields]published
			for i := range p {
				p[i] = published{governor.Reading{Value: float64(n), At: time.Duration(n), Condition: governor.Condition(n % 5)}, time.Duration(n)}
			}
			c.store(&p)
		}
	}()
	var last time.Duration
	for range 20_000 {
		var p [source.Fields]published
		c.load(&p)
		n := p[0].At
		require.GreaterOrEqual(t, n, last)
		last = n
		for i := range p {
			if p[i] != (published{governor.Reading{Value: float64(n), At: n, Condition: governor.Condition(n % 5)}, n}) {
				t.Fatalf("write %d has %+v", n, p[i])
			}
		}
	}
	stop.Store(true)
	writer.Wait()
}

func TestHardwareAllocatesNothing(t *testing.T) {
	s := New(Config{})
	s.Sample()
	require.Zero(t, testing.AllocsPerRun(100, func() { s.Hardware() }))
	require.NoError(t, s.Close())
}

// The script of a bad day: throttling in steps, a core that goes and comes back, a smaller quota.
func TestScript(t *testing.T) {
	r := newRig(t, "container", nil)
	limit := "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq"
	player := r.root.Play(
		fakeroot.Stairs(time.Second, time.Second, limit, 2_400_000, 1_500_000, 3_000_000),
		fakeroot.Set(5*time.Second, "sys/fs/cgroup/cpu.max", "50000 100000\n"),
		fakeroot.Set(6*time.Second, "sys/fs/cgroup/cpu.max", "max 100000\n"),
		fakeroot.Unplug(7*time.Second, 7, "0-6"),
		fakeroot.Ramp(8*time.Second, 9*time.Second, 500*time.Millisecond, limit, 3_000_000, 600_000),
		fakeroot.Remove(10*time.Second, "sys/devices/system/cpu/cpufreq"),
	)
	at := map[time.Duration][2]float64{ // clock, cores
		1: {7.8 / 8, 1.5}, 2: {7.5 / 8, 1.5}, 3: {1, 1.5}, 5: {1, 0.5}, 6: {1, 5}, 7: {1, 5}, 8: {1, 5}, 9: {6.2 / 7, 5},
	}
	for r.now < 10*time.Second {
		require.NoError(t, player.Next(r.now+step))
		hw := r.step()
		if want, has := at[r.now/time.Second]; has && r.now%time.Second == 0 {
			require.InDelta(t, want[0], hw.Clock.Value, 1e-9, "at %v: %+v", r.now, hw.Clock)
			require.InDelta(t, want[1], hw.Cores.Value, 1e-9, "at %v: %+v", r.now, hw.Cores)
		}
	}
	require.Equal(t, governor.Missing, r.sampler.Hardware().Clock.Condition)
}

// Sensing 20 times a second may take half a percent of a core: 250 µs a time. The lower quartile of many,
// because others use the machine too.
func TestCost(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: times mean nothing here")
	}
	for _, root := range []string{"/", "x86-server"} {
		var now time.Duration
		c := Config{Root: root, Clock: func() time.Duration { return now }}
		if root != "/" {
			fake, err := fakeroot.Unpack(root, memory(t))
			require.NoError(t, err)
			c.Root = string(fake)
		}
		s := New(c)
		var times []time.Duration
		for range 400 {
			now += 50 * time.Millisecond
			started := time.Now()
			s.sample(kernel)
			s.sample(device)
			times = append(times, time.Since(started))
		}
		slices.Sort(times)
		took := times[len(times)/4]
		t.Logf("%s: %v, %.3f %% of a core", root, took, 100*took.Seconds()*20)
		require.Less(t, took, 250*time.Microsecond)
		require.NoError(t, s.Close())
	}
}

// A sleep ends with the time or with the alarm, and does not begin after it.
func TestAlarm(t *testing.T) {
	for range 100 {
		a := newAlarm()
		require.True(t, a.sleep(time.Microsecond))
		var sleeping sync.WaitGroup
		for range 2 {
			sleeping.Go(func() {
				if a.sleep(time.Hour) {
					panic("slept for an hour")
				}
			})
		}
		runtime.Gosched()
		a.end()
		sleeping.Wait()
		require.False(t, a.sleep(time.Hour))
	}
}

func BenchmarkSample(b *testing.B) {
	var now time.Duration
	s := New(Config{Clock: func() time.Duration { return now }})
	b.ReportAllocs()
	for b.Loop() {
		now += 50 * time.Millisecond
		s.sample(kernel)
		s.sample(device)
	}
	b.ReportMetric(100*20*b.Elapsed().Seconds()/float64(b.N), "%core")
}

func BenchmarkHardware(b *testing.B) {
	s := New(Config{})
	s.Sample()
	b.ReportAllocs()
	for b.Loop() {
		s.Hardware()
	}
}
