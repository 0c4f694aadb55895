package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

type evalCmd struct {
	Images evalImagesCmd `cmd:"" default:"withargs" help:"Measure top-1 and top-5 accuracy over a data set; the word images may be left out."`
	Merge  evalMergeCmd  `cmd:"" help:"Add the part files of all shards up to the accuracy over the whole data set."`
}

type evalImagesCmd struct {
	Bundle      string `arg:"" help:"Bundle."`
	Data        string `required:"" help:"Folder of images: ImageFolder tree or IDX files." placeholder:"DIR"`
	Split       string `help:"Split of the data set." default:"test"`
	Level       *int   `help:"Level of the library; default: every level." xor:"what"`
	Subnet      string `help:"Any sub-network of the space, with the supernet's own batch normalisation." placeholder:"JSON" xor:"what"`
	Backend     string `help:"Engine, one of those that info lists; default: the best."`
	Batch       int    `help:"Images that a device takes in one pass, 1 to 64; the CPU computes one after the other." default:"1"`
	Shard       string `help:"Evaluate one of n equal parts of the images, i from 0 to n-1; default with -o: what Slurm or Kubernetes says, else all." placeholder:"i/n"`
	Output      string `short:"o" help:"Part file to write, for dynofa eval merge." placeholder:"PART.json"`
	Record      string `help:"Bundle to write, with this accuracy and latency of every level, fast to accurate, without levels that a faster one equals." placeholder:"OUT.dofa"`
	Device      string `help:"Name of this device in the record." default:"unnamed"`
	Predictions string `help:"Write every predicted class as JSON." placeholder:"FILE"`
	JSON        bool   `help:"Print JSON."`
}

// maxBatch is what dynofa.Config allows.
const maxBatch = 64

type evalReport struct {
	Data    string `json:"data"`
	Images  int    `json:"images"`
	Backend string `json:"backend"`
	Shard   string `json:"shard,omitempty"`
	// EngineBusy is the share of the time that each of the processors spent in the engine, 0 to 1.
	EngineBusy float64     `json:"engine_busy,omitempty"`
	Levels     []evalLevel `json:"levels"`
}

type evalLevel struct {
	Level  int    `json:"level"` // -1 for a sub-network that is no level
	Subnet string `json:"subnet"`
	evaluate.Result
	Latency *bundle.Latency `json:"latency,omitempty"` // of whole evaluations
}

func (c *evalImagesCmd) Run(e *env) (err error) {
	shard, err := e.shard(c.Shard, c.Output != "")
	if err != nil {
		return err
	}
	if c.Record != "" && (c.Shard != "" || c.Output != "") {
		return fmt.Errorf("--record with one shard, expected a whole evaluation: leave --shard and -o out")
	}
	if c.Batch < 1 || c.Batch > maxBatch {
		return fmt.Errorf("--batch is %d, expected 1 to %d", c.Batch, maxBatch)
	}
	const json = "a name such as PART.json; --record writes bundles"
	if err := errors.Join(noBundle("-o", c.Output, json), noBundle("--predictions", c.Predictions, json)); err != nil {
		return err
	}
	for _, path := range []string{c.Output, c.Record, c.Predictions} {
		if path == "" {
			continue
		}
		if err := atomicfile.Check(path); err != nil {
			return err
		}
	}
	m, err := open(c.Bundle, c.Backend)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	ds, err := imageio.Open(c.Data, c.Split)
	if err != nil {
		return err
	}
	source := evaluate.Source{Backend: m.Backend(), Split: c.Split, Images: ds.Len()}
	if c.Output != "" {
		if source.Model, err = fileSum(c.Bundle); err != nil {
			return err
		}
		if source.Data, err = imageio.Identity(ds); err != nil {
			return err
		}
	}
	from, to := shard.Range(ds.Len())
	if from == to {
		return fmt.Errorf("shard %v of the %d images of %s is empty, expected at most %d shards", shard, ds.Len(), c.Data, ds.Len())
	}
	choices, err := c.choices(m)
	if err != nil {
		return err
	}
	var recorded *bundle.Contents
	if c.Record != "" {
		if recorded, err = bundle.Import(c.Bundle, bundle.ImportOptions{}); err != nil {
			return err
		}
		if c.Subnet != "" || len(choices) != len(recorded.Levels) {
			return fmt.Errorf("--record with --level or --subnet, expected all %d levels: leave them out", len(recorded.Levels))
		}
	}
	var sessions []*chooser
	var engines []evaluate.Selector
	for range min(runtime.GOMAXPROCS(0), to-from) {
		s, err := m.NewSession(&dynofa.Config{Backend: c.Backend, Batch: c.Batch})
		if err != nil {
			return err
		}
		defer closing(s, &err)
		sessions = append(sessions, &chooser{Session: s, choices: choices, current: -1})
		engines = append(engines, sessions[len(sessions)-1])
	}
	report := evalReport{Data: c.Data, Images: to - from, Backend: m.Backend()}
	if shard.Count > 1 {
		report.Shard = shard.String()
	}
	s := sessions[0]
	var nets []evaluate.Network
	for i := range choices {
		if err := s.Select(i); err != nil {
			return err
		}
		report.Levels = append(report.Levels, evalLevel{Level: s.Level(), Subnet: m.Space().Text(s.Subnet())})
		nets = append(nets, network(m.Space(), s.Subnet().Resolution))
	}
	bar := e.progress(len(nets)*(to-from), "evaluate")
	measured, err := evaluate.Measure(e.ctx(), ds, from, to, nets, engines, c.Batch, func(n int) { _ = bar.Add(n) })
	if err != nil {
		return err
	}
	_ = bar.Finish()
	report.EngineBusy = measured.Busy
	part := &evaluate.Part{Source: source, Name: c.Data, From: from, To: to}
	for i := range report.Levels {
		l := &report.Levels[i]
		l.Result = measured.Counts[i].Result(to - from)
		l.Predictions = measured.Predictions[i]
		part.Levels = append(part.Levels, evaluate.PartLevel{Level: l.Level, Subnet: l.Subnet, Counts: measured.Counts[i]})
		if report.Shard != "" || c.Output != "" {
			continue // part of a job that has other things in mind
		}
		if err := s.Select(i); err != nil {
			return err
		}
		if l.Latency, err = c.latency(e.ctx(), s.Session, ds, nets[i]); err != nil {
			return err
		}
	}
	if c.Output != "" {
		if err := writePart(c.Output, part); err != nil {
			return err
		}
	}
	if c.Predictions != "" {
		if err := writePredictions(c.Predictions, report); err != nil {
			return err
		}
	}
	if err := e.evaluation(report, c.JSON); err != nil {
		return err
	}
	if recorded == nil {
		return nil
	}
	return c.record(e, recorded, report)
}

// chooser is a session in which one of several choices is current.
type chooser struct {
	*dynofa.Session
	choices []func(*dynofa.Session) error
	current int
}

// Select makes choice i current.
func (s *chooser) Select(i int) error {
	if i == s.current {
		return nil
	}
	s.current = -1
	if err := s.choices[i](s.Session); err != nil {
		return err
	}
	s.current = i
	return nil
}

// choices are what to evaluate, as functions that make it current in a session.
func (c *evalImagesCmd) choices(m *dynofa.Model) ([]func(*dynofa.Session) error, error) {
	selects := func(level int) func(*dynofa.Session) error {
		return func(s *dynofa.Session) error { return s.Select(level) }
	}
	switch {
	case c.Subnet != "":
		n, err := m.Space().Parse(c.Subnet)
		return []func(*dynofa.Session) error{func(s *dynofa.Session) error {
			if err := (prepared{s}).Configure(n); err != nil {
				return err
			}
			return s.Prepare(c.Batch)
		}}, err
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
func (c *evalImagesCmd) latency(ctx context.Context, s *dynofa.Session, ds imageio.Dataset, net evaluate.Network) (*bundle.Latency, error) {
	const images, runs = 20, 200
	var inputs [][]float32
	var scratch imageio.Scratch
	for i := range min(images, ds.Len()) {
		sample, err := ds.At(i)
		if err != nil {
			return nil, err
		}
		input := make([]float32, net.Resolution*net.Resolution*3)
		if err := scratch.Apply(net.Transform, input, sample.Image, net.Resolution); err != nil {
			return nil, err
		}
		inputs = append(inputs, input)
	}
	logits := make([]float32, net.Classes)
	var ms []float64
	for i := range images + runs {
		start := time.Now()
		if err := s.Run(ctx, inputs[i%len(inputs)], logits); err != nil {
			return nil, err
		}
		if i >= images {
			ms = append(ms, float64(time.Since(start).Nanoseconds())/1e6)
		}
	}
	slices.Sort(ms)
	return &bundle.Latency{
		Device: c.Device, Backend: s.Backend(), Threads: s.Threads(), Runs: runs,
		MedianMS: ms[runs/2], P10MS: ms[runs/10], P90MS: ms[runs*9/10],
	}, nil
}

// evaluation prints a report.
func (e *env) evaluation(r evalReport, asJSON bool) error {
	if asJSON {
		return e.json(r)
	}
	e.printf("%d images of %s on %s\n", r.Images, r.Data, r.Backend)
	if r.Shard != "" {
		e.printf("shard %s of the data set\n", r.Shard)
	}
	if r.EngineBusy > 0 {
		e.printf("engines busy %.1f %% of the time\n", 100*r.EngineBusy)
	}
	e.printf("level  top-1 %%   95 %% interval   top-5 %%  latency ms (p10-p90)  sub-network\n")
	for _, l := range r.Levels {
		latency := fmt.Sprintf("%6s %13s", "-", "")
		if l.Latency != nil {
			latency = fmt.Sprintf("%6.3f (%.3f-%.3f)", l.Latency.MedianMS, l.Latency.P10MS, l.Latency.P90MS)
		}
		e.printf("%5d  %7.2f  %6.2f - %5.2f  %8.2f  %s  %s\n", l.Level, l.Top1, l.Low, l.High, l.Top5, latency, l.Subnet)
	}
	return nil
}

type evalMergeCmd struct {
	Parts []string `arg:"" help:"Part files of all shards, in any order." placeholder:"PART.json"`
	JSON  bool     `help:"Print JSON."`
}

func (c *evalMergeCmd) Run(e *env) error {
	parts, err := readParts(c.Parts, evaluate.DecodePart)
	if err != nil {
		return err
	}
	whole, err := evaluate.Merge(parts)
	if err != nil {
		return err
	}
	report := evalReport{Data: whole.Name, Images: whole.Images, Backend: whole.Backend}
	for _, l := range whole.Levels {
		report.Levels = append(report.Levels, evalLevel{Level: l.Level, Subnet: l.Subnet, Result: l.Result(whole.Images)})
	}
	return e.evaluation(report, c.JSON)
}

func writePredictions(path string, r evalReport) error {
	predictions := map[string][]int{}
	for _, l := range r.Levels {
		predictions[l.Subnet] = l.Predictions
	}
	return writeJSON(path, predictions)
}

// record writes a bundle with what was measured and keeps the levels that are Pareto-optimal by it.
func (c *evalImagesCmd) record(e *env, contents *bundle.Contents, r evalReport) error {
	for i, l := range r.Levels {
		level := &contents.Levels[i]
		level.Accuracy = []bundle.Accuracy{{Data: dataName(c.Data, c.Split), Images: l.Images, Top1: l.Top1, Top5: l.Top5, Low: l.Low, High: l.High}}
		level.Latency = slices.DeleteFunc(level.Latency, func(old bundle.Latency) bool {
			return old.Device == l.Latency.Device && old.Backend == l.Latency.Backend && old.Threads == l.Latency.Threads
		})
		level.Latency = append(level.Latency, *l.Latency)
	}
	all, kept := contents.Levels, paretoLevels(contents.Levels)
	contents.Levels = kept
	if err := bundle.Write(c.Record, contents); err != nil || c.JSON {
		return err
	}
	for _, l := range all {
		if !slices.ContainsFunc(kept, func(k bundle.Level) bool { return contents.Space.Text(k.Subnet) == contents.Space.Text(l.Subnet) }) {
			e.printf("dropped: %s (a faster level is as accurate)\n", contents.Space.Text(l.Subnet))
		}
	}
	e.printf("%s: %d levels recorded\n", c.Record, len(kept))
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
