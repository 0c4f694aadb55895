package sim

import (
	"math"
	"slices"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/internal/exact"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

// Result is what a run comes to. Rates are over all inferences and lost requests.
type Result struct {
	Inferences int
	Lost       int // requests dropped because they were late before they began, or because the engine restarted
	Late       int
	Caused     int     // late inferences whose level would have been late without noise, too
	Unsettled  int     // inferences whose level would have been late without noise although another would not
	Accuracy   float64 // sum over inferences, percent
	Effective  float64 // sum over inferences in time, percent
	Switches   int
	Lateness   float64 // sum, ms
	LongestRun int     // of late inferences in a row
	Energy     float64 // J
	Infeasible int     // events
	Covered    int     // inferences below the latency that was predicted to hold with the requested probability
	Predicted  int     // inferences for which there was such a prediction
	Hash       uint64  // of every decision and latency
}

func (r *Result) count() float64 { return float64(r.Inferences + r.Lost) }

// Frame is one inference, for plots and tables.
type Frame struct {
	At         time.Duration // start
	Stream     int
	Level      int
	Config     int
	Latency    time.Duration
	Budget     time.Duration
	Slowdown   float64 // true, effective
	Estimated  float64
	Constraint governor.Constraints
	Hardware   governor.Hardware
}

// Policies that know what no governor can know; the simulator plays them itself.
var (
	// Oracle knows the slowdown that an inference will meet and the distribution of its noise, and picks the best
	// option that is in time with the requested probability.
	Oracle = policy.Entry{Name: "oracle", About: "knows the slowdown that comes, not the noise"}
	// Static stays at the option that is best in hindsight, in each scenario another.
	Static = policy.Entry{Name: "static-best", About: "the best level in hindsight, no switches"}
	// Clairvoyant knows the noise, too: a bound.
	Clairvoyant = policy.Entry{Name: "clairvoyant", About: "knows the noise, too"}
)

// machine is a compiled scenario. Runs share it.
type machine struct {
	scenario *Scenario
	segments []segment
	noise    []float64 // sorted
	profiles []*governor.Profile
	asked    []governor.Constraints // of the other streams; that of the first is in the segments
	care     float64                // what a late answer costs the oracle, in answers; 0: it only keeps to the probability
}

func newMachine(s *Scenario) (*machine, error) {
	segments, err := s.compile()
	if err != nil {
		return nil, err
	}
	m := &machine{scenario: s, segments: segments, noise: s.Noise.quantiles()}
	for i := range s.streams() {
		o := &s.streams()[i]
		c, err := o.Constraints.governor(o.Period)
		if err != nil {
			return nil, err
		}
		m.profiles, m.asked = append(m.profiles, o.profile(s)), append(m.asked, c)
	}
	return m, nil
}

const (
	framePeriod = 66700 * time.Microsecond // requests that are lost while an engine restarts come this often
	restart     = 24 * time.Second
)

// place is where work is done: how much of it in launches decides what slows it down.
type place struct {
	configuration int
	launches      float64 // share
}

func (s *stream) at(d governor.Decision) place {
	return place{d.Configuration, s.profile.Launch(d.Level, d.Configuration)}
}

func (g *segment) slowdown(at place) float64 {
	return float64(at.launches*g.host) + float64((1-at.launches)*g.slow[at.configuration])
}

// stream is a model in a run.
type stream struct {
	index    int
	spec     Stream
	profile  *governor.Profile
	governor *governor.Governor
	policy   policy.Entry
	noise    random
	arrivals random
	result   Result
	queue    []time.Duration // arrivals that wait
	arrival  time.Duration   // the next
	start    time.Duration   // the earliest next inference
	running  bool
	pending  bool // decided; the engine restarts before it runs
	hopeless bool // the level would be late without noise
	given    governor.Constraints
	began    time.Duration
	work     float64 // ns at slowdown 1 that are left
	factor   float64 // noise of the next inference
	decision governor.Decision
	budget   time.Duration
	asked    governor.Constraints
	last     governor.Decision
	lateRun  int
	estimate governor.Estimate // of the oracles
	frame    Frame
}

type run struct {
	m       *machine
	seg     int // segment of the present
	now     time.Duration
	streams []*stream
	sensors *sensors
	seen    governor.Hardware
	busy    float64 // share of its time that a GPU has worked for the last inference
	trace   func(Frame)
}

// oracles is a steady policy without need of steadiness: its estimate is the truth.
var oracles = steady.New(&steady.Config{NoHysteresis: true})

func (m *machine) run(p policy.Entry, seed uint64, trace func(Frame)) (Result, error) {
	r := &run{m: m, trace: trace, sensors: newSensors(m.scenario, seed)}
	phase := newRandom(seed, 3)
	for i, spec := range m.scenario.streams() {
		s := &stream{index: i, spec: spec, profile: m.profiles[i], policy: p, given: m.asked[i], last: governor.Decision{Level: -1},
			noise: newRandom(seed, 10+uint64(i)), arrivals: newRandom(seed, 50+uint64(i)), asked: m.asked[i]}
		// Where a disturbance meets an inference is different in every run.
		s.start = milliseconds(spec.Start) + time.Duration(float64(100e6*phase.uniform()))
		s.arrival = s.start
		s.estimate = governor.Estimate{Slowdown: make([]float64, len(s.profile.Configurations)),
			Widen: make([]float64, len(s.profile.Configurations)), Expected: s.profile.Uncorrected()}
		s.estimate.Spread = slices.Repeat([]float64{1}, len(s.estimate.Expected))
		for l := range s.profile.Levels {
			for c := range s.profile.Configurations {
				s.estimate.Expected[s.profile.Option(l, c)] *= r.wrong(s, l)
				s.estimate.Widen[c] = 1
			}
		}
		if p.New != nil {
			estimator, policy := p.New(s.profile)
			config := governor.Config{Profile: s.profile, Estimator: estimator, Policy: policy, Constraints: s.asked,
				Now: func() time.Duration { return r.now }, Event: func(e governor.Event) {
					if e.GaveUp != governor.None {
						s.result.Infeasible++
					}
				}}
			if p.Sensors {
				config.Hardware = func() governor.Hardware { return r.seen }
			}
			var err error
			if s.governor, err = governor.New(config); err != nil {
				return Result{}, err
			}
		}
		s.factor = m.scenario.Noise.factor(s.noise)
		r.streams = append(r.streams, s)
	}
	r.loop()
	total := r.streams[0].result
	for _, s := range r.streams[1:] {
		total.add(s.result)
	}
	return total, nil
}

func (r *Result) add(o Result) {
	r.Inferences += o.Inferences
	r.Lost += o.Lost
	r.Late += o.Late
	r.Caused += o.Caused
	r.Unsettled += o.Unsettled
	r.Accuracy += o.Accuracy
	r.Effective += o.Effective
	r.Switches += o.Switches
	r.Lateness += o.Lateness
	r.LongestRun = max(r.LongestRun, o.LongestRun)
	r.Energy += o.Energy
	r.Infeasible += o.Infeasible
	r.Covered += o.Covered
	r.Predicted += o.Predicted
	r.Hash = r.Hash*0x100000001b3 ^ o.Hash
}

// wrong is the true latency of a level over the profiled one; other models' profiles are right.
func (r *run) wrong(s *stream, level int) float64 {
	if s.index > 0 || len(r.m.scenario.Error) == 0 {
		return 1
	}
	return r.m.scenario.Error[level]
}

// loop goes from event to event: an inference begins or ends.
func (r *run) loop() {
	end := milliseconds(r.m.scenario.Length)
	for {
		next, who := end, (*stream)(nil)
		for _, s := range r.streams {
			at := s.start
			if s.running {
				at = r.finish(r.now, s.work, s.at(s.decision), r.others(s))
			} else if r.m.scenario.Arrivals != nil && s.index == 0 {
				at = max(at, r.waits(s))
			}
			if at < next {
				next, who = at, s
			}
		}
		if who == nil {
			return
		}
		for _, s := range r.streams {
			if s.running && s != who {
				s.work -= r.done(r.now, next, s.at(s.decision), r.others(s))
			}
		}
		r.now = next
		r.advance()
		if who.running {
			r.ends(who)
		} else {
			r.begins(who)
		}
	}
}

// waits is when the next request is there.
func (r *run) waits(s *stream) time.Duration {
	if len(s.queue) > 0 {
		return s.queue[0]
	}
	return s.arrival
}

func (r *run) advance() {
	for r.seg+1 < len(r.m.segments) && r.m.segments[r.seg+1].from <= r.now {
		r.seg++
	}
}

// others is the slowdown by other models that run at the same time.
func (r *run) others(me *stream) float64 {
	f := 1.0
	for _, s := range r.streams {
		if s != me && s.running {
			f += r.m.scenario.Overlap
		}
	}
	return f
}

// finish is when work that begins or goes on at a time is done.
func (r *run) finish(from time.Duration, work float64, at place, factor float64) time.Duration {
	for i := r.seg; ; i++ {
		slow := float64(r.m.segments[i].slowdown(at) * factor)
		need := float64(work * slow)
		if i+1 == len(r.m.segments) || need <= float64(r.m.segments[i+1].from-from) {
			return from + max(1, time.Duration(math.Ceil(need)))
		}
		work -= float64(r.m.segments[i+1].from-from) / slow
		from = r.m.segments[i+1].from
	}
}

// done is the work that fits between two times, in ns at slowdown 1.
func (r *run) done(from, to time.Duration, at place, factor float64) float64 {
	sum := 0.0
	for i := r.seg; ; i++ {
		slow := float64(r.m.segments[i].slowdown(at) * factor)
		if i+1 == len(r.m.segments) || to <= r.m.segments[i+1].from {
			return sum + float64(to-from)/slow
		}
		sum += float64(r.m.segments[i+1].from-from) / slow
		from = r.m.segments[i+1].from
	}
}

// fits is the work that a model gets done within a time from now on, in ns at slowdown 1, if each other model goes on
// as it does: to the end of its inference, and with the next when its period is over.
func (r *run) fits(me *stream, within time.Duration, at place) float64 {
	type change struct {
		at time.Duration
		by float64
	}
	var changes []change
	end := r.now + within
	for _, o := range r.streams {
		if o == me {
			continue
		}
		next := max(o.start, r.now)
		if o.running {
			stops := r.finish(r.now, o.work, o.at(o.decision), 1+r.m.scenario.Overlap)
			changes = append(changes, change{r.now, r.m.scenario.Overlap}, change{stops, -r.m.scenario.Overlap})
			next = max(stops, o.began+milliseconds(o.spec.Period))
		}
		changes = append(changes, change{next, r.m.scenario.Overlap})
	}
	slices.SortStableFunc(changes, func(a, b change) int { return int(a.at - b.at) })
	sum, factor, from := 0.0, 1.0, r.now
	for _, c := range changes {
		if c.at >= end {
			break
		}
		sum += r.done(from, c.at, at, factor)
		from, factor = c.at, factor+c.by
	}
	return sum + r.done(from, end, at, factor)
}

// begins starts an inference.
func (r *run) begins(s *stream) {
	if s.index == 0 {
		s.asked = r.m.segments[r.seg].constraints
	}
	s.budget = s.asked.Deadline
	if r.m.scenario.Arrivals != nil && s.index == 0 && !r.dispatch(s) {
		return
	}
	for seg := r.sampled(); r.sensors.next+readTime <= r.now; seg = r.sampled() {
		r.sensors.sample(&r.m.segments[seg].sensors, r.busy)
	}
	r.seen = r.sensors.shown
	switch {
	case s.pending:
		s.pending = false
	case s.governor == nil:
		s.decision = r.oracle(s)
	default:
		if s.asked != s.given {
			must(s.governor.SetConstraints(s.asked))
			s.given = s.asked
		}
		s.decision = s.governor.NextWithin(s.budget)
	}
	d := s.decision
	if s.last.Level >= 0 && (d.Level != s.last.Level || d.Configuration != s.last.Configuration) {
		s.result.Switches++
		if s.policy.Restart {
			end := milliseconds(r.m.scenario.Length)
			s.result.Lost += int(min(restart, end-r.now) / framePeriod)
			s.start, s.last, s.pending = r.now+restart, d, true
			return
		}
	}
	s.last = d
	s.began = r.now
	base := float64(float64(s.profile.Levels[d.Level].Latency[d.Configuration]) * r.wrong(s, d.Level))
	s.work = float64(base * s.factor)
	s.running = true
	r.measure(s, base)
}

// sampled is the segment that the next sample of the sensors falls into.
func (r *run) sampled() int {
	i := r.seg
	for i > 0 && r.m.segments[i].from > r.sensors.next {
		i--
	}
	return i
}

// dispatch takes a request from the queue; false if there is none in time.
func (r *run) dispatch(s *stream) bool {
	a := r.m.scenario.Arrivals
	for s.arrival <= r.now {
		s.queue = append(s.queue, s.arrival)
		s.arrival += max(1, time.Duration(float64(1e6*s.arrivals.gamma(a.Mean, a.CV2))))
	}
	for len(s.queue) > 0 && s.queue[0]+s.asked.Deadline <= r.now {
		s.queue = s.queue[1:]
		s.result.Lost++
	}
	if len(s.queue) == 0 {
		return false
	}
	// So much for each that all who wait now are in time.
	for i, at := range s.queue {
		s.budget = min(s.budget, (at+s.asked.Deadline-r.now)/time.Duration(i+1))
	}
	s.frame.Budget = s.queue[0] + s.asked.Deadline - r.now // what counts
	s.queue = s.queue[1:]
	return true
}

// oracle decides with the truth.
func (r *run) oracle(s *stream) governor.Decision {
	budget := float64(s.budget)
	for c := range s.estimate.Slowdown {
		s.estimate.Slowdown[c] = budget / r.fits(s, s.budget, place{configuration: c})
		if s.profile.Configurations[c].LaunchMS == 0 {
			continue
		}
		for l := range s.profile.Levels {
			d := governor.Decision{Level: l, Configuration: c}
			own := float64(float64(s.profile.Levels[l].Latency[c].Seconds()*r.wrong(s, l))*budget) / r.fits(s, s.budget, s.at(d))
			s.estimate.Expected[s.profile.Option(l, c)] = own / s.estimate.Slowdown[c]
		}
	}
	p := s.asked.Probability
	noise := exact.Log(quantile(r.m.noise, p))
	if s.policy.Name == Clairvoyant.Name {
		noise = exact.Log(s.factor)
	}
	// The policy takes the noise for normal: this deviation has the true quantile at p.
	s.estimate.Deviation = noise / exact.Quantile(p)
	state := governor.State{Profile: s.profile, Estimate: &s.estimate, Constraints: s.asked, Budget: s.budget, Last: s.last, Settled: s.last}
	decision, best := oracles.Next(&state), math.Inf(-1)
	if r.m.care == 0 {
		return decision
	}
	for l := range s.profile.Levels {
		for c := range s.estimate.Slowdown {
			d := governor.Decision{Level: l, Configuration: c}
			median := float64(s.estimate.Expected[s.profile.Option(l, c)] * s.estimate.Slowdown[c])
			late := 1 - rank(r.m.noise, s.budget.Seconds()/median)
			value := float64(s.profile.Levels[l].Accuracy * (1 - float64(r.m.care*late)))
			if late <= 1-p && s.profile.Levels[l].Accuracy >= s.asked.MinAccuracy && value > best {
				decision, best = d, value
			}
		}
	}
	return decision
}

// measure notes what can be known at the start of an inference.
func (r *run) measure(s *stream, base float64) {
	d := s.decision
	allowed := s.budget
	if r.m.scenario.Arrivals != nil && s.index == 0 {
		allowed = s.frame.Budget
	}
	fits := r.fits(s, allowed, s.at(d))
	s.hopeless = base > fits
	if s.hopeless {
		for l, level := range s.profile.Levels {
			for c, latency := range level.Latency {
				if float64(float64(latency)*r.wrong(s, l)) <= r.fits(s, allowed, s.at(governor.Decision{Level: l, Configuration: c})) {
					s.result.Unsettled++
					goto counted
				}
			}
		}
	}
counted:
	s.frame = Frame{At: r.now, Stream: s.index, Level: d.Level, Config: d.Configuration, Budget: allowed,
		Slowdown: float64(allowed) / fits, Constraint: s.asked, Hardware: r.seen}
	if s.governor != nil {
		e := s.governor.Estimate()
		if len(e.Slowdown) > 0 {
			s.frame.Estimated = e.Slowdown[d.Configuration]
		}
	}
}

// ends completes an inference.
func (r *run) ends(s *stream) {
	s.running = false
	d, res := s.decision, &s.result
	latency := r.now - s.began
	if r.busy = 0; s.profile.Configurations[d.Configuration].GPU {
		r.busy = min(1, float64(latency)/max(1, float64(milliseconds(s.spec.Period))))
	}
	f := &s.frame
	f.Latency = latency
	if s.governor != nil {
		if e := s.governor.Estimate(); e.Residual != nil {
			q := float64(e.Residual.Quantile(s.asked.Probability) * e.Width(s.profile, d.Level, d.Configuration))
			res.Predicted++
			if latency.Seconds() <= float64(e.Median(s.profile, d.Level, d.Configuration)*exact.Exp(q)) {
				res.Covered++
			}
		}
		s.governor.Observe(latency)
	}
	if r.trace != nil {
		r.trace(*f)
	}
	accuracy := s.profile.Levels[d.Level].Accuracy
	res.Inferences++
	res.Accuracy += accuracy
	if latency > f.Budget {
		res.Late++
		res.Lateness += (latency - f.Budget).Seconds() * 1e3
		s.lateRun++
		res.LongestRun = max(res.LongestRun, s.lateRun)
		if s.hopeless {
			res.Caused++
		}
	} else {
		res.Effective += accuracy
		s.lateRun = 0
	}
	period := s.asked.Period.Seconds()
	res.Energy += s.profile.Energy(d.Level, d.Configuration, latency.Seconds(), period)
	for _, v := range [...]uint64{uint64(latency), uint64(d.Level), uint64(d.Configuration)} {
		res.Hash = (res.Hash ^ v) * 0x100000001b3
	}
	s.factor = r.m.scenario.Noise.factor(s.noise)
	s.start = r.now
	if p := milliseconds(s.spec.Period); p > 0 {
		s.start = max(s.start, s.began+p)
	}
}

// must is for what the scenario's check has ruled out.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Trace is every inference of one run.
func Trace(s *Scenario, p policy.Entry, seed uint64) ([]Frame, error) {
	m, err := newMachine(s)
	if err != nil {
		return nil, err
	}
	var frames []Frame
	_, err = m.run(p, seed, func(f Frame) { frames = append(frames, f) })
	return frames, err
}
