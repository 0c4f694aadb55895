package regress

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/stat/combin"

	"github.com/dynofa/dynofa/bench/harness"
)

// leastChunks is how many values a side needs for Mann-Whitney's test of a single row to be able to say anything at 1 %.
const leastChunks = 5

// leastP is the smallest p-value of Mann-Whitney's test: that of samples of so many values that do not overlap.
func leastP(a, b int) float64 { return 2 / combin.GeneralizedBinomial(float64(a+b), float64(a)) }

// CompareFiles compares two result files of one machine. They were measured one after the other, in a process each, so
// that what changed in between on the machine, and what differs between processes of one program, count as changes,
// too: two builds are better compared in turns.
func CompareFiles(a, b string, l Limits) (*Comparison, error) {
	ra, err := harness.ReadFile(a)
	if err != nil {
		return nil, err
	}
	rb, err := harness.ReadFile(b)
	if err != nil {
		return nil, err
	}
	if fa, fb := ra.Environment.Fingerprint, rb.Environment.Fingerprint; fa != fb {
		return nil, fmt.Errorf("%s is of machine %s and %s of machine %s, expected the same", a, fa, b, fb)
	}
	c := &Comparison{A: a, B: b, Effect: l.Effect, Alpha: l.Alpha, Missing: missing(ra, rb)}
	var least []float64 // p-values that rows can have
	for i := range ra.Rows {
		ma := &ra.Rows[i]
		for k := range rb.Rows {
			mb := &rb.Rows[k]
			if ma.Name() != mb.Name() {
				continue
			}
			row := Row{Name: ma.Name()}
			va, da := chunkValues(ma)
			vb, db := chunkValues(mb)
			if min(len(va), len(vb)) < leastChunks {
				return nil, fmt.Errorf("%s: %d and %d chunks, expected at least %d each: measure with a longer --duration", row.Name, len(va), len(vb), leastChunks)
			}
			s := sample{a: va, b: vb}
			s.estimate(&row, l)
			row.Pairs, row.Dirty = min(len(va), len(vb)), (da+db)/2
			c.Rows, least = append(c.Rows, row), append(least, leastP(len(va), len(vb)))
		}
	}
	if c.Governed, err = governed(ra.Governed, rb.Governed, l.Alpha); err != nil {
		return nil, err
	}
	if len(c.Rows)+len(c.Governed) == 0 {
		return nil, fmt.Errorf("%s and %s have no row in common, expected at least one", a, b)
	}
	correct(c.Rows)
	for i := range c.Rows {
		r := &c.Rows[i]
		if r.judge(l); r.Verdict == Inconclusive && least[i]*float64(len(least)) >= l.Alpha {
			r.Note = fmt.Sprintf("no change can be found in so few chunks of %d rows: measure with a longer --duration", len(least))
		}
	}
	c.Verdict = c.overall()
	return c, nil
}

// missing are the rows of a that b does not have.
func missing(a, b *harness.Result) []string {
	names := func(r *harness.Result) (list []string) {
		for i := range r.Rows {
			list = append(list, r.Rows[i].Name())
		}
		for i := range r.Governed {
			list = append(list, r.Governed[i].Name())
		}
		return list
	}
	has := names(b)
	return slices.DeleteFunc(names(a), func(name string) bool { return slices.Contains(has, name) })
}

// chunkValues are the lower deciles of a row's chunks, of the clean ones where there are enough, and the share of
// dirty ones.
func chunkValues(m *harness.Measured) (values []float64, dirty float64) {
	var clean []float64
	for i := range m.Chunks {
		v := decile(m.Chunks[i].NS)
		values = append(values, v)
		if len(m.Chunks[i].Dirty) == 0 {
			clean = append(clean, v)
		}
	}
	if len(values) == 0 {
		return nil, 0
	}
	dirty = 1 - float64(len(clean))/float64(len(values))
	if len(clean) >= leastChunks {
		return clean, dirty
	}
	return values, dirty
}
