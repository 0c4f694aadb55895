package estimator

import (
	"math"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// The sensors that announce: what they show lasts, and an inference that starts now feels it.
const (
	clock = iota
	cores
	gpuClock
	gpuOthers
	gpuMemory
	kinds
)

// effect is what one sensor makes of the prediction.
type effect struct {
	gain, variance float64   // of log slowdown by phi, and how sure that is
	together       float64   // covariance of the gain and the slowdown
	most           float64   // the gain may be learned to be
	value          float64   // of the sensor that phi belongs to
	rest           float64   // the value that slows nothing down
	phi            []float64 // per configuration
	lean           []float64 // per option, logarithm: what its latency is moved by beside the configuration's
	lost           bool
	unseen         int           // inferences since the sensor was lost
	waits          time.Duration // how long after its announcement the effect may begin
	until          time.Duration // until when an announced effect is waited for; 0: none is
	pending        float64       // phi that was announced and has not been felt yet
	begun          float64       // phi that was felt in the last inference for the first time
	before         [2]float64    // gain and variance before that
	taken          bool          // it has been taken back once: who comes and goes is there
	band           float64       // changes of value below it are none
	news           float64       // what the prediction was moved by since the last inference
	previous       float64       // value before that
	doubted        time.Duration // until when nothing it says is believed
	penalty        time.Duration // for the next contradiction
	raw, stable    float64       // the sensor's value, believed or not, and the last that stayed for a while
	changed        time.Duration // when it changed last
	rose           bool          // it rose then
	flaps          int           // changes in a row that took the one before back at once
}

// concerns tells whether sensor k is one of a kind of processor.
func (f *effect) concerns(k int, gpu bool) bool { return gpu == (k >= gpuClock) }

// spread is what a change of phi adds to the variance of the slowdown.
func (f *effect) spread(by float64) float64 {
	return float64(by * (float64(2*f.together) + float64(by*f.variance)))
}

// shift is such a change. The gain is learned from what it does to the slowdown.
func (f *effect) shift(t *track, by float64) {
	t.variance = max(0, t.variance+f.spread(by))
	f.together += float64(by * f.variance)
}

// forget lets the slowdown be known apart from the gains.
func (e *Estimator) forget(t *track) {
	for k := range e.effects {
		if f := &e.effects[k]; f.concerns(k, t == &e.tracks[gpus]) {
			f.together = 0
		}
	}
}

// A limit that is lifted at once and set again at once is no limit but a broken sensor.
const (
	atOnce = 300 * time.Millisecond
	broken = 2 // such changes in a row
)

// flap takes in a change and tells whether the sensor is broken.
func (f *effect) flap(v float64, now time.Duration) bool {
	rose := v > f.raw
	switch {
	case math.Abs(v-f.raw) < f.band || v == f.raw:
		return now < f.doubted
	case now-f.changed > atOnce:
		f.flaps = 0
		if now >= f.doubted {
			f.stable = f.raw
		}
	case rose != f.rose:
		f.flaps++
	}
	f.changed, f.rose, f.raw = now, rose, v
	if f.flaps >= broken {
		f.doubted = max(f.doubted, now+f.penalty)
	}
	return now < f.doubted
}

// newEffects are the effects on the undisturbed machine. The gains to begin with: a clock acts on all of the time
// that is not spent waiting for memory, cores on threads beyond their number, and of another process on the GPU
// nobody knows how busy it will be: between nothing and half of the time, so the geometric mean, 2^0.5.
func newEffects(configurations, options int) (e [kinds]effect) {
	e[clock] = effect{gain: 0.9, variance: 0.2 * 0.2, most: 2, value: 1, band: 0.01}
	e[cores] = effect{gain: 0.95, variance: 0.2 * 0.2, most: 2, value: math.Inf(1), band: 0.05}
	e[gpuClock] = effect{gain: 0.9, variance: 0.2 * 0.2, most: 2, value: 1, band: 0.01}
	// A kernel waits for the memory or for the multiprocessors, and of both there are some: anything from none to all.
	e[gpuMemory] = effect{gain: 0.5, variance: 0.25 * 0.25, most: 2, value: 1, band: 0.01}
	// A process is listed when it has a context; its first kernel is a while off: modules, memory, weights. How long
	// it pays to be careful meanwhile is the policy's business.
	e[gpuOthers] = effect{gain: 0.5, variance: 0.25 * 0.25, most: 2, value: 0, band: 0.5, waits: 3 * time.Second}
	for k := range e {
		e[k].phi = make([]float64, configurations)
		e[k].lean = make([]float64, options)
		e[k].penalty = 2 * time.Second
		e[k].raw, e[k].stable, e[k].rest = e[k].value, e[k].value, e[k].value
	}
	return e
}

func reading(h *governor.Hardware, k int) *governor.Reading {
	switch k {
	case clock:
		return &h.Clock
	case cores:
		return &h.Cores
	case gpuClock:
		return &h.GPUClock
	case gpuMemory:
		return &h.GPUMemClock
	}
	return &h.GPUOthers
}

// alone is the logarithm of how many times longer work takes that hangs on sensor k alone.
func (e *Estimator) alone(k int, value float64, c governor.Configuration) float64 {
	switch k {
	case cores:
		threads := float64(max(1, c.Threads))
		slower := max(1, threads/max(value, 0.05))
		if e.profile.Cores > 0 {
			slower /= max(1, threads/e.profile.Cores) // the profile has that already
		}
		return exact.Log(slower)
	}
	return -exact.Log(max(0.02, min(1, value)))
}

// phi is the effect of a value in a configuration. With h the share of launches and copies in a latency, by Amdahl's
// law (1967):
//
//	latency / profiled = h * (CPU's slowdown) + (1-h) * (GPU's slowdown)
//
// The GPU's part is 1/clock for what its multiprocessors compute and 1/(memory clock) for what its memory moves; which
// share is which nobody has to know, because the gains are learned. Sensors of one processor with a share of nothing
// leave the configurations of the other one alone.
func (e *Estimator) phi(k int, value float64, c int) float64 {
	configuration := e.profile.Configurations[c]
	share := e.launch[c]
	switch {
	case k >= gpuClock && !configuration.GPU || k < gpuClock && configuration.GPU && share == 0:
		return 0
	case k < gpuClock && !configuration.GPU || k >= gpuClock && share == 0:
		return e.alone(k, value, configuration)
	case k >= gpuClock:
		share = 1 - share
	}
	return exact.Log(amdahl(share, exact.Exp(e.alone(k, value, configuration))))
}

func amdahl(share, slower float64) float64 { return 1 + float64(share*(slower-1)) }

// lean is by how much more than its configuration's other levels one is moved by a sensor: short inferences are
// launches for the most part, long ones are not. It becomes part of what the level is expected to take.
func (e *Estimator) lean(k int, value float64, c int) {
	usual := e.launch[c]
	if usual == 0 {
		return
	}
	f := &e.effects[k]
	slower := exact.Exp(e.alone(k, value, e.profile.Configurations[c]))
	for l := range e.profile.Levels {
		own, others := e.profile.Launch(l, c), usual
		if k >= gpuClock {
			own, others = 1-own, 1-others
		}
		option := e.profile.Option(l, c)
		to := float64(f.gain * exact.Log(amdahl(own, slower)/amdahl(others, slower)))
		by := exact.Exp(to - f.lean[option])
		f.lean[option] = to
		e.estimate.Expected[option] = float64(e.estimate.Expected[option] * by)
		e.profiled[option] = float64(e.profiled[option] * by)
	}
}

// believable tells whether a value can be one of sensor k at all.
func believable(k int, v float64) bool {
	switch k {
	case cores:
		return v > 0 && v <= 1<<16
	case gpuOthers:
		return v >= 0 && v <= 1<<10
	}
	return v > 0 && v <= 1.01
}

// current is the value of a reading that is valid and not too old.
func current(r *governor.Reading, now, fresh time.Duration) (float64, bool) {
	v, ok := r.Get()
	age := now - r.At
	return v, ok && age <= fresh && age >= -fresh
}

// youth is how old a value of sensor k may be.
func youth(k int) time.Duration {
	if k >= gpuClock {
		return freshGPU
	}
	return fresh
}

// Sense takes in what the sensors know.
func (e *Estimator) Sense(now time.Duration, h *governor.Hardware) {
	if e.config.NoFeedForward {
		return
	}
	thawed := e.watch.look(now, h)
	changed := false
	for k := range e.effects {
		f := &e.effects[k]
		v, ok := current(reading(h, k), now, youth(k))
		if !ok || !believable(k, v) {
			if !f.lost {
				f.lost, f.unseen = true, e.tracks[cpus].seen+e.tracks[gpus].seen
			}
			continue
		}
		if f.flap(v, now) {
			switch v = f.stable; {
			case f.waits > 0: // nothing it said counts
				f.pending, f.begun, f.until = 0, 0, 0
				clear(f.phi)
				changed = true
			case v != f.value: // back to what it last said for a while
				e.move(k, v, now, false)
				f.news = 0
				changed = true
			}
			f.lost, f.unseen = true, math.MinInt/2
			continue
		}
		missed := thawed || f.lost && e.tracks[cpus].seen+e.tracks[gpus].seen-f.unseen >= 3
		f.lost = false
		if math.Abs(v-f.value) < f.band || v == f.value {
			continue
		}
		if f.waits > 0 {
			e.announce(f, v, now, missed)
		} else {
			e.move(k, v, now, missed)
		}
		changed = true
	}
	if f := &e.effects[gpuOthers]; f.until != 0 && now > f.until {
		f.until, f.pending = 0, 0 // it is there and does nothing
		changed = true
	}
	if changed {
		before := e.feared()
		e.publish()
		e.estimate.News += exact.Log(e.feared() / before)
	}
	e.listen(now, h)
}

// feared is the slowdown with what was announced.
func (e *Estimator) feared() float64 {
	return float64(e.estimate.Slowdown[e.last] * max(1, e.estimate.Threat))
}

// announce takes in the number of other processes on the GPU. One more may slow us down at any time from now on, or
// never; one less takes its part of the effect away.
func (e *Estimator) announce(f *effect, value float64, now time.Duration, missed bool) {
	from, to := exact.Log(1+f.value), exact.Log(1+value)
	f.value = value
	t := &e.tracks[gpus]
	if to > from {
		if missed { // felt already, if it is felt at all
			return
		}
		f.pending += to - from
		f.until, f.taken = now+f.waits, false
		e.estimate.Waited = 0
		// A jump that has just been felt is explained now.
		if t.jump > 0 && now-t.jumped <= sameStep {
			e.begin(f)
			t.base -= min(t.jump, float64(f.gain*f.begun))
			t.jump, f.begun = 0, 0
		} else if t.outliers > 0 && t.side > 0 {
			t.outliers, e.estimate.Doubt = 0, 0
		}
		return
	}
	f.pending = max(0, f.pending-(from-to))
	if f.pending == 0 {
		f.until = 0
	}
	less := 0.0
	for c := range f.phi {
		if over := f.phi[c] - to; over > 0 {
			f.phi[c] = to
			less = float64(f.gain * over)
			if c == t.seenAt {
				f.shift(t, -over)
			}
		}
	}
	if a := &e.away[gpus]; a.lowered > 0 { // that it was gone has been believed already
		by := min(less, a.lowered)
		t.base += by
		a.lowered -= by
	}
	switch {
	case missed:
		t.base += less
	case t.jump < 0 && now-t.jumped <= sameStep:
		t.base += min(less, -t.jump)
		t.jump = 0
	case t.outliers > 0 && t.side < 0 && less > 0:
		t.outliers = 0
	}
	t.high, t.low = cusum{}, cusum{}
}

// begin makes an announced effect a felt one.
func (e *Estimator) begin(f *effect) {
	for c, configuration := range e.profile.Configurations {
		if configuration.GPU {
			f.phi[c] += f.pending
		}
	}
	f.shift(&e.tracks[gpus], f.pending)
	f.begun, f.pending, f.until = f.pending, 0, 0
	f.before = [2]float64{f.gain, f.variance}
}

// feel looks whether an announced effect has begun with this inference; and takes it back if the next one shows that
// it was an outlier.
func (e *Estimator) feel(o governor.Observation, t *track, off float64) float64 {
	f := &e.effects[gpuOthers]
	if !e.profile.Configurations[o.Configuration].GPU {
		if f.pending > 0 {
			e.estimate.Waited++ // care costs accuracy on the CPU, too
		}
		return off
	}
	if by := float64(f.gain * f.begun); by > 0 {
		if by = float64(f.before[0] * f.begun); !f.taken && off < -0.5*by && off < float64(-outlier*t.scale) {
			for c := range f.phi {
				if f.phi[c] > 0 {
					f.phi[c] -= f.begun
				}
			}
			f.pending, f.until, f.taken = f.begun, o.At+f.waits, true
			off += float64(f.gain * f.begun)
			f.gain, f.variance, f.together = f.before[0], f.before[1], 0
		}
		f.begun = 0
		return off
	}
	if f.pending > 0 {
		e.estimate.Waited++
		if by := float64(f.gain * f.pending); off > 0.5*by && off > float64(2*t.scale) {
			e.begin(f)
			off -= by
		}
	}
	return off
}

// move changes the value of a sensor. What happened while it was lost, latencies have told already: then only the
// share that the sensor explains changes, not the sum.
func (e *Estimator) move(k int, value float64, now time.Duration, missed bool) {
	f := &e.effects[k]
	old := f.value
	f.value = value
	gpu := k >= gpuClock
	t := &e.tracks[cpus]
	if gpu {
		t = &e.tracks[gpus]
	}
	by := 0.0
	for c, configuration := range e.profile.Configurations {
		to := e.phi(k, value, c)
		e.lean(k, value, c)
		if configuration.GPU != gpu {
			f.phi[c] = to
			continue
		}
		if d := float64(f.gain * (to - f.phi[c])); c == e.last || by == 0 {
			by = d
		}
		if c == t.seenAt && !missed {
			f.variance = max(f.variance, leastDoubt)
			f.shift(t, to-f.phi[c])
		}
		f.phi[c] = to
	}
	if missed {
		t.base -= by
		return
	}
	if f.news == 0 {
		f.previous = old
	}
	f.news += by
	// A jump that the filter has just made is explained now, and must not count twice.
	if t.jump != 0 && now-t.jumped <= sameStep && float64(t.jump*by) > 0 {
		m := by
		if math.Abs(t.jump) < math.Abs(by) {
			m = t.jump
		}
		t.base -= m
	}
	t.jump = 0
	if t.outliers > 0 && float64(t.side*by) > 0 {
		t.outliers, e.estimate.Doubt = 0, 0
	}
	t.high, t.low = cusum{}, cusum{}
}

// disbelieve takes back what a sensor has just said if the inference says that nothing of the kind has happened.
func (e *Estimator) disbelieve(o governor.Observation, t *track, off float64) float64 {
	for k := range e.effects {
		f := &e.effects[k]
		by := f.news
		f.news = 0
		if f.waits > 0 || by == 0 || !f.concerns(k, e.profile.Configurations[o.Configuration].GPU) {
			continue
		}
		if float64(off*by) < 0 && math.Abs(off+by) < math.Abs(off) && math.Abs(off) > float64(outlier*t.scale) && math.Abs(off) > 0.75*math.Abs(by) {
			e.move(k, f.previous, o.At, false)
			f.news = 0
			off += by
			f.stable, f.lost, f.unseen = f.previous, true, math.MinInt/2
			f.doubted = o.At + f.penalty
			f.penalty = min(2*f.penalty, time.Minute)
		}
	}
	return off
}

// watch tells whether sensors are there that would have announced a slower machine. A reader that hangs repeats
// itself, so one with noise has to be among them, and alive.
type watch struct {
	noisy    [len(noisy)]float64
	at       time.Duration // of the newest reading
	same     int           // new readings in a row in which nothing moved
	alive    bool          // has moved before
	complete bool          // whatever announced before still does
	had      [kinds]bool
}

const frozen = 5 // new readings, a quarter of a second at 20 Hz

var noisy = [...]func(*governor.Hardware) *governor.Reading{
	func(h *governor.Hardware) *governor.Reading { return &h.Contention },
	func(h *governor.Hardware) *governor.Reading { return &h.Pressure },
	func(h *governor.Hardware) *governor.Reading { return &h.Temperature },
	func(h *governor.Hardware) *governor.Reading { return &h.Power },
	func(h *governor.Hardware) *governor.Reading { return &h.GPULoad },
	func(h *governor.Hardware) *governor.Reading { return &h.GPUPower },
	func(h *governor.Hardware) *governor.Reading { return &h.GPUTemp },
}

// look answers whether a reader has come to life again: then its news may be old.
func (w *watch) look(now time.Duration, h *governor.Hardware) (thawed bool) {
	w.complete = false
	for k := range w.had {
		_, ok := current(reading(h, k), now, youth(k))
		w.had[k] = w.had[k] || ok
		w.complete = w.complete || ok
	}
	for k, had := range w.had {
		if _, ok := current(reading(h, k), now, youth(k)); had && !ok {
			w.complete = false
		}
	}
	moved, newer := false, false
	for i, get := range noisy {
		r := get(h)
		v, ok := current(r, now, fresh)
		if !ok {
			continue
		}
		newer = newer || r.At > w.at
		moved = moved || v != w.noisy[i]
		w.noisy[i], w.at = v, max(w.at, r.At)
	}
	switch {
	case moved:
		thawed = w.same >= frozen && w.at > 0 && w.alive
		w.same, w.alive = 0, true
	case newer:
		w.same++
	}
	if w.at == 0 || now-w.at > fresh {
		w.same = frozen
	}
	return thawed
}

// index of the odds that count.
func (w *watch) index() int {
	if w.complete && w.same < frozen {
		return 1
	}
	return 0
}
