// Package figure writes plots above each other as one picture.
package figure

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
)

// Figure is one or more plots above each other.
type Figure struct {
	Plots  []*plot.Plot
	Height vg.Length // of all together
	Width  vg.Length // 0: 18 cm
}

// Check refuses a name that Save cannot write.
func Check(path string) error {
	if ext := filepath.Ext(path); ext != ".svg" && ext != ".png" {
		return fmt.Errorf("%s: expected a name that ends in .svg or .png", path)
	}
	return nil
}

// Save writes the picture, as its name's end says: .svg or .png.
func (f Figure) Save(path string) error {
	if err := Check(path); err != nil {
		return err
	}
	if f.Width == 0 {
		f.Width = 18 * vg.Centimeter
	}
	var file io.WriterTo
	if filepath.Ext(path) == ".svg" {
		c := vgsvg.New(f.Width, f.Height)
		f.draw(draw.New(c))
		file = c
	} else {
		c := vgimg.NewWith(vgimg.UseWH(f.Width, f.Height), vgimg.UseDPI(120))
		f.draw(draw.New(c))
		file = vgimg.PngCanvas{Canvas: c}
	}
	return atomicfile.Replace(path, func(w io.Writer) error {
		_, err := file.WriteTo(w)
		return err
	})
}

// Ticks are gonum's, with labels of as many decimals as say their values: its own repeat (11, 11, 11) where an axis is
// short beside its values.
type Ticks struct{}

// Ticks implements plot.Ticker.
func (Ticks) Ticks(low, high float64) []plot.Tick {
	ticks := plot.DefaultTicks{}.Ticks(low, high)
	for decimals := range 7 { // beyond, gonum's powers of ten
		better, exact := slices.Clone(ticks), true
		for i, t := range better {
			if t.Label == "" { // a minor one
				continue
			}
			better[i].Label = strconv.FormatFloat(t.Value, 'f', decimals, 64)
			v, err := strconv.ParseFloat(better[i].Label, 64)
			exact = exact && err == nil && math.Abs(v-t.Value) < 1e-6*(high-low)
		}
		if exact {
			return better
		}
	}
	return ticks
}

func (f Figure) draw(c draw.Canvas) {
	rows := make([][]*plot.Plot, len(f.Plots))
	for i, p := range f.Plots {
		rows[i] = []*plot.Plot{p}
	}
	tiles := draw.Tiles{Rows: len(rows), Cols: 1, PadY: 4 * vg.Millimeter, PadTop: vg.Millimeter, PadBottom: vg.Millimeter, PadLeft: vg.Millimeter, PadRight: 4 * vg.Millimeter}
	for i, row := range plot.Align(rows, tiles, c) {
		f.Plots[i].Draw(row[0])
	}
}
