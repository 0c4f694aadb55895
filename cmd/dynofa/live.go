package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/sensor"
)

// live is what a governor is played on: real inferences, a frame of several images at a time.
type live struct {
	ways        []way // one a configuration
	classes     int
	device      dynofa.Device // of the way that has one
	inputs      [][][]float32 // per level: preprocessed images
	labels      []int         // of the images; nil where nobody knows them
	images      int           // of a frame
	head        traceHead
	profile     *governor.Profile // of frames
	constraints governor.Constraints
	loads       []disturbance
	pin         bool // the inferences stay on one core, and the load with them
	noSensors   bool
	gpu         int // number of the device whose sensors are read
	watch       *watcher
}

// way is how a configuration runs. Those of one engine share its session.
type way struct {
	session *dynofa.Session
	use     func(level int) error // makes a level current
}

// take makes a level current, with the configuration's threads.
func (l *live) take(level, configuration int, c governor.Configuration) (*dynofa.Session, error) {
	w := &l.ways[configuration]
	if err := w.use(level); err != nil || c.GPU {
		return w.session, err
	}
	return w.session, w.session.SetThreads(max(1, c.Threads))
}

// run plays a policy for some time. A frame begins every deadline, or when the one before has ended; show is told of
// each, outside of its time. A context that ends, ends the run early and without an error.
func (l *live) run(ctx context.Context, p policy.Entry, length time.Duration, show func(*frame)) (t *trace, err error) {
	done := make(chan struct{})
	go func() { // its thread may be pinned, and so ends with it
		defer close(done)
		runtime.LockOSThread()
		t, err = l.play(ctx, p, length, show)
	}()
	<-done
	return t, err
}

func (l *live) play(ctx context.Context, p policy.Entry, length time.Duration, show func(*frame)) (_ *trace, err error) {
	loads := load{list: l.loads, cores: allowedCores(), root: "/", on: make([]*running, len(l.loads))}
	if n := len(loads.cores); l.pin && n > 0 && pinThreadTo(loads.cores[n-1]) {
		loads.cores = loads.cores[n-1:]
	}
	defer func() { err = errors.Join(err, loads.stop()) }()
	l.watch.run(p.Name)
	start := time.Now()
	clock := func() time.Duration { return time.Since(start) }
	player, err := l.player(p, clock, int(length/l.constraints.Deadline)+2)
	if err != nil {
		return nil, err
	}
	if p.Sensors && !l.noSensors {
		s := sensor.Open(sensor.Config{Clock: clock, GPU: l.gpu})
		defer s.Close()
		player.sense = s.Hardware
	}
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		begin := clock()
		if begin >= length || ctx.Err() != nil || len(player.frames) == cap(player.frames) {
			break
		}
		was := loads.any()
		if err := loads.at(begin); err != nil {
			return nil, err
		}
		if loads.any() != was {
			l.watch.load(begin, !was)
		}
		begin = clock()
		f, err := player.step(ctx, loads.any())
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			return nil, err
		}
		l.watch.frame(f, &player.hardware)
		show(f)
		rest.Reset(begin + l.constraints.Deadline - clock())
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}
	t := &trace{head: l.head, frames: player.frames}
	t.head.Policy = p.Name
	t.finish()
	return t, nil
}

// player is a run that goes on. Its step allocates nothing.
type player struct {
	live     *live
	clock    func() time.Duration
	governor *governor.Governor
	sense    func() governor.Hardware // nil: no sensors
	hardware governor.Hardware        // that the last decision saw
	frames   []frame                  // room for all
	logits   []float32
	image    int // the next
}

func (l *live) player(p policy.Entry, clock func() time.Duration, frames int) (*player, error) {
	estimator, decides := p.New(l.profile)
	y := &player{live: l, clock: clock, frames: make([]frame, 0, frames), logits: make([]float32, l.classes)}
	var err error
	y.governor, err = governor.New(governor.Config{
		Profile: l.profile, Estimator: estimator, Policy: decides, Constraints: l.constraints, Now: clock, Event: l.watch.event,
		Hardware: func() governor.Hardware {
			if y.sense != nil {
				y.hardware = y.sense()
			}
			return y.hardware
		},
	})
	return y, err
}

// step is one frame: decide, switch, infer, observe.
func (y *player) step(ctx context.Context, loaded bool) (*frame, error) {
	l := y.live
	y.frames = y.frames[:len(y.frames)+1]
	f := &y.frames[len(y.frames)-1]
	began := y.clock()
	d := y.governor.Next()
	decided := y.clock()
	*f = frame{Seconds: began.Seconds(), Level: d.Level, Configuration: d.Configuration, Loaded: loaded, GaveUp: d.GaveUp.String(), Images: l.images}
	if e := y.governor.Estimate(); len(e.Slowdown) > 0 {
		f.Slowdown = e.Slowdown[d.Configuration]
	}
	f.hardware = y.hardware
	begin := y.clock()
	session, err := l.take(d.Level, d.Configuration, l.profile.Configurations[d.Configuration])
	selected := y.clock()
	inputs := l.inputs[d.Level]
	for i := 0; i < l.images && err == nil; i++ {
		err = session.Run(ctx, inputs[y.image], y.logits)
		if l.labels != nil && largest(y.logits) == l.labels[y.image] {
			f.Correct++
		}
		y.image = (y.image + 1) % len(inputs)
	}
	end := y.clock()
	if err != nil {
		y.frames = y.frames[:len(y.frames)-1]
		return nil, err
	}
	y.governor.Observe(end - begin)
	f.LatencyMS, f.SwitchUS = ms(end-begin), ms(selected-begin)*1e3
	f.GovernorUS = ms(decided-began+y.clock()-end) * 1e3
	return f, nil
}

func largest(logits []float32) (at int) {
	for i, v := range logits {
		if v > logits[at] {
			at = i
		}
	}
	return at
}

// measure finds what one image takes at every level in every configuration while nobody else uses the machine:
// visits in turn, and of each option the lowest decile, so that others' use of the machine does not count.
func (l *live) measure(ctx context.Context, configurations []governor.Configuration, long time.Duration) ([][]time.Duration, error) {
	logits := make([]float32, l.classes)
	took := make([][][]time.Duration, len(l.inputs))
	for i := range took {
		took[i] = make([][]time.Duration, len(configurations))
	}
	start := time.Now()
	for round := 0; round < 5 || time.Since(start) < long; round++ {
		for level, inputs := range l.inputs {
			for c, configuration := range configurations {
				session, err := l.take(level, c, configuration)
				if err != nil {
					return nil, err
				}
				visit := time.Now()
				for i := 0; i < 2 || time.Since(visit) < 10*time.Millisecond; i++ {
					begin := time.Now()
					if err := session.Run(ctx, inputs[i%len(inputs)], logits); err != nil {
						return nil, err
					}
					if i > 0 { // the first is cold
						took[level][c] = append(took[level][c], time.Since(begin))
					}
				}
			}
		}
	}
	result := make([][]time.Duration, len(took))
	for i := range took {
		for _, list := range took[i] {
			slices.Sort(list)
			result[i] = append(result[i], list[len(list)/10])
		}
	}
	return result, nil
}

// liveMetrics is what a run comes to.
type liveMetrics struct {
	Policy      string   `json:"policy"`
	Repetition  int      `json:"repetition"`
	Frames      int      `json:"frames"`
	Late        float64  `json:"late_percent"`
	Effective   float64  `json:"effective_accuracy"` // percent; late answers count 0
	Accuracy    float64  `json:"accuracy"`           // percent, of all answers
	Correct     *float64 `json:"correct_percent"`    // of the images, by their labels; null without labels
	Switches    int      `json:"switches"`
	LatenessMS  float64  `json:"lateness_ms"` // sum
	LongestLate int      `json:"longest_late"`
	SettleMS    *float64 `json:"settle_ms"` // from the load's begin to ten frames in time in a row; null: never, or no load
	ClimbMS     *float64 `json:"climb_ms"`  // from the load's end to five frames in a row within 0.3 points of the accuracy before it
	// GaveUp counts the frames whose decision had to give a constraint up, by the last one given up.
	GaveUp     map[string]int `json:"gave_up,omitempty"`
	GovernorUS float64        `json:"governor_us"` // 99th percentile of Next and Observe
	SwitchUS   float64        `json:"switch_us"`   // median of the switches
}

const (
	settled, climbed = 10, 5 // frames in a row
	back             = 0.3   // points of accuracy that are no difference
)

func (t *trace) metrics() liveMetrics {
	m := liveMetrics{Policy: t.head.Policy, Frames: len(t.frames)}
	if m.Frames == 0 {
		return m
	}
	var correct, images, late, run int
	var governors, switches []float64
	for i, f := range t.frames {
		accuracy := t.head.Levels[f.Level].Accuracy
		m.Accuracy += accuracy
		if over := f.LatencyMS - t.head.DeadlineMS; over > 0 {
			late++
			run++
			m.LatenessMS += over
			m.LongestLate = max(m.LongestLate, run)
		} else {
			run = 0
			m.Effective += accuracy
		}
		if i > 0 && (f.Level != t.frames[i-1].Level || f.Configuration != t.frames[i-1].Configuration) {
			m.Switches++
			switches = append(switches, f.SwitchUS)
		}
		if f.GaveUp != governor.None.String() && f.GaveUp != "" {
			if m.GaveUp == nil {
				m.GaveUp = map[string]int{}
			}
			m.GaveUp[f.GaveUp]++
		}
		governors = append(governors, f.GovernorUS)
		correct, images = correct+f.Correct, images+f.Images
	}
	n := float64(m.Frames)
	m.Late, m.Accuracy, m.Effective = 100*float64(late)/n, m.Accuracy/n, m.Effective/n
	if t.head.Labels && images > 0 {
		v := 100 * float64(correct) / float64(images)
		m.Correct = &v
	}
	slices.Sort(governors)
	m.GovernorUS = governors[(len(governors)-1)*99/100]
	if len(switches) > 0 {
		slices.Sort(switches)
		m.SwitchUS = switches[len(switches)/2]
	}
	t.reactions(&m)
	return m
}

// reactions are the times that the first load's begin and end took.
func (t *trace) reactions(m *liveMetrics) {
	begin := slices.IndexFunc(t.frames, func(f frame) bool { return f.Loaded })
	if begin < 0 {
		return
	}
	m.SettleMS = t.first(begin, settled, func(f *frame) bool { return f.LatencyMS <= t.head.DeadlineMS })
	end := begin + slices.IndexFunc(t.frames[begin:], func(f frame) bool { return !f.Loaded })
	if end < begin || begin == 0 {
		return
	}
	// Usual before the load: the level that half of the frames reached, of the later half.
	var before []float64
	for _, f := range t.frames[begin/2 : begin] {
		before = append(before, t.head.Levels[f.Level].Accuracy)
	}
	slices.Sort(before)
	usual := before[len(before)/2]
	m.ClimbMS = t.first(end, climbed, func(f *frame) bool { return t.head.Levels[f.Level].Accuracy >= usual-back })
}

// first is the time from a frame to the first of n in a row that are as wished.
func (t *trace) first(from, n int, wish func(*frame) bool) *float64 {
	row := 0
	for i := from; i < len(t.frames); i++ {
		if !wish(&t.frames[i]) {
			row = 0
			continue
		}
		if row++; row == n {
			v := 1e3 * (t.frames[i-n+1].Seconds - t.frames[from].Seconds)
			return &v
		}
	}
	return nil
}

// readings are the sensors by name, pointing into h.
func readings(h *governor.Hardware) (names []string, list []*governor.Reading) {
	v := reflect.ValueOf(h).Elem()
	for i := range v.NumField() {
		names = append(names, v.Type().Field(i).Name)
		list = append(list, v.Field(i).Addr().Interface().(*governor.Reading))
	}
	return names, list
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// after writes a time that may never have come.
func after(v *float64) string {
	if v == nil {
		return "not before the end"
	}
	return fmt.Sprintf("%.0f ms", *v)
}
