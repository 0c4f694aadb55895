package main

import (
	"fmt"
	"image/color"
	"math"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/governor/library/profile"
)

var (
	ink    = color.RGBA{0x1f, 0x4e, 0x79, 0xff}
	alert  = color.RGBA{0xc0, 0x39, 0x2b, 0xff}
	shadow = color.RGBA{0xf2, 0xd7, 0xd5, 0xff}
)

// textFront is accuracy over latency in characters; each level is its number.
func textFront(levels []measured) string {
	const width, height = 60, 12
	loX, hiX := math.Inf(1), math.Inf(-1)
	loY, hiY := math.Inf(1), math.Inf(-1)
	for _, l := range levels {
		loX, hiX = min(loX, l.LatencyMS), max(hiX, l.LatencyMS)
		loY, hiY = min(loY, l.Recorded), max(hiY, l.Recorded)
	}
	rows := make([][]byte, height)
	for i := range rows {
		rows[i] = []byte(strings.Repeat(" ", width))
	}
	scale := func(v, lo, hi float64, n int) int {
		if hi == lo {
			return 0
		}
		return int(math.Round((v - lo) / (hi - lo) * float64(n-1)))
	}
	for _, l := range levels {
		row := height - 1 - scale(l.Recorded, loY, hiY, height)
		rows[row][scale(l.LatencyMS, loX, hiX, width)] = "0123456789abcdefghijklmnopqrstuvwxyz"[l.Level%36]
	}
	var b strings.Builder
	for i, row := range rows {
		label := ""
		switch i {
		case 0:
			label = fmt.Sprintf("%.1f %%", hiY)
		case height - 1:
			label = fmt.Sprintf("%.1f %%", loY)
		}
		fmt.Fprintf(&b, "%8s |%s\n", label, strings.TrimRight(string(row), " "))
	}
	fmt.Fprintf(&b, "%8s +%s\n%8s  %-*s%.3f ms", "top-1", strings.Repeat("-", width), "", width-9, fmt.Sprintf("%.3f ms", loX), hiX)
	return b.String()
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = 2 * vg.Millimeter
	p.Add(plotter.NewGrid())
	return p
}

// plotFront is accuracy over latency.
func plotFront(levels []measured, images int) figure.Figure {
	p := newPlot("Accuracy and latency of every level", "latency, ms (lower quartile, one thread)", fmt.Sprintf("top-1 of %d images, %%", images))
	points := make(plotter.XYs, len(levels))
	names := make([]string, len(levels))
	for i, l := range levels {
		points[i] = plotter.XY{X: l.LatencyMS, Y: l.Recorded}
		names[i] = fmt.Sprintf(" %d", l.Level)
	}
	line, dots, err := plotter.NewLinePoints(points)
	must(err)
	line.Color, dots.Color, dots.Shape, dots.Radius = ink, ink, draw.CircleGlyph{}, 3
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: points, Labels: names})
	must(err)
	labels.Offset = vg.Point{X: 1, Y: -11}
	p.Add(line, dots, labels)
	p.X.Min = 0
	return figure.Figure{Plots: []*plot.Plot{p}, Height: 10 * vg.Centimeter}
}

// plotTrace is latency against the deadline, the level and what the sensors showed, over time.
func plotTrace(t *trace) figure.Figure {
	deadlineMS, levels := t.head.DeadlineMS, len(t.head.Levels)
	latency := newPlot(t.head.Policy+": a load runs in the shaded time", "", "latency of a frame, ms")
	level := newPlot("", "time, s", "level")
	var points, late, steps plotter.XYs
	highest := deadlineMS
	for _, f := range t.frames {
		highest = max(highest, f.LatencyMS)
		at := plotter.XY{X: f.Seconds, Y: f.LatencyMS}
		if f.LatencyMS > deadlineMS {
			late = append(late, at)
		} else {
			points = append(points, at)
		}
		steps = append(steps, plotter.XY{X: f.Seconds, Y: float64(f.Level)})
	}
	if len(t.frames) == 0 {
		return figure.Figure{Plots: []*plot.Plot{latency, level}, Height: 14 * vg.Centimeter}
	}
	end := t.frames[len(t.frames)-1].Seconds
	shade(latency, t, highest*1.3)
	shade(level, t, float64(levels))
	for _, s := range []struct {
		xys   plotter.XYs
		color color.Color
		name  string
	}{{points, ink, "in time"}, {late, alert, "late"}} {
		if len(s.xys) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(s.xys)
		must(err)
		dots.Color, dots.Shape, dots.Radius = s.color, draw.CircleGlyph{}, 1.6
		latency.Add(dots)
		latency.Legend.Add(s.name, dots)
	}
	deadline, err := plotter.NewLine(plotter.XYs{{X: 0, Y: deadlineMS}, {X: end, Y: deadlineMS}})
	must(err)
	deadline.Color, deadline.Dashes = alert, []vg.Length{4, 3}
	latency.Add(deadline)
	latency.Legend.Add("deadline", deadline)
	latency.Legend.Top = true
	latency.Y.Min, latency.Y.Max = 0, highest*1.3 // room for the legend
	line, err := plotter.NewLine(steps)
	must(err)
	line.StepStyle, line.Color = plotter.PostStep, ink
	level.Add(line)
	level.Y.Min, level.Y.Max = -0.3, float64(levels)-0.7
	level.Y.Tick.Marker = plot.ConstantTicks(levelTicks(levels))
	f := figure.Figure{Plots: []*plot.Plot{latency, level}, Height: 14 * vg.Centimeter}
	if s := plotSensors(t); s != nil {
		f.Plots, f.Height = append(f.Plots, s), 19*vg.Centimeter
		level.X.Label.Text = ""
	}
	for _, p := range f.Plots {
		p.X.Min, p.X.Max = 0, end
	}
	return f
}

// plotSensors draws the sensors that are shares and that changed, or nothing.
func plotSensors(t *trace) *plot.Plot {
	p := newPlot("", "time, s", "sensors, share")
	colors := []color.Color{ink, alert, color.RGBA{0x2e, 0x86, 0x4b, 0xff}, color.RGBA{0x8e, 0x5a, 0xa8, 0xff}, color.RGBA{0xb9, 0x77, 0x0e, 0xff}, color.Gray{0x60}}
	n := 0
	shade(p, t, 1.5)
	for _, name := range []string{"Contention", "Pressure", "Steal", "Throttled", "Clock", "GPUClock", "GPULoad"} {
		var xys plotter.XYs
		changed := false
		for _, f := range t.frames {
			if v, ok := f.Sensors[name]; ok {
				changed = changed || len(xys) > 0 && v != xys[0].Y
				xys = append(xys, plotter.XY{X: f.Seconds, Y: v})
			}
		}
		if !changed {
			continue
		}
		line, err := plotter.NewLine(xys)
		must(err)
		line.StepStyle, line.Color = plotter.PostStep, colors[n%len(colors)]
		p.Add(line)
		p.Legend.Add(name, line)
		n++
	}
	if n == 0 {
		return nil
	}
	p.Legend.Top = true
	p.Y.Min, p.Y.Max = 0, 1.5 // room for the legend
	return p
}

func levelTicks(n int) []plot.Tick {
	var ticks []plot.Tick
	for i := range n {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: fmt.Sprint(i)})
	}
	return ticks
}

// shade marks the time in which the other load ran.
func shade(p *plot.Plot, t *trace, top float64) {
	from, to := -1.0, -1.0
	for _, f := range t.frames {
		if f.Loaded {
			if from < 0 {
				from = f.Seconds
			}
			to = f.Seconds
		}
	}
	if from < 0 {
		return
	}
	area, err := plotter.NewPolygon(plotter.XYs{{X: from, Y: -1}, {X: to, Y: -1}, {X: to, Y: top}, {X: from, Y: top}})
	must(err)
	area.Color, area.Width = shadow, 0
	p.Add(area)
}

// must is for what only non-finite numbers of our own could cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// plotProfile is the measured over the predicted latency, with its interval, and the line on which both are equal.
func plotProfile(r *profile.Report) figure.Figure {
	p := newPlot(fmt.Sprintf("%s, threads %d: mean error %.1f %%, worst %.1f %%", r.Backend, r.Threads, 100*r.Proof.MeanError, 100*r.Proof.Worst),
		"predicted, ms", "measured, ms")
	fig := figure.Figure{Plots: []*plot.Plot{p}, Height: 12 * vg.Centimeter}
	if len(r.Networks) == 0 {
		return fig
	}
	points := struct {
		plotter.XYs
		plotter.YErrors
	}{}
	lo, hi := math.Inf(1), 0.0
	for _, n := range r.Networks {
		points.XYs = append(points.XYs, plotter.XY{X: n.Predicted, Y: n.Measured})
		points.YErrors = append(points.YErrors, struct{ Low, High float64 }{n.Measured - n.Low, n.High - n.Measured})
		lo, hi = min(lo, n.Predicted, n.Low), max(hi, n.Predicted, n.High)
	}
	equal, err := plotter.NewLine(plotter.XYs{{X: lo, Y: lo}, {X: hi, Y: hi}})
	must(err)
	equal.Color, equal.Dashes = alert, []vg.Length{4, 3}
	bars, err := plotter.NewYErrorBars(points)
	must(err)
	bars.Color = ink
	dots, err := plotter.NewScatter(points.XYs)
	must(err)
	dots.Color, dots.Shape, dots.Radius = ink, draw.CircleGlyph{}, 2
	p.Add(equal, bars, dots)
	p.Legend.Add("equal", equal)
	p.Legend.Add("sub-network with 95 % interval", dots)
	p.Legend.Top, p.Legend.Left = true, true
	return fig
}
