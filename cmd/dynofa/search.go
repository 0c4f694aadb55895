package main

import (
	"errors"
	"fmt"
	"math"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
	"github.com/dynofa/dynofa/governor/library/search"
)

type searchCmd struct {
	Predictor   string  `required:"" help:"Accuracy predictor: OFA's (.pth) or one that the verb predictor made." placeholder:"P"`
	Table       string  `help:"Folder of latency tables." placeholder:"DIR"`
	MaxLatency  float64 `help:"Largest latency by the table." placeholder:"MS"`
	MaxMACs     float64 `name:"max-macs" help:"Most multiply-adds, such as 300e6." placeholder:"M"`
	MinAccuracy float64 `help:"Smallest accuracy, a fraction." placeholder:"A"`

	Space   string  `help:"Bundle whose space to search; default: OFA-MobileNetV3." placeholder:"M.dofa"`
	Width   float64 `help:"Width multiplier of the OFA-MobileNetV3 space." default:"1.2"`
	Classes int     `help:"Number of its classes." default:"1000"`

	Kernels     []int `help:"Kernel sizes to search; default: all." placeholder:"K"`
	Expands     []int `help:"Expand ratios to search; default: all." placeholder:"E"`
	Depths      []int `help:"Depths to search; default: all." placeholder:"D"`
	Resolutions []int `help:"Image sides to search; default: all that the predictor was trained for and the table covers." placeholder:"R"`

	Population  int    `help:"Networks a generation." default:"100"`
	Generations int    `help:"Most generations." default:"500"`
	Seed        uint64 `help:"Seed of the search." default:"1"`
	Threads     int    `help:"Threads; the result does not depend on them. Default: one a CPU."`
	Front       int    `help:"Find the best for N limits in one search, spread evenly up to the given one, which may be left out." placeholder:"N"`
	Plot        string `help:"Draw the front as SVG or PNG." placeholder:"FILE"`
	JSON        bool   `help:"Print JSON."`
}

// searched is a line of the verb's JSON.
type searched struct {
	search.Found
	Seconds float64 `json:"seconds"` // of the whole search
}

func (c *searchCmd) Run(e *env) error {
	p, limit, err := c.problem()
	if err != nil {
		return err
	}
	limits := []float64{limit}
	if c.Front > 0 {
		least, most, err := search.Bounds(p)
		if err != nil {
			return err
		}
		limits = spread(least, min(limit, most), c.Front)
	}
	bar := e.progress(c.Generations, "search")
	started := time.Now()
	found, err := search.Front(e.ctx(), p, limits, search.Options{
		Population: c.Population, Generations: c.Generations, Seed: c.Seed, Threads: c.Threads,
		Progress: func(done, _ int) { _ = bar.Set(done) },
	})
	seconds := time.Since(started).Seconds()
	_ = bar.Finish()
	if errors.As(err, new(*search.InfeasibleError)) {
		return negative{err}
	}
	if err != nil {
		return err
	}
	if c.Plot != "" {
		if err := plotSearch(found).Save(c.Plot); err != nil {
			return err
		}
	}
	return c.print(e, p.Space, found, seconds)
}

// problem is what the flags ask for.
func (c *searchCmd) problem() (p search.Problem, limit float64, err error) {
	limit = math.Inf(1)
	switch {
	case c.MaxLatency != 0 && c.MaxMACs != 0:
		return p, 0, errors.New("--max-latency and --max-macs, expected one of them")
	case c.MaxLatency != 0 && c.Table == "":
		return p, 0, errors.New("--max-latency without --table, expected the folder of the device's latency tables")
	case c.MaxMACs != 0 && c.Table != "":
		return p, 0, errors.New("--max-macs with --table, expected --max-latency")
	case c.MaxLatency != 0:
		limit = c.MaxLatency
	case c.MaxMACs != 0:
		limit = c.MaxMACs
	case c.Front < 1:
		return p, 0, errors.New("no limit, expected --max-latency with --table, --max-macs, or --front")
	}
	if !(limit > 0) {
		return p, 0, fmt.Errorf("the limit is %v, expected a number above 0", limit)
	}
	if c.Front < 0 || c.Front > maxFront {
		return p, 0, fmt.Errorf("--front is %d, expected 1 to %d", c.Front, maxFront)
	}
	if c.Plot != "" {
		if c.Front < 1 {
			return p, 0, errors.New("--plot without --front, expected both")
		}
		if err := figure.Check(c.Plot); err != nil {
			return p, 0, fmt.Errorf("--plot %w", err)
		}
		if err := makeFolder(c.Plot); err != nil {
			return p, 0, err
		}
	}
	p.MinAccuracy = c.MinAccuracy
	p.Choices = search.Choices{Kernels: c.Kernels, Expands: c.Expands, Depths: c.Depths, Resolutions: c.Resolutions}
	if p.Space, err = c.space(); err != nil {
		return p, 0, err
	}
	if p.Predictor, err = predictor.Load(c.Predictor, p.Space); err != nil {
		return p, 0, err
	}
	if c.Table != "" {
		p.Table, err = latency.Load(c.Table)
	}
	return p, limit, err
}

// maxFront keeps a front's memory and time within reason.
const maxFront = 1000

func (c *searchCmd) space() (*ofa.Space, error) {
	if c.Space != "" {
		return bundleSpace(c.Space)
	}
	return mobileNetV3(c.Width, c.Classes)
}

// bundleSpace is the space of a bundle or checkpoint.
func bundleSpace(path string) (*ofa.Space, error) {
	contents, err := bundle.Import(path, bundle.ImportOptions{})
	if err != nil {
		return nil, err
	}
	return contents.Space, nil
}

// spread is n limits from the first that is feasible to the last, evenly; one limit is the last.
func spread(least, most float64, n int) []float64 {
	limits := make([]float64, n)
	for i := range limits {
		limits[i] = most - (most-least)*float64(n-1-i)/float64(max(n-1, 1))
	}
	if n > 1 && most >= least {
		limits[0] = least // exactly
	}
	return limits
}

func (c *searchCmd) print(e *env, s *ofa.Space, found []search.Found, seconds float64) error {
	if c.JSON {
		all := make([]searched, len(found))
		for i := range found {
			all[i] = searched{found[i], seconds}
		}
		if c.Front < 1 {
			return e.json(all[0])
		}
		return e.json(all)
	}
	e.printf("accuracy  latency ms     MMACs  sub-network\n")
	for _, f := range found {
		ms := "-"
		if f.LatencyMS != nil {
			ms = fmt.Sprintf("%.3f", *f.LatencyMS)
		}
		e.printf("%8.5f  %10s  %8.2f  %s\n", f.Accuracy, ms, float64(f.MACs)/1e6, s.Text(f.Subnet))
	}
	e.printf("%d of %.2g sub-networks, %.2f s\n", len(found), s.Size(), seconds)
	return nil
}

// plotSearch is predicted accuracy over cost.
func plotSearch(found []search.Found) figure.Figure {
	points := make(plotter.XYs, len(found))
	x := "multiply-adds, millions"
	for i, f := range found {
		points[i] = plotter.XY{X: float64(f.MACs) / 1e6, Y: 100 * f.Accuracy}
		if f.LatencyMS != nil {
			points[i].X, x = *f.LatencyMS, "latency by the table, ms"
		}
	}
	p := newPlot("Most accurate sub-networks", x, "predicted accuracy, %")
	line, dots, err := plotter.NewLinePoints(points)
	must(err)
	line.StepStyle, line.Color, dots.Color, dots.Shape, dots.Radius = plotter.PostStep, ink, ink, draw.CircleGlyph{}, 2
	p.Add(line, dots)
	return figure.Figure{Plots: []*plot.Plot{p}, Height: 10 * vg.Centimeter}
}
