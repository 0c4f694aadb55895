package latency

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// profiled is a synthetic table with a correction.
func profiled(t *testing.T, s *ofa.Space, resolutions ...int) *Table {
	t.Helper()
	sides := synthetic(t, s, resolutions...).sides
	p := Profile{Backend: "made up", Space: "a space", Correction: Correction{
		Scale: 0.9, LayerMS: -0.01, WeightMS: 0.5, BaseMS: map[int]float64{},
	}, Spread: map[int]map[string]Spread{}}
	for _, r := range resolutions {
		p.Correction.BaseMS[r] = float64(r) / 1000
		p.Spread[r] = map[string]Spread{"Conv": {1, 2, 3}}
	}
	table, err := NewProfiled(sides, p)
	require.NoError(t, err)
	return table
}

// TestCorrectionIsAffineInSumsOverLayers: Predict is base + scale * sum of means + layers + weights.
func TestCorrectionIsAffineInSumsOverLayers(t *testing.T) {
	for name, s := range map[string]*ofa.Space{"mbv3": ofa.MobileNetV3(0.35, 7), "proxyless": ofa.ProxylessNAS(1.3, 1000)} {
		t.Run(name, func(t *testing.T) {
			table := profiled(t, s, 128, 160)
			plain, err := New(table.sides)
			require.NoError(t, err)
			rng := rand.New(rand.NewPCG(1, 0))
			for range 20 {
				n := s.Sample(rng)
				n.Resolution = 128 + 32*rng.IntN(2)
				keys, err := Keys(s, n)
				require.NoError(t, err)
				sum, err := plain.Predict(s, n)
				require.NoError(t, err)
				// The parameters that are not weights of a layer are batch normalisations and biases.
				_, params := s.Cost(n)
				for _, norm := range s.Norms(n) {
					params -= 2 * int64(norm.Channels)
				}
				params -= int64(s.Classes)
				for _, b := range s.Blocks(n) {
					if b.Squeeze > 0 {
						params -= int64(b.Mid + b.Squeeze)
					}
				}
				want := float64(n.Resolution)/1000 + 0.9*sum - 0.01*float64(len(keys)) + 0.5*float64(params)/1e6
				got, err := table.Predict(s, n)
				require.NoError(t, err)
				require.InEpsilon(t, want, got, 1e-12)

				base, layers, err := table.Layers(s, n)
				require.NoError(t, err)
				require.Len(t, layers, len(keys))
				for _, ms := range layers {
					base += ms
				}
				require.InEpsilon(t, got, base, 1e-12)
			}
		})
	}
}

func TestProfileSavesAndLoads(t *testing.T) {
	want := profiled(t, ofa.MobileNetV3(1, 10), 160, 96)
	dir := filepath.Join(t.TempDir(), "made", "table")
	require.NoError(t, want.Save(dir))
	require.NoError(t, want.Save(dir), "over itself")
	got, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, "made up", got.Profile().Backend)

	require.NoError(t, os.Remove(filepath.Join(dir, profileName)))
	got, err = Load(dir)
	require.NoError(t, err)
	require.Nil(t, got.Profile())
	require.Equal(t, want.sides, got.sides)
}

func TestTablesOfSeveralProfilesDoNotMix(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	one, other := profiled(t, s, 160), profiled(t, s, 96)
	dir := t.TempDir()
	require.NoError(t, one.Save(dir))
	require.ErrorContains(t, other.Save(dir), "holds 160_lookup_table.json, which is no part of this profile")
	require.ErrorContains(t, synthetic(t, s, 96).Save(dir), "holds a profile.json of other tables")

	stray := filepath.Join(dir, "96"+suffix)
	require.NoError(t, os.WriteFile(stray, []byte(`{"a": {"mean": 1}}`), 0o600))
	_, err := Load(dir)
	require.ErrorContains(t, err, "profile.json: knows nothing of 96_lookup_table.json")
	require.NoError(t, os.Remove(stray))

	table := filepath.Join(dir, "160"+suffix)
	require.NoError(t, os.WriteFile(table, []byte(`{"a": {"mean": 1}}`), 0o600))
	_, err = Load(dir)
	require.ErrorContains(t, err, "160_lookup_table.json is not the one that was measured with it")
	require.NoError(t, os.Remove(table))
	_, err = Load(dir)
	require.ErrorContains(t, err, "no file <r>_lookup_table.json")
	_, err = Load(filepath.Dir(dir))
	require.ErrorContains(t, err, "no file <r>_lookup_table.json, expected one per resolution")

	both := profiled(t, s, 160, 96)
	require.NoError(t, both.Save(filepath.Join(dir, "t1")))
	_, err = Load(dir)
	require.ErrorContains(t, err, `there are tables in its folders ["t1"], name one`)
	require.NoError(t, os.Remove(filepath.Join(dir, "t1", "96"+suffix)))
	_, err = Load(filepath.Join(dir, "t1"))
	require.ErrorContains(t, err, "96_lookup_table.json is missing, expected the tables of [96 160]")
}

func TestMissingKeySaysWhatWasMeasured(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	table := profiled(t, s, 160)
	wider := ofa.MobileNetV3(1.2, 10)
	_, err := table.Predict(wider, wider.Uniform(3, 3, 2, 160))
	require.EqualError(t, err, `latency: the table of r=160 has no key "Conv-input:160x160x3-output:80x80x24": it was measured for a space`)
}

func TestHostileProfiles(t *testing.T) {
	s := ofa.MobileNetV3(1, 10)
	dir := t.TempDir()
	require.NoError(t, profiled(t, s, 160).Save(dir))
	path := filepath.Join(dir, profileName)
	good, err := os.ReadFile(path)
	require.NoError(t, err)
	swap := func(old, replacement string) string {
		require.Contains(t, string(good), old)
		return strings.Replace(string(good), old, replacement, 1)
	}
	for text, want := range map[string]string{
		``:                 "expected a JSON object",
		`[]`:               "expected a JSON object",
		`{}`:               `format is "", version 0, expected "dynofa latency profile", version 1`,
		string(good[:50]):  "unexpected end",
		string(good) + "x": "after top-level value",
		swap(profileFormat, strings.Repeat("y", 999)): "format is",
		swap(`"version": 1`, `"version": 2`):          "version 2, expected",
		swap(`"scale": 0.9`, `"scale": 0`):            "correction.scale is 0, expected 0.1 to 10",
		swap(`"scale": 0.9`, `"scale": 1e999`):        "cannot unmarshal number 1e999",
		swap(`"layer_ms": -0.01`, `"layer_ms": 1e10`): "correction.layer_ms is 1e+10",
		swap(`"weight_ms": 0.5`, `"weight_ms": "a"`):  "cannot unmarshal string",
		swap(`"160": 0.16`, `"160": -1e10`):           "correction.base_ms of r=160 is -1e+10",
		swap(`"160": 0.16`, `"164": 1`):               "correction.base_ms has no r=160",
		swap(`"low": 1`, `"low": 3`):                  "spread of r=160, key \"Conv\" is 3 to 2 ms",
		swap(`"dirty": 3`, `"dirty": -3`):             "-3 dirty",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := Load(dir)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "profile.json: ")
		require.Less(t, len(err.Error()), 600+len(dir))
		require.NotContains(t, err.Error(), "\n")
	}
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Mkdir(path, 0o700))
	_, err = Load(dir)
	require.ErrorContains(t, err, "expected a regular file")
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte(`{"format": "dynofa latency profile", "version": 1, "correction": {"scale": 1, "base_ms": {"160": 0.1}}}`))
	f.Add([]byte(`{"format": "dynofa latency profile", "version": 1, "correction": {"scale": 1}, "spread": {"160": {"a": {"low": 1, "high": 2}}}, "tables": {"160": "ab"}}`))
	f.Add([]byte(`{"format": null, "proof": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parseProfile(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("%q: read and not written: %v", data, err)
		}
		if _, err := parseProfile(text); err != nil {
			t.Fatalf("%q: does not survive writing: %v", data, err)
		}
	})
}
