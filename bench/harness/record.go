package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// Format and Version are what a result file's first line says it is.
const (
	Format  = "dynofa-bench"
	Version = 1
)

// Scenario is who asks when, as MLPerf's LoadGen defines it.
type Scenario string

// The scenarios.
const (
	SingleStream Scenario = "singlestream" // the next query when the last is answered
	MultiStream  Scenario = "multistream"  // the same with eight images a query
	Server       Scenario = "server"       // queries at random times, whether or not the last is answered
	Offline      Scenario = "offline"      // all images at once
)

// Scenarios lists them.
func Scenarios() []Scenario { return []Scenario{SingleStream, MultiStream, Server, Offline} }

// imagesPerQuery is LoadGen's number; Offline has one query of all.
func (s Scenario) imagesPerQuery() int {
	if s == MultiStream {
		return 8
	}
	return 1
}

// percentile is the one that counts.
func (s Scenario) percentile() float64 {
	if s == SingleStream {
		return 0.90
	}
	return 0.99
}

// Row is what is measured: one level, scenario, backend and number of threads.
type Row struct {
	Model      string   `json:"model"`
	SHA256     string   `json:"sha256"`
	Data       string   `json:"data"`
	Scenario   Scenario `json:"scenario"`
	Level      int      `json:"level"`
	Subnet     string   `json:"subnet"`
	Resolution int      `json:"resolution"`
	MACs       int64    `json:"macs"`
	Backend    string   `json:"backend"`
	Threads    int      `json:"threads"`
	// QPS and BoundMS are Server's: queries a second, and what their p99 may take.
	QPS     float64 `json:"qps,omitempty"`
	BoundMS float64 `json:"bound_ms,omitempty"`
}

// Chunk is a slice of time of a row: the latencies of its queries, in nanoseconds, in order. For Offline a value
// is the time that Images images took together.
type Chunk struct {
	Row      int      `json:"row"`
	Images   int      `json:"images"` // per value
	NS       []int64  `json:"ns"`
	Seconds  float64  `json:"seconds"` // of the slice
	Watch    Watch    `json:"watch"`
	Dirty    []string `json:"dirty,omitempty"`     // why these values are not the machine's own
	EnergyMJ *float64 `json:"energy_mj,omitempty"` // absent: no meter
}

// Layers is where the time of a row's inferences goes.
type Layers struct {
	Row      int     `json:"row"`
	Runs     int     `json:"runs"`
	Overhead float64 `json:"overhead"` // of timing the parts, as a share of an inference
	Parts    []Part  `json:"parts"`
}

// Part is a part of an inference.
type Part struct {
	Name   string `json:"name"`
	Kernel string `json:"kernel"` // what it calls, or the engine's name
	Stage  int    `json:"stage"`  // elastic stage, -1 for the first block and outside of blocks
	Block  int    `json:"block"`  // number in the supernet, -1 outside of blocks
	MACs   int64  `json:"macs"`
	Bytes  int64  `json:"bytes,omitempty"`  // that it moves at least: input, weights and output
	Padded int64  `json:"padded,omitempty"` // of the MACs, those with padding, which kernels may leave out
	NS     int64  `json:"ns"`               // median
}

// header is the first line of a result file.
type header struct {
	Format      string       `json:"format"`
	Version     int          `json:"version"`
	Environment *Environment `json:"environment"`
	Meter       string       `json:"meter"` // source of energy_mj, or "n/a"
}

// line is one line after the header: exactly one of its fields.
type line struct {
	Row    *Row    `json:"row,omitempty"`
	Chunk  *Chunk  `json:"chunk,omitempty"`
	Layers *Layers `json:"layers,omitempty"`
	End    *end    `json:"end,omitempty"`
	// Governed stands by itself: it is whole.
	Governed *Governed `json:"governed,omitempty"`
}

// end says that a row is complete.
type end struct {
	Row int `json:"row"`
}

// Result is a result file.
type Result struct {
	Environment Environment
	Meter       string
	Rows        []Measured
	Governed    []Governed
	Truncated   bool   // the last line is unfinished: the run was killed
	name        string // of its file, for errors
}

// Measured is a row with everything that was measured of it.
type Measured struct {
	Row
	Chunks   []Chunk
	Layers   *Layers
	Complete bool
}

// Writer appends to a result file, a line at a time, so that what a killed run has measured is readable.
type Writer struct {
	w    io.Writer
	rows int
}

// NewWriter writes the header. meter is the source of all energies, "n/a" if there will be none.
func NewWriter(w io.Writer, env *Environment, meter string) (*Writer, error) {
	out := &Writer{w: w}
	return out, out.write(header{Format, Version, env, meter})
}

func (w *Writer) write(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.w.Write(append(data, '\n'))
	return err
}

func (w *Writer) row(r *Row) (int, error) {
	w.rows++
	return w.rows - 1, w.write(line{Row: r})
}

// ReadFile reads a result file.
func ReadFile(path string) (*Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Read(f, path)
}

const largestFile = 1 << 30

// Read reads a result file. An error names the line and what was expected there.
func Read(r io.Reader, name string) (*Result, error) {
	data, err := io.ReadAll(io.LimitReader(r, largestFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > largestFile {
		return nil, fmt.Errorf("%s: more than %d bytes, expected a result file of fewer", name, largestFile)
	}
	res := &Result{name: name}
	for n := 1; len(data) > 0; n++ {
		text, rest, whole := bytes.Cut(data, []byte("\n"))
		if data = rest; !whole {
			if n == 1 {
				return nil, fmt.Errorf("%s:1: %.40q is no whole line, expected the header of a %s file", name, text, Format)
			}
			res.Truncated = true
			break
		}
		if n == 1 {
			err = res.header(text)
		} else {
			err = res.line(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	if res.Meter == "" {
		return nil, fmt.Errorf("%s:1: the file is empty, expected the header of a %s file", name, Format)
	}
	return res, nil
}

// strict decodes one JSON object that must know all fields of v.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value, expected one object a line")
	}
	return nil
}

func (res *Result) header(text []byte) error {
	var kind struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(text, &kind); err != nil || kind.Format != Format {
		return fmt.Errorf("%.40q, expected the header of a %s file", text, Format)
	}
	if kind.Version != Version {
		return fmt.Errorf("version %d, expected %d", kind.Version, Version)
	}
	var h header
	if err := strict(text, &h); err != nil {
		return err
	}
	if h.Environment == nil || h.Environment.Fingerprint == "" || h.Meter == "" {
		return errors.New("no environment.fingerprint or no meter, expected both")
	}
	res.Environment, res.Meter = *h.Environment, h.Meter
	return nil
}

func (res *Result) line(text []byte) error {
	var l line
	if err := strict(text, &l); err != nil {
		var again header
		if strict(text, &again) == nil && again.Format != "" {
			return errors.New("a second header: two runs in one file, expected one; keep a file a run")
		}
		return err
	}
	given := 0
	for _, is := range []bool{l.Row != nil, l.Chunk != nil, l.Layers != nil, l.End != nil, l.Governed != nil} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return fmt.Errorf("%d of row, chunk, layers, end and governed, expected one", given)
	case l.Row != nil:
		return res.addRow(l.Row)
	case l.Governed != nil:
		return res.addGoverned(l.Governed)
	case l.Chunk != nil:
		m, err := res.open(l.Chunk.Row)
		if err != nil {
			return err
		}
		if err := l.Chunk.check(); err != nil {
			return err
		}
		m.Chunks = append(m.Chunks, *l.Chunk)
	case l.Layers != nil:
		m, err := res.open(l.Layers.Row)
		if err != nil {
			return err
		}
		if err := l.Layers.check(); err != nil {
			return err
		}
		m.Layers = l.Layers
	default:
		m, err := res.open(l.End.Row)
		if err != nil {
			return err
		}
		m.Complete = true
	}
	return nil
}

func (res *Result) addRow(r *Row) error {
	switch {
	case r.Model == "" || r.Subnet == "" || r.Backend == "":
		return fmt.Errorf("row of model %q, subnet %q, backend %q, expected all three", r.Model, r.Subnet, r.Backend)
	case !slices.Contains(Scenarios(), r.Scenario):
		return fmt.Errorf("scenario %q, expected one of %q", r.Scenario, Scenarios())
	case r.Threads < 1 || r.Resolution < 1 || r.MACs < 0 || r.Level < 0:
		return fmt.Errorf("row of %d threads, resolution %d, %d MACs, level %d, expected positive numbers", r.Threads, r.Resolution, r.MACs, r.Level)
	case (r.Scenario == Server) != (r.QPS > 0) || (r.Scenario == Server) != (r.BoundMS > 0):
		return fmt.Errorf("%s at %g queries a second with a bound of %g ms, expected both for server only", r.Scenario, r.QPS, r.BoundMS)
	case slices.ContainsFunc(res.Rows, func(m Measured) bool { return m.Name() == r.Name() }):
		return fmt.Errorf("a second row %s, expected each once", r.Name())
	}
	res.Rows = append(res.Rows, Measured{Row: *r})
	return nil
}

// open is a row that may still grow.
func (res *Result) open(row int) (*Measured, error) {
	if row < 0 || row >= len(res.Rows) {
		return nil, fmt.Errorf("row %d, expected one of the %d before", row, len(res.Rows))
	}
	if res.Rows[row].Complete {
		return nil, fmt.Errorf("row %d has ended before, expected nothing more of it", row)
	}
	return &res.Rows[row], nil
}

// longest is a day, in nanoseconds: longer latencies are mistakes.
const longest = 86400e9

func (c *Chunk) check() error {
	if len(c.NS) == 0 || c.Images < 1 || !(c.Seconds > 0 && c.Seconds < longest) {
		return fmt.Errorf("chunk of %d values for %d images each in %g s, expected at least one of each", len(c.NS), c.Images, c.Seconds)
	}
	for i, ns := range c.NS {
		if ns <= 0 || ns > longest {
			return fmt.Errorf("value %d of the chunk is %d ns, expected 1 to %g", i, ns, longest)
		}
	}
	if c.EnergyMJ != nil && !(*c.EnergyMJ > 0) {
		return fmt.Errorf("energy of %g mJ, expected more than 0", *c.EnergyMJ)
	}
	return c.Watch.check()
}

func (l *Layers) check() error {
	if l.Runs < 1 || len(l.Parts) == 0 || math.Abs(l.Overhead) > 100 {
		return fmt.Errorf("layers of %d runs with %d parts and overhead %g, expected some of each", l.Runs, len(l.Parts), l.Overhead)
	}
	for _, p := range l.Parts {
		if p.Name == "" || p.Kernel == "" || p.NS < 0 || p.NS > longest || p.MACs < 0 || p.Bytes < 0 || p.Padded < 0 || p.Padded > p.MACs || p.Block < -1 || p.Stage < -1 {
			return fmt.Errorf("part %q of kernel %q, block %d, stage %d with %d ns and %d MACs, expected names and numbers of at least 0",
				p.Name, p.Kernel, p.Block, p.Stage, p.NS, p.MACs)
		}
	}
	return nil
}

// Name is the row as Go's benchmarks are named: its keys in a fixed order.
func (r *Row) Name() string {
	backend := bytes.ReplaceAll([]byte(r.Backend), []byte("/"), []byte("-"))
	return fmt.Sprintf("%s/model=%s/level=%d/subnet=%s/backend=%s/threads=%d", r.Scenario, r.Model, r.Level, r.Subnet, backend, r.Threads)
}
