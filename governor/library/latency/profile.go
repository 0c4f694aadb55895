package latency

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	profileName     = "profile.json"
	profileFormat   = "dynofa latency profile"
	profileVersion  = 1
	maxProfileBytes = 64 << 20 // 1024 tables of 4 MiB at most, but those of a real space make some hundred kB
)

// Profile says where the tables of a directory come from, how much they scatter, and what their plain sums miss.
// It is the file profile.json beside them.
type Profile struct {
	Format  string `json:"format"` // "dynofa latency profile"
	Version int    `json:"version"`

	Date    string `json:"date"` // RFC 3339, of the end
	Dynofa  string `json:"dynofa"`
	Command string `json:"command"`
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	System  string `json:"system"` // such as linux/amd64
	Backend string `json:"backend"`
	Device  string `json:"device,omitempty"` // what a backend beside the CPU computes on
	Threads int    `json:"threads"`
	Bundle  string `json:"bundle_sha256"`
	Space   string `json:"space"`
	Seed    uint64 `json:"seed"`

	Rounds  int     `json:"rounds"`
	Seconds float64 `json:"seconds"`
	Dirty   float64 `json:"dirty"` // share of the measurements that something else on the machine disturbed
	Tight   float64 `json:"tight"` // share of the keys whose interval is as narrow as was asked for

	Correction Correction                `json:"correction"`
	Proof      *Proof                    `json:"proof,omitempty"`
	Tables     map[int]string            `json:"tables"` // SHA-256 of every table file, by image side; Save fills it in
	Spread     map[int]map[string]Spread `json:"spread"` // by image side and key
}

// Spread is the 95 % confidence interval of a table's mean, in milliseconds, and how many of its samples were dirty.
type Spread struct {
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
	Dirty int     `json:"dirty"`
}

// Proof compares predictions with networks that the table does not know, measured afterwards end to end.
type Proof struct {
	Networks  int     `json:"networks"`
	MeanError float64 `json:"mean_error"` // mean of |predicted - measured| / measured
	Worst     float64 `json:"worst_error"`
	Rank      float64 `json:"rank_correlation"` // Spearman's
	Drift     float64 `json:"drift"`            // how much slower the machine was than while profiling, taken out of the measurements
}

// Correction turns the sum of layers measured one by one into the latency of a run. It is affine in sums over
// layers, so that a layer keeps a share of its own whatever stands beside it:
//
//	latency = BaseMS[r] + sum over layers of (Scale * mean + LayerMS + WeightMS * weights/1e6)
type Correction struct {
	BaseMS   map[int]float64 `json:"base_ms"`   // by image side; what a call costs beside its layers
	Scale    float64         `json:"scale"`     // of every mean
	LayerMS  float64         `json:"layer_ms"`  // of every layer: less the clock that was looked at, for one
	WeightMS float64         `json:"weight_ms"` // per million weights: those that the caches lose between runs
}

// plain corrects nothing.
var plain = &Correction{Scale: 1}

func (c *Correction) layer(mean float64, weights int) float64 {
	return c.Scale*mean + c.LayerMS + c.WeightMS*float64(weights)/1e6
}

// Bounds of a Correction; one beyond them fits no measurement.
const minScale, maxScale = 0.1, 10

func (c *Correction) check() error {
	if !(c.Scale >= minScale && c.Scale <= maxScale) {
		return fmt.Errorf("correction.scale is %v, expected %v to %v", c.Scale, minScale, maxScale)
	}
	for name, v := range map[string]float64{"layer_ms": c.LayerMS, "weight_ms": c.WeightMS} {
		if !(math.Abs(v) <= maxMS) {
			return fmt.Errorf("correction.%s is %v, expected -%v to %v", name, v, maxMS, maxMS)
		}
	}
	for r, v := range c.BaseMS {
		if !(math.Abs(v) <= maxMS) {
			return fmt.Errorf("correction.base_ms of r=%d is %v, expected -%v to %v", r, v, maxMS, maxMS)
		}
	}
	return nil
}

// NewProfiled is [New] with a Profile, of which the Table keeps what it points to. The Profile's Format, Version and
// Tables are filled in.
func NewProfiled(sides map[int]map[string]Entry, p Profile) (*Table, error) {
	t, err := New(sides)
	if err != nil {
		return nil, err
	}
	p.Format, p.Version = profileFormat, profileVersion
	p.Tables = make(map[int]string, len(sides))
	for r, entries := range t.sides {
		data, err := encode(entries)
		if err != nil {
			return nil, fmt.Errorf("latency: r=%d: %w", r, err)
		}
		p.Tables[r] = checksum(data)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	if err := p.match(p.Tables); err != nil {
		return nil, fmt.Errorf("latency: %w", err)
	}
	t.profile = &p
	return t, nil
}

// Profile is what profile.json says, or nil for a table without one. It must not be changed.
func (t *Table) Profile() *Profile { return t.profile }

// encode makes the content of a table file, the same for the same entries.
func encode(entries map[string]Entry) ([]byte, error) {
	data, err := json.MarshalIndent(entries, "", " ")
	return append(data, '\n'), err
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func loadProfile(path string) (*Profile, error) {
	data, err := read(path, maxProfileBytes)
	if err != nil {
		return nil, err
	}
	return parseProfile(data)
}

func parseProfile(data []byte) (*Profile, error) {
	p := new(Profile)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("starts with %.40q: %w, expected a JSON object of a profile", data, err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Profile) check() error {
	if p.Format != profileFormat || p.Version != profileVersion {
		return fmt.Errorf("format is %.60q, version %d, expected %q, version %d", p.Format, p.Version, profileFormat, profileVersion)
	}
	if err := p.Correction.check(); err != nil {
		return err
	}
	for r, keys := range p.Spread {
		for key, s := range keys {
			if !(s.Low >= 0 && s.Low <= s.High && s.High <= maxMS) || s.Dirty < 0 {
				return fmt.Errorf("spread of r=%d, key %.120q is %v to %v ms, %d dirty, expected 0 to %v, ascending, 0 or more", r, key, s.Low, s.High, s.Dirty, maxMS)
			}
		}
	}
	return nil
}

// match says whether the tables beside the profile are those that were written with it.
func (p *Profile) match(sums map[int]string) error {
	for _, r := range slices.Sorted(maps.Keys(sums)) {
		sum := sums[r]
		want, ok := p.Tables[r]
		if !ok {
			return fmt.Errorf("knows nothing of %d%s, expected the tables of one profile alone", r, suffix)
		}
		if _, ok := p.Correction.BaseMS[r]; !ok {
			return fmt.Errorf("correction.base_ms has no r=%d, expected every resolution", r)
		}
		if sum != want {
			return fmt.Errorf("%d%s is not the one that was measured with it (SHA-256 %.12s, expected %.12s): mixed tables, or an interrupted write", r, suffix, sum, want)
		}
	}
	for _, r := range slices.Sorted(maps.Keys(p.Tables)) {
		if _, ok := sums[r]; !ok {
			return fmt.Errorf("%d%s is missing, expected the tables of %v", r, suffix, slices.Sorted(maps.Keys(p.Tables)))
		}
	}
	return nil
}

// measuredFor explains a missing key.
func (p *Profile) measuredFor() string {
	if p == nil || p.Space == "" {
		return ""
	}
	return fmt.Sprintf(": it was measured for %.100s", strings.ToValidUTF8(p.Space, "?"))
}
