package regress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// Names lists the rows with a verdict; missing ones are inconclusive.
func (c *Comparison) Names(v Verdict) []string {
	var names []string
	if v == Inconclusive {
		names = slices.Clone(c.Missing)
	}
	for i := range c.Rows {
		if c.Rows[i].Verdict == v {
			names = append(names, c.Rows[i].Name)
		}
	}
	for i := range c.Governed {
		if c.Governed[i].Verdict == v {
			names = append(names, c.Governed[i].Name)
		}
	}
	return names
}

// mark is a verdict, with the worst in capitals.
func (v Verdict) mark() string {
	if v == Regression {
		return strings.ToUpper(string(v))
	}
	return string(v)
}

// Print writes the comparison for people.
func (c *Comparison) Print(out io.Writer) {
	fmt.Fprintf(out, "A  %s\nB  %s\n", c.A, c.B)
	if c.Backend != "" {
		fmt.Fprintf(out, "%s, threads %d; %.0f s\n", c.Backend, c.Threads, c.Seconds)
	}
	if len(c.Rows) > 0 {
		c.printRows(out)
	}
	if len(c.Governed) > 0 {
		c.printGoverned(out)
	}
	for _, name := range c.Missing {
		fmt.Fprintf(out, "\nB has no %s\n", name)
	}
	fmt.Fprintf(out, "\n%s\n", c.Verdict)
}

func (c *Comparison) printRows(out io.Writer) {
	alarms := fmt.Sprintf("false alarms at most %.2g %% of comparisons", 100*c.Alpha)
	if c.Backend == "" {
		alarms = "of a process a side: what differs between two of one program counts, too"
	}
	fmt.Fprintf(out, "effect %.2g %%, %s; change is B over A, positive is slower\n\n", 100*c.Effect, alarms)
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
		fmt.Fprintf(w, "%s\t%+.2f %%\t%+.2f .. %+.2f\t%.2g\t%.2f %%\t%.4f\t%.4f\t%d\t%.0f %%\t%s%s\n", r.Verdict.mark(), 100*r.Change, 100*r.Low, 100*r.High,
			r.P, 100*r.Finds, r.AMS, r.BMS, r.Pairs, 100*r.Dirty, r.Name, note)
	}
	_ = w.Flush()
}

func (c *Comparison) printGoverned(out io.Writer) {
	fmt.Fprintf(out, "\ngovernor: change is B minus A, positive is worse; intervals hold together with %.4g %%\n\n", 100*(1-c.Alpha))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "verdict\tchange\tinterval\teffect\tA\tB\truns\trow\n")
	suite := func(g *Governed) bool { return quantityOf(g.Name).suite }
	means, same := slices.ContainsFunc(c.Governed, func(g Governed) bool { return suite(&g) }), 0
	for i := range c.Governed {
		g := &c.Governed[i]
		if means && !suite(g) && g.Verdict == Same {
			same++
			continue
		}
		fmt.Fprintf(w, "%s\t%+.3f\t%+.3f .. %+.3f\t%.2g\t%.3f\t%.3f\t%d\t%s, %s\n", g.Verdict.mark(), g.Change, g.Low, g.High, g.Effect, g.A, g.B, g.Runs, g.Name, g.Unit)
	}
	_ = w.Flush()
	if same > 0 {
		fmt.Fprintf(out, "%d rows of single scenarios are the same, too (--json has them)\n", same)
	}
}
