package regress

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/dynofa/dynofa/bench/harness"
)

// Entry is a line of a history: a result, or the acceptance of a shift.
type Entry struct {
	Format   string             `json:"format"`
	Version  int                `json:"version"`
	Time     time.Time          `json:"time"`             // of the first result
	Others   []time.Time        `json:"others,omitempty"` // of the further ones
	Revision string             `json:"revision"`
	MS       map[string]float64 `json:"ms,omitempty"`       // rows by name: lower decile of the latency
	Governed map[string]float64 `json:"governed,omitempty"` // rows by name: mean of a governor's runs, in the unit of their quantity
	Accepted string             `json:"accepted,omitempty"` // why the shift at Revision is fine
}

const historyFormat = "dynofa-bench-history"

// History is the results of one machine, in the order in which they were added. Its file only ever grows.
type History struct {
	path    string
	Entries []Entry
}

// OpenHistory reads the history of a machine, which may not exist yet.
func OpenHistory(folder, fingerprint string) (*History, error) {
	h := &History{path: filepath.Join(folder, fingerprint, "history.jsonl")}
	data, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	return h, h.parse(data)
}

func (h *History) parse(data []byte) error {
	for n := 1; len(data) > 0; n++ {
		text, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		var e Entry
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		err := d.Decode(&e)
		if err == nil {
			err = e.check()
		}
		if err == nil && !whole {
			err = errors.New("the last line has no end, expected whole lines: it was not written completely")
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", h.path, n, err)
		}
		h.Entries = append(h.Entries, e)
	}
	return nil
}

func (e *Entry) check() error {
	if e.Format != historyFormat || e.Version != 1 {
		return fmt.Errorf("format %q, version %d, expected %s, 1", e.Format, e.Version, historyFormat)
	}
	if rows := len(e.MS) + len(e.Governed); e.Revision == "" || (rows == 0) == (e.Accepted == "") {
		return fmt.Errorf("revision %q with %d rows and acceptance %q, expected a revision and one of the two", e.Revision, rows, e.Accepted)
	}
	for name, v := range e.MS {
		if !(v > 0) || math.IsInf(v, 0) {
			return fmt.Errorf("%s takes %g ms, expected a number above zero", name, v)
		}
	}
	for name, v := range e.Governed {
		if quantityOf(name) == nil {
			return fmt.Errorf("%s is no quantity of a governor, expected a name that ends in miss, regret or switches", name)
		}
		if math.Abs(v) > 1000 {
			return fmt.Errorf("%s is %g, expected -1000 to 1000", name, v)
		}
	}
	return nil
}

func (h *History) add(e Entry) error {
	e.Format, e.Version = historyFormat, 1
	if err := e.check(); err != nil {
		return fmt.Errorf("%s: %w", h.path, err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(h.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		h.Entries = append(h.Entries, e)
	}
	return err
}

// has tells whether the result of that time is in the entry.
func (e *Entry) has(t time.Time) bool {
	return e.Accepted == "" && (e.Time.Equal(t) || slices.ContainsFunc(e.Others, t.Equal))
}

// Add appends what results say of a revision, at least one: of each time the median of them, of a governor's quantities
// the mean. A result that was added before counts only once and is refused: one with a time of an entry, or two equal ones.
func (h *History) Add(revision string, results ...*harness.Result) error {
	for i, r := range results {
		for _, e := range h.Entries {
			if e.has(r.Environment.Time) {
				return fmt.Errorf("%s has the result of %s already, as revision %q, expected one that is not in it",
					h.path, r.Environment.Time.Format(time.RFC3339), e.Revision)
			}
		}
		if slices.ContainsFunc(results[:i], func(other *harness.Result) bool { return reflect.DeepEqual(other, r) }) {
			return fmt.Errorf("%s: the result of %s twice, expected results of different processes", h.path, r.Environment.Time.Format(time.RFC3339))
		}
	}
	e := Entry{Time: results[0].Environment.Time, Revision: revision, MS: map[string]float64{}, Governed: map[string]float64{}}
	for _, r := range results[1:] {
		e.Others = append(e.Others, r.Environment.Time)
	}
	times, quantities := map[string][]float64{}, map[string][]float64{}
	for _, r := range results {
		for i := range r.Rows {
			if values, _ := chunkValues(&r.Rows[i]); len(values) > 0 {
				times[r.Rows[i].Name()] = append(times[r.Rows[i].Name()], median(values)/1e6)
			}
		}
		for _, g := range append(suites(r.Governed), r.Governed...) {
			for _, q := range g.Quantities() {
				name := g.Name() + "/" + q.Name
				quantities[name] = append(quantities[name], stat.Mean(q.Values, nil))
			}
		}
	}
	for name, values := range times {
		e.MS[name] = median(values)
	}
	for name, values := range quantities {
		e.Governed[name] = stat.Mean(values, nil)
	}
	return h.add(e)
}

// Accept notes that the shift at a revision is fine, and why.
func (h *History) Accept(revision, why string, now time.Time) error {
	if !slices.ContainsFunc(h.Entries, func(e Entry) bool { return e.Revision == revision && e.Accepted == "" }) {
		return fmt.Errorf("%s: no result of revision %q, expected one that was added", h.path, revision)
	}
	return h.add(Entry{Time: now.UTC().Truncate(time.Second), Revision: revision, Accepted: why})
}

// Series is one row over time.
type Series struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"` // ms, or that of a governor's quantity
	Revisions []string  `json:"revisions"`
	Values    []float64 `json:"values"`
	Shifts    []Shift   `json:"shifts"`
}

// Amount is a shift in words.
func (s *Series) Amount(p *ChangePoint) string {
	if s.Unit == "ms" {
		return fmt.Sprintf("%+.1f %%", 100*p.Change)
	}
	return fmt.Sprintf("%+.3g %s", p.Change, s.Unit)
}

// Shift is a change point with its revision.
type Shift struct {
	ChangePoint
	Revision string `json:"revision"`
	Accepted string `json:"accepted,omitempty"`
}

// Series are the rows with their shifts, sorted by name. Times have to shift by at least effect, a share; a governor's
// quantities by what matters in a comparison.
func (h *History) Series(effect float64) []Series {
	byName, accepted := map[string]*Series{}, map[string]string{}
	var names []string
	for _, e := range h.Entries {
		if e.Accepted != "" {
			accepted[e.Revision] = e.Accepted
		}
		for _, values := range []map[string]float64{e.MS, e.Governed} {
			for name, v := range values {
				s := byName[name]
				if s == nil {
					s = &Series{Name: name, Unit: "ms", Shifts: []Shift{}}
					if q := quantityOf(name); q != nil {
						s.Unit = q.unit
					}
					byName[name] = s
					names = append(names, name)
				}
				s.Revisions, s.Values = append(s.Revisions, e.Revision), append(s.Values, v)
			}
		}
	}
	slices.Sort(names)
	var out []Series
	for _, name := range names {
		s := byName[name]
		points := []ChangePoint(nil)
		if q := quantityOf(name); q != nil {
			points = changePoints(s.Values, differences, q.effect)
		} else {
			points = ChangePoints(s.Values, effect)
		}
		for _, p := range points {
			revision := s.Revisions[p.At]
			s.Shifts = append(s.Shifts, Shift{p, revision, accepted[revision]})
		}
		out = append(out, *s)
	}
	return out
}
