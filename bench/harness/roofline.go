package harness

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/dynofa/dynofa/bench/figure"
	"github.com/dynofa/dynofa/gofacade/dynofa"
)

// traffic returns a function that counts what a part of the session's network moves at least: its input, weights and
// output, each once; what a part keeps to itself, such as the expanded map that the depthwise convolution reads, counts
// nothing. And the multiply-adds with padding, of which a 7x7 convolution of a small map has many.
func (m *Model) traffic(s *dynofa.Session) func(dynofa.LayerTime) (bytes, padded int64) {
	space, n := m.Space(), s.Subnet()
	blocks := space.Blocks(n)
	last := blocks[len(blocks)-1]
	head := space.Head.Expand
	if head == 0 {
		head = space.Head.Features
	}
	square := func(side int) int { return side * side }
	return func(l dynofa.LayerTime) (bytes, padded int64) {
		b := &last
		for i := range blocks {
			if blocks[i].Index == l.Block {
				b = &blocks[i]
			}
		}
		floats := 0
		switch l.Name {
		case "stem":
			floats = 3*square(n.Resolution) + 27*space.Stem.Channels + square(blocks[0].InSide)*space.Stem.Channels
			padded = int64(3 * space.Stem.Channels * (square(3*blocks[0].InSide) - square(inside(n.Resolution, 3, space.Stem.Stride))))
		case "expand": // apart from the depthwise convolution in pure Go
			floats = b.In*square(b.InSide) + b.In*b.Mid + b.Mid*square(b.InSide)
		case "expand, depthwise", "depthwise":
			in := b.Mid
			if b.Expand > 0 && l.Name != "depthwise" {
				in = b.In
				floats = b.In * b.Mid
			}
			floats += in*square(b.InSide) + square(b.Kernel)*b.Mid + b.Mid*square(b.OutSide)
			padded = int64(b.Mid * (square(b.Kernel*b.OutSide) - square(inside(b.InSide, b.Kernel, b.Stride))))
		case "squeeze":
			floats = b.Mid + b.Mid*b.Squeeze + b.Squeeze
		case "squeeze and excite": // in pure Go
			floats = 2*b.Mid + 2*b.Mid*b.Squeeze
		case "pool":
			floats = head * (square(last.OutSide) + 1)
		case "excite":
			floats = b.Squeeze + b.Squeeze*b.Mid + b.Mid
		case "project":
			floats = b.Mid*square(b.OutSide) + b.Mid*b.Out + b.Out*square(b.OutSide)
			if b.Residual {
				floats += b.In * square(b.InSide)
			}
		case "head":
			floats = last.Out*square(last.OutSide) + last.Out*head + head
		case "features":
			floats = head + head*space.Head.Features + space.Head.Features
		case "classifier":
			floats = space.Head.Features + space.Head.Features*m.Classes() + m.Classes()
		}
		return 4 * int64(floats), padded
	}
}

// inside counts the taps of a convolution along one side that do not fall on padding.
func inside(side, kernel, stride int) (taps int) {
	for at := 0; at < side; at += stride {
		taps += min(side-1, at+kernel/2) - max(0, at-kernel/2) + 1
	}
	return taps
}

// Roof is what one instruction set of a CPU can do with one thread, as checkkern --roof measures it.
type Roof struct {
	ISA    string      `json:"isa"`
	GFLOPS float64     `json:"gflops"`
	Reads  []Bandwidth `json:"reads"` // from the nearest cache to memory
}

// Bandwidth is that of reading so many bytes again and again.
type Bandwidth struct {
	Bytes int64   `json:"bytes"`
	GBS   float64 `json:"gbs"`
}

// ReadRoofs reads what checkkern --roof printed.
func ReadRoofs(path string) ([]Roof, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var roofs []Roof
	n := 0
	for text := range bytes.Lines(data) {
		n++
		var r Roof
		if err := strict(text, &r); err != nil {
			return nil, fmt.Errorf("%s:%d: %w, expected what checkkern --roof prints", path, n, err)
		}
		good := r.ISA != "" && r.GFLOPS > 0 && len(r.Reads) > 0
		for _, b := range r.Reads {
			good = good && b.Bytes > 0 && b.GBS > 0
		}
		if !good || r.GFLOPS > 1e9 {
			return nil, fmt.Errorf("%s:%d: %.60q, expected a set, its GFLOP/s and bandwidths above zero", path, n, bytes.TrimSpace(text))
		}
		roofs = append(roofs, r)
	}
	if len(roofs) == 0 {
		return nil, fmt.Errorf("%s: no roofs, expected what checkkern --roof prints", path)
	}
	return roofs, nil
}

// flops are those that are needed.
func (p *Part) flops() float64 { return 2 * float64(p.MACs-p.Padded) }

// intensity is FLOP a byte.
func (p *Part) intensity() float64 { return p.flops() / float64(p.Bytes) }

// gflops is what was reached.
func (p *Part) gflops() float64 { return p.flops() / float64(p.NS) }

// roofed are the rows of one thread that have parts with bytes, each with its roof.
func roofed(r *Result, roofs []Roof) (rows []*Measured, of []*Roof, err error) {
	for i := range r.Rows {
		m := &r.Rows[i]
		isa := strings.TrimPrefix(m.Backend, "native/")
		at := slices.IndexFunc(roofs, func(r Roof) bool { return r.ISA == isa })
		if m.Layers == nil || m.Threads != 1 || at < 0 {
			continue
		}
		if !slices.ContainsFunc(m.Layers.Parts, func(p Part) bool { return p.drawn() }) {
			continue
		}
		rows, of = append(rows, m), append(of, &roofs[at])
	}
	if len(rows) == 0 {
		return nil, nil, fmt.Errorf("%s: no row of one thread with parts and a roof for its instruction set, expected one: bench run --layers", r.name)
	}
	return rows, of, nil
}

// drawn parts do arithmetic for longer than the clock's own tick.
func (p *Part) drawn() bool { return p.MACs > 0 && p.Bytes > 0 && p.NS >= 100 }

// WriteRoofline writes how much of the roof every part reaches. Its traffic comes from the second level cache, where a
// small network stays, unless there is only one bandwidth.
func WriteRoofline(out io.Writer, r *Result, roofs []Roof) error {
	rows, of, err := roofed(r, roofs)
	if err != nil {
		return err
	}
	for i, m := range rows {
		roof, cache := of[i], of[i].Reads[min(1, len(of[i].Reads)-1)]
		fmt.Fprintf(out, "%s\nroof: %.1f GFLOP/s", m.Name(), roof.GFLOPS)
		for _, b := range roof.Reads {
			fmt.Fprintf(out, ", %.1f GB/s of %s", b.GBS, size(b.Bytes))
		}
		fmt.Fprintf(out, "; of the roof: with the bandwidth of %s\n", size(cache.Bytes))
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "  part\tof\tus\tFLOP/byte\tGFLOP/s\tof the peak\tof the roof\tkernel\n")
		var flops, ns float64
		for _, p := range m.Layers.Parts {
			flops, ns = flops+p.flops(), ns+float64(p.NS)
			if p.drawn() {
				bound := min(roof.GFLOPS, p.intensity()*cache.GBS)
				fmt.Fprintf(w, "  %s\t%s\t%.2f\t%.1f\t%.1f\t%.0f %%\t%.0f %%\t%s\n", p.Name, p.place(), float64(p.NS)/1e3, p.intensity(), p.gflops(),
					100*p.gflops()/roof.GFLOPS, 100*p.gflops()/bound, p.Kernel)
			}
		}
		_ = w.Flush()
		fmt.Fprintf(out, "  all parts: %.1f GFLOP/s, %.0f %% of the peak\n\n", flops/ns, 100*flops/ns/roof.GFLOPS)
	}
	return nil
}

func size(b int64) string {
	if b >= 1<<20 {
		return fmt.Sprintf("%d MiB", b>>20)
	}
	return fmt.Sprintf("%d KiB", b>>10)
}

var partColors = []struct {
	name  string
	color color.Color
}{
	{"stem", color.RGBA{0x8e, 0x5a, 0xa8, 0xff}}, {"depthwise", color.RGBA{0x1f, 0x4e, 0x79, 0xff}},
	{"project", color.RGBA{0x2e, 0x86, 0x4b, 0xff}}, {"squeeze", color.RGBA{0xb9, 0x77, 0x0e, 0xff}},
	{"excite", color.RGBA{0xd4, 0xac, 0x0d, 0xff}}, {"head", color.RGBA{0xc0, 0x39, 0x2b, 0xff}},
	{"features", color.RGBA{0x7f, 0x8c, 0x8d, 0xff}}, {"classifier", color.RGBA{0x20, 0x20, 0x20, 0xff}},
}

// Roofline draws the parts of each row below their roof: arithmetic over intensity, both logarithmic; the area of a dot
// is the part's share of the time.
func Roofline(r *Result, roofs []Roof) (*figure.Figure, error) {
	rows, of, err := roofed(r, roofs)
	if err != nil {
		return nil, err
	}
	const most = 12
	if len(rows) > most {
		return nil, fmt.Errorf("harness: a picture of %d rows, expected 1 to %d", len(rows), most)
	}
	f := &figure.Figure{Height: vg.Length(len(rows)) * 11 * vg.Centimeter}
	for i, m := range rows {
		p, err := m.roofline(of[i])
		if err != nil {
			return nil, err
		}
		f.Plots = append(f.Plots, p)
	}
	return f, nil
}

func (m *Measured) roofline(roof *Roof) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = fmt.Sprintf("level %d, %s, one thread: the parts below their roof", m.Level, m.Backend)
	p.Title.Padding = 2 * vg.Millimeter
	p.X.Label.Text, p.Y.Label.Text = "FLOP a byte (inputs, weights and outputs once)", "GFLOP/s"
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Add(plotter.NewGrid())
	low, high, least, total := 0.25, 64.0, roof.GFLOPS/16, int64(0)
	for _, part := range m.Layers.Parts {
		total += part.NS
		if part.drawn() {
			low, high, least = min(low, part.intensity()/2), max(high, 2*part.intensity()), min(least, part.gflops()/2)
		}
	}
	grey := color.Gray{0x60}
	for i, b := range roof.Reads {
		ridge := roof.GFLOPS / b.GBS
		l, err := plotter.NewLine(plotter.XYs{{X: low, Y: low * b.GBS}, {X: ridge, Y: roof.GFLOPS}, {X: high, Y: roof.GFLOPS}})
		if err != nil {
			return nil, err
		}
		l.Color, l.Width = grey, vg.Points(1)
		l.Dashes = [][]vg.Length{nil, {vg.Points(5), vg.Points(2)}, {vg.Points(1.5), vg.Points(2)}}[min(i, 2)]
		p.Add(l)
		p.Legend.Add(fmt.Sprintf("%.0f GFLOP/s, %.0f GB/s of %s", roof.GFLOPS, b.GBS, size(b.Bytes)), l)
	}
	for _, kind := range partColors {
		var points plotter.XYs
		var radii []vg.Length
		for _, part := range m.Layers.Parts {
			if part.drawn() && strings.HasSuffix(part.Name, kind.name) {
				points = append(points, plotter.XY{X: part.intensity(), Y: part.gflops()})
				radii = append(radii, max(vg.Points(1.5), vg.Points(20*math.Sqrt(float64(part.NS)/float64(total)))))
			}
		}
		if len(points) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(points)
		if err != nil {
			return nil, err
		}
		dots.GlyphStyle = draw.GlyphStyle{Color: kind.color, Radius: vg.Points(3), Shape: draw.RingGlyph{}}
		p.Legend.Add(kind.name, dots)
		dots.GlyphStyleFunc = func(i int) draw.GlyphStyle {
			return draw.GlyphStyle{Color: kind.color, Radius: radii[i], Shape: draw.RingGlyph{}}
		}
		p.Add(dots)
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = low, high, least, 2*roof.GFLOPS
	p.Legend.Left, p.Legend.Top = false, false
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	return p, nil
}
