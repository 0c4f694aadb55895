package main

import (
	"fmt"
	"image/color"
	"io"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colours of the peers, in the order of engines; told apart in grey too, lighter each.
var colours = []color.Color{
	color.RGBA{0x1f, 0x4e, 0x79, 0xff}, color.RGBA{0xc0, 0x39, 0x2b, 0xff}, color.RGBA{0x1e, 0x84, 0x49, 0xff},
	color.RGBA{0x8e, 0x44, 0xad, 0xff}, color.RGBA{0xe6, 0x7e, 0x22, 0xff}, color.RGBA{0x5d, 0xad, 0xe2, 0xff},
	color.RGBA{0x95, 0xa5, 0xa6, 0xff},
}

const (
	plotWidth  = 22 * vg.Centimeter
	plotHeight = 8 * vg.Centimeter // of each number of threads
	plotTop    = 3.0               // longer bars end here and say their ratio
)

// plot draws each peer's ratio to dynofa, a panel for each number of threads.
func (r *report) plot(path string, threads []int) error {
	var labels []string
	for _, n := range r.Networks {
		labels = append(labels, n.Name)
	}
	panels := make([][]*plot.Plot, len(threads))
	for i, t := range threads {
		p := plot.New()
		p.Title.Text = plural(t, "thread") + ": time of each engine over time of dynofa"
		p.Y.Label.Text = "above 1, dynofa is faster"
		p.NominalX(labels...)
		p.Legend.Top, p.Legend.Left = true, false
		peers := r.Engines[1:]
		places := len(labels) + 2 // the last are for the legend
		width := plotWidth * 0.8 / vg.Length(places*(len(peers)+1))
		for k, e := range peers {
			offset := vg.Length(k) - vg.Length(len(peers)-1)/2
			values := make(plotter.Values, len(r.Networks))
			var cut plotter.XYLabels
			for j, n := range r.Networks {
				if c := n.Engines[e.Name]; c != nil {
					values[j] = min(c.Ratio[t], plotTop)
					if c.Ratio[t] > plotTop {
						cut.XYs = append(cut.XYs, plotter.XY{X: float64(j), Y: plotTop})
						cut.Labels = append(cut.Labels, fmt.Sprintf("%.1f", c.Ratio[t]))
					}
				}
			}
			bars, err := plotter.NewBarChart(values, width)
			if err != nil {
				return fmt.Errorf("plot: %w", err)
			}
			bars.Color, bars.LineStyle.Width = colours[k%len(colours)], 0
			bars.Offset = width * offset
			p.Add(bars)
			if len(cut.XYs) > 0 {
				over, err := plotter.NewLabels(cut)
				if err != nil {
					return fmt.Errorf("plot: %w", err)
				}
				for j := range over.TextStyle {
					over.TextStyle[j].XAlign, over.TextStyle[j].Font.Size = draw.XCenter, vg.Points(7)
				}
				over.Offset = vg.Point{X: width * offset, Y: vg.Points(2)}
				p.Add(over)
			}
			p.Legend.Add(e.Title, bars)
		}
		one := plotter.NewFunction(func(float64) float64 { return 1 })
		one.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(one)
		p.X.Min, p.X.Max = -0.5, float64(places)-0.5
		p.Y.Min, p.Y.Max = 0, plotTop*1.07
		panels[i] = []*plot.Plot{p}
	}
	return savePanels(path, panels)
}

func savePanels(path string, panels [][]*plot.Plot) error {
	height := plotHeight * vg.Length(len(panels))
	var canvas interface {
		vg.CanvasSizer
		io.WriterTo
	}
	switch filepath.Ext(path) {
	case ".svg":
		canvas = vgsvg.New(plotWidth, height)
	case ".png":
		canvas = vgimg.PngCanvas{Canvas: vgimg.New(plotWidth, height)}
	default:
		return fmt.Errorf("plot %s: expected .svg or .png", path)
	}
	dc := draw.New(canvas)
	tiles := draw.Tiles{Rows: len(panels), Cols: 1, PadY: vg.Centimeter / 2}
	for i, row := range plot.Align(panels, tiles, dc) {
		panels[i][0].Draw(row[0])
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
