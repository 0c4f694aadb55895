package harness

import (
	"fmt"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
)

// Latencies draws which share of the queries took at least so long, both logarithmic, so that a tail is as plain to see
// as the middle: a plot for each scenario, engine and number of threads, in it two lines for each level, the clean
// chunks and, dashed, the dirty ones. Dots are the percentiles that the table has. Offline has no latencies and is
// left out.
func Latencies(r *Result) (*figure.Figure, error) {
	const most = 12
	var titles []string
	plots := map[string]*plot.Plot{}
	for i := range r.Rows {
		m := &r.Rows[i]
		if m.Scenario == Offline || len(m.Chunks) == 0 {
			continue
		}
		title := fmt.Sprintf("%s, %s on %s, threads: %d", m.Scenario, m.Model, m.Backend, m.Threads)
		p := plots[title]
		if p == nil {
			p = emptyLatencies(title)
			plots[title], titles = p, append(titles, title)
		}
		if err := m.addLatencies(p); err != nil {
			return nil, err
		}
	}
	if len(titles) == 0 {
		return nil, fmt.Errorf("%s: no row with latencies, expected one of singlestream, multistream or server", r.name)
	}
	if len(titles) > most {
		return nil, fmt.Errorf("%s: a picture of %d scenarios, engines and numbers of threads, expected 1 to %d", r.name, len(titles), most)
	}
	f := &figure.Figure{Width: 22 * vg.Centimeter, Height: vg.Length(len(titles)) * 11 * vg.Centimeter}
	for _, title := range titles {
		p := plots[title]
		p.Legend.Add("dirty chunks", &plotter.Line{LineStyle: draw.LineStyle{Color: color.Gray{0x60}, Width: vg.Points(1.2), Dashes: dirtyDashes}})
		p.X.Min, p.X.Max = p.X.Min/1.1, p.X.Max*1.6 // room for the legend
		p.Y.Max = 1.3
		f.Plots = append(f.Plots, p)
	}
	return f, nil
}

var (
	dirtyDashes = []vg.Length{vg.Points(3), vg.Points(2)}
	levelColors = []color.Color{
		color.RGBA{0x1f, 0x4e, 0x79, 0xff}, color.RGBA{0xc0, 0x39, 0x2b, 0xff}, color.RGBA{0x2e, 0x86, 0x4b, 0xff}, color.RGBA{0xb9, 0x77, 0x0e, 0xff},
		color.RGBA{0x8e, 0x5a, 0xa8, 0xff}, color.RGBA{0x00, 0x8b, 0x8b, 0xff}, color.RGBA{0xd4, 0x5d, 0x9c, 0xff}, color.RGBA{0x50, 0x50, 0x50, 0xff},
	}
)

func emptyLatencies(title string) *plot.Plot {
	p := plot.New()
	// A label at the logarithmic axis would get room for where it were on a linear one.
	p.Title.Text, p.Title.Padding = title+": share of queries that take at least so long", 2*vg.Millimeter
	p.X.Label.Text = "ms a query"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker = plot.TickerFunc(latencyTicks)
	p.Y.Tick.Marker = plot.TickerFunc(shareTicks)
	p.Legend.Top = true
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Add(plotter.NewGrid())
	return p
}

func shareTicks(low, high float64) []plot.Tick {
	ticks := []plot.Tick{{Value: 1, Label: "all"}, {Value: 0.5, Label: "p50"}, {Value: 0.1, Label: "p90"}, {Value: 0.01, Label: "p99"},
		{Value: 1e-3, Label: "p99.9"}, {Value: 1e-4, Label: "p99.99"}, {Value: 1e-5, Label: "p99.999"}}
	return slices.DeleteFunc(ticks, func(t plot.Tick) bool { return t.Value < low || t.Value > high })
}

// latencyTicks are 1, 2 and 5 of every power of ten.
func latencyTicks(low, high float64) []plot.Tick {
	var ticks []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for _, n := range []float64{1, 2, 5} {
			if v := n * power; v >= low && v <= high {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%.4g", v)})
			}
		}
	}
	return ticks
}

func (m *Measured) addLatencies(p *plot.Plot) error {
	var clean, dirty []int64
	for _, c := range m.Chunks {
		if len(c.Dirty) > 0 {
			dirty = append(dirty, c.NS...)
		} else {
			clean = append(clean, c.NS...)
		}
	}
	ink := levelColors[m.Level%len(levelColors)]
	p.Legend.Add(fmt.Sprintf("level %d", m.Level), &plotter.Line{LineStyle: draw.LineStyle{Color: ink, Width: vg.Points(1.2)}})
	for _, part := range []struct {
		ns     []int64
		dashes []vg.Length
	}{{clean, nil}, {dirty, dirtyDashes}} {
		if len(part.ns) == 0 {
			continue
		}
		l, err := plotter.NewLine(atLeast(part.ns))
		if err != nil {
			return err
		}
		l.Color, l.Width, l.Dashes = ink, vg.Points(1.2), part.dashes
		p.Add(l)
	}
	s := m.Summarize()
	var marks plotter.XYs
	for _, q := range []struct{ ms, share float64 }{{s.MedianMS, 0.5}, {s.P90MS, 0.1}, {s.P99MS, 0.01}, {s.P999MS, 0.001}} {
		if q.ms > 0 {
			marks = append(marks, plotter.XY{X: q.ms, Y: q.share})
		}
	}
	dots, err := plotter.NewScatter(marks)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
	p.Add(dots)
	return nil
}

// atLeast is the share of values that are at least as large as each, thinned out to what a line needs.
func atLeast(ns []int64) plotter.XYs {
	const step = 1.01
	sorted := slices.Sorted(slices.Values(ns))
	n := len(sorted)
	var line plotter.XYs
	for left := n; left > 0; left = min(left-1, int(float64(left)/step)) {
		line = append(line, plotter.XY{X: ms(sorted[n-left]), Y: float64(left) / float64(n)})
	}
	return line
}
