// Package figure writes plots above each other as one picture.
package figure

import (
	"fmt"
	"io"
	"path/filepath"

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
