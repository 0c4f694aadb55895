package estimator

import (
	"math"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// away is a kind of processor while inferences run on the other one, of a profile that has both: no latency tells
// then how it goes on there. What sensors explain follows them; the rest is believed for a while, and then, or when the
// GPU's load says so, no longer; in the end sensors are not, either. If that was an error, the first inference back
// there tells, and the next time it is believed for twice as long.
type away struct {
	n        int           // inferences elsewhere since the last one here; 0: in use
	at       time.Duration // end of the last one here
	patience int           // how many of them what no sensor explains is believed
	lowered  float64       // what it is predicted to be faster by than when it was left, of what no sensor says; slower if negative
	silent   float64       // the same, of what sensors have said that say nothing any more
	claimed  float64       // and of what they still say
	claims   [kinds]bool   // these sensors
	doubted  bool          // it was left for an outlier that may be nothing but that
	tried    bool          // patience has ended
	told     float64       // the most that the load of others has made of it
	busy     bool          // that load is there now
	deaf     bool          // the load has been wrong
}

const (
	patience     = 50                     // late answers cost two, the other processor some points of accuracy in each: about as much
	impatience   = 5                      // after a single outlier
	longest      = 6400                   // inferences
	settled      = time.Second            // then the load of the GPU, averaged over up to so long, is that of others
	doubtSensors = 4                      // times patience
	little       = 0.1                    // of a logarithm: not worth a change of mind
	freshGPU     = 450 * time.Millisecond // NVML is read five times a second, and a call may take that long
)

// leave notes that an inference ran elsewhere, and forgets what is old.
func (e *Estimator) leave(kind int, at time.Duration) {
	a, t := &e.away[kind], &e.tracks[kind]
	if t.seen == 0 {
		return
	}
	a.n++
	if a.n == 1 {
		if e.regime == loaded && e.slow == t { // the load is left there
			e.enter(t, calm)
		}
		a.busy, a.tried, a.doubted = false, false, t.outliers > 0 && t.side > 0
		if t.outliers > 0 { // nothing here will settle it, but a sensor may explain it yet
			t.base += t.first
			t.jump, t.jumped = t.first, at
		}
		if !a.doubted {
			t.outliers = 0
		}
		return
	}
	a.doubted = a.doubted && t.outliers > 0
	long, old := a.patience, 0.0
	if a.busy {
		long *= 4
	}
	switch {
	case a.n >= long:
		old = e.unexplained(kind)
	case a.doubted && a.n >= impatience && e.oddsOf(t).step() < 0.5:
		old = t.first
	}
	if a.n >= long {
		e.question(kind, at, true)
	}
	if old > 0 && a.lowered < old/2 {
		a.tried = true
		e.lower(kind, old)
	}
	switch a.n - doubtSensors*a.patience {
	case 0:
		e.question(kind, at, false)
	case impatience: // nobody went to see
		e.answer(kind, false, at)
	}
}

// question takes back what sensors have said to slow a processor down: those that say nothing any more, or those that
// still do. The latter's is taken for a lie until an inference there has told: who leaves as soon as a sensor says so
// never finds out otherwise.
func (e *Estimator) question(kind int, at time.Duration, silent bool) {
	a, t := &e.away[kind], &e.tracks[kind]
	for k := range e.effects {
		f := &e.effects[k]
		by := float64(f.gain * f.phi[t.seenAt])
		if !f.concerns(k, kind == gpus) || f.waits > 0 || by < little || silent != (f.lost || e.hangs()) {
			continue
		}
		before := t.variance
		e.move(k, f.rest, at, false)
		t.variance, f.together = min(t.variance, before), 0 // how it was without the limit is known
		f.news = 0
		e.estimate.News -= by
		if f.lost {
			a.silent += by
			continue
		}
		f.stable, f.doubted = f.rest, math.MaxInt64
		a.claims[k], a.claimed = true, a.claimed+by
	}
}

// hangs tells whether sensors that were never still repeat themselves.
func (e *Estimator) hangs() bool { return e.watch.alive && e.watch.same >= frozen }

// answer ends a question.
func (e *Estimator) answer(kind int, lied bool, at time.Duration) {
	a := &e.away[kind]
	for k := range a.claims {
		if f := &e.effects[k]; a.claims[k] {
			if f.doubted = 0; lied {
				f.doubted, f.penalty = at+f.penalty, min(2*f.penalty, time.Minute)
			}
		}
	}
	if !lied { // what it says explains that again when it is read next
		e.tracks[kind].base += a.claimed
	}
	a.claims, a.claimed = [kinds]bool{}, 0
}

// unexplained is what a kind of processor was slower by when it was left, and no sensor says why.
func (e *Estimator) unexplained(kind int) float64 {
	a, t := &e.away[kind], &e.tracks[kind]
	others := &e.effects[gpuOthers]
	return t.base + a.lowered + float64(others.gain*others.phi[t.seenAt])
}

// lower predicts a kind of processor to be so much faster than when it was left.
func (e *Estimator) lower(kind int, by float64) {
	a := &e.away[kind]
	e.tracks[kind].base -= by - a.lowered
	e.estimate.News -= by - a.lowered
	a.lowered = by
	e.publish()
}

// listen makes of the GPU's load what it is slowed down by others while we do not use it. In time slices of equal
// length a process that wants a share u of the time for itself takes it, up to what n+1 who share the time have:
//
//	latency / alone = 1 / (1 - min(u, n/(n+1)))
//
// How busy they were when we felt them says how much that is worth.
func (e *Estimator) listen(now time.Duration, h *governor.Hardware) {
	a := &e.away[gpus]
	load, ok := current(&h.GPULoad, now, freshGPU)
	if !ok || e.hangs() { // nobody says that they are busy
		a.busy = false
		return
	}
	if a.n == 0 || a.deaf || a.doubted || a.tried || now-a.at < settled || !(load >= 0 && load <= 1) {
		return
	}
	n := 1.0
	if f := &e.effects[gpuOthers]; !f.lost {
		n = max(n, f.value)
	}
	says := -exact.Log(1 - min(load, n/(n+1)))
	a.told = max(a.told, says)
	w := e.unexplained(gpus)
	to := max(w, says)
	if a.told > little && a.told > w/2 { // they are the reason
		if to = max(w, a.told) * says / a.told; to < w && a.n < a.patience/5 {
			to = w
		}
	}
	a.busy = says > little && to > w/2
	if math.Abs(w-to-a.lowered) > little {
		e.lower(gpus, w-to)
	}
}

// back takes in the first inference after a time elsewhere.
func (e *Estimator) back(o governor.Observation, kind int, off float64) float64 {
	a, t := &e.away[kind], &e.tracks[kind]
	by := a.lowered + a.silent + a.claimed
	slow := by == 0 || off > by/2 && off > float64(outlier*t.scale) // as when it was left
	switch {
	case a.n == 0:
	case a.doubted && by == 0 && off < -t.first/2: // it was an outlier; nobody hoped so
		t.base -= t.first
		off += t.first
		e.forgive(t)
	case a.doubted && !slow:
		e.forgive(t)
	case a.doubted:
		e.oddsOf(t).steps++
		r := &e.regimes[e.regime]
		r.jumps++
		r.jumped += t.first
		t.outliers = 0
	case by > 0 && slow:
		a.patience = min(2*a.patience, longest)
	case by > 0:
		a.patience, a.told, a.deaf = patience, 0, a.deaf || a.busy
	}
	e.answer(kind, !slow, o.At)
	if by > 0 && slow {
		before := t.base
		t.base += a.lowered + a.silent
		e.recognize(t, before)
		off -= by
		e.estimate.News += by
	}
	a.n, a.at, a.lowered, a.silent, a.doubted = 0, o.At, 0, 0, false
	return off
}
