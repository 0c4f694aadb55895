package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// report is everything that was measured and what follows from it.
type report struct {
	Machine  string             `json:"machine"`
	Date     string             `json:"date"`
	Command  string             `json:"command"`
	Rounds   int                `json:"rounds"`
	Runs     int                `json:"runs"` // of each engine in a round
	Engines  []engineReport     `json:"engines"`
	Peak     map[int]float64    `json:"peak_flops"` // median of all rounds, by number of threads
	Networks []networkReport    `json:"networks"`
	Busy     []busyReport       `json:"busy"`
	Geomean  map[string]summary `json:"geomean"` // of each engine that ran on all networks
	Best     summary            `json:"best"`    // of the fastest peer of each network
	Skipped  []string           `json:"skipped"`
}

type engineReport struct {
	Name    string `json:"name"`
	Title   string `json:"title"`
	Version string `json:"version"`
}

// summary is by number of threads: how many times as long as dynofa.
type summary map[int]float64

type networkReport struct {
	Name    string                 `json:"name"`
	MACs    int64                  `json:"macs"`
	Peak    map[int][]float64      `json:"peak_flops"`
	Raw     map[string]*measured   `json:"raw"`
	Engines map[string]*comparison `json:"engines"`
	// Speedup is dynofa's own, from one thread to two.
	Speedup float64 `json:"speedup"`
}

// comparison is one engine on one network, by number of threads.
type comparison struct {
	MS      map[int]float64 `json:"ms"`      // lower quartile of wall times
	OfPeak  map[int]float64 `json:"of_peak"` // 2 MACs over that and the peak
	Ratio   summary         `json:"ratio"`   // to dynofa; above 1 dynofa is faster
	Speedup float64         `json:"speedup,omitempty"`
}

// busyReport is one network while another process keeps a core busy.
type busyReport struct {
	Network string             `json:"network"`
	Ratio   map[string]float64 `json:"ratio"` // by engine: two threads over one, median of the rounds' ratios of wall times
}

// compare derives a network's report from what was measured.
func compare(n *network, list []*engine, results map[string]*measured, peaks map[int][]float64) networkReport {
	r := networkReport{Name: n.name, MACs: n.macs, Peak: peaks, Raw: results, Engines: map[string]*comparison{}}
	ours := results[list[0].name].Blocks
	for _, e := range list {
		blocks := results[e.name].Blocks
		if results[e.name].Failure != "" {
			continue
		}
		c := &comparison{MS: map[int]float64{}, OfPeak: map[int]float64{}, Ratio: summary{}}
		for threads, rounds := range blocks {
			c.MS[threads] = wallQuartile(rounds)
			if flops := peaks[threads]; len(flops) > 0 {
				c.OfPeak[threads] = 2 * float64(n.macs) / (c.MS[threads] / 1e3) / median(flops)
			}
			if threads == 1 {
				c.Ratio[threads] = pairedRatio(rounds, ours[threads])
			} else {
				c.Ratio[threads] = c.MS[threads] / wallQuartile(ours[threads])
			}
		}
		if c.MS[2] > 0 && c.MS[1] > 0 {
			c.Speedup = c.MS[1] / c.MS[2]
		}
		r.Engines[e.name] = c
	}
	r.Speedup = r.Engines[list[0].name].Speedup
	return r
}

// compareBusy derives what a second thread costs under load.
func compareBusy(n *network, list []*engine, results map[string]*measured) busyReport {
	r := busyReport{Network: n.name, Ratio: map[string]float64{}}
	for _, e := range list {
		if m := results[e.name]; m.Failure == "" {
			ratios := make([]float64, len(m.Blocks[1]))
			for i := range ratios {
				ratios[i] = median(m.Blocks[2][i].Wall) / median(m.Blocks[1][i].Wall)
			}
			r.Ratio[e.name] = median(ratios)
		}
	}
	return r
}

// version is what an engine said on the first network on which it loaded.
func (r *report) version(engine string) string {
	for _, n := range r.Networks {
		if v := n.Raw[engine].Version; v != "" {
			return v
		}
	}
	return "-"
}

// summarise fills in the geometric means.
func (r *report) summarise(list []*engine, threads []int) {
	for _, e := range list {
		r.Engines = append(r.Engines, engineReport{e.name, e.title, r.version(e.name)})
	}
	r.Geomean, r.Best, r.Peak = map[string]summary{}, summary{}, map[int]float64{}
	for _, t := range threads {
		var best, flops []float64
		for _, n := range r.Networks {
			fastest := math.Inf(1)
			for name, c := range n.Engines {
				if name != engines[0].name {
					fastest = min(fastest, c.Ratio[t])
				}
			}
			if !math.IsInf(fastest, 1) {
				best = append(best, fastest)
			}
			flops = append(flops, n.Peak[t]...)
		}
		if len(best) == len(r.Networks) {
			r.Best[t] = geomean(best)
		}
		if len(flops) > 0 {
			r.Peak[t] = median(flops)
		}
		for _, e := range r.Engines {
			var ratios []float64
			for _, n := range r.Networks {
				if c := n.Engines[e.Name]; c != nil {
					ratios = append(ratios, c.Ratio[t])
				}
			}
			if len(ratios) == len(r.Networks) {
				if r.Geomean[e.Name] == nil {
					r.Geomean[e.Name] = summary{}
				}
				r.Geomean[e.Name][t] = geomean(ratios)
			}
		}
	}
}

// agree is errWrong if an engine's logits are not ours.
func (r *report) agree() error {
	for _, n := range r.Networks {
		for _, m := range n.Raw {
			if m.Wrong {
				return errWrong
			}
		}
	}
	return nil
}

// table is rows of cells, the first the head.
type table [][]string

// times is the table for a number of threads: dynofa's time and share of the peak, each peer's time and ratio.
func (r *report) times(threads int) table {
	head := []string{"network", "dynofa ms", "% of peak"}
	if threads > 1 {
		head = append(head, "speed-up")
	}
	for _, e := range r.Engines[1:] {
		head = append(head, e.Title+" ms", "ratio")
	}
	rows := table{head}
	for _, n := range r.Networks {
		ours := n.Engines[engines[0].name]
		row := []string{n.Name, fmt.Sprintf("%.2f", ours.MS[threads]), percent(ours.OfPeak[threads])}
		if threads > 1 {
			row = append(row, fmt.Sprintf("%.2f", n.Speedup))
		}
		for _, e := range r.Engines[1:] {
			if c := n.Engines[e.Name]; c != nil {
				row = append(row, fmt.Sprintf("%.2f", c.MS[threads]), fmt.Sprintf("%.2f", c.Ratio[threads]))
			} else {
				row = append(row, "-", "-")
			}
		}
		rows = append(rows, row)
	}
	last := []string{"geometric mean", "", ""}
	if threads > 1 {
		var speedups []float64
		for _, n := range r.Networks {
			speedups = append(speedups, n.Speedup)
		}
		last = append(last, fmt.Sprintf("%.2f", geomean(speedups)))
	}
	for _, e := range r.Engines[1:] {
		text := "-"
		if g := r.Geomean[e.Name]; g != nil {
			text = fmt.Sprintf("%.2f", g[threads])
		}
		last = append(last, "", text)
	}
	return append(rows, last)
}

func percent(share float64) string {
	if share == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f", 100*share)
}

// load is the table of two threads over one while a core is busy.
func (r *report) load() table {
	head := []string{"network"}
	for _, e := range r.Engines {
		head = append(head, e.Title)
	}
	rows := table{head}
	for _, b := range r.Busy {
		row := []string{b.Network}
		for _, e := range r.Engines {
			if v := b.Ratio[e.Name]; v > 0 {
				row = append(row, fmt.Sprintf("%.2f", v))
			} else {
				row = append(row, "-")
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// agreement is the table of versions, and of how far the logits are from ours at worst.
func (r *report) agreement() table {
	rows := table{{"engine", "version", "largest difference of logits"}}
	for _, e := range r.Engines {
		worst, failure := 0.0, ""
		for _, n := range r.Networks {
			worst = max(worst, n.Raw[e.Name].Disagreement)
			if f := n.Raw[e.Name].Failure; f != "" {
				failure = "; not ranked: " + f
			}
		}
		rows = append(rows, []string{e.Title, e.Version, fmt.Sprintf("%.1g%s", worst, failure)})
	}
	return rows
}

func (t table) text(w io.Writer) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range t {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	_ = tw.Flush() // to memory or a terminal
}

func (t table) markdown(w io.Writer) {
	for i, row := range t {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|%s\n", strings.Repeat("---:|", len(row)-1))
		}
	}
}

// write prints the report with its headings; form renders a table.
func (r *report) write(w io.Writer, threads []int, heading string, form func(table, io.Writer)) {
	for _, t := range threads {
		fmt.Fprintf(w, "\n%s%s\n\n", heading, plural(t, "thread"))
		form(r.times(t), w)
		fmt.Fprintln(w)
		if best, ok := r.Best[t]; ok {
			fmt.Fprintf(w, "The fastest peer of each network takes %.2f times as long as dynofa (geometric mean). ", best)
		}
		if peak := r.Peak[t]; peak > 0 {
			fmt.Fprintf(w, "FMA peak, measured between the rounds: %.0f GFLOP/s.", peak/1e9)
		}
		fmt.Fprintln(w)
	}
	if len(r.Busy) > 0 {
		fmt.Fprintf(w, "\n%sTwo threads while another process keeps a core busy\n\n", heading)
		fmt.Fprintf(w, "Time with two threads over time with one, both under that load; above 1 the second thread does harm.\n\n")
		form(r.load(), w)
	}
	fmt.Fprintf(w, "\n%sEngines\n\n", heading)
	form(r.agreement(), w)
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "\nSKIPPED: %s\n", s)
	}
}

func plural(n int, what string) string {
	switch n {
	case 1:
		return "One " + what
	case 2:
		return "Two " + what + "s"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// markdown is the page for docs/; image is the picture's path beside it, or "".
func (r *report) markdown(w io.Writer, threads []int, image string) {
	fmt.Fprintf(w, "# Speed beside other engines\n\n")
	fmt.Fprintf(w, "Made by `%s`, %s, on %s. Method, settings of each engine and limits: [bench/peers](../bench/peers/README.md).\n\n", r.Command, r.Date, r.Machine)
	fmt.Fprintf(w, "Float32, batch 1, %d rounds of %d inferences. ms: lower quartile of wall times. ratio: time of the engine over time of dynofa, above 1 dynofa is faster; "+
		"at one thread the median over rounds of ratios of processor time, at more the ratio of lower quartiles. %% of peak: 2 x multiply-adds / ms / FMA peak.\n", r.Rounds, r.Runs)
	if image != "" {
		fmt.Fprintf(w, "\n![ratio of each engine to dynofa](%s)\n", image)
	}
	r.write(w, threads, "## ", table.markdown)
}
