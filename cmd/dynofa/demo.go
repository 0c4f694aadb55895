package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/library/evaluate"
	"github.com/dynofa/dynofa/governor/policy"
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
		r, err := evaluate.Accuracy(d.env.ctx(), d.data, network(d.model.Space(), l.Subnet.Resolution),
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
	engine *dynofa.Session
	ms     []float64
}

func (w *stopwatch) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	in, out := len(images)/n, len(logits)/n
	for i := range n {
		start := time.Now()
		if err := w.engine.Run(ctx, images[i*in:(i+1)*in], logits[i*out:(i+1)*out]); err != nil {
			return err
		}
		w.ms = append(w.ms, time.Since(start).Seconds()*1e3)
	}
	return nil
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

func (d *demo) write(p figure.Figure, name string) error {
	for _, ext := range []string{".svg", ".png"} {
		path := filepath.Join(d.dir, name+ext)
		if err := p.Save(path); err != nil {
			return err
		}
		d.env.printf("wrote %s\n", path)
	}
	return nil
}

// live classifies frames of several images against a deadline while another load comes and goes in the middle
// third of the time.
func (d *demo) live(length time.Duration) error {
	// A frame is long against the scheduler's time slices, or a slowdown would be all or nothing.
	images := max(1, int(frameMS/d.levels[len(d.levels)-1].LatencyMS))
	l := &live{ways: []way{{d.session, d.session.Select}}, classes: d.model.Classes(), images: images, pin: true, watch: &watcher{},
		loads: []disturbance{{kind: "cpu", from: length / 3, to: length * 2 / 3, amount: 2}}}
	var accuracy []float64
	var latency [][]time.Duration
	var subnets []ofa.Subnet
	for i, level := range d.levels {
		accuracy = append(accuracy, level.Recorded)
		latency = append(latency, []time.Duration{time.Duration(level.LatencyMS * 1e6)})
		subnets = append(subnets, d.model.Levels()[i].Subnet)
	}
	if err := l.load(d.model, subnets, d.data); err != nil {
		return err
	}
	l.describe(d.model, subnets, accuracy, latency, []governor.Configuration{{Threads: 1}})
	l.constrain(governor.Constraints{Deadline: l.profile.Levels[len(l.profile.Levels)-1].Latency[0] * 14 / 10})
	d.env.printf("\nlive: frames of %d images, deadline %.1f ms; another load takes the core from %.0f s to %.0f s\n",
		images, l.head.DeadlineMS, length.Seconds()/3, length.Seconds()*2/3)
	ours := policy.All()[0]
	t, err := l.run(d.env.ctx(), ours, length, d.env.show(l))
	if err != nil {
		return err
	}
	d.env.summary(t)
	path := filepath.Join(d.dir, "trace.jsonl")
	if err := t.write(path); err != nil {
		return err
	}
	d.env.printf("wrote %s\n", path)
	return d.write(plotTrace(t), "trace")
}
