package estimator

import (
	"math"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// away is a kind of processor while inferences run on the other one, of a profile that has both: no latency tells
// then how it goes on there. What sensors explain follows them; the rest is believed for a while, and then, or when the
// GPU's load says so, no longer; in the end sensors are not, either. If that was an error, the first inference back there tells, and the next time it
// is believed for twice as long.
type away struct {
	n        int           // inferences elsewhere since the last one here; 0: in use
	at       time.Duration // end of the last one here
	patience int           // how many of them what no sensor explains is believed
	lowered  float64       // what it is predicted to be faster by than when it was left; slower if negative
	doubted  bool          // it was left for an outlier that may be nothing but that
	tried    bool          // patience has ended
	claims   [kinds]bool   // sensors that are not believed until an inference has told
	claimed  float64       // what they are part of lowered with
	told     float64       // the most that the load of others has made of it since
	busy     bool          // and makes of it now
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
		a.lowered, a.busy, a.tried, a.doubted = 0, false, false, t.outliers > 0 && t.side > 0
		if t.outliers > 0 { // nothing here will settle it
			t.base += t.first
		}
		if !a.doubted {
			t.outliers = 0
		}
		return
	}
	long := a.patience
	switch {
	case a.doubted && e.odds[e.watch.index()].step() < 0.5:
		long = impatience
	case a.busy:
		long *= 4
	}
	if w := e.unexplained(kind); a.n >= long && !a.tried && w > 0 && a.lowered < w/2 {
		a.tried = true
		e.lower(kind, w)
	}
	switch a.n - doubtSensors*a.patience {
	case 0:
		e.question(kind, at)
	case impatience: // nobody went to see
		e.answer(kind, false, at)
	}
}

// question takes what sensors say to slow a processor down for a lie, until an inference there has told: who leaves
// it as soon as a sensor says so never finds out otherwise.
func (e *Estimator) question(kind int, at time.Duration) {
	a, t := &e.away[kind], &e.tracks[kind]
	for k := range e.effects {
		f := &e.effects[k]
		by := float64(f.gain * f.phi[t.seenAt])
		if !f.concerns(k, kind == gpus) || f.waits > 0 || f.lost || by < little {
			continue
		}
		a.claims[k] = true
		a.claimed, a.lowered = a.claimed+by, a.lowered+by
		e.move(k, f.rest, at, false)
		f.news, f.stable, f.doubted = 0, f.rest, math.MaxInt64
		e.estimate.Fresh = true
	}
}

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
		a.lowered -= a.claimed
	}
	a.claims, a.claimed = [kinds]bool{}, 0
}

// unexplained is what a kind of processor was slower by when it was left, and no sensor that still tells says why.
func (e *Estimator) unexplained(kind int) float64 {
	a, t := &e.away[kind], &e.tracks[kind]
	if a.doubted {
		return t.first
	}
	w := t.base + a.lowered
	hangs := e.watch.alive && e.watch.same >= frozen
	for k := range e.effects {
		if f := &e.effects[k]; f.concerns(k, kind == gpus) && (f.lost || hangs || k == gpuOthers) {
			w += float64(f.gain * f.phi[t.seenAt])
		}
	}
	return w
}

// lower predicts a kind of processor to be so much faster than when it was left.
func (e *Estimator) lower(kind int, by float64) {
	a := &e.away[kind]
	e.tracks[kind].base -= by - a.lowered
	a.lowered = by
	e.estimate.Fresh = true
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
	if a.n == 0 || a.deaf || a.doubted || a.tried || !ok || now-a.at < settled || !(load >= 0 && load <= 1) {
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
	by := a.lowered
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
		e.odds[e.watch.index()].steps++
		e.jumps++
		e.jumped += t.first
		t.outliers = 0
	case by > 0 && slow:
		a.patience = min(2*a.patience, longest)
	case by > 0:
		a.patience, a.told, a.deaf = patience, 0, a.deaf || a.busy
	}
	e.answer(kind, !slow, o.At)
	if by > 0 && slow {
		t.base += a.lowered
		off -= by
		e.estimate.Fresh = true
	}
	a.n, a.at, a.lowered, a.doubted = 0, o.At, 0, false
	return off
}
