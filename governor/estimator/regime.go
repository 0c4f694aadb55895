package estimator

import "github.com/dynofa/dynofa/governor"

// regime is what is known of the noise and of the jumps of a machine: as it should be, or under a load that slows it
// down. What a load does to the noise ends with it.
type regime struct {
	noise   *governor.Residual
	scatter scatter
	width   // the track's when the regime was left
	known   bool
	seen    float64 // inferences
	jumps   float64 // upwards
	jumped  float64 // sum of the logarithms of the slowdowns that they led to
}

// width is how wide the noise of one kind of processor is.
type width struct {
	scale float64 // its deviation
	rate  float64 // share of lone outliers
}

const (
	calm = iota
	loaded
)

// enter changes the regime. A load that has not been seen before is taken to have the noise of the calm.
func (e *Estimator) enter(t *track, regime int) {
	from, to := &e.regimes[e.regime], &e.regimes[regime]
	from.width = t.width
	if !to.known {
		to.known = true
		to.noise.Restart(from.noise, startWorth)
		to.scatter, to.width = from.scatter, from.width
	}
	t.width = to.width
	e.regime = regime
	if e.estimate.Residual != nil {
		e.estimate.Residual = to.noise
	}
	for i := range e.estimate.Spread {
		e.estimate.Spread[i] = to.scatter.of(e.estimate.Expected[i])
	}
}

// recognize tells the regime from the base, which was so much before.
func (e *Estimator) recognize(t *track, before float64) {
	switch {
	case e.regime == calm && t.base-before > much:
		e.slow, t.calm = t, before
		e.enter(t, loaded)
	case e.regime == loaded && t == e.slow && t.base < t.calm+much/2:
		e.enter(t, calm)
	}
}
