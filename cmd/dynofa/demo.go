package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/estimator"
	"github.com/dynofa/dynofa/governor/library/evaluate"
	"github.com/dynofa/dynofa/governor/policy/steady"
)

type demoCmd struct {
	Bundle  string        `help:"Bundle with a library." default:"models/fashion/fashion.dofa"`
	Data    string        `help:"Folder of test images." default:"models/fashion/test"`
	Output  string        `short:"o" help:"Folder for the plots and the trace." default:"out"`
	Length  time.Duration `name:"seconds" help:"Length of the live run, such as 15s." default:"15s"`
	Backend string        `help:"Engine, one of those that info lists; default: the best."`
}

// measured is a level as the demo found it on this machine.
type measured struct {
	Level     int     `json:"level"`
	Subnet    string  `json:"subnet"`
	Top1      float64 `json:"top1"`       // percent of the demo's images
	Recorded  float64 `json:"recorded"`   // percent of the images of the library's record, which are more; else Top1
	LatencyMS float64 `json:"latency_ms"` // lower quartile: what the machine can do while others use it, too
	MACs      int64   `json:"macs"`
}

// frame is one step of the live run.
type frame struct {
	Seconds   float64 `json:"seconds"` // since the start
	Level     int     `json:"level"`
	LatencyMS float64 `json:"latency_ms"`
	Loaded    bool    `json:"loaded"` // the other load is running
	SwitchUS  float64 `json:"switch_us"`
	Correct   int     `json:"correct"`
	Images    int     `json:"images"`
}

type liveReport struct {
	DeadlineMS float64  `json:"deadline_ms"`
	Levels     []string `json:"levels"`
	Frames     []frame  `json:"frames"`
}

func (c *demoCmd) Run(e *env) (err error) {
	if c.Length <= 0 {
		return fmt.Errorf("--seconds is %v, expected a length above zero, such as 15s", c.Length)
	}
	m, err := open(c.Bundle, c.Backend)
	if err != nil {
		return fmt.Errorf("%w (the shipped model is in a clone of the project; --bundle and --data name others)", err)
	}
	defer closing(m, &err)
	if len(m.Levels()) == 0 {
		return fmt.Errorf("%s has no levels, expected a library: run dynofa calibrate first", c.Bundle)
	}
	ds, err := imageio.Open(c.Data, "test")
	if err != nil {
		return err
	}
	s, err := m.NewSession(nil)
	if err != nil {
		return err
	}
	defer closing(s, &err)
	if err := os.MkdirAll(c.Output, 0o755); err != nil {
		return err
	}
	d := demo{env: e, model: m, session: s, data: ds, dir: c.Output, images: ds.Len()}

	e.printf("%s: %s\n%d real test images, engine %s, one thread\n\n", c.Bundle, describe(m.Space()), ds.Len(), s.Backend())
	if err := d.classify(); err != nil {
		return err
	}
	if err := d.front(); err != nil {
		return err
	}
	return d.live(c.Length)
}

type demo struct {
	env     *env
	model   *dynofa.Model
	session *dynofa.Session
	data    imageio.Dataset
	dir     string
	levels  []measured
	images  int  // that the accuracies of the front were measured with
	busy    bool // latencies scattered by more than others' use of the machine explains
}

// classify measures every level over all images.
func (d *demo) classify() error {
	bar := d.env.progress(len(d.model.Levels())*d.data.Len(), "classify")
	for i, l := range d.model.Levels() {
		if err := d.session.Select(i); err != nil {
			return err
		}
		timed := &stopwatch{engine: d.session}
		r, err := evaluate.Accuracy(d.env.ctx, d.data, network(d.model.Space(), l.Subnet.Resolution),
			[]evaluate.Engine{timed}, func(n int) { _ = bar.Add(n) })
		if err != nil {
			return err
		}
		found := measured{i, d.model.Space().Text(l.Subnet), r.Top1, r.Top1, timed.quantile(0.25), l.MACs}
		if timed.quantile(0.9) > 2*found.LatencyMS {
			d.busy = true
		}
		if len(l.Accuracy) > 0 {
			found.Recorded = l.Accuracy[0].Top1
			d.images = l.Accuracy[0].Images
		}
		d.levels = append(d.levels, found)
	}
	_ = bar.Finish()
	d.env.printf("       top-1 %%   top-1 %% of\nlevel  of these  %6d images  latency ms  MMACs  sub-network\n", d.images)
	for _, l := range d.levels {
		d.env.printf("%5d  %8.1f  %13.2f  %10.3f  %5.2f  %s\n", l.Level, l.Top1, l.Recorded, l.LatencyMS, float64(l.MACs)/1e6, l.Subnet)
	}
	if d.busy {
		d.env.printf("This machine is busy: some inferences took twice the usual time. Run again when it is idle to see the load's effect alone.\n")
	}
	return nil
}

// stopwatch is an engine that notes its latencies.
type stopwatch struct {
	engine evaluate.Engine
	ms     []float64
}

func (w *stopwatch) Run(ctx context.Context, image, logits []float32) error {
	start := time.Now()
	err := w.engine.Run(ctx, image, logits)
	w.ms = append(w.ms, time.Since(start).Seconds()*1e3)
	return err
}

func (w *stopwatch) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(w.ms))
	return sorted[int(q*float64(len(sorted)))]
}

// front draws accuracy over latency.
func (d *demo) front() error {
	d.env.printf("\n%s\n", textFront(d.levels))
	return d.write(plotFront(d.levels, d.images), "front")
}

func (d *demo) write(p figure, name string) error {
	for _, ext := range []string{".svg", ".png"} {
		path := filepath.Join(d.dir, name+ext)
		if err := p.save(path); err != nil {
			return err
		}
		d.env.printf("wrote %s\n", path)
	}
	return nil
}

// live classifies frames of several images against a deadline while another load comes and goes in the middle
// third of the time.
func (d *demo) live(length time.Duration) error {
	slowest := d.levels[len(d.levels)-1]
	// A frame is long against the scheduler's time slices, or a slowdown would be all or nothing.
	images := max(1, int(40/slowest.LatencyMS))
	profile := &governor.Profile{Configurations: []governor.Configuration{{Threads: 1}}}
	for _, l := range d.levels {
		latency := time.Duration(l.LatencyMS * float64(images) * 1e6)
		profile.Levels = append(profile.Levels, governor.Level{Accuracy: l.Recorded, Latency: []time.Duration{latency}})
	}
	deadline := profile.Levels[len(profile.Levels)-1].Latency[0] * 14 / 10
	inputs, labels, err := d.inputs(images)
	if err != nil {
		return err
	}
	d.env.printf("\nlive: frames of %d images, deadline %.1f ms; another load takes the core from %.0f s to %.0f s\n",
		images, ms(deadline), length.Seconds()/3, length.Seconds()*2/3)
	g, err := governor.New(governor.Config{Profile: profile, Estimator: estimator.New(profile, nil), Policy: steady.New(nil),
		Constraints: governor.Constraints{Deadline: deadline}})
	if err != nil {
		return err
	}
	report := liveReport{DeadlineMS: ms(deadline)}
	for _, l := range d.levels {
		report.Levels = append(report.Levels, l.Subnet)
	}
	// One core for this goroutine, so that the other load can really take it away.
	runtime.LockOSThread()
	load := &load{core: pinThread()}
	defer load.stop()
	logits := make([]float32, d.model.Classes())
	start := time.Now()
	for at := 0; ; at++ {
		now := time.Since(start)
		if now >= length || d.env.ctx.Err() != nil {
			break
		}
		if err := load.set(now > length/3 && now < length*2/3); err != nil {
			return err
		}
		f := frame{Seconds: now.Seconds(), Level: g.Next().Level, Loaded: load.running(), Images: images}
		begin := time.Now()
		if err := d.session.Select(f.Level); err != nil {
			return err
		}
		selected := time.Now()
		for i := range images {
			k := (at*images + i) % len(labels)
			if err := d.session.Run(d.env.ctx, inputs[f.Level][k], logits); err != nil {
				return err
			}
			if dynofa.Classify(logits, 1)[0] == labels[k] {
				f.Correct++
			}
		}
		latency := time.Since(begin)
		g.Observe(latency)
		f.LatencyMS, f.SwitchUS = ms(latency), float64(selected.Sub(begin).Nanoseconds())/1e3
		report.Frames = append(report.Frames, f)
		d.show(f, report.DeadlineMS)
		if rest := deadline - latency; rest > 0 {
			time.Sleep(rest)
		}
	}
	load.stop()
	d.summary(report)
	trace := filepath.Join(d.dir, "trace.json")
	if err := writeJSON(trace, report); err != nil {
		return err
	}
	d.env.printf("wrote %s\n", trace)
	return d.write(plotTrace(report), "trace")
}

// inputs preprocesses some hundred images for every level.
func (d *demo) inputs(images int) (inputs [][][]float32, labels []int, err error) {
	count := min(d.data.Len(), max(images, 200))
	var scratch imageio.Scratch
	inputs = make([][][]float32, len(d.levels))
	for i := range count {
		sample, err := d.data.At(i)
		if err != nil {
			return nil, nil, err
		}
		labels = append(labels, sample.Label)
		for l, level := range d.model.Levels() {
			r := level.Subnet.Resolution
			input := make([]float32, r*r*3)
			if err := scratch.Apply(imageio.Transform(d.model.Space().Preprocess), input, sample.Image, r); err != nil {
				return nil, nil, err
			}
			inputs[l] = append(inputs[l], input)
		}
	}
	return inputs, labels, nil
}

// show is a line that rewrites itself, on a terminal only.
func (d *demo) show(f frame, deadline float64) {
	out, ok := d.env.stdout.(*os.File)
	if !ok || !isTerminal(out) {
		return
	}
	const width = 40
	bar := min(width, int(f.LatencyMS/deadline*width*0.75))
	mark := map[bool]string{true: "LOAD", false: "    "}[f.Loaded]
	d.env.printf("\r%5.1f s  %s  level %d  %6.1f ms |%-*s|", f.Seconds, mark, f.Level, f.LatencyMS, width, strings.Repeat("#", bar))
}

func (d *demo) summary(r liveReport) {
	d.env.printf("\n%-12s  %6s  %4s  %9s  %14s  %s\n", "phase", "frames", "late", "correct %", "median ms", "frames at level 0, 1, ...")
	third := 0.0
	if n := len(r.Frames); n > 0 {
		third = r.Frames[n-1].Seconds / 3
	}
	phases := []struct {
		name string
		in   func(f frame) bool
	}{
		{"alone", func(f frame) bool { return !f.Loaded && f.Seconds < third*1.5 }},
		{"with load", func(f frame) bool { return f.Loaded }},
		{"alone again", func(f frame) bool { return !f.Loaded && f.Seconds >= third*1.5 }},
		{"all", func(frame) bool { return true }},
	}
	for _, p := range phases {
		levels := make([]int, len(d.levels))
		var frames, late, correct, images int
		var latency []float64
		for _, f := range r.Frames {
			if !p.in(f) {
				continue
			}
			frames++
			levels[f.Level]++
			correct, images = correct+f.Correct, images+f.Images
			latency = append(latency, f.LatencyMS)
			if f.LatencyMS > r.DeadlineMS {
				late++
			}
		}
		if frames == 0 {
			continue
		}
		slices.Sort(latency)
		d.env.printf("%-12s  %6d  %4d  %9.1f  %9.1f/%4.1f  %v\n", p.name, frames, late,
			100*float64(correct)/float64(images), latency[frames/2], r.DeadlineMS, levels)
	}
	var switches []float64
	for i, f := range r.Frames {
		if i > 0 && f.Level != r.Frames[i-1].Level {
			switches = append(switches, f.SwitchUS)
		}
	}
	if len(switches) > 0 {
		slices.Sort(switches)
		d.env.printf("%d switches, median %.2f us, slowest %.2f us\n", len(switches), switches[len(switches)/2], switches[len(switches)-1])
	}
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// load is other processes that want the demo's core.
type load struct {
	core  int
	procs []*exec.Cmd
}

func (l *load) running() bool { return len(l.procs) > 0 }

// set starts or stops the load; calls that change nothing cost nothing.
func (l *load) set(on bool) error {
	if !on {
		l.stop()
		return nil
	}
	if l.running() {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n := 2
	if l.core < 0 { // not pinned: every core has to be taken
		n = 2 * runtime.NumCPU()
	}
	for range n {
		cmd := exec.Command(self, "burn", "--core", strconv.Itoa(l.core))
		if err := cmd.Start(); err != nil {
			return err
		}
		l.procs = append(l.procs, cmd)
	}
	return nil
}

func (l *load) stop() {
	for _, p := range l.procs {
		_ = p.Process.Kill()
		_ = p.Wait()
	}
	l.procs = nil
}

// burnCmd is the other load: a busy loop that ends by itself if nobody ends it.
type burnCmd struct {
	Core int `help:"Core to stay on, -1 for any." default:"-1"`
}

func (c *burnCmd) Run(e *env) error {
	runtime.LockOSThread()
	if c.Core >= 0 {
		pinThreadTo(c.Core)
	}
	start := time.Now()
	for time.Since(start) < time.Minute && e.ctx.Err() == nil {
		_ = math.Sqrt(float64(c.Core)) // reading the clock is the work
	}
	return nil
}
