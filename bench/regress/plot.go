package regress

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

var (
	ink    = color.RGBA{0x1f, 0x4e, 0x79, 0xff}
	alert  = color.RGBA{0xc0, 0x39, 0x2b, 0xff}
	accept = color.RGBA{0x7f, 0x8c, 0x8d, 0xff}
)

// Plot draws series: their points, the median of each segment, and shifts with their revisions. Accepted ones are
// grey. Where there are too many series for a picture, those of a governor in one scenario are left out.
func Plot(series []Series) (*figure.Figure, error) {
	const most = 24
	if len(series) > most {
		series = slices.DeleteFunc(slices.Clone(series), func(s Series) bool {
			q := quantityOf(s.Name)
			return q != nil && !q.suite
		})
	}
	if len(series) == 0 || len(series) > most {
		return nil, fmt.Errorf("regress: a picture of %d series, expected 1 to %d", len(series), most)
	}
	f := &figure.Figure{Width: 22 * vg.Centimeter, Height: vg.Length(len(series)) * 5 * vg.Centimeter}
	for i := range series {
		p, err := plotSeries(&series[i])
		if err != nil {
			return nil, err
		}
		f.Plots = append(f.Plots, p)
	}
	return f, nil
}

func plotSeries(s *Series) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = s.Name
	p.Title.TextStyle.Font.Size = vg.Points(9) // names are long
	p.Y.Label.Text = s.Unit
	p.Y.Tick.Marker = figure.Ticks{}
	p.X.Tick.Marker = plot.ConstantTicks(revisionTicks(s.Revisions))
	points := make(plotter.XYs, len(s.Values))
	low, high := math.Inf(1), math.Inf(-1)
	for i, v := range s.Values {
		points[i] = plotter.XY{X: float64(i), Y: v}
		low, high = min(low, v), max(high, v)
	}
	margin := max(high-low, math.Abs(high)/100, 1e-9) / 5
	p.Y.Min, p.Y.Max = low-margin, high+2*margin
	p.X.Min, p.X.Max = -0.5, float64(len(s.Values))-0.5
	dots, err := plotter.NewScatter(points)
	if err != nil {
		return nil, err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: ink, Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
	p.Add(plotter.NewGrid(), dots)
	from := 0
	for i := 0; i <= len(s.Shifts); i++ {
		to := len(s.Values)
		if i < len(s.Shifts) {
			to = s.Shifts[i].At
		}
		level := median(s.Values[from:to])
		if err := line(p, ink, plotter.XYs{{X: float64(from) - 0.5, Y: level}, {X: float64(to) - 0.5, Y: level}}); err != nil {
			return nil, err
		}
		from = to
	}
	for _, shift := range s.Shifts {
		c, text := alert, fmt.Sprintf("%s at %.12s", s.Amount(&shift.ChangePoint), shift.Revision)
		if shift.Accepted != "" {
			c, text = accept, text+", accepted"
		}
		x := float64(shift.At) - 0.5
		if err := line(p, c, plotter.XYs{{X: x, Y: p.Y.Min}, {X: x, Y: p.Y.Max}}); err != nil {
			return nil, err
		}
		labels, err := plotter.NewLabels(plotter.XYLabels{XYs: plotter.XYs{{X: x, Y: p.Y.Max}}, Labels: []string{text}})
		if err != nil {
			return nil, err
		}
		labels.TextStyle[0].Color = c
		labels.TextStyle[0].YAlign = draw.YTop
		labels.Offset.X = vg.Points(3)
		if x > p.X.Max*2/3 { // room is on the left
			labels.TextStyle[0].XAlign = draw.XRight
			labels.Offset.X = -vg.Points(3)
		}
		p.Add(labels)
	}
	return p, nil
}

// revisionTicks names some of the revisions, evenly.
func revisionTicks(revisions []string) []plot.Tick {
	const named = 10
	every := (len(revisions) + named - 1) / named
	var ticks []plot.Tick
	for i := 0; i < len(revisions); i += every {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: fmt.Sprintf("%.10s", revisions[i])})
	}
	return ticks
}

func line(p *plot.Plot, c color.Color, points plotter.XYs) error {
	l, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	l.Color, l.Width = c, vg.Points(1.2)
	p.Add(l)
	return nil
}
