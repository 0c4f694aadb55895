// Package latency predicts the latency of sub-networks from look-up tables: one measured mean per layer, summed.
//
// A table is a directory with one file <r>_lookup_table.json per image side r, a JSON object
// key -> {"count", "mean", "std"} in milliseconds, in the format of the once-for-all and DynamicOFA projects:
// their tables load unchanged and ours load there. [Keys] spells the keys out.
package latency

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

const suffix = "_lookup_table.json"

// Limits of what a table may hold, far above any published one (17 files of 96 keys in 17 kB).
const (
	maxSide   = 4096    // image side, pixels
	maxBytes  = 4 << 20 // one file
	maxTables = 1024    // files
	maxMS     = 1e9     // one layer: eleven days
)

// Entry is the measurement of one layer. Only Mean is used in predictions.
type Entry struct {
	Count int     `json:"count"` // samples
	Mean  float64 `json:"mean"`  // milliseconds
	Std   float64 `json:"std"`   // milliseconds
}

func (e Entry) check() error {
	if e.Count < 0 {
		return fmt.Errorf("count is %d, expected 0 or more samples", e.Count)
	}
	for _, f := range []struct {
		name string
		v    float64
	}{{"mean", e.Mean}, {"std", e.Std}} {
		if !(f.v >= 0 && f.v <= maxMS) {
			return fmt.Errorf("%s is %v, expected 0 to %v ms", f.name, f.v, maxMS)
		}
	}
	return nil
}

// Table holds the measurements of one device and backend. It is immutable and safe for concurrent use.
type Table struct {
	sides map[int]map[string]Entry // image side, key
}

// New makes a Table from measurements by image side and key. It copies its argument. The error names the side,
// the key and the value that is not a latency.
func New(sides map[int]map[string]Entry) (*Table, error) {
	t := &Table{sides: make(map[int]map[string]Entry, len(sides))}
	if len(sides) == 0 || len(sides) > maxTables {
		return nil, fmt.Errorf("latency: %d resolutions, expected 1 to %d", len(sides), maxTables)
	}
	for _, r := range slices.Sorted(maps.Keys(sides)) {
		if r < 1 || r > maxSide {
			return nil, fmt.Errorf("latency: r is %d, expected 1 to %d pixels", r, maxSide)
		}
		if len(sides[r]) == 0 {
			return nil, fmt.Errorf("latency: r=%d: no keys, expected one per layer", r)
		}
		for _, key := range slices.Sorted(maps.Keys(sides[r])) {
			if err := sides[r][key].check(); err != nil {
				return nil, fmt.Errorf("latency: r=%d: key %.120q: %w", r, key, err)
			}
		}
		t.sides[r] = maps.Clone(sides[r])
	}
	return t, nil
}

// Load reads every <r>_lookup_table.json of a directory; other files are ignored. The error names the file and,
// where there is one, the key and the value: no such file, a name without a legal r, a file over 4 MiB, text that
// is not JSON (NaN is not), a key given twice, a mean that is missing, negative or above 1e9.
func Load(dir string) (*Table, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	sides := map[int]map[string]Entry{}
	for _, file := range files {
		name, ok := strings.CutSuffix(file.Name(), suffix)
		if !ok {
			continue
		}
		path := filepath.Join(dir, file.Name())
		r, err := strconv.Atoi(name)
		if err != nil || r < 1 || r > maxSide || strconv.Itoa(r) != name {
			return nil, fmt.Errorf("latency: %s: expected a name <r>%s with r from 1 to %d", path, suffix, maxSide)
		}
		if len(sides) == maxTables {
			return nil, fmt.Errorf("latency: %s: expected at most %d tables", dir, maxTables)
		}
		data, err := read(path)
		if err == nil {
			sides[r], err = parse(data)
		}
		if err != nil {
			return nil, fmt.Errorf("latency: %s: %w", path, err)
		}
	}
	if len(sides) == 0 {
		return nil, fmt.Errorf("latency: %s: no file <r>%s, expected one per resolution", dir, suffix)
	}
	return &Table{sides}, nil
}

// read reads a regular file of bounded size; anything else, such as a pipe, could block or never end.
func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("expected a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && len(data) > maxBytes {
		err = fmt.Errorf("larger than %d bytes", maxBytes)
	}
	return data, err
}

// parse reads one file's object key by key, so that an error can say where it is.
func parse(data []byte) (map[string]Entry, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("starts with %.20q, expected a JSON object of keys", data)
	}
	entries := map[string]Entry{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("after %d keys: %w", len(entries), err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("after %d keys: key is %v, expected a string", len(entries), t)
		}
		if _, ok := entries[key]; ok {
			return nil, fmt.Errorf("key %.120q: given twice", key)
		}
		text := bytes.TrimLeft(data[d.InputOffset():], ": \t\r\n")
		var e struct {
			Count int      `json:"count"`
			Mean  *float64 `json:"mean"`
			Std   float64  `json:"std"`
		}
		if err := d.Decode(&e); err != nil {
			return nil, fmt.Errorf(`key %.120q: value %.60q: %w, expected {"count", "mean", "std"}`, key, text, err)
		}
		if e.Mean == nil {
			return nil, fmt.Errorf("key %.120q: value %.60q: mean is missing", key, text)
		}
		entry := Entry{e.Count, *e.Mean, e.Std}
		if err := entry.check(); err != nil {
			return nil, fmt.Errorf("key %.120q: %w", key, err)
		}
		entries[key] = entry
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, fmt.Errorf("after %d keys: the object does not end: %w", len(entries), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON object")
	}
	if len(entries) == 0 {
		return nil, errors.New("no keys, expected one per layer")
	}
	return entries, nil
}

// Save writes one file per resolution into a directory, which is made if need be; files of other resolutions
// stay. [Load] reads back an equal Table.
func (t *Table) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	for r, entries := range t.sides {
		data, err := json.MarshalIndent(entries, "", " ")
		if err != nil {
			return fmt.Errorf("latency: r=%d: %w", r, err)
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(r)+suffix), append(data, '\n'), 0o644); err != nil {
			return fmt.Errorf("latency: %w", err)
		}
	}
	return nil
}

// Resolutions lists the image sides that the Table covers, in pixels, ascending.
func (t *Table) Resolutions() []int { return slices.Sorted(maps.Keys(t.sides)) }

// Predict is the latency of a Subnet at batch 1 in milliseconds: the sum of its layers' means. The error says
// which resolutions there are, which key the table lacks, or which field of the Subnet the Space does not offer.
func (t *Table) Predict(s *ofa.Space, n ofa.Subnet) (float64, error) {
	entries, ok := t.sides[n.Resolution]
	if !ok {
		return 0, fmt.Errorf("latency: no table for r=%d, expected one of %v", n.Resolution, t.Resolutions())
	}
	var ms float64
	err := walk(s, n, func(key []byte) error {
		e, ok := entries[string(key)]
		if !ok {
			return fmt.Errorf("the table of r=%d has no key %q", n.Resolution, key)
		}
		ms += e.Mean
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("latency: %w", err)
	}
	return ms, nil
}
