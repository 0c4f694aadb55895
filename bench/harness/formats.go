package harness

import (
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// exporters writes one result; the formats that join several are in Export.
var exporters = map[string]func(io.Writer, *Result) error{
	"go": WriteGo, "json": WriteJSON, "gbench": WriteGBench, "gha": WriteGHA, "pprof": WritePprof,
	"table": func(w io.Writer, r *Result) error { WriteTable(w, r); return nil },
}

// Export writes results in a format: go, json, otava, gbench, gha, pprof or table. Only go and otava take more
// than one.
func Export(w io.Writer, format string, results []*Result) error {
	if format == "otava" {
		return WriteOtava(w, results)
	}
	if len(results) > 1 && format != "go" {
		return fmt.Errorf("harness: %d results as %s, expected one; go and otava take several", len(results), format)
	}
	for _, r := range results {
		if err := exporters[format](w, r); err != nil {
			return err
		}
	}
	return nil
}

// WriteTable writes what people read.
func WriteTable(out io.Writer, r *Result) {
	if len(r.Rows) > 0 {
		writeRows(out, r)
	}
	if len(r.Governed) > 0 {
		writeGoverned(out, r.Governed)
	}
}

func writeRows(out io.Writer, r *Result) {
	e := &r.Environment
	on := ""
	if e.Device != nil {
		on = e.Device.String() + ", beside "
	}
	fmt.Fprintf(out, "LoadGen-compatible scenarios on %s%s, %d CPUs (fingerprint %s)\n", on, e.CPU, e.CPUs, e.Fingerprint)
	fmt.Fprintf(out, "percentiles are upper bounds at 99 %% confidence; energy %s; dirty is the share of time that others disturbed\n", r.Meter)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "scenario\tlevel\tbackend\tthreads\tqueries\tmedian ms\tclean ms\tp90 ms\tp99 ms\timages/s\tmJ/image\tdirty\t  result\t\n")
	or := func(v float64, format string) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	for i := range r.Rows {
		m := &r.Rows[i]
		s := m.Summarize()
		energy, result := "n/a", "valid"
		if s.EnergyMJ != nil {
			energy = fmt.Sprintf("%.2f", *s.EnergyMJ)
		}
		if !s.Valid {
			result = "invalid: " + s.Why
		}
		if m.Scenario == Server {
			result = fmt.Sprintf("%.1f queries/s, p99 <= %.3f ms: %s", m.QPS, m.BoundMS, result)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%.4f\t%s\t%s\t%s\t%.1f\t%s\t%.0f %%\t  %s\t\n", m.Scenario, m.Level, m.Backend, m.Threads, s.Queries,
			s.MedianMS, or(s.CleanMS, "%.4f"), or(s.P90MS, "%.4f"), or(s.P99MS, "%.4f"), s.ImagesPS, energy, 100*s.Dirty, result)
	}
	_ = w.Flush()
	for i := range r.Rows {
		writeLayers(out, &r.Rows[i])
	}
}

// writeGoverned writes means and the standard deviation of a run.
func writeGoverned(out io.Writer, list []Governed) {
	fmt.Fprintf(out, "\ngovernor: mean and standard deviation of a run\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "scenario\tpolicy\truns\tmiss %%\tregret points\tswitches/1000\n")
	for i := range list {
		g := &list[i]
		fmt.Fprintf(w, "%s\t%s\t%d", g.Scenario, g.Policy, len(g.Miss))
		for _, q := range g.Quantities() {
			mean, spread := meanAndSpread(q.Values)
			fmt.Fprintf(w, "\t%.2f ± %.2f", mean, spread)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

func writeLayers(out io.Writer, m *Measured) {
	if m.Layers == nil {
		return
	}
	var sum int64
	for _, p := range m.Layers.Parts {
		sum += p.NS
	}
	fmt.Fprintf(out, "\n%s: parts, medians of %d; timing them costs %+.1f %%\n", m.Name(), m.Layers.Runs, 100*m.Layers.Overhead)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, p := range m.Layers.Parts {
		fmt.Fprintf(w, "  %s\t%s\t%.2f us\t%.1f %%\t%.1f GMAC/s\t%s\n", p.Name, p.place(), float64(p.NS)/1e3,
			100*float64(p.NS)/float64(max(1, sum)), float64(p.MACs)/float64(max(1, p.NS)), p.Kernel)
	}
	_ = w.Flush()
}

// place is the block that a part is in, with its stage, and empty outside of blocks, where the part's name says it all.
func (p *Part) place() string {
	switch {
	case p.Block < 0:
		return ""
	case p.Stage < 0:
		return "first block"
	}
	return fmt.Sprintf("stage %d, block %d", p.Stage, p.Block)
}

// WriteJSON writes the environment and the rows' summaries.
func WriteJSON(w io.Writer, r *Result) error {
	out := struct {
		Environment Environment `json:"environment"`
		Meter       string      `json:"meter"`
		Truncated   bool        `json:"truncated"`
		Rows        []Summary   `json:"rows"`
		Governed    []Governed  `json:"governed,omitempty"`
	}{r.Environment, r.Meter, r.Truncated, []Summary{}, r.Governed}
	for i := range r.Rows {
		out.Rows = append(out.Rows, r.Rows[i].Summarize())
	}
	return indented(w, out)
}

func indented(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// units of the Go text, and which way is better.
var units = []struct{ name, better string }{
	{"p90-ns", "lower"}, {"p99-ns", "lower"}, {"images/sec", "higher"}, {"mJ/image", "lower"},
	{"miss-%", "lower"}, {"regret-points", "lower"}, {"switches/1000", "lower"},
}

// WriteGo writes Go's benchmark text: a line a chunk with its median, as many as benchstat needs, and a line a row
// with what only the whole row has. What differs between runs of one machine (commit, time) is in comments, because
// benchstat compares only what is configured alike; for the same reason it sees dirty chunks as benchmarks of their own.
func WriteGo(w io.Writer, r *Result) error {
	e := &r.Environment
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\ncpu: %s\nmachine: %s\n", e.OS, e.Arch, oneLine(e.CPU), oneLine(e.Fingerprint))
	if e.Device != nil {
		fmt.Fprintf(&b, "device: %s\n", oneLine(e.Device.String()))
	}
	limit := "unknown"
	if e.LimitKHz > 0 {
		limit = fmt.Sprintf("%d kHz", e.LimitKHz)
	}
	fmt.Fprintf(&b, "# version %s, %s, %s; affinity %s, governor %s, limit %s\n", oneLine(e.Version), e.Go, e.Time.Format(time.RFC3339),
		cmp.Or(oneLine(e.Affinity), "unknown"), cmp.Or(oneLine(e.Governor), "unknown"), limit)
	for _, u := range units {
		fmt.Fprintf(&b, "Unit %s better=%s\n", u.name, u.better)
	}
	for i := range r.Rows {
		m := &r.Rows[i]
		name := "Benchmark" + strings.ToUpper(string(m.Scenario[:1])) + oneWord(m.Name()[1:])
		for _, c := range m.Chunks {
			dirty := ""
			if len(c.Dirty) > 0 {
				dirty = "/dirty=yes"
			}
			fmt.Fprintf(&b, "%s%s %d %d ns/op\n", name, dirty, len(c.NS), median(c.NS))
		}
		s := m.Summarize()
		if s.Queries == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s %d %s images/sec", name, s.Queries, decimal(s.ImagesPS))
		if s.P90MS > 0 {
			fmt.Fprintf(&b, " %.0f p90-ns", 1e6*s.P90MS)
		}
		if s.P99MS > 0 {
			fmt.Fprintf(&b, " %.0f p99-ns", 1e6*s.P99MS)
		}
		if s.EnergyMJ != nil {
			fmt.Fprintf(&b, " %s mJ/image", decimal(*s.EnergyMJ))
		}
		b.WriteByte('\n')
	}
	for i := range r.Governed {
		g := &r.Governed[i]
		for run := range g.Miss {
			fmt.Fprintf(&b, "Benchmark%s 1", strings.ToUpper(g.Name()[:1])+g.Name()[1:])
			for _, q := range g.Quantities() {
				fmt.Fprintf(&b, " %s %s", decimal(q.Values[run]), q.Unit)
			}
			b.WriteByte('\n')
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'g', 6, 64) }

// oneLine and oneWord keep text from ending the line or the field it is in.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
func oneWord(s string) string { return strings.Join(strings.Fields(s), "_") }

// metrics are what the formats of one number a name get of a row. Smaller is better.
type metric struct {
	name, unit string
	value      float64
	spread     float64 // half of the distance between the chunks' quartiles; of a governor's runs, the standard deviation
}

func (g *Governed) metrics() []metric {
	var list []metric
	for _, q := range g.Quantities() {
		mean, spread := meanAndSpread(q.Values)
		list = append(list, metric{g.Name() + "/" + q.Name, q.Unit, mean, spread})
	}
	return list
}

// metrics are those of all rows.
func (r *Result) metrics() []metric {
	var list []metric
	for i := range r.Rows {
		list = append(list, r.Rows[i].metrics()...)
	}
	for i := range r.Governed {
		list = append(list, r.Governed[i].metrics()...)
	}
	return list
}

func (m *Measured) metrics() []metric {
	s := m.Summarize()
	if s.Queries == 0 {
		return nil
	}
	var chunks []int64
	for _, c := range m.Chunks {
		chunks = append(chunks, median(c.NS))
	}
	slices.Sort(chunks)
	list := []metric{{m.Name() + "/median", "ns", 1e6 * s.MedianMS, float64(quantile(chunks, 0.75)-quantile(chunks, 0.25)) / 2}}
	if s.P90MS > 0 {
		list = append(list, metric{m.Name() + "/p90", "ns", 1e6 * s.P90MS, 0})
	}
	if s.P99MS > 0 {
		list = append(list, metric{m.Name() + "/p99", "ns", 1e6 * s.P99MS, 0})
	}
	return list
}

// WriteGHA writes what github-action-benchmark calls customSmallerIsBetter.
func WriteGHA(w io.Writer, r *Result) error {
	type entry struct {
		Name  string  `json:"name"`
		Unit  string  `json:"unit"`
		Value float64 `json:"value"`
		Range string  `json:"range,omitempty"`
		Extra string  `json:"extra,omitempty"`
	}
	list := []entry{}
	add := func(v metric, extra string) {
		e := entry{Name: v.name, Unit: v.unit, Value: v.value, Extra: "machine " + r.Environment.Fingerprint + extra}
		if v.spread > 0 {
			e.Range = "± " + strconv.FormatFloat(v.spread, 'g', 3, 64)
		}
		list = append(list, e)
	}
	for i := range r.Rows {
		for _, v := range r.Rows[i].metrics() {
			add(v, fmt.Sprintf(", dirty %.0f %%", 100*r.Rows[i].Summarize().Dirty))
		}
	}
	for i := range r.Governed {
		for _, v := range r.Governed[i].metrics() {
			add(v, "")
		}
	}
	return indented(w, list)
}

// WriteGBench writes Google Benchmark's JSON, schema version 1: each chunk is a repetition, so that its compare.py has the
// samples for its U test, and the row's median is an aggregate. A governor's quantities
// are user counters of aggregates without a time, which they do not have: compare.py passes over those.
func WriteGBench(w io.Writer, r *Result) error {
	type benchmark struct {
		Name            string  `json:"name"`
		FamilyIndex     int     `json:"family_index"`
		InstanceIndex   int     `json:"per_family_instance_index"`
		RunName         string  `json:"run_name"`
		RunType         string  `json:"run_type"`
		Repetitions     int     `json:"repetitions"`
		RepetitionIndex *int    `json:"repetition_index,omitempty"`
		Threads         int     `json:"threads"`
		AggregateName   string  `json:"aggregate_name,omitempty"`
		AggregateUnit   string  `json:"aggregate_unit,omitempty"`
		Iterations      int     `json:"iterations"`
		RealTime        float64 `json:"real_time"`
		CPUTime         float64 `json:"cpu_time"`
		TimeUnit        string  `json:"time_unit"`
		Label           string  `json:"label,omitempty"`
	}
	e := &r.Environment
	mhz := math.Round(float64(max(e.LimitKHz, e.MaxKHz)) / 1e3)
	out := struct {
		Context    map[string]any `json:"context"`
		Benchmarks []any          `json:"benchmarks"`
	}{map[string]any{
		"date": e.Time.Format(time.RFC3339), "host_name": "machine-" + e.Fingerprint, "executable": "dynofa",
		"num_cpus": e.CPUs, "mhz_per_cpu": mhz, "cpu_scaling_enabled": e.Governor != "" && e.Governor != "performance",
		"aslr_enabled": e.ASLR != "0", "caches": []any{}, "load_avg": []float64{}, "library_version": e.Version,
		"library_build_type": "release", "json_schema_version": 1,
	}, []any{}}
	if e.Device != nil {
		out.Context["device"] = e.Device.String()
	}
	for i := range r.Rows {
		m := &r.Rows[i]
		one := benchmark{Name: m.Name(), RunName: m.Name(), FamilyIndex: i, Repetitions: len(m.Chunks), Threads: m.Threads, TimeUnit: "ns"}
		var medians []int64
		for k, c := range m.Chunks {
			b := one
			b.RunType, b.RepetitionIndex, b.Iterations, b.Label = "iteration", &k, len(c.NS), strings.Join(c.Dirty, ", ")
			b.RealTime = float64(median(c.NS))
			b.CPUTime = b.RealTime // the processor time of a chunk is not measured; compare.py wants a number
			medians = append(medians, median(c.NS))
			out.Benchmarks = append(out.Benchmarks, b)
		}
		if len(medians) > 0 {
			one.Name += "_median"
			one.RunType, one.AggregateName, one.AggregateUnit, one.Iterations = "aggregate", "median", "time", len(medians)
			one.RealTime = float64(median(medians))
			one.CPUTime = one.RealTime
			out.Benchmarks = append(out.Benchmarks, one)
		}
	}
	for i := range r.Governed {
		g := &r.Governed[i]
		for _, aggregate := range []string{"mean", "stddev"} {
			b := map[string]any{"name": g.Name() + "_" + aggregate, "run_name": g.Name(), "family_index": len(r.Rows) + i,
				"per_family_instance_index": 0, "run_type": "aggregate", "repetitions": len(g.Miss), "threads": 1,
				"aggregate_name": aggregate, "aggregate_unit": "time", "iterations": len(g.Miss)}
			for _, q := range g.Quantities() {
				mean, spread := meanAndSpread(q.Values)
				b[q.Unit] = map[string]float64{"mean": mean, "stddev": spread}[aggregate]
			}
			out.Benchmarks = append(out.Benchmarks, b)
		}
	}
	return indented(w, out)
}

// WriteOtava writes CSV for Apache Otava: a line a result, in order of time, a column a metric.
func WriteOtava(w io.Writer, results []*Result) error {
	results = slices.Clone(results)
	slices.SortStableFunc(results, func(a, b *Result) int { return a.Environment.Time.Compare(b.Environment.Time) })
	columns := []string{}
	rows := make([]map[string]float64, len(results))
	for i, r := range results {
		if r.Environment.Fingerprint != results[0].Environment.Fingerprint {
			return fmt.Errorf("harness: results of machines %s and %s, expected one: keep a series a machine",
				results[0].Environment.Fingerprint, r.Environment.Fingerprint)
		}
		rows[i] = map[string]float64{}
		for _, v := range r.metrics() {
			name := columnName(v.name)
			rows[i][name] = v.value
			if !slices.Contains(columns, name) {
				columns = append(columns, name)
			}
		}
	}
	out := csv.NewWriter(w)
	_ = out.Write(append([]string{"time", "version"}, columns...))
	for i, r := range results {
		line := []string{r.Environment.Time.Format(time.RFC3339), r.Environment.Version}
		for _, name := range columns {
			value := ""
			if v, found := rows[i][name]; found {
				value = strconv.FormatFloat(v, 'f', 3, 64)
			}
			line = append(line, value)
		}
		_ = out.Write(line)
	}
	out.Flush()
	return out.Error()
}

// columnName is a name without what separates fields or begins an expression elsewhere.
func columnName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '/' || r == '=' || r == ',' || r == ' ' || r == ':' {
			return '_'
		}
		return r
	}, name)
}
