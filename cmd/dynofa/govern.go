package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/policy"
)

type governCmd struct {
	Model       string        `arg:"" help:"Bundle."`
	Deadline    float64       `help:"Of a frame, ms." required:"" placeholder:"MS"`
	P           float64       `help:"Probability that a frame meets it." default:"0.95"`
	MinAccuracy float64       `help:"Accuracy floor, percent." placeholder:"PERCENT"`
	Policy      string        `help:"Policy to play, one of ${livepolicies}; default: steady." placeholder:"NAME" xor:"what"`
	Compare     []string      `help:"Policies to play in turn, in random order in each repetition." placeholder:"NAME" xor:"what"`
	Repeat      int           `help:"Runs of each policy." default:"1"`
	Length      time.Duration `name:"seconds" help:"Length of a run, such as 10s." default:"10s"`
	Load        []string      `help:"Load to create: cpu (N busy loops on each core), free (as many, but not pinned), memory (N streams a core), quota (N % of a core, where the cgroup can be written)." placeholder:"KIND:FROM-TO[:N]"`
	Pin         bool          `help:"Keep the inferences on one core, and the load cpu with them; one thread only."`
	Threads     []int         `help:"Numbers of threads that the policy may choose from." default:"1"`
	Images      int           `help:"Images of a frame; default: as many as the slowest level classifies in 40 ms, so that a frame is long against the time slices of the scheduler." placeholder:"N"`
	Data        string        `help:"Data set whose test images are classified; default: noise, without labels." placeholder:"DIR"`
	Subnet      []string      `help:"Sub-network to use as a level, in place of the library; may be repeated." sep:"none" placeholder:"JSON"`
	Accuracy    []float64     `help:"Accuracies of the levels, in place of the record." placeholder:"PERCENT"`
	Device      string        `help:"Take the quiet latencies from the bundle's record of this device, instead of measuring them." placeholder:"NAME"`
	NoSensors   bool          `help:"Latencies are all that policies see."`
	Backend     []string      `help:"Engines that the policy may choose from, of those that info lists, one of them on a GPU at most; default: the best on the CPU." placeholder:"NAME"`
	Output      string        `short:"o" help:"Folder for a trace and a plot of each run." placeholder:"DIR"`
	Record      string        `help:"Write the runs as a result file that bench compare and export read." placeholder:"FILE"`
	Metrics     string        `help:"Serve metrics for Prometheus at /metrics while it runs; without a host on this machine only." placeholder:"[HOST]:PORT"`
	Events      string        `help:"Write switches, constraints given up, sensors lost and loads as JSON lines." placeholder:"FILE"`
	JSON        bool          `help:"Print JSON."`
}

// frameMS is what the slowest level takes for a frame unless the images are given.
const frameMS = 40.0

func (c *governCmd) Run(e *env) (err error) {
	policies, err := c.check()
	if err != nil {
		return err
	}
	constraints := governor.Constraints{Deadline: time.Duration(c.Deadline * 1e6), Probability: c.P, MinAccuracy: c.MinAccuracy}
	if _, err := constraints.Complete(); err != nil {
		return err
	}
	if err := makeFolders(c.Record, c.Events); err != nil {
		return err
	}
	if c.Output != "" {
		if err := os.MkdirAll(c.Output, 0o755); err != nil {
			return err
		}
	}
	l := &live{pin: c.Pin, noSensors: c.NoSensors, gpu: c.device()}
	for _, s := range c.Load {
		d, err := parseLoad(s)
		if err != nil {
			return err
		}
		if err := (&load{root: "/"}).possible(d); err != nil {
			fmt.Fprintf(e.stderr, "SKIPPED: load %v: %v\n", d, err)
			continue
		}
		l.loads = append(l.loads, d)
	}
	var m *dynofa.Model
	var subnets []ofa.Subnet
	var accuracy []float64
	var source string
	var configurations []governor.Configuration
	for _, backend := range c.Backend {
		if m, err = open(c.Model, backend); err != nil {
			return err
		}
		defer closing(m, &err)
		s, err := m.NewSession(&dynofa.Config{Threads: slices.Max(c.Threads)})
		if err != nil {
			return err
		}
		defer closing(s, &err)
		if subnets, accuracy, source, err = c.levels(m); err != nil {
			return err
		}
		if d := m.Device(); d != (dynofa.Device{}) {
			l.device = d
		}
		w := way{session: s, use: s.Select}
		if len(c.Subnet) > 0 {
			w.use = func(level int) error { return prepared{s}.Configure(subnets[level]) }
		}
		for _, configuration := range c.configurations(s.Backend()) {
			configurations, l.ways = append(configurations, configuration), append(l.ways, w)
		}
	}
	l.classes = m.Classes()
	var data imageio.Dataset
	if c.Data != "" {
		if data, err = imageio.Open(c.Data, "test"); err != nil {
			return err
		}
	}
	if err := l.load(m, subnets, data); err != nil {
		return err
	}
	if l.watch, err = watch(constraints.Deadline, c.Metrics, c.Events); err != nil {
		return err
	}
	defer closing(l.watch, &err)
	latency, err := c.latencies(e, l, m, configurations)
	if err != nil {
		return err
	}
	slowest := time.Duration(0)
	for _, list := range latency {
		slowest = max(slowest, slices.Min(list))
	}
	l.images = c.Images
	if l.images == 0 {
		l.images = max(1, int(frameMS/ms(slowest)))
	}
	l.describe(m, subnets, accuracy, latency, configurations)
	l.constrain(constraints)
	if !c.JSON {
		c.introduce(e, l, source)
	}
	return c.play(e, l, policies)
}

func (c *governCmd) check() ([]policy.Entry, error) {
	most := min(8*runtime.NumCPU(), 256) // of a session
	switch {
	case c.Length <= 0 || c.Length > 24*time.Hour:
		return nil, fmt.Errorf("--seconds is %v, expected a length above zero and up to a day, such as 10s", c.Length)
	case !(c.Deadline >= 0.01 && c.Deadline <= 3600e3):
		return nil, fmt.Errorf("--deadline is %v, expected 0.01 to 3600000 ms", c.Deadline)
	case c.Length.Seconds()*1e3/c.Deadline > 1e6:
		return nil, fmt.Errorf("--seconds %v with --deadline %v are more than a million frames, expected fewer", c.Length, c.Deadline)
	case c.Repeat < 1 || c.Repeat > 1000:
		return nil, fmt.Errorf("--repeat is %d, expected 1 to 1000", c.Repeat)
	case c.Images < 0 || c.Images > 1e6:
		return nil, fmt.Errorf("--images is %d, expected 1 to 1000000", c.Images)
	case len(c.Threads) == 0 || len(c.Threads) > 64 || slices.Min(c.Threads) < 1 || slices.Max(c.Threads) > most:
		return nil, fmt.Errorf("--threads is %v, expected numbers from 1 to %d", c.Threads, most)
	case c.Pin && slices.Max(c.Threads) > 1:
		return nil, fmt.Errorf("--pin with --threads %v, expected one thread", c.Threads)
	case twice(c.Threads) || twice(c.Compare):
		return nil, fmt.Errorf("--threads is %v and --compare %q, expected each value once", c.Threads, c.Compare)
	}
	if len(c.Backend) == 0 {
		c.Backend = []string{""}
	}
	gpus := 0
	for _, backend := range c.Backend {
		if _, ok := dynofa.DeviceNumber(backend); ok {
			gpus++
		}
	}
	if twice(c.Backend) || gpus > 1 {
		return nil, fmt.Errorf("--backend is %q, expected each engine once and one on a GPU at most", c.Backend)
	}
	wanted := c.Compare
	switch {
	case c.Policy != "":
		wanted = []string{c.Policy}
	case len(wanted) == 0:
		wanted = []string{"steady"}
	}
	var chosen []policy.Entry
	for _, name := range wanted {
		all := liveOnes()
		i := slices.IndexFunc(all, func(p policy.Entry) bool { return p.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("policy %q, expected one of %s", name, names(all))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// device is that of the one engine on a GPU, if any is.
func (c *governCmd) device() int {
	for _, backend := range c.Backend {
		if number, ok := dynofa.DeviceNumber(backend); ok {
			return number
		}
	}
	return 0
}

// configurations are the ways to run an engine.
func (c *governCmd) configurations(backend string) (list []governor.Configuration) {
	if _, ok := dynofa.DeviceNumber(backend); ok {
		return []governor.Configuration{{Name: backend, GPU: true}}
	}
	for _, n := range c.Threads {
		name := threads(n)
		if len(c.Backend) > 1 {
			name = fmt.Sprintf("%s, %s", backend, name)
		}
		list = append(list, governor.Configuration{Name: name, Threads: n})
	}
	return list
}

func threads(n int) string {
	if n == 1 {
		return "1 thread"
	}
	return fmt.Sprintf("%d threads", n)
}

// levels are the sub-networks to choose from, their accuracies and where those come from.
func (c *governCmd) levels(m *dynofa.Model) (subnets []ofa.Subnet, accuracy []float64, source string, err error) {
	for _, text := range c.Subnet {
		n, err := m.Space().Parse(text)
		if err != nil {
			return nil, nil, "", err
		}
		subnets = append(subnets, n)
	}
	if len(c.Subnet) == 0 {
		for i, l := range m.Levels() {
			subnets = append(subnets, l.Subnet)
			if len(c.Accuracy) > 0 {
				continue
			}
			if len(l.Accuracy) == 0 {
				return nil, nil, "", fmt.Errorf("%s: level %d has no recorded accuracy, expected one: run dynofa eval --record, or give --accuracy", c.Model, i)
			}
			accuracy = append(accuracy, l.Accuracy[0].Top1)
			source = fmt.Sprintf("recorded over %d images of %s", l.Accuracy[0].Images, l.Accuracy[0].Data)
		}
	}
	if len(subnets) == 0 {
		return nil, nil, "", fmt.Errorf("%s has no levels, expected a library or --subnet", c.Model)
	}
	if accuracy == nil {
		if len(c.Accuracy) != len(subnets) {
			return nil, nil, "", fmt.Errorf("--accuracy has %d values, expected one for each of the %d levels", len(c.Accuracy), len(subnets))
		}
		accuracy, source = c.Accuracy, "as given by --accuracy, not measured here"
	}
	return subnets, accuracy, source, nil
}

// latencies are the quiet ones of an image, per level and configuration.
func (c *governCmd) latencies(e *env, l *live, m *dynofa.Model, configurations []governor.Configuration) ([][]time.Duration, error) {
	if c.Device == "" {
		return l.measure(e.ctx(), configurations, 3*time.Second)
	}
	if len(c.Subnet) > 0 {
		return nil, errors.New("--device with --subnet, expected levels of the library, which have records")
	}
	var result [][]time.Duration
	for i, level := range m.Levels() {
		var list []time.Duration
		for j, configuration := range configurations {
			backend, n := l.ways[j].session.Backend(), max(1, configuration.Threads)
			k := slices.IndexFunc(level.Latency, func(r bundle.Latency) bool {
				return r.Device == c.Device && r.Backend == backend && (max(1, r.Threads) == n || configuration.GPU)
			})
			if k < 0 {
				var known []string
				for _, r := range level.Latency {
					known = append(known, fmt.Sprintf("%s, %s, %s", r.Device, r.Backend, threads(max(1, r.Threads))))
				}
				return nil, fmt.Errorf("level %d has no record of device %q with %s and %s, expected one of: %s", i, c.Device,
					backend, threads(n), strings.Join(known, "; "))
			}
			list = append(list, time.Duration(level.Latency[k].MedianMS*1e6))
		}
		result = append(result, list)
	}
	return result, nil
}

// load preprocesses images for every level, or makes noise where there is no data set.
func (l *live) load(m *dynofa.Model, subnets []ofa.Subnet, data imageio.Dataset) error {
	const room = 256 << 20 // bytes for all of them
	count, bytes := 200, 0
	for _, n := range subnets {
		bytes += n.Resolution * n.Resolution * 3 * 4
	}
	count = max(1, min(count, room/bytes))
	if data != nil {
		count = min(count, data.Len())
	} else {
		count = min(count, 4) // the same noise again is as good
	}
	l.inputs = make([][][]float32, len(subnets))
	var scratch imageio.Scratch
	random := rand.New(rand.NewPCG(1, 1))
	for i := range count {
		var sample imageio.Sample
		if data != nil {
			var err error
			if sample, err = data.At(i); err != nil {
				return err
			}
			l.labels = append(l.labels, sample.Label)
		}
		for k, n := range subnets {
			input := make([]float32, n.Resolution*n.Resolution*3)
			if data == nil {
				for p := range input {
					input[p] = float32(random.NormFloat64())
				}
			} else if err := scratch.Apply(imageio.Transform(m.Space().Preprocess), input, sample.Image, n.Resolution); err != nil {
				return err
			}
			l.inputs[k] = append(l.inputs[k], input)
		}
	}
	return nil
}

// describe makes the profile of frames from that of images.
func (l *live) describe(m *dynofa.Model, subnets []ofa.Subnet, accuracy []float64, latency [][]time.Duration, configurations []governor.Configuration) {
	l.profile = &governor.Profile{Configurations: configurations, Cores: float64(len(allowedCores()))}
	var engines []string
	for _, w := range l.ways {
		engines = append(engines, w.session.Backend())
	}
	l.head = traceHead{Trace: traceVersion, Engine: strings.Join(slices.Compact(engines), ", "), Model: describe(m.Space()), Images: l.images, Labels: l.labels != nil,
		Configurations: configurations, Load: []string{}}
	for i, list := range latency {
		level := governor.Level{Accuracy: accuracy[i]}
		shown := traceLevel{Subnet: m.Space().Text(subnets[i]), Accuracy: accuracy[i]}
		for _, one := range list {
			whole := one * time.Duration(l.images)
			level.Latency = append(level.Latency, whole)
			shown.LatencyMS = append(shown.LatencyMS, ms(whole))
		}
		l.profile.Levels = append(l.profile.Levels, level)
		l.head.Levels = append(l.head.Levels, shown)
	}
	for _, d := range l.loads {
		l.head.Load = append(l.head.Load, d.String())
	}
}

func (l *live) constrain(c governor.Constraints) {
	if c.Probability == 0 {
		c.Probability = 0.95
	}
	l.constraints = c
	l.head.DeadlineMS, l.head.Probability, l.head.MinAccuracy = ms(c.Deadline), c.Probability, c.MinAccuracy
}

func (c *governCmd) introduce(e *env, l *live, source string) {
	inputs := "noise"
	if l.labels != nil {
		inputs = c.Data
	}
	e.printf("%s\nengine %s, frames of %d images of %s, deadline %.4g ms with probability %.4g\n", l.head.Model, l.head.Engine, l.images, inputs, c.Deadline, c.P)
	e.printf("accuracies: %s\n\n%5s  %10s", source, "level", "accuracy %")
	for _, configuration := range l.profile.Configurations {
		e.printf("  %13s", configuration.Name)
	}
	e.printf("  sub-network\n")
	for i, level := range l.head.Levels {
		e.printf("%5d  %10.2f", i, level.Accuracy)
		for k, v := range level.LatencyMS {
			e.printf("  %*.2f ms", max(10, len(l.profile.Configurations[k].Name)-3), v)
		}
		e.printf("  %s\n", level.Subnet)
	}
	if len(l.loads) > 0 {
		e.printf("load: %s\n", strings.Join(l.head.Load, ", "))
	}
}

// governReport is what --json prints.
type governReport struct {
	Profile traceHead     `json:"profile"`
	Runs    []liveMetrics `json:"runs"`
}

// play runs every policy as often as asked for, each repetition in an order of its own, so that no policy has the
// machine's better hours for itself.
func (c *governCmd) play(e *env, l *live, policies []policy.Entry) error {
	report := governReport{Profile: l.head, Runs: []liveMetrics{}}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1))
	var last *trace
	for repetition := range c.Repeat {
		for _, i := range random.Perm(len(policies)) {
			show := func(*frame) {}
			if !c.JSON {
				show = e.show(l)
			}
			t, err := l.run(e.ctx(), policies[i], c.Length, show)
			if err != nil {
				return err
			}
			if e.ctx().Err() != nil && len(policies)*c.Repeat > 1 {
				return fmt.Errorf("interrupted in repetition %d: nothing to compare", repetition+1)
			}
			m := t.metrics()
			m.Repetition = repetition + 1
			report.Runs = append(report.Runs, m)
			last = t
			if c.Output == "" {
				continue
			}
			name := filepath.Join(c.Output, fmt.Sprintf("%s-%d", policies[i].Name, repetition+1))
			if err := t.write(name + ".jsonl"); err != nil {
				return err
			}
			if err := plotTrace(t).Save(name + ".svg"); err != nil {
				return err
			}
			if !c.JSON {
				e.clear()
				e.printf("wrote %s.jsonl, %s.svg\n", name, name)
			}
		}
	}
	if c.Record != "" {
		if err := record(c.Record, l.device, func(w *harness.Writer) error { return report.record(w, policies) }); err != nil {
			return err
		}
	}
	if c.JSON {
		return e.json(report)
	}
	e.clear()
	if len(report.Runs) == 1 {
		e.summary(last)
		return nil
	}
	e.compare(policies, report.Runs, c.Repeat)
	return nil
}

// record appends a row a policy. Nobody knows what an oracle would have done: regret is against the best level, always
// in time.
func (r *governReport) record(w *harness.Writer, policies []policy.Entry) error {
	best, load := 0.0, "none"
	if len(r.Profile.Load) > 0 {
		load = strings.Join(r.Profile.Load, " and ")
	}
	for _, l := range r.Profile.Levels {
		best = max(best, l.Accuracy)
	}
	for _, p := range policies {
		g := harness.Governed{Scenario: fmt.Sprintf("live, %g ms, load %s", r.Profile.DeadlineMS, load), Policy: p.Name}
		for _, m := range r.Runs {
			if m.Policy == p.Name {
				g.Miss, g.Regret = append(g.Miss, m.Late), append(g.Regret, best-m.Effective)
				g.Switches = append(g.Switches, 1000*float64(m.Switches)/float64(max(1, m.Frames)))
			}
		}
		if err := w.Governed(&g); err != nil {
			return err
		}
	}
	return nil
}

// compare is a line a policy: the median over the repetitions, and the least and the most.
func (e *env) compare(policies []policy.Entry, runs []liveMetrics, repeat int) {
	e.printf("\n%d repetitions, in random order: median (least to most)\n", repeat)
	e.printf("%-16s  %-20s  %-20s  %-20s  %-12s  %-18s  %-18s  %s\n", "policy", "late %", "effective %", "answers' top-1 %", "switches", "settle ms", "climb ms", "lateness ms")
	for _, p := range policies {
		column := func(format string, value func(liveMetrics) *float64) string {
			var list []float64
			never := 0
			for _, m := range runs {
				if m.Policy != p.Name {
					continue
				}
				if v := value(m); v != nil {
					list = append(list, *v)
				} else {
					never++
				}
			}
			if len(list) == 0 {
				return "never"
			}
			slices.Sort(list)
			median := (list[(len(list)-1)/2] + list[len(list)/2]) / 2
			text := fmt.Sprintf(format+" ("+format+" to "+format+")", median, list[0], list[len(list)-1])
			if never > 0 {
				text = fmt.Sprintf(format+", never %d", median, never)
			}
			return text
		}
		e.printf("%-16s  %-20s  %-20s  %-20s  %-12s  %-18s  %-18s  %s\n", p.Name,
			column("%.1f", func(m liveMetrics) *float64 { return &m.Late }),
			column("%.2f", func(m liveMetrics) *float64 { return &m.Effective }),
			column("%.2f", func(m liveMetrics) *float64 { return &m.Accuracy }),
			column("%.0f", func(m liveMetrics) *float64 { n := float64(m.Switches); return &n }),
			column("%.0f", func(m liveMetrics) *float64 { return m.SettleMS }),
			column("%.0f", func(m liveMetrics) *float64 { return m.ClimbMS }),
			column("%.0f", func(m liveMetrics) *float64 { return &m.LatenessMS }))
	}
	e.printf("effective: late answers count 0. settle: from the load's begin to %d frames in time in a row; climb: from its end to %d within %.1f points of the accuracy before.\n", settled, climbed, back)
	for _, p := range policies {
		e.gaveUp(p.Name+" ", slices.DeleteFunc(slices.Clone(runs), func(m liveMetrics) bool { return m.Policy != p.Name })...)
	}
}

// gaveUp tells which constraints could not be met in runs, if any.
func (e *env) gaveUp(who string, runs ...liveMetrics) {
	frames, counts := 0, map[string]int{}
	for _, m := range runs {
		frames += m.Frames
		for constraint, n := range m.GaveUp {
			counts[constraint] += n
		}
	}
	for _, constraint := range slices.Sorted(maps.Keys(counts)) {
		e.printf("%sgave up %s in %d of %d frames: no option met all constraints\n", who, constraint, counts[constraint], frames)
	}
}

// show is a line that rewrites itself, on a terminal only.
func (e *env) show(l *live) func(*frame) {
	if !e.terminal {
		return func(*frame) {}
	}
	return func(f *frame) {
		const width = 40
		bar := min(width, int(f.LatencyMS/l.head.DeadlineMS*width*0.75))
		mark := map[bool]string{true: "LOAD", false: "    "}[f.Loaded]
		waiting := " - "
		if v, ok := f.hardware.Contention.Get(); ok {
			waiting = fmt.Sprintf("%2.0f%%", 100*v)
		}
		e.printf("\r%5.1f s  %s  level %d  slowdown %4.2f  waiting %s  %6.1f ms |%-*s|", f.Seconds, mark, f.Level, f.Slowdown, waiting, f.LatencyMS, width, strings.Repeat("#", bar))
	}
}

// clear removes the line of show.
func (e *env) clear() {
	if e.terminal {
		e.printf("\r\x1b[K")
	}
}

// summary tells a run by phases.
func (e *env) summary(t *trace) {
	e.printf("\n%-12s  %6s  %4s  %9s  %14s  %s\n", "phase", "frames", "late", "correct %", "median ms", "frames at level 0, 1, ...")
	first := slices.IndexFunc(t.frames, func(f frame) bool { return f.Loaded })
	phases := []struct {
		name string
		in   func(i int, f *frame) bool
	}{
		{"alone", func(i int, _ *frame) bool { return first >= 0 && i < first }},
		{"with load", func(_ int, f *frame) bool { return f.Loaded }},
		{"alone again", func(i int, f *frame) bool { return first >= 0 && !f.Loaded && i > first }},
		{"all", func(int, *frame) bool { return true }},
	}
	for _, p := range phases {
		levels := make([]int, len(t.head.Levels))
		var frames, late, correct, images int
		var latency []float64
		for i := range t.frames {
			f := &t.frames[i]
			if !p.in(i, f) {
				continue
			}
			frames++
			levels[f.Level]++
			correct, images = correct+f.Correct, images+f.Images
			latency = append(latency, f.LatencyMS)
			if f.LatencyMS > t.head.DeadlineMS {
				late++
			}
		}
		if frames == 0 {
			continue
		}
		slices.Sort(latency)
		share := "-"
		if t.head.Labels {
			share = fmt.Sprintf("%.1f", 100*float64(correct)/float64(images))
		}
		e.printf("%-12s  %6d  %4d  %9s  %9.1f/%4.1f  %v\n", p.name, frames, late, share, latency[frames/2], t.head.DeadlineMS, levels)
	}
	m := t.metrics()
	e.printf("late %.1f %%, effective accuracy %.2f %% (late answers count 0), %d switches of %.2f us, governor %.1f us (p99)\n",
		m.Late, m.Effective, m.Switches, m.SwitchUS, m.GovernorUS)
	e.gaveUp("", m)
	if first < 0 {
		return
	}
	e.printf("in time again after the load's begin: %s; ", after(m.SettleMS))
	switch {
	case !slices.ContainsFunc(t.frames[first:], func(f frame) bool { return !f.Loaded }):
		e.printf("the load did not end before the run\n")
	case first == 0:
		e.printf("no frame before the load to compare with\n")
	default:
		e.printf("as accurate as before (within %.1f points) after its end: %s\n", back, after(m.ClimbMS))
	}
}
