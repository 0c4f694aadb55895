package main

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/pipeline"
)

// report writes report.md, report.json and the plots into the work folder.
func (c *buildCmd) report(s *ofa.Space, r *pipeline.Report) error {
	save := func(f figure.Figure, name string) error {
		for _, ext := range []string{".svg", ".png"} {
			if err := f.Save(filepath.Join(c.Work, name+ext)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := save(plotPredictions(r), "predictions"); err != nil {
		return err
	}
	for i, d := range r.Devices {
		if err := save(plotCandidates(d), frontName(i)); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(c.Work, "report.json"), r); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(c.Work, "report.md"), c.markdown(s, r))
}

func frontName(device int) string { return fmt.Sprintf("front-%d", device) }

// markdown is the report as text.
func (c *buildCmd) markdown(s *ofa.Space, r *pipeline.Report) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	o := r.Options
	p("# Library of %s\n\n    %s\n\n", filepath.Base(c.Output), c.command())
	p("%d sub-networks were measured: each calibrated on the first %d images of %s, its accuracy that of the last %d, which nothing is "+
		"calibrated on. Candidates and levels are calibrated on the first %d. Engine %s.\n\n", len(r.Networks), o.Images, o.Data, o.Holdout, o.LevelImages, o.Backend)
	p("## Levels\n\n| level | sub-network | MMACs |")
	for _, l := range r.Levels[0].Accuracy {
		p(" top-1 %%: %s |", l.Data)
	}
	for _, d := range r.Devices {
		p(" ms: %s |", d.Name)
	}
	p("\n|---|---|---|%s%s\n", strings.Repeat("---|", len(r.Levels[0].Accuracy)), strings.Repeat("---|", len(r.Devices)))
	for i, l := range r.Levels {
		p("| %d | %s | %.2f |", i, s.Text(l.Subnet), float64(l.MACs)/1e6)
		for _, a := range l.Accuracy {
			p(" %.2f (%.2f to %.2f) |", a.Top1, a.Low, a.High)
		}
		for _, d := range r.Devices {
			ms := "-"
			for _, m := range l.Latency {
				if m.Device == d.Name {
					ms = fmt.Sprintf("%.4f", m.MedianMS)
				}
			}
			p(" %s |", ms)
		}
		p("\n")
	}
	q := r.Quality
	p("\nIn brackets is the 95 %% interval of that number of images. Neighbouring levels are at least %g points apart by the mean of measured and predicted accuracy.\n", o.Gap)
	p("\n## Predictions\n\n%d networks, predicted by five predictors of which each has not seen those that it predicts: rank correlation %.3f, mean error %.2f points, worst %.2f.\n\n",
		q.Networks, q.Rank, q.MeanError, q.Worst)
	p("![predicted over measured accuracy](predictions.svg)\n")
	for i, d := range r.Devices {
		how := "measured in turns on this machine"
		if !d.Measured {
			how = "by the table: this is another machine"
		}
		p("\n## %s\n\nBackend %s, threads: %d. Latency: %s.\n\n![accuracy over latency](%s.svg)\n\n", d.Name, d.Backend, d.Threads, how, frontName(i))
		p("| ms | by the table | top-1 %% | predicted | sub-network | kept | why |\n|---|---|---|---|---|---|---|\n")
		for _, x := range d.Candidates {
			kept := ""
			if x.Kept {
				kept = "yes"
			}
			p("| %.4f | %.4f | %.2f | %.2f | %s | %s | %s |\n", x.MS, x.TableMS, x.Top1, x.Predicted, x.Subnet, kept, x.Why)
		}
	}
	return b.Bytes()
}

// plotPredictions is predicted over measured accuracy of networks that the predictor has not seen.
func plotPredictions(r *pipeline.Report) figure.Figure {
	p := newPlot("Networks that the predictor has not seen", "measured top-1, %", "predicted, %")
	points := make(plotter.XYs, len(r.Networks))
	lo, hi := math.Inf(1), math.Inf(-1)
	for i, n := range r.Networks {
		points[i] = plotter.XY{X: n.Top1, Y: n.Predicted}
		lo, hi = min(lo, n.Top1, n.Predicted), max(hi, n.Top1, n.Predicted)
	}
	dots, err := plotter.NewScatter(points)
	must(err)
	dots.Color, dots.Shape, dots.Radius = ink, draw.CircleGlyph{}, 1.5
	equal, err := plotter.NewLine(plotter.XYs{{X: lo, Y: lo}, {X: hi, Y: hi}})
	must(err)
	equal.Color, equal.Width = alert, 0.5
	p.Add(equal, dots)
	p.Legend.Add("equal", equal)
	p.Legend.Left, p.Legend.Top = true, true
	return figure.Figure{Plots: []*plot.Plot{p}, Height: 10 * vg.Centimeter}
}

// plotCandidates is accuracy over latency on one device: all candidates, what was predicted of them, and the levels.
func plotCandidates(d pipeline.DeviceReport) figure.Figure {
	p := newPlot("Candidates and levels on "+d.Name, "latency, ms", "top-1 of the held-out images, %")
	var measured, predicted, levels plotter.XYs
	for _, c := range d.Candidates {
		measured = append(measured, plotter.XY{X: c.MS, Y: c.Top1})
		predicted = append(predicted, plotter.XY{X: c.TableMS, Y: c.Predicted})
		if c.Kept {
			levels = append(levels, plotter.XY{X: c.MS, Y: c.Top1})
		}
	}
	expected, err := plotter.NewScatter(predicted)
	must(err)
	expected.Color, expected.Shape, expected.Radius = alert, draw.CrossGlyph{}, 2
	found, err := plotter.NewScatter(measured)
	must(err)
	found.Color, found.Shape, found.Radius = ink, draw.RingGlyph{}, 2
	line, dots, err := plotter.NewLinePoints(levels)
	must(err)
	line.Color, dots.Color, dots.Shape, dots.Radius = ink, ink, draw.CircleGlyph{}, 3
	p.Add(expected, found, line, dots)
	p.Legend.Add("predicted", expected)
	p.Legend.Add("measured", found)
	p.Legend.Add("levels", line, dots)
	p.Legend.Top = false
	p.X.Min = 0
	return figure.Figure{Plots: []*plot.Plot{p}, Height: 11 * vg.Centimeter}
}
