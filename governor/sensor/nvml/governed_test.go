//go:build linux && cgo && nvml

package nvml_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	lib "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/policy/steady"
	"github.com/dynofa/dynofa/governor/sensor"
	"github.com/dynofa/dynofa/governor/sensor/fakeroot"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

// From the driver's calls to decisions: go-nvml's model of an H100 answers what a simulated card would, the sampler
// reads it, the governor chooses between that card and a CPU. The card is a roofline in sums (see governor/sim).
const (
	deadline = 50 * time.Millisecond
	period   = 60 * time.Millisecond
	launch   = 4.  // ms
	compute  = 0.7 // of the rest, at full clocks
	index    = 3   // of the GPU
)

var (
	gpuMS = []float64{12, 15, 18, 21, 28, 36}
	cpuMS = []float64{17, 20, 24, 28, 38, 52} // the last is too late
)

// state is what the card is, and what NVML says of it.
type state struct {
	clock, memory, time float64 // shares: of the clocks, of its time that others leave
	reasons             uint64
	others              int     // processes that are listed
	load                float64 // of them
	celsius             uint32
	says                map[string]lib.Return // of calls that fail
	lies                func(*state)          // about the rest, before it is told
}

type rig struct {
	now, at time.Duration // at: that of the sampler, 0 for now
	card    state
	told    state // what is answered from
	slow    time.Duration
	began   time.Duration // a slow reading; -1: none is under way
	shown   bool          // and it has ended
	onGPU   bool
	sampler *sensor.Sampler
	random  *rand.Rand
}

func newRig(t *testing.T) *rig {
	r := &rig{card: state{clock: 1, memory: 1, time: 1, celsius: 50, says: map[string]lib.Return{}}, began: -1, random: rand.New(rand.NewPCG(1, 1))}
	model := dgxh100.New()
	model.LookupSymbolFunc = func(symbol string) error {
		if symbol == "nvmlDeviceGetTemperatureV" { // go-nvml has no mock of it
			return errors.New("undefined symbol")
		}
		return nil
	}
	r.answer(&model.Devices[index].(*server.Device).Device)
	root, err := fakeroot.Unpack("nothing", t.TempDir())
	require.NoError(t, err)
	r.sampler = sensor.New(sensor.Config{Root: string(root), Driver: nvml.Bind(model), GPU: index, Clock: func() time.Duration {
		if r.at > 0 {
			return r.at
		}
		return r.now
	}})
	t.Cleanup(func() { require.NoError(t, r.sampler.Close()) })
	return r
}

const highest, highestMemory = 1980, 2619 // MHz

// answer makes the device answer from r.told. Power and temperature are never still.
func (r *rig) answer(d *mock.Device) {
	s := &r.told
	ret := func(call string) lib.Return { return s.says[call] } // SUCCESS is 0
	idle := func() bool { return !r.onGPU && s.load == 0 }
	d.GetClockInfoFunc = func(c lib.ClockType) (uint32, lib.Return) {
		switch {
		case c == lib.CLOCK_MEM:
			return uint32(s.memory * highestMemory), ret("memory clock")
		case idle():
			return 345, ret("clock")
		}
		return uint32(s.clock * highest), ret("clock")
	}
	d.GetMaxClockInfoFunc = func(c lib.ClockType) (uint32, lib.Return) {
		if c == lib.CLOCK_MEM {
			return highestMemory, lib.SUCCESS
		}
		return highest, lib.SUCCESS
	}
	d.GetCurrentClocksEventReasonsFunc = func() (uint64, lib.Return) {
		if idle() {
			return lib.ClocksEventReasonGpuIdle, ret("reasons")
		}
		return s.reasons, ret("reasons")
	}
	d.GetUtilizationRatesFunc = func() (lib.Utilization, lib.Return) {
		u := s.load
		if r.onGPU {
			u += (1 - u) * 0.6
		}
		return lib.Utilization{Gpu: uint32(100 * u)}, ret("utilization")
	}
	d.GetMemoryInfoFunc = func() (lib.Memory, lib.Return) { return lib.Memory{Total: 80e9, Used: 10e9}, ret("memory") }
	d.GetPowerUsageFunc = func() (uint32, lib.Return) { return 200_000 + r.random.Uint32N(2000), ret("power") }
	d.GetTotalEnergyConsumptionFunc = func() (uint64, lib.Return) { return uint64(200 * r.now.Milliseconds()), ret("energy") }
	d.GetTemperatureFunc = func(lib.TemperatureSensors) (uint32, lib.Return) {
		return s.celsius + r.random.Uint32N(2), ret("temperature")
	}
	d.GetComputeRunningProcessesFunc = func() ([]lib.ProcessInfo, lib.Return) {
		list := []lib.ProcessInfo{{Pid: uint32(os.Getpid())}}
		for i := range s.others {
			list = append(list, lib.ProcessInfo{Pid: uint32(1<<24 + i)})
		}
		return list, ret("processes")
	}
	d.GetMPSComputeRunningProcessesFunc = func() ([]lib.ProcessInfo, lib.Return) { return nil, lib.ERROR_NOT_SUPPORTED }
}

// tell takes what the driver answers from.
func (r *rig) tell() {
	r.told = r.card
	if r.card.lies != nil {
		r.card.lies(&r.told)
	}
}

// event changes the card at a time.
type event struct {
	at     time.Duration
	change func(*state)
}

// advance lets time go by: the card changes, the sampler reads. A slow reading shows what was when it began.
func (r *rig) advance(to time.Duration, events *[]event) {
	const tick = 10 * time.Millisecond
	for r.now < to {
		r.now = min(to, r.now+tick-r.now%tick)
		for len(*events) > 0 && (*events)[0].at <= r.now {
			(*events)[0].change(&r.card)
			*events = (*events)[1:]
		}
		switch {
		case r.slow == 0:
			r.tell()
			r.sampler.Sample()
		case r.began < 0:
			r.began, r.shown = r.now, false
			r.tell()
		case r.now >= r.began+r.slow && !r.shown:
			r.at, r.shown = r.began, true
			r.sampler.Sample()
			r.at = 0
		case r.now >= r.began+200*time.Millisecond && r.shown:
			r.began = -1
		}
	}
}

// frame is what a frame came to.
type frame struct {
	at    time.Duration
	gpu   bool
	level int
	late  bool
}

const onGPU, onCPU = 0, 1

// play lets frames run for some time, with the sensors or without.
func (r *rig) play(t *testing.T, length time.Duration, events []event, sensors bool) (frames []frame) {
	p := &governor.Profile{Configurations: []governor.Configuration{onGPU: {GPU: true, LaunchMS: launch}, onCPU: {Threads: 4}}}
	for i, accuracy := range []float64{66, 70, 73, 75.5, 77.5, 79} {
		p.Levels = append(p.Levels, governor.Level{Accuracy: accuracy, Latency: []time.Duration{time.Duration(1e6 * gpuMS[i]), time.Duration(1e6 * cpuMS[i])}})
	}
	config := governor.Config{Profile: p, Estimator: estimator.New(p, nil), Policy: steady.New(nil), Now: func() time.Duration { return r.now },
		Constraints: governor.Constraints{Deadline: deadline}}
	if sensors {
		config.Hardware = r.sampler.Hardware
	}
	g, err := governor.New(config)
	require.NoError(t, err)
	noise := rand.New(rand.NewPCG(2, 2))
	events = slices.Clone(events)
	for start := period; start < length; start += period {
		r.advance(start, &events)
		d := g.Next()
		r.onGPU = d.Configuration == onGPU
		ms := cpuMS[d.Level]
		if r.onGPU {
			ms = launch + (gpuMS[d.Level]-launch)*(compute/r.card.clock+(1-compute)/r.card.memory)/r.card.time
		}
		latency := time.Duration(1e6 * ms * math.Exp(0.01*noise.NormFloat64()))
		frames = append(frames, frame{start, r.onGPU, d.Level, latency > deadline})
		r.advance(r.now+latency, &events)
		g.Observe(latency)
	}
	return frames
}

// late counts, gpu is the share of frames on the GPU from a time to another.
func late(frames []frame) (n int) {
	for _, f := range frames {
		if f.late {
			n++
		}
	}
	return n
}

func gpu(frames []frame, from, to time.Duration) float64 {
	n, on := 0., 0.
	for _, f := range frames {
		if f.at >= from && f.at < to {
			if n++; f.gpu {
				on++
			}
		}
	}
	return on / n
}

// accuracy is that of answers in time.
func accuracy(frames []frame) float64 {
	sum := 0.
	for _, f := range frames {
		if !f.late {
			sum += []float64{66, 70, 73, 75.5, 77.5, 79}[f.level]
		}
	}
	return sum / float64(len(frames))
}

const second = time.Second

// at is a change between two frames: the sampler reads before the next begins.
func at(t float64, change func(*state)) event {
	return event{time.Duration(t * float64(second)), change}
}

func limit(clock float64, reasons uint64, celsius uint32) func(*state) {
	return func(s *state) { s.clock, s.reasons, s.celsius = clock, reasons, celsius }
}

// What a driver tells in time moves the decision before an inference is late, to the CPU where that is the better one,
// and back. Without sensors the same is late at least once.
func TestToldInTime(t *testing.T) {
	const (
		power   = lib.ClocksEventReasonSwPowerCap
		warm    = lib.ClocksEventReasonSwThermalSlowdown
		hot     = lib.ClocksThrottleReasonHwThermalSlowdown
		between = 5.045 // s: a frame begins at 5.04 and the next at 5.1; in between, at 5.05, the driver is read
	)
	over := at(8, limit(1, 0, 60))
	for name, c := range map[string]struct {
		events []event
		slow   time.Duration // of a reading
		worst  time.Duration // from when on the card is slowest for a second
		stays  bool          // the GPU is the better one all the time
	}{
		"hardware slows down":   {events: []event{at(between, limit(0.5, hot, 90)), over}, worst: 6 * second},
		"readings take 30 ms":   {events: []event{at(between, limit(0.5, hot, 90)), over}, worst: 6 * second, slow: 30 * time.Millisecond},
		"power cap":             {events: []event{at(between, limit(0.55, power, 60)), over}, worst: 6 * second},
		"mild power cap":        {events: []event{at(between, limit(0.8, power, 60)), over}, worst: 6 * second, stays: true},
		"temperature staircase": {events: []event{at(5, limit(0.9, warm, 84)), at(6, limit(0.8, warm, 86)), at(7.025, limit(0.55, warm, 88)), at(7.925, limit(0.4, hot, 91)), at(10, limit(1, 0, 60))}, worst: 9 * second},
		"memory clock":          {events: []event{at(between, func(s *state) { s.memory = 0.3 }), at(8, func(s *state) { s.memory = 1 })}, worst: 6 * second},
		"second process": {events: []event{at(4.7, func(s *state) { s.others = 1 }), at(between, func(s *state) { s.time, s.load = 0.65, 0.35 }),
			at(8, func(s *state) { s.time, s.load = 1, 0 }), at(8.05, func(s *state) { s.others = 0 })}, worst: 6 * second},
	} {
		r := newRig(t)
		r.slow = c.slow
		frames, blind := r.play(t, 16*second, c.events, true), newRig(t).play(t, 16*second, c.events, false)
		during := gpu(frames, c.worst, c.worst+second)
		t.Logf("%s: late %d, without sensors %d; accuracy %.2f and %.2f", name, late(frames), late(blind), accuracy(frames), accuracy(blind))
		require.Zero(t, late(frames), name)
		require.Equal(t, 1., gpu(frames, second, 4*second), name)
		require.Equal(t, 1., gpu(frames, 14*second, 16*second), "back: %s", name)
		if c.stays {
			require.Equal(t, 1., during, name)
			continue
		}
		require.Zero(t, during, name)
		require.NotZero(t, late(blind), name)
		require.GreaterOrEqual(t, accuracy(frames), accuracy(blind), name)
	}
}

// A process is a threat of unknown size the first time, and a known one the second. When it pauses the card's load says
// so, and brings the governor back long before its patience ends.
func TestBusyProcess(t *testing.T) {
	comes := func(t float64) []event {
		return []event{at(t-0.35, func(s *state) { s.others = 1 }), at(t+0.005, func(s *state) { s.time, s.load = 0.5, 0.5 })}
	}
	goes := func(t float64) []event {
		return []event{at(t, func(s *state) { s.time, s.load = 1, 0 }), at(t+0.05, func(s *state) { s.others = 0 })}
	}
	frames := newRig(t).play(t, 30*second, slices.Concat(comes(5.04), goes(8), comes(13.04), goes(16), comes(21.04), goes(24)), true)
	require.LessOrEqual(t, late(frames), 1)
	require.Zero(t, late(slices.DeleteFunc(slices.Clone(frames), func(f frame) bool { return f.at < 10*second })))
	require.Zero(t, gpu(frames, 14*second, 16*second))
	require.Equal(t, 1., gpu(frames, 26*second, 30*second))

	pauses := slices.Concat(comes(5.04), []event{at(7, func(s *state) { s.time, s.load = 1, 0 })})
	frames = newRig(t).play(t, 9*second, pauses, true)
	require.Zero(t, gpu(frames, 6*second, 7*second))
	require.Equal(t, 1., gpu(frames, 7800*time.Millisecond, 9*second), "patience would be 3 s")
}

// A driver that is dead, lost, too slow or silent on a field leaves what a governor without sensors would do, and no
// worse; one that lies is found out, which takes a few late answers, or 12 s in which a CPU's answers are less accurate.
func TestNoWorseThanWithout(t *testing.T) {
	const length = 60 * second
	events := []event{
		at(5.045, limit(0.5, lib.ClocksThrottleReasonHwThermalSlowdown, 90)), at(9, limit(1, 0, 60)),
		at(19.7, func(s *state) { s.others = 1 }), at(20.045, func(s *state) { s.time, s.load = 0.5, 0.5 }),
		at(25, func(s *state) { s.time, s.load = 1, 0 }), at(25.05, func(s *state) { s.others = 0 }),
		at(40.05, limit(0.45, lib.ClocksEventReasonSwPowerCap, 60)), at(42, limit(1, 0, 60)),
	}
	blind := newRig(t).play(t, length, events, false)
	t.Logf("without sensors: late %d, accuracy %.2f", late(blind), accuracy(blind))
	play := func(name string, change func(*state), slow time.Duration, more int, worse float64) {
		r := newRig(t)
		r.slow = slow
		frames := r.play(t, length, slices.Concat([]event{at(0, change)}, events), true)
		t.Logf("%s: late %d, accuracy %.2f", name, late(frames), accuracy(frames))
		require.LessOrEqual(t, late(frames), late(blind)+more, name)
		require.GreaterOrEqual(t, accuracy(frames), accuracy(blind)-worse, name)
	}
	play("all well", func(*state) {}, 0, 0, 0.1) // care costs a little accuracy, and saves late answers
	for _, call := range []string{"clock", "memory clock", "reasons", "utilization", "memory", "power", "energy", "temperature", "processes"} {
		play(call+" not supported", func(s *state) { s.says[call] = lib.ERROR_NOT_SUPPORTED }, 0, 0, 0.1)
	}
	play("lost", func(s *state) { s.says["clock"] = lib.ERROR_GPU_IS_LOST }, 0, 0, 0)
	play("readings take 250 ms", func(*state) {}, 250*time.Millisecond, 0, 0.1)
	play("readings take 2 s", func(*state) {}, 2*second, 0, 0.1)
	for name, lie := range map[string]func(*state){
		"says that nothing happens": func(s *state) { *s = state{clock: 1, memory: 1, says: s.says} },
		"clock says half":           func(s *state) { s.clock, s.reasons = 0.5, lib.ClocksEventReasonSwPowerCap },
		"memory clock says a third": func(s *state) { s.memory = 0.3 },
		"three processes":           func(s *state) { s.others = 3 },
		"always busy":               func(s *state) { s.load = 1 },
	} {
		play(name, func(s *state) { s.lies = lie }, 0, 3, 0.5)
	}
}

// A GPU that is lost while it is slow is left on what latencies say, and one that is found again is believed again.
func TestLostAndFound(t *testing.T) {
	events := []event{
		at(4.9, func(s *state) { s.says = map[string]lib.Return{"clock": lib.ERROR_GPU_IS_LOST} }),
		at(5.045, limit(0.5, lib.ClocksThrottleReasonHwThermalSlowdown, 90)),
		at(8, func(s *state) { s.says = nil }), at(8, limit(1, 0, 60)),
		at(19.7, func(s *state) { s.others = 1 }), at(20.05, func(s *state) { s.time, s.load = 0.65, 0.35 }), at(23, func(s *state) { s.time, s.load, s.others = 1, 0, 0 }),
	}
	frames := newRig(t).play(t, 30*second, events, true)
	require.Equal(t, 1, late(frames), "the first after the clock fell")
	require.Zero(t, late(slices.DeleteFunc(slices.Clone(frames), func(f frame) bool { return f.at < 10*second })))
	require.Zero(t, gpu(frames, 6*second, 7*second))
	require.Zero(t, gpu(frames, 21*second, 22*second))
	require.Equal(t, 1., gpu(frames, 28*second, 30*second))
}
