package main

import (
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/governor/sim"
)

// plotSimulation is latency against the deadline, the level, the slowdown as it is and as it is estimated, and what
// the announcing sensors say, if there are any.
func plotSimulation(s *sim.Scenario, name string, frames []sim.Frame) figure.Figure {
	latency := newPlot(fmt.Sprintf("%s, %s", s.Name, name), "", "latency, ms")
	level := newPlot("", "", "level")
	slowdown := newPlot("", "", "slowdown")
	sensors := newPlot("", "", "sensors")
	var onTime, late, deadline, levels, truth, estimate plotter.XYs
	sensed := map[string]plotter.XYs{}
	for _, f := range frames {
		if f.Stream > 0 {
			continue
		}
		at, ms := f.At.Seconds(), f.Latency.Seconds()*1e3
		if f.Latency > f.Budget {
			late = append(late, plotter.XY{X: at, Y: ms})
		} else {
			onTime = append(onTime, plotter.XY{X: at, Y: ms})
		}
		deadline = append(deadline, plotter.XY{X: at, Y: f.Budget.Seconds() * 1e3})
		levels = append(levels, plotter.XY{X: at, Y: float64(f.Level)})
		truth = append(truth, plotter.XY{X: at, Y: f.Slowdown})
		if f.Estimated > 0 {
			estimate = append(estimate, plotter.XY{X: at, Y: f.Estimated})
		}
		for field, value := range f.Announced() {
			sensed[field] = append(sensed[field], plotter.XY{X: at, Y: value})
		}
	}
	dots := func(p *plot.Plot, xys plotter.XYs, c color.Color, name string) {
		if len(xys) == 0 {
			return
		}
		d, err := plotter.NewScatter(xys)
		must(err)
		d.Color, d.Shape, d.Radius = c, draw.CircleGlyph{}, 1.6
		p.Add(d)
		p.Legend.Add(name, d)
	}
	steps := func(p *plot.Plot, xys plotter.XYs, c color.Color, name string, dashes ...vg.Length) {
		if len(xys) == 0 {
			return
		}
		l, err := plotter.NewLine(xys)
		must(err)
		l.StepStyle, l.Color, l.Dashes = plotter.PostStep, c, dashes
		p.Add(l)
		if name != "" {
			p.Legend.Add(name, l)
		}
	}
	dots(latency, onTime, ink, "in time")
	dots(latency, late, alert, "late")
	steps(latency, deadline, alert, "deadline", 4, 3)
	steps(level, levels, ink, "")
	steps(slowdown, truth, alert, "true")
	steps(slowdown, estimate, ink, "estimated", 4, 2)
	var names []string
	for field := range sensed {
		names = append(names, field)
	}
	slices.Sort(names)
	colors := []color.Color{ink, alert, color.RGBA{0x2e, 0x7d, 0x32, 0xff}, color.RGBA{0x8e, 0x44, 0xad, 0xff}}
	for i, field := range names {
		var dashes []vg.Length // none where the pattern would have no length
		if i > 0 {
			dashes = []vg.Length{vg.Length(4 * i), vg.Length(2 * i)}
		}
		steps(sensors, sensed[field], colors[i%len(colors)], field, dashes...)
	}
	level.Y.Min, level.Y.Max = -0.3, float64(len(s.Levels))-0.7
	if len(s.Levels) <= 12 {
		level.Y.Tick.Marker = plot.ConstantTicks(levelTicks(len(s.Levels)))
	}
	plots, height := []*plot.Plot{latency, level, slowdown}, 18*vg.Centimeter
	if len(sensed) > 0 {
		plots, height = append(plots, sensors), 24*vg.Centimeter
		sensors.Y.Max = sensors.Y.Max*1.1 + 0.1
	}
	plots[len(plots)-1].X.Label.Text = "time, s"
	for _, p := range plots {
		p.Legend.Top = true
		p.X.Min, p.X.Max = 0, s.Length/1e3
	}
	latency.Y.Min, latency.Y.Max = 0, latency.Y.Max*1.25
	slowdown.Y.Max *= 1.1
	return figure.Figure{Plots: plots, Height: height}
}
