package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

type benchRunCmd struct {
	Bundle string `arg:"" help:"Bundle."`
	subject
	Backends []string      `help:"Several engines, one after the other, instead of --backend." placeholder:"B"`
	Scenario []string      `help:"Scenarios: singlestream, multistream, server, offline." default:"singlestream"`
	Level    []int         `help:"Levels of the library; default: every one."`
	Threads  []int         `help:"Threads per inference; for offline, inferences side by side." default:"1"`
	Duration time.Duration `help:"Least time of each row; MLPerf's rules ask for 10m." default:"5s"`
	QPS      float64       `name:"qps" help:"Queries a second of server; default: the most that meets the bound, which ten probes of a second or more find first, in each row."`
	Bound    time.Duration `help:"What p99 of server may take; default: four inferences."`
	Layers   bool          `help:"Time the parts of the network, too, in inferences of their own."`
	Output   string        `short:"o" help:"Result file; it grows as the run goes." default:"out/bench.jsonl"`
	Pprof    string        `help:"Write the parts as a profile for go tool pprof; implies --layers." placeholder:"FILE"`
	Plot     string        `help:"Draw the distribution of the latencies (.svg or .png)." placeholder:"FILE"`
	Seed     uint64        `help:"Of server's random times." default:"1"`
	JSON     bool          `help:"Print JSON."`
}

func (c *benchRunCmd) Run(e *env) (err error) {
	plan := harness.Plan{Levels: c.Level, Threads: c.Threads, Duration: c.Duration, QPS: c.QPS, Bound: c.Bound,
		Layers: c.Layers || c.Pprof != "", System: os.DirFS("/"), Seed: c.Seed}
	for _, name := range c.Scenario {
		s := harness.Scenario(name)
		if !slices.Contains(harness.Scenarios(), s) {
			return fmt.Errorf("--scenario %q, expected one of %q", name, harness.Scenarios())
		}
		plan.Scenarios = append(plan.Scenarios, s)
	}
	if err := figure.Check(c.Plot); c.Plot != "" && err != nil {
		return err // before the time is spent
	}
	switch {
	case twice(c.Scenario) || twice(c.Level) || twice(c.Threads) || twice(c.Backends):
		return errors.New("--scenario, --level, --threads or --backends has a value twice, expected each once: rows have to differ")
	case c.Duration <= 0:
		return fmt.Errorf("--duration %v, expected more than zero, such as 5s", c.Duration)
	case !(c.QPS >= 0 && c.QPS <= 1e9):
		return fmt.Errorf("--qps %g, expected 0, which searches for it, to 1e9", c.QPS)
	case c.Bound < 0:
		return fmt.Errorf("--bound %v, expected 0, which is four inferences, or more", c.Bound)
	}
	backends := c.Backends
	if len(backends) == 0 {
		backends = []string{c.Backend}
	}
	var models []*harness.Model
	for _, backend := range backends {
		var m *harness.Model
		if m, err = harness.Open(c.Bundle, backend, c.Data); err != nil {
			return err
		}
		defer closing(m, &err)
		models = append(models, m)
		if m.Device() != models[0].Device() {
			return fmt.Errorf("--backends: %s and %s compute on different devices, expected one, whose machine the file is of: measure them apart",
				models[0].Backend(), m.Backend())
		}
	}
	if err := makeFolder(c.Output); err != nil {
		return err
	}
	file, err := os.Create(c.Output)
	if err != nil {
		return err
	}
	defer closing(file, &err)
	source := harness.NoMeter
	if m := openMeter("/", backends[0], nvml.System()); m != nil { // of the one device
		defer m.Close()
		plan.Meter, source = m, m.Name()
	}
	w, err := harness.NewWriter(file, look(models[0].Device()), source)
	if err != nil {
		return err
	}
	for _, m := range models {
		if err := c.measure(e, m, plan, w); err != nil {
			return err
		}
	}
	res, err := harness.ReadFile(c.Output)
	if err != nil {
		return err
	}
	if c.Pprof != "" {
		if err := writeFile(c.Pprof, func(w io.Writer) error { return harness.WritePprof(w, res) }); err != nil {
			return err
		}
	}
	if c.Plot != "" {
		if err := saveLatencies(c.Plot, res); err != nil {
			return err
		}
	}
	if c.JSON {
		return harness.WriteJSON(e.stdout, res)
	}
	harness.WriteTable(e.stdout, res)
	for _, path := range []string{c.Output, c.Pprof, c.Plot} {
		if path != "" {
			e.printf("wrote %s\n", path)
		}
	}
	return nil
}

// twice tells whether a value is in a list more than once.
func twice[T comparable](list []T) bool {
	for i := range list {
		if slices.Contains(list[:i], list[i]) {
			return true
		}
	}
	return false
}

// saveLatencies draws a result.
func saveLatencies(path string, r *harness.Result) error {
	f, err := harness.Latencies(r)
	if err != nil {
		return err
	}
	if err := makeFolder(path); err != nil {
		return err
	}
	return f.Save(path)
}

func (c *benchRunCmd) measure(e *env, m *harness.Model, plan harness.Plan, w *harness.Writer) error {
	if len(m.Levels()) == 0 {
		return fmt.Errorf("%s has no levels, expected a library: run dynofa calibrate first", c.Bundle)
	}
	if len(plan.Levels) == 0 {
		for i := range m.Levels() {
			plan.Levels = append(plan.Levels, i)
		}
	}
	bar := e.progress(len(plan.Scenarios)*len(plan.Levels)*len(plan.Threads), "measure "+m.Backend())
	plan.Done = func() { _ = bar.Add(1) }
	err := harness.Run(e.ctx(), m, plan, w)
	return errors.Join(err, bar.Finish())
}

type benchExportCmd struct {
	Results []string `arg:"" help:"Result files of bench run."`
	Format  string   `help:"go (benchstat reads it), json, otava (CSV), gbench (Google Benchmark JSON), gha (github-action-benchmark), pprof, plot (of the latencies; needs --output) or table." default:"go" enum:"go,json,otava,gbench,gha,pprof,plot,table"`
	Output  string   `short:"o" help:"File to write, a plot as .svg or .png; default: the terminal." placeholder:"FILE"`
}

func (c *benchExportCmd) Run(e *env) error {
	var results []*harness.Result
	for _, path := range c.Results {
		r, err := harness.ReadFile(path)
		if err != nil {
			return err
		}
		if r.Truncated {
			fmt.Fprintf(e.stderr, "%s: the run was killed; its last line is left out\n", path)
		}
		results = append(results, r)
	}
	if c.Format == "plot" {
		if len(results) > 1 {
			return fmt.Errorf("--format plot of %d results, expected one", len(results))
		}
		if c.Output == "" {
			return errors.New("--format plot without --output, expected a file that ends in .svg or .png")
		}
		if err := saveLatencies(c.Output, results[0]); err != nil {
			return err
		}
	} else {
		write := func(w io.Writer) error { return harness.Export(w, c.Format, results) }
		if c.Output == "" {
			return write(e.stdout)
		}
		if err := writeFile(c.Output, write); err != nil {
			return err
		}
	}
	e.printf("wrote %s\n", c.Output)
	return nil
}

// writeFile replaces a file and makes its folder.
func writeFile(path string, write func(io.Writer) error) error {
	if err := makeFolder(path); err != nil {
		return err
	}
	return atomicfile.Replace(path, write)
}
