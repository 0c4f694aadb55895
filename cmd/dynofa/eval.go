package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

type evalCmd struct {
	Bundle      string `arg:"" help:"Bundle."`
	Data        string `required:"" help:"Folder of images: ImageFolder tree or IDX files." placeholder:"DIR"`
	Split       string `help:"Split of the data set." default:"test"`
	Level       *int   `help:"Level of the library; default: every level." xor:"what"`
	Subnet      string `help:"Any sub-network of the space, with the supernet's own batch normalisation." placeholder:"JSON" xor:"what"`
	Backend     string `help:"Engine, one of those that info lists; default: the best."`
	Record      bool   `help:"Write accuracy and latency into the bundle, sort its levels from fast to accurate and drop those that a faster one equals."`
	Device      string `help:"Name of this device in the record." default:"unnamed"`
	Predictions string `help:"Write every predicted class as JSON." placeholder:"FILE"`
	JSON        bool   `help:"Print JSON."`
}

type evalReport struct {
	Data    string      `json:"data"`
	Images  int         `json:"images"`
	Backend string      `json:"backend"`
	Levels  []evalLevel `json:"levels"`
}

type evalLevel struct {
	Level  int    `json:"level"` // -1 for a sub-network that is no level
	Subnet string `json:"subnet"`
	evaluate.Result
	Latency bundle.Latency `json:"latency"`
}

func (c *evalCmd) Run(e *env) (err error) {
	m, err := open(c.Bundle, c.Backend)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	ds, err := imageio.Open(c.Data, c.Split)
	if err != nil {
		return err
	}
	choices, err := c.choices(m)
	if err != nil {
		return err
	}
	report := evalReport{Data: c.Data, Images: ds.Len()}
	bar := e.progress(len(choices)*ds.Len(), "evaluate")
	var sessions []*dynofa.Session
	var engines []evaluate.Engine
	for range runtime.GOMAXPROCS(0) {
		s, err := m.NewSession(&dynofa.Config{Backend: c.Backend})
		if err != nil {
			return err
		}
		defer closing(s, &err)
		sessions, engines = append(sessions, s), append(engines, s)
	}
	report.Backend = sessions[0].Backend()
	for _, choose := range choices {
		for _, s := range sessions {
			if err := choose(s); err != nil {
				return err
			}
		}
		s := sessions[0]
		level := evalLevel{Level: s.Level(), Subnet: m.Space().Text(s.Subnet())}
		net := network(m.Space(), s.Subnet().Resolution)
		if level.Result, err = evaluate.Accuracy(e.ctx, ds, net, engines, func() { _ = bar.Add(1) }); err != nil {
			return err
		}
		if level.Latency, err = c.latency(e.ctx, s, ds, net); err != nil {
			return err
		}
		report.Levels = append(report.Levels, level)
	}
	_ = bar.Finish()
	if err := c.print(e, report); err != nil {
		return err
	}
	if c.Predictions != "" {
		if err := writePredictions(c.Predictions, report); err != nil {
			return err
		}
	}
	if c.Record {
		return c.record(e, report)
	}
	return nil
}

// choices are what to evaluate, as functions that make it current in a session.
func (c *evalCmd) choices(m *dynofa.Model) ([]func(*dynofa.Session) error, error) {
	selects := func(level int) func(*dynofa.Session) error {
		return func(s *dynofa.Session) error { return s.Select(level) }
	}
	switch {
	case c.Subnet != "":
		n, err := m.Space().Parse(c.Subnet)
		return []func(*dynofa.Session) error{func(s *dynofa.Session) error { return s.Configure(n) }}, err
	case c.Level != nil:
		return []func(*dynofa.Session) error{selects(*c.Level)}, nil
	case len(m.Levels()) == 0:
		return nil, fmt.Errorf("%s has no levels, expected --subnet, or run dynofa calibrate first", c.Bundle)
	}
	var all []func(*dynofa.Session) error
	for i := range m.Levels() {
		all = append(all, selects(i))
	}
	return all, nil
}

// latency is measured on one thread over real images, after the caches are warm.
func (c *evalCmd) latency(ctx context.Context, s *dynofa.Session, ds imageio.Dataset, net evaluate.Network) (bundle.Latency, error) {
	const images, runs = 20, 200
	var inputs [][]float32
	var scratch imageio.Scratch
	for i := range min(images, ds.Len()) {
		sample, err := ds.At(i)
		if err != nil {
			return bundle.Latency{}, err
		}
		input := make([]float32, net.Resolution*net.Resolution*3)
		if err := scratch.Apply(net.Transform, input, sample.Image, net.Resolution); err != nil {
			return bundle.Latency{}, err
		}
		inputs = append(inputs, input)
	}
	logits := make([]float32, net.Classes)
	var ms []float64
	for i := range images + runs {
		start := time.Now()
		if err := s.Run(ctx, inputs[i%len(inputs)], logits); err != nil {
			return bundle.Latency{}, err
		}
		if i >= images {
			ms = append(ms, float64(time.Since(start).Nanoseconds())/1e6)
		}
	}
	slices.Sort(ms)
	return bundle.Latency{
		Device: c.Device, Backend: s.Backend(), Threads: s.Threads(), Runs: runs,
		MedianMS: ms[runs/2], P10MS: ms[runs/10], P90MS: ms[runs*9/10],
	}, nil
}

func (c *evalCmd) print(e *env, r evalReport) error {
	if c.JSON {
		return e.json(r)
	}
	e.printf("%d images of %s on %s\nlevel  top-1 %%   95 %% interval   top-5 %%  latency ms (p10-p90)  sub-network\n", r.Images, r.Data, r.Backend)
	for _, l := range r.Levels {
		e.printf("%5d  %7.2f  %6.2f - %5.2f  %8.2f  %6.3f (%.3f-%.3f)  %s\n", l.Level, l.Top1, l.Low, l.High, l.Top5,
			l.Latency.MedianMS, l.Latency.P10MS, l.Latency.P90MS, l.Subnet)
	}
	return nil
}

func writePredictions(path string, r evalReport) error {
	predictions := map[string][]int{}
	for _, l := range r.Levels {
		predictions[l.Subnet] = l.Predictions
	}
	return writeJSON(path, predictions)
}

// record writes what was measured into the bundle and keeps the levels that are Pareto-optimal by it.
func (c *evalCmd) record(e *env, r evalReport) error {
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	if len(r.Levels) != len(contents.Levels) {
		return fmt.Errorf("--record with %d of %d levels evaluated, expected all: leave --level and --subnet out", len(r.Levels), len(contents.Levels))
	}
	for i, l := range r.Levels {
		level := &contents.Levels[i]
		level.Accuracy = []bundle.Accuracy{{Data: dataName(c.Data, c.Split), Images: l.Images, Top1: l.Top1, Top5: l.Top5, Low: l.Low, High: l.High}}
		level.Latency = slices.DeleteFunc(level.Latency, func(old bundle.Latency) bool {
			return old.Device == l.Latency.Device && old.Backend == l.Latency.Backend && old.Threads == l.Latency.Threads
		})
		level.Latency = append(level.Latency, l.Latency)
	}
	kept := paretoLevels(contents.Levels)
	for _, l := range contents.Levels {
		if !slices.ContainsFunc(kept, func(k bundle.Level) bool { return contents.Space.Text(k.Subnet) == contents.Space.Text(l.Subnet) }) {
			e.printf("dropped: %s (a faster level is as accurate)\n", contents.Space.Text(l.Subnet))
		}
	}
	contents.Levels = kept
	if err := bundle.Write(c.Bundle, contents); err != nil {
		return err
	}
	e.printf("%s: %d levels recorded\n", c.Bundle, len(kept))
	return nil
}

// paretoLevels sorts by the latest latency and keeps each level that is more accurate than all faster ones.
func paretoLevels(levels []bundle.Level) []bundle.Level {
	latest := func(l bundle.Level) float64 { return l.Latency[len(l.Latency)-1].MedianMS }
	sorted := slices.SortedStableFunc(slices.Values(levels), func(a, b bundle.Level) int {
		switch {
		case latest(a) < latest(b):
			return -1
		case latest(a) > latest(b):
			return 1
		}
		return 0
	})
	var kept []bundle.Level
	for _, l := range sorted {
		if len(kept) == 0 || l.Accuracy[0].Top1 > kept[len(kept)-1].Accuracy[0].Top1 {
			kept = append(kept, l)
		}
	}
	return kept
}
