// Package estimator keeps the slowdown: how much longer inferences take now than when the levels were profiled.
//
// All in logarithms, per kind of processor (CPU, GPU):
//
//	log(latency / profiled) = base + sum over sensors k of gain(k)*effect(k) + correction(option) + noise
//
// The base is what no sensor explains: a filter follows it, and restarts where a jump is detected. An effect is what
// a sensor's value would do if the inference depended on nothing else (half the clock: twice the time); its gain is
// learned. The noise keeps the shape it is observed to have (governor.Residual).
package estimator

import (
	"math"
	"slices"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
)

// Config switches mechanisms off, so that their worth can be measured. The zero value has them all.
type Config struct {
	NoJumps       bool // the filter follows everything at its own pace
	NoCorrection  bool // the profile's ratios between levels are taken as they are
	NoFeedForward bool // sensors are not looked at
	NoTail        bool // the noise is taken for normally distributed
}

// What the mechanisms start from. None is tuned to a scenario: each is an argument or a convention, given beside it.
const (
	startDeviation = 0.05                   // of the noise, until it is known: a quiet machine's (5.4 % in Dynamic-OFA's logs)
	startWorth     = 30                     // inferences that this guess weighs: one early outlier must not be 5 % of all
	profileDoubt   = 0.03 * 0.03            // variance of a profile: latencies are repeated within a few percent
	leastDoubt     = 0.06 * 0.06            // variance of a sensor's gain, however often it was right: it differs from level to level
	memory         = 2000                   // inferences that the noise's shape is remembered: 20 beyond the 99th percentile
	steadyGain     = 0.04                   // of the filter when nothing happens: averages 50 inferences
	scaleGain      = 0.02                   // of the noise's deviation
	clip           = 2.5                    // deviations beyond which a value moves nothing further
	outlier        = 3.0                    // deviations: where a normal distribution has one in a thousand
	drift, limit   = 0.5, 8.0               // of the cumulative sums, in deviations: a false alarm in several thousand
	sameStep       = time.Second            // a sensor's news explains a jump that is no older
	fresh          = 250 * time.Millisecond // older readings say nothing about now: five periods at 20 Hz
	rare           = 1e-3                   // a chance below which outliers in a row are no coincidence
	strange        = 20                     // inferences at an option before its first one after a switch is no surprise
	usualCalm      = 500                    // inferences to the first jump, until jumps are known
	usualJump      = 0.33                   // logarithm of the slowdown that it leads to: another load takes its share
	much           = 0.2                    // logarithm of a slowdown that is a load
	noError        = 0.7                    // the same, that is more than a profile can be wrong by: twice
	sharedCPU      = 0.4                    // logarithm of 1.5: a slowdown by another process on a CPU, which takes half of it, and noise
	worthDoubting  = 0.2                    // chance of a slower machine from which on one outlier is acted upon
)

// track follows the base of one kind of processor.
type track struct {
	width
	base, variance float64
	high, low      cusum
	outliers       int     // in a row, of one sign
	side           float64 // their sign
	first          float64 // their first
	firstOption    int
	guessed        bool    // and taken for an error of the profile
	firstRun       bool    // it was the first inference after a switch
	jump           float64 // what the base jumped by at the last unexplained jump, still unexplained
	jumped         time.Duration
	seen           int     // inferences
	run            int     // of them since the last switch
	option         int     // of the last
	seenAt         int     // its configuration: variance is that of the slowdown there
	suspect        int     // option that a jump was seen at, all of it since the switch to it; -1: none
	suspectBy      float64 // the jump
	calm           float64 // base before the load
}

type cusum struct {
	sum, total float64
	count      int
}

func (c *cusum) add(z, e float64) bool {
	c.sum = max(0, c.sum+z-drift)
	if c.sum == 0 {
		*c = cusum{}
		return false
	}
	c.total += e
	c.count++
	return c.sum > limit
}

// odds count how often a lone outlier was the first sight of a slower machine.
type odds struct{ steps, spikes float64 }

func (o odds) step() float64 { return o.steps / (o.steps + o.spikes) }

// oddsOf are those of a track's outlier. No sensor announces that another process takes its share of a CPU.
func (e *Estimator) oddsOf(t *track) *odds {
	if t == &e.tracks[cpus] && t.first > sharedCPU {
		return &e.odds[0]
	}
	return &e.odds[e.watch.index()]
}

// Estimator is the filter described above.
type Estimator struct {
	config   Config
	profile  *governor.Profile
	estimate governor.Estimate
	tracks   [2]track // cpus, gpus
	effects  [kinds]effect
	launch   []float64 // per configuration: share of launches and copies, the mean of its levels
	away     [2]away   // cpus, gpus
	profiled []float64 // per option, s: the profiled latency, as far as clocks move it unlike the configuration's others
	odds     [2]odds   // without and with sensors that watch
	watch    watch
	regimes  [2]regime // calm and loaded
	regime   int
	slow     *track // whose base shows the load
	guesses  [4]guess
	fading   int       // option
	fastest  int       // option: where to flee to, so never blamed
	visits   []float32 // per option: inferences, up to where the correction stands still
	last     int       // configuration
}

// New makes an Estimator for a profile; a nil Config is the zero one. That of a profile with something wrong is empty:
// governor.New and governor.Share, which it was made for, refuse the profile and say what it is.
func New(p *governor.Profile, c *Config) *Estimator {
	if p == nil || p.Check() != nil {
		return &Estimator{}
	}
	if c == nil {
		c = &Config{}
	}
	options := len(p.Levels) * len(p.Configurations)
	e := &Estimator{config: *c, profile: p, visits: make([]float32, options)}
	e.estimate = governor.Estimate{
		Slowdown: make([]float64, len(p.Configurations)),
		Widen:    make([]float64, len(p.Configurations)),
		Expected: p.Uncorrected(),
		Spread:   make([]float64, options),
	}
	for i := range e.regimes {
		e.regimes[i] = regime{noise: governor.NewResidual(startDeviation, startWorth, memory), known: i == calm}
	}
	if !c.NoTail {
		e.estimate.Residual = e.regimes[calm].noise
	}
	e.profiled = p.Uncorrected()
	for c := range p.Configurations {
		share := 0.0
		for l := range p.Levels {
			share += p.Launch(l, c) / float64(len(p.Levels))
		}
		e.launch = append(e.launch, share)
	}
	for i := range e.tracks {
		e.away[i].patience = patience
		seenAt := max(0, slices.IndexFunc(p.Configurations, func(c governor.Configuration) bool { return kind(c) == i }))
		e.tracks[i] = track{width: width{startDeviation, 0.01}, seenAt: seenAt, variance: profileDoubt, jumped: math.MinInt64 / 2, suspect: -1, option: -1}
	}
	// Nobody knows at first whether an outlier lasts. Without sensors one is taken seriously until a few have not
	// lasted; where sensors watch and saw nothing, it is the other way round.
	e.odds = [2]odds{{steps: 1}, {steps: 0.5, spikes: 4}}
	e.effects = newEffects(len(p.Configurations), options)
	if p.Cores > 0 {
		e.effects[cores].rest = p.Cores
	}
	e.regimes[calm].scatter = newScatter(e.estimate.Expected)
	for i := range options {
		if e.estimate.Expected[i] < e.estimate.Expected[e.fastest] {
			e.fastest = i
		}
		e.estimate.Spread[i] = e.regimes[calm].scatter.of(e.estimate.Expected[i])
	}
	e.publish()
	return e
}

// Estimate is the current estimate.
func (e *Estimator) Estimate() *governor.Estimate { return &e.estimate }

// Kinds of processors.
const (
	cpus = iota
	gpus
)

func kind(c governor.Configuration) int {
	if c.GPU {
		return gpus
	}
	return cpus
}

// publish writes the estimate from the filter's state.
func (e *Estimator) publish() {
	for c, configuration := range e.profile.Configurations {
		t := &e.tracks[kind(configuration)]
		x, variance := t.base, t.variance
		for k := range e.effects {
			f := &e.effects[k]
			x += float64(f.gain * f.phi[c])
			if f.concerns(k, configuration.GPU) {
				variance += f.spread(f.phi[c] - f.phi[t.seenAt])
			}
		}
		e.estimate.Slowdown[c] = exact.Exp(x)
		e.estimate.Widen[c] = math.Sqrt(1 + max(0, variance)/float64(t.scale*t.scale))
	}
	r := &e.regimes[e.regime]
	e.estimate.Hazard = (r.jumps + 1) / (r.seen + usualCalm)
	e.estimate.Step = max(0, (r.jumped+usualJump)/(r.jumps+1)-exact.Log(e.estimate.Slowdown[e.last]))
	e.estimate.Threat = 0
	if f := &e.effects[gpuOthers]; f.pending > 0 {
		e.estimate.Threat = exact.Exp(float64(f.gain * f.pending))
	}
	e.estimate.Deviation = e.tracks[kind(e.profile.Configurations[e.last])].scale
}

// Observe takes in an inference that has ended.
func (e *Estimator) Observe(o governor.Observation) {
	configuration := e.profile.Configurations[o.Configuration]
	t := &e.tracks[kind(configuration)]
	option := e.profile.Option(o.Level, o.Configuration)
	e.last = o.Configuration
	predicted := e.estimate.Median(e.profile, o.Level, o.Configuration)
	off := exact.Log(max(1e-9, o.Latency.Seconds()) / predicted)
	off = max(-3, min(3, off))
	t.seen++
	t.run++
	e.regimes[e.regime].seen++
	if option != t.option {
		t.run = 1
	}
	if o.Configuration != t.seenAt {
		for k := range e.effects {
			if f := &e.effects[k]; f.concerns(k, configuration.GPU) {
				f.shift(t, f.phi[o.Configuration]-f.phi[t.seenAt])
			}
		}
		t.seenAt = o.Configuration
	}
	t.option = option
	e.estimate.News, e.estimate.Doubt = 0, 0
	e.fade()
	off = e.back(o, kind(configuration), off)
	off = e.again(t, option, off)
	off = e.blame(t, option, off)
	off = e.disbelieve(o, t, off)
	off = e.feel(o, t, off)
	e.take(o, t, option, off)
	e.leave(1-kind(configuration), o.At)
	e.publish()
}

// take sorts a value: noise, an outlier, or part of a jump.
func (e *Estimator) take(o governor.Observation, t *track, option int, off float64) {
	own := e.estimate.Spread[option]
	spread := float64(float64(t.scale*own) * float64(t.scale*own))
	state := t.variance
	z := off / math.Sqrt(spread+state)
	side := 1.0
	if z < 0 {
		side = -1
	}
	if e.config.NoJumps {
		e.follow(o, t, option, off, spread, state)
		return
	}
	// The second value of a jump need not be as clear as an outlier that comes from nowhere.
	if t.outliers > 0 && side == t.side && math.Abs(z) > 2 && math.Abs(off) > 0.5*math.Abs(t.first) || math.Abs(z) > outlier {
		if t.outliers > 0 && side != t.side {
			e.forgive(t)
		}
		if t.outliers == 0 {
			t.side, t.first, t.firstOption = side, off, option
			t.firstRun = t.run == 1
			if t.guessed = side > 0 && t.firstRun && e.visits[option] < strange && option != e.fastest && !e.config.NoCorrection; t.guessed {
				e.guess(option, off)
			}
		}
		t.outliers++
		if t.outliers >= e.enough(t) {
			e.jump(o, t, off)
			return
		}
		if side > 0 && t.firstRun && e.visits[option] < strange || side > 0 && e.oddsOf(t).step() > worthDoubting {
			e.estimate.Doubt = exact.Exp(off)
		}
		return
	}
	if t.outliers > 0 {
		e.forgive(t)
	}
	e.follow(o, t, option, off, spread, state)
	if state > spread { // news is being learned from anyway
		t.high, t.low = cusum{}, cusum{}
		return
	}
	clipped := max(-clip, min(clip, z))
	if t.high.add(clipped, off) {
		e.shift(o, t, t.high.total/float64(t.high.count+1)) // an alarm's own values are the extreme ones
	} else if t.low.add(-clipped, off) {
		e.shift(o, t, t.low.total/float64(t.low.count+1))
	}
}

// enough is how many outliers in a row are no coincidence.
func (e *Estimator) enough(t *track) int {
	n, chance := 1, t.rate
	for chance > rare && n < 4 {
		chance *= t.rate
		n++
	}
	return max(2, n)
}

// forgive takes outliers for what they were.
func (e *Estimator) forgive(t *track) {
	if !t.guessed {
		e.regimes[e.regime].noise.Add(t.first / e.estimate.Spread[t.firstOption])
	}
	t.rate += float64(0.02 * (1 - t.rate))
	if t.side > 0 {
		e.oddsOf(t).spikes++
	}
	t.outliers = 0
}

// jump restarts the filter where the last value is.
func (e *Estimator) jump(o governor.Observation, t *track, off float64) {
	if t.side > 0 {
		e.oddsOf(t).steps++
		r := &e.regimes[e.regime]
		r.jumps++
		r.jumped += off + exact.Log(e.estimate.Slowdown[o.Configuration])
	}
	t.suspect = -1
	if t.guessed {
		e.unguess(t.firstOption, t.first)
	}
	if t.firstOption == t.option && t.run == t.outliers && !e.config.NoCorrection {
		t.suspect, t.suspectBy = t.option, off
	}
	t.outliers = 0
	e.shift(o, t, off)
}

// blame looks back at a jump that came with the switch to a level: if it goes with the level, it was the profile.
func (e *Estimator) blame(t *track, option int, off float64) float64 {
	if t.suspect < 0 || t.suspect == option {
		return off
	}
	if float64(off*t.suspectBy) < 0 && math.Abs(off) > 0.5*math.Abs(t.suspectBy) && math.Abs(t.suspectBy) < noError {
		e.guess(t.suspect, t.suspectBy)
		t.base -= t.suspectBy
		t.jump = 0
		off += t.suspectBy
	}
	t.suspect = -1
	return off
}

func (e *Estimator) shift(o governor.Observation, t *track, by float64) {
	before := t.base
	t.base += by
	e.estimate.News = by
	e.recognize(t, before)
	t.variance = float64(t.scale * t.scale)
	e.forget(t)
	t.high, t.low = cusum{}, cusum{}
	t.jump, t.jumped = by, o.At
}

// follow moves the base, the gains and the correction by a value that is noise or slow drift.
func (e *Estimator) follow(o governor.Observation, t *track, option int, off, spread, state float64) {
	deviation := math.Sqrt(spread + state)
	own := e.estimate.Spread[option]
	alone := off / math.Sqrt(1+state/spread) // without what the slowdown is off by
	e.regimes[e.regime].noise.Add(alone / own)
	e.regimes[e.regime].scatter.add(e.estimate.Expected[option], alone)
	within := max(float64(-clip*deviation), min(float64(clip*deviation), off))
	t.rate += float64(0.02 * (0 - t.rate))
	t.rate = max(t.rate, 0.005)

	// A level seen for the first times takes its share of what is off.
	news := 0.0
	if !e.config.NoCorrection {
		news = profileDoubt / (1 + float64(e.visits[option]))
		if e.visits[option] < 1000 {
			e.visits[option]++
		}
	}
	total := spread + state + news
	if news > 0 && t.seen > 20 { // at first all is off together
		gain := news / total
		e.correct(option, float64(gain*within))
	}
	gain := max(t.variance/total, steadyGain)
	t.base += float64(gain * within)
	t.variance = max(float64(t.variance*(1-gain)), float64(steadyGain*spread))
	for k := range e.effects {
		f := &e.effects[k]
		if f.together == 0 || !f.concerns(k, e.profile.Configurations[o.Configuration].GPU) {
			continue
		}
		share := f.together / total
		was := f.gain
		f.gain = max(0, min(f.most, f.gain+float64(share*within)))
		t.base -= float64((f.gain - was) * f.phi[o.Configuration])
		f.variance = max(0, f.variance-float64(share*f.together))
		f.together = float64(f.together * (1 - gain))
	}
	t.scale += float64(scaleGain * (float64(1.2533*math.Abs(within)/math.Sqrt(1+state/spread))/own - t.scale))
	t.scale = max(t.scale, 0.005)
	e.recognize(t, t.base)
}

// guess is a correction after one outlier, the first inference at a level, or after a jump that came and went with a
// level: more likely the profile than chance. It fades, so that the level is tried again, and stays for good if it is found again.
type guess struct {
	option int
	left   float64
}

const (
	fading     = 0.007 // of a guess, per inference: half of it in 100
	forgetting = 1e-4  // of a correction, per inference: half of it in 7000
)

func (e *Estimator) guess(option int, by float64) {
	e.correct(option, by)
	oldest := 0
	for i, g := range e.guesses {
		if g.left != 0 && g.option == option {
			e.guesses[i] = guess{}
			return
		}
		if math.Abs(g.left) < math.Abs(e.guesses[oldest].left) {
			oldest = i
		}
	}
	e.guesses[oldest] = guess{option, by}
}

// again takes a guess back at the next inference of the same level, which decides by itself.
func (e *Estimator) again(t *track, option int, off float64) float64 {
	if t.outliers == 0 || !t.guessed || option != t.firstOption {
		return off
	}
	t.guessed = false
	e.unguess(option, t.first)
	return off + t.first
}

// unguess takes a guess back.
func (e *Estimator) unguess(option int, by float64) {
	e.correct(option, -by)
	for i, g := range e.guesses {
		if g.option == option {
			e.guesses[i] = guess{}
		}
	}
}

// fade takes back a little of the guesses, and of every correction: base and corrections together explain a latency,
// so without it they could drift apart for ever, and what was once taken for wrong would stay so. One option at an
// inference is enough.
func (e *Estimator) fade() {
	e.fading = (e.fading + 1) % len(e.visits)
	e.estimate.Spread[e.fading] = e.regimes[e.regime].scatter.of(e.estimate.Expected[e.fading])
	wrong := e.estimate.Expected[e.fading] / e.profiled[e.fading]
	e.correct(e.fading, float64(-exact.Log(wrong)*min(0.1, float64(forgetting*float64(len(e.visits))))))
	for i := range e.guesses {
		if g := &e.guesses[i]; g.left != 0 {
			by := float64(fading * g.left)
			e.correct(g.option, -by)
			g.left -= by
			if math.Abs(g.left) < 0.01 {
				*g = guess{}
			}
		}
	}
}

func (e *Estimator) correct(option int, by float64) {
	profiled := e.profiled[option]
	x := &e.estimate.Expected[option]
	*x = max(0.2*profiled, min(5*profiled, float64(*x*exact.Exp(by))))
}
