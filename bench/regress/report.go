package regress

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Names lists the rows with a verdict.
func (c *Comparison) Names(v Verdict) []string {
	var names []string
	for i := range c.Rows {
		if c.Rows[i].Verdict == v {
			names = append(names, c.Rows[i].Name)
		}
	}
	return names
}

// Print writes the comparison for people.
func (c *Comparison) Print(out io.Writer) {
	fmt.Fprintf(out, "A  %s\nB  %s\n", c.A, c.B)
	if c.Backend != "" {
		fmt.Fprintf(out, "%s, %d threads; %.0f s\n", c.Backend, c.Threads, c.Seconds)
	}
	fmt.Fprintf(out, "effect %.2g %%, false alarms at most %.2g %% of comparisons; change is B over A, positive is slower\n\n", 100*c.Effect, 100*c.Alpha)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "verdict\tchange\t%.4g %% interval\tp\tfinds\tA ms\tB ms\tpairs\tdirty\trow\n", 100*(1-c.Alpha))
	for i := range c.Rows {
		r := &c.Rows[i]
		note := ""
		if r.Checked {
			note = "  (looked at twice)"
		}
		if r.Note != "" {
			note += "  (" + r.Note + ")"
		}
		mark := map[Verdict]string{Regression: strings.ToUpper(string(Regression))}[r.Verdict]
		if mark == "" {
			mark = string(r.Verdict)
		}
		fmt.Fprintf(w, "%s\t%+.2f %%\t%+.2f .. %+.2f\t%.2g\t%.2f %%\t%.4f\t%.4f\t%d\t%.0f %%\t%s%s\n", mark, 100*r.Change, 100*r.Low, 100*r.High,
			r.P, 100*r.Finds, r.AMS, r.BMS, r.Pairs, 100*r.Dirty, r.Name, note)
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\n%s\n", c.Verdict)
}
