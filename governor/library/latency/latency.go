// Package latency predicts the latency of sub-networks from look-up tables: one measured mean per layer, summed.
//
// A table is a directory with one file <r>_lookup_table.json per image side r, a JSON object
// key -> {"count", "mean", "std"} in milliseconds, in the format of the once-for-all and DynamicOFA projects:
// their tables load unchanged and ours load there. [Keys] spells the keys out. A table that dynofa measured has a
// file profile.json as well: where it comes from, and a [Correction] of the sums.
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

	"github.com/dynofa/dynofa/gofacade/atomicfile"
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
	sides   map[int]map[string]Entry // image side, key
	profile *Profile                 // nil: plain sums
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

// ErrNoTables is what Load says of a directory without tables.
var ErrNoTables = errors.New("no file")

// Load reads every <r>_lookup_table.json of a directory, and its profile.json if there is one; other files are
// ignored. The error names the file and, where there is one, the key and the value: no such file, a name without a
// legal r, a file over 4 MiB, text that is not JSON (NaN is not), a key given twice, a mean that is missing, negative
// or above 1e9, tables that are not those of the profile.
func Load(dir string) (*Table, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	sides, sums := map[int]map[string]Entry{}, map[int]string{}
	profiled := false
	for _, file := range files {
		if file.Name() == profileName {
			profiled = true
		}
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
		data, err := read(path, maxBytes)
		if err == nil {
			sums[r] = checksum(data)
			sides[r], err = parse(data)
		}
		if err != nil {
			return nil, fmt.Errorf("latency: %s: %w", path, err)
		}
	}
	if len(sides) == 0 {
		return nil, fmt.Errorf("latency: %s: %w <r>%s, expected one per resolution%s", dir, ErrNoTables, suffix, hint(dir, files))
	}
	t := &Table{sides: sides}
	if profiled {
		path := filepath.Join(dir, profileName)
		if t.profile, err = loadProfile(path); err == nil {
			err = t.profile.match(sums)
		}
		if err != nil {
			return nil, fmt.Errorf("latency: %s: %w", path, err)
		}
	}
	return t, nil
}

// read reads a regular file of bounded size; anything else, such as a pipe, could block or never end.
func read(path string, limit int64) ([]byte, error) {
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
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
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

// hint names the folders of a directory that hold tables, because a profiler makes one a number of threads.
func hint(dir string, files []os.DirEntry) string {
	var found []string
	for _, f := range files {
		if tables, _ := filepath.Glob(filepath.Join(dir, f.Name(), "*"+suffix)); len(tables) > 0 {
			found = append(found, f.Name())
		}
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf(": there are tables in its folders %.200q, name one", found)
}

// Save writes one file per resolution into a directory, which is made if need be, and profile.json, if the Table has
// one, after them. Every file is replaced as a whole. Tables of other resolutions stay, but not beside a profile:
// those are an error, and so is a plain Table where there is a profile. [Load] reads back an equal Table.
func (t *Table) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("latency: %w", err)
	}
	if err := t.fits(dir); err != nil {
		return fmt.Errorf("latency: %s: %w", dir, err)
	}
	replace := func(name string, data []byte) error {
		if err := atomicfile.Write(filepath.Join(dir, name), data); err != nil {
			return fmt.Errorf("latency: %s: %w", filepath.Join(dir, name), err)
		}
		return nil
	}
	for _, r := range t.Resolutions() {
		data, err := encode(t.sides[r])
		if err != nil {
			return fmt.Errorf("latency: r=%d: %w", r, err)
		}
		if err := replace(strconv.Itoa(r)+suffix, data); err != nil {
			return err
		}
	}
	if t.profile == nil {
		return nil
	}
	data, err := json.MarshalIndent(t.profile, "", " ")
	if err != nil {
		return fmt.Errorf("latency: %s: %w", profileName, err)
	}
	return replace(profileName, append(data, '\n'))
}

// fits refuses to mix measurements in a directory.
func (t *Table) fits(dir string) error {
	if t.profile == nil {
		if _, err := os.Lstat(filepath.Join(dir, profileName)); err == nil {
			return fmt.Errorf("holds a %s of other tables, expected another directory", profileName)
		}
		return nil
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), suffix); ok {
			if r, err := strconv.Atoi(name); err != nil || t.sides[r] == nil {
				return fmt.Errorf("holds %s, which is no part of this profile, expected another directory", f.Name())
			}
		}
	}
	return nil
}

// Resolutions lists the image sides that the Table covers, in pixels, ascending.
func (t *Table) Resolutions() []int { return slices.Sorted(maps.Keys(t.sides)) }

// Predict is the latency of a Subnet at batch 1 in milliseconds: the sum of its layers' means, corrected if the
// Table has a [Profile]. The error says which resolutions there are, which key the table lacks, or which field of
// the Subnet the Space does not offer.
func (t *Table) Predict(s *ofa.Space, n ofa.Subnet) (float64, error) {
	var ms float64
	base, err := t.each(s, n, func(layer float64) { ms += layer })
	return ms + base, err
}

// Layers splits Predict: base, which hangs on the resolution alone, plus the sum of ms, one share a layer in the
// order of [Keys]. A layer's share hangs on its own key alone, with a [Correction] as without: so a search may keep
// the shares of every block that a stage can hold and add up those of a Subnet, or replace some, and gets Predict.
// A share may be negative.
func (t *Table) Layers(s *ofa.Space, n ofa.Subnet) (base float64, ms []float64, err error) {
	base, err = t.each(s, n, func(layer float64) { ms = append(ms, layer) })
	if err != nil {
		return 0, nil, err
	}
	return base, ms, nil
}

// each visits the shares of the layers and returns the base.
func (t *Table) each(s *ofa.Space, n ofa.Subnet, visit func(ms float64)) (base float64, err error) {
	entries, ok := t.sides[n.Resolution]
	if !ok {
		return 0, fmt.Errorf("latency: no table for r=%d, expected one of %v", n.Resolution, t.Resolutions())
	}
	c := plain
	if t.profile != nil {
		c = &t.profile.Correction
	}
	err = walk(s, n, func(key []byte, weights int) error {
		e, ok := entries[string(key)]
		if !ok {
			return fmt.Errorf("the table of r=%d has no key %q%s", n.Resolution, key, t.profile.measuredFor())
		}
		visit(c.layer(e.Mean, weights))
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("latency: %w", err)
	}
	return c.BaseMS[n.Resolution], nil
}
