package latency

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// reference is the path of a file of the reference data beside the repository, or skips the test.
func reference(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

func TestPredictEqualsReference(t *testing.T) {
	data, err := os.ReadFile(reference(t, "latency_cases.json"))
	require.NoError(t, err)
	var file struct {
		Tables map[string]string
		Cases  []json.RawMessage
	}
	require.NoError(t, json.Unmarshal(data, &file))
	require.Len(t, file.Cases, 260)
	require.Len(t, file.Tables, 2)
	s := ofa.MobileNetV3(1.2, 1000)
	for device, dir := range file.Tables {
		table, err := Load(reference(t, dir))
		require.NoError(t, err)
		require.Len(t, table.Resolutions(), 17)
		for i, raw := range file.Cases {
			var n ofa.Subnet
			var want map[string]any
			require.NoError(t, json.Unmarshal(raw, &n))
			require.NoError(t, json.Unmarshal(raw, &want))
			ms, err := table.Predict(s, n)
			require.NoError(t, err)
			require.InEpsilon(t, want[device], ms, 1e-12, "%s, case %d", device, i)
		}
	}
}

// TestPublicTablesHoldNoOtherKeys: every key of a public table is the key of some layer, and the other way round.
func TestPublicTablesHoldNoOtherKeys(t *testing.T) {
	s := ofa.MobileNetV3(1.2, 1000)
	for _, dir := range []string{"latency_table@jetson", "latency_table@jetson_GPU"} {
		table, err := Load(reference(t, dir))
		require.NoError(t, err)
		for r, entries := range table.sides {
			want := slices.Sorted(maps.Keys(entries))
			require.Len(t, want, 96)
			require.Equal(t, want, slices.Sorted(maps.Keys(allKeys(t, s, r))), "%s r=%d", dir, r)
		}
	}
}

// allKeys are the keys of every Subnet of one resolution: those of all uniform ones, because a block's key hangs
// on its own choices only.
func allKeys(t *testing.T, s *ofa.Space, r int) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, k := range s.Kernels {
		for _, e := range s.Expands {
			keys, err := Keys(s, s.Uniform(k, e, s.Stages[0].MaxDepth(), r))
			require.NoError(t, err)
			for _, key := range keys {
				all[key] = true
			}
		}
	}
	return all
}

func TestKeysOfMobileNetV3(t *testing.T) {
	s := ofa.MobileNetV3(1.2, 1000)
	n := s.Uniform(3, 4, 2, 132)
	n.Kernels[17], n.Expands[17] = 7, 6
	keys, err := Keys(s, n)
	require.NoError(t, err)
	require.Equal(t, []string{
		"Conv-input:132x132x3-output:66x66x24",
		"expanded_conv-input:66x66x24-output:66x66x24-expand:24-kernel:3-stride:1-idskip:1-se:0-hs:0",
		"expanded_conv-input:66x66x24-output:33x33x32-expand:96-kernel:3-stride:2-idskip:0-se:0-hs:0",
		"expanded_conv-input:33x33x32-output:33x33x32-expand:128-kernel:3-stride:1-idskip:1-se:0-hs:0",
		"expanded_conv-input:33x33x32-output:17x17x48-expand:128-kernel:3-stride:2-idskip:0-se:1-hs:0",
		"expanded_conv-input:17x17x48-output:17x17x48-expand:192-kernel:3-stride:1-idskip:1-se:1-hs:0",
		"expanded_conv-input:17x17x48-output:9x9x96-expand:192-kernel:3-stride:2-idskip:0-se:0-hs:1",
		"expanded_conv-input:9x9x96-output:9x9x96-expand:384-kernel:3-stride:1-idskip:1-se:0-hs:1",
		"expanded_conv-input:9x9x96-output:9x9x136-expand:384-kernel:3-stride:1-idskip:0-se:1-hs:1",
		"expanded_conv-input:9x9x136-output:9x9x136-expand:544-kernel:3-stride:1-idskip:1-se:1-hs:1",
		"expanded_conv-input:9x9x136-output:5x5x192-expand:544-kernel:3-stride:2-idskip:0-se:1-hs:1",
		"expanded_conv-input:5x5x192-output:5x5x192-expand:1152-kernel:7-stride:1-idskip:1-se:1-hs:1",
		"Conv_1-input:5x5x192-output:5x5x1152",
		"AvgPool2D-input:5x5x1152-output:1x1x1152",
		"Conv_2-input:1x1x1152-output:1x1x1536",
		"Logits-input:1x1x1536-output:1000",
	}, keys)
}

func TestKeysWithoutHeadExpand(t *testing.T) {
	s := ofa.ProxylessNAS(1, 10)
	keys, err := Keys(s, s.Smallest())
	require.NoError(t, err)
	require.Equal(t, "expanded_conv-input:64x64x32-output:64x64x16-expand:32-kernel:3-stride:1-idskip:0-se:0-hs:0", keys[1])
	require.Equal(t, []string{
		"Conv_1-input:4x4x320-output:4x4x1280",
		"AvgPool2D-input:4x4x1280-output:1x1x1280",
		"Logits-input:1x1x1280-output:10",
	}, keys[len(keys)-3:])
}

// synthetic is a table of made-up means for everything that a Space offers.
func synthetic(t *testing.T, s *ofa.Space, resolutions ...int) *Table {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, 0))
	sides := map[int]map[string]Entry{}
	for _, r := range resolutions {
		sides[r] = map[string]Entry{}
		for _, key := range slices.Sorted(maps.Keys(allKeys(t, s, r))) {
			sides[r][key] = Entry{Count: 1 + rng.IntN(500), Mean: rng.Float64() * 10, Std: rng.Float64()}
		}
	}
	table, err := New(sides)
	require.NoError(t, err)
	return table
}

func TestPredictSumsTheMeansOfItsKeys(t *testing.T) {
	for name, s := range map[string]*ofa.Space{
		"mbv3":      ofa.MobileNetV3(0.35, 7),
		"proxyless": ofa.ProxylessNAS(1.3, 1000),
	} {
		t.Run(name, func(t *testing.T) {
			table := synthetic(t, s, 128, 132)
			rng := rand.New(rand.NewPCG(1, 0))
			for range 50 {
				n := s.Sample(rng)
				n.Resolution = 128 + 4*rng.IntN(2)
				keys, err := Keys(s, n)
				require.NoError(t, err)
				var want float64
				for _, key := range keys {
					want += table.sides[n.Resolution][key].Mean
				}
				got, err := table.Predict(s, n)
				require.NoError(t, err)
				require.Equal(t, want, got)
			}
		})
	}
}

func TestSaveAndLoad(t *testing.T) {
	want := synthetic(t, ofa.MobileNetV3(1, 10), 160, 96, 224)
	dir := filepath.Join(t.TempDir(), "made", "table")
	require.NoError(t, want.Save(dir))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o600))
	got, err := Load(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, []int{96, 160, 224}, got.Resolutions())
}

func TestPredictSaysWhatIsMissing(t *testing.T) {
	s := ofa.MobileNetV3(1.2, 1000)
	table := synthetic(t, s, 192, 160)
	_, err := table.Predict(s, s.Uniform(3, 3, 2, 164))
	require.EqualError(t, err, "latency: no table for r=164, expected one of [160 192]")

	wider := ofa.MobileNetV3(1, 1000)
	_, err = table.Predict(wider, wider.Uniform(3, 3, 2, 160))
	require.EqualError(t, err, `latency: the table of r=160 has no key "Conv-input:160x160x3-output:80x80x16"`)

	n := s.Uniform(3, 3, 2, 160)
	n.Kernels[0] = 9
	_, err = table.Predict(s, n)
	require.EqualError(t, err, "latency: ks[0] is 9, expected one of [3 5 7]")
	_, err = Keys(s, ofa.Subnet{Resolution: 160})
	require.EqualError(t, err, "latency: ks is 0 long, expected 20 values")
}

func TestNewChecksItsEntries(t *testing.T) {
	for want, sides := range map[string]map[int]map[string]Entry{
		"0 resolutions":             nil,
		"r is 0":                    {0: {"a": {}}},
		"r is 5000":                 {5000: {"a": {}}},
		"r=160: no keys":            {160: {}},
		`r=160: key "a": mean is N`: {160: {"a": {Mean: math.NaN()}}},
		`r=160: key "b": mean is +`: {160: {"a": {}, "b": {Mean: math.Inf(1)}}},
		`key "a": std is -1`:        {160: {"a": {Std: -1}}},
		`key "a": count is -1`:      {160: {"a": {Count: -1}}},
	} {
		_, err := New(sides)
		require.ErrorContains(t, err, want)
	}
}

func TestLoadNamesFileKeyAndValue(t *testing.T) {
	for text, want := range map[string]string{
		``:                                     "expected a JSON object",
		`[1]`:                                  `starts with "[1]", expected a JSON object`,
		`{}`:                                   "no keys",
		`{"a": {"mean": NaN}}`:                 `key "a": value "{\"mean\": NaN}}": invalid character 'N'`,
		`{"a": {"mean": Infinity}}`:            `key "a": value "{\"mean\": Infinity}}": invalid character 'I'`,
		`{"a": {"mean": 1e999}}`:               `key "a": value "{\"mean\": 1e999}}": json: cannot unmarshal number 1e999`,
		`{"a": {"mean": "1"}}`:                 `key "a": value "{\"mean\": \"1\"}}": json: cannot unmarshal string`,
		`{"a": {"mean": null}}`:                `mean is missing`,
		`{"a": {"std": 1}}`:                    `key "a": value "{\"std\": 1}}": mean is missing`,
		`{"a": null}`:                          `key "a": value "null}": mean is missing`,
		`{"a": 3}`:                             `key "a": value "3}": json: cannot unmarshal number`,
		`{"a": {"mean": -0.5}}`:                `key "a": mean is -0.5, expected 0 to 1e+09 ms`,
		`{"a": {"mean": 2e9}}`:                 `key "a": mean is 2e+09, expected 0 to 1e+09 ms`,
		`{"a": {"mean": 1, "std": -1}}`:        `key "a": std is -1`,
		`{"a": {"mean": 1, "count": -1}}`:      `key "a": count is -1`,
		`{"b": {"mean": 1}, "b": {"mean": 2}}`: `key "b": given twice`,
		`{"b": {"mean": 1}} {}`:                `more text after`,
		`{"b": {"mean": 1}`:                    `after 1 keys: the object does not end`,
		`{"b": {"mean": 1}, "c"`:               `key "c"`,
		`{"b": {"mean": 1}, 7: 1}`:             `after 1 keys`,
		`{"a":` + strings.Repeat("[", 20000):   `key "a": value "[[[[`,
		`{"a": {"mean": ` + strings.Repeat("1", 400): `key "a": value "{\"mean\": 1111`,
		strings.Repeat(" ", maxBytes+1):              `larger than 4194304 bytes`,
	} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "160_lookup_table.json"), []byte(text), 0o600))
		_, err := Load(dir)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "160_lookup_table.json: ")
		require.Less(t, len(err.Error()), 600+len(dir), "the error is short whatever the file holds")
	}
}

func TestLoadChecksNames(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Load(t.TempDir())
	require.ErrorContains(t, err, "no file <r>_lookup_table.json")
	for _, name := range []string{"", "x", "0", "-160", "0160", "+160", "160.0", "4097", "99999999999999999999"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+suffix), []byte(`{"a": {"mean": 1}}`), 0o600))
		_, err := Load(dir)
		require.ErrorContains(t, err, "expected a name <r>_lookup_table.json", name)
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "160"+suffix), 0o700))
	_, err = Load(dir)
	require.ErrorContains(t, err, "expected a regular file")
}

func FuzzTable(f *testing.F) {
	f.Add([]byte(`{"Logits-input:1x1x1536-output:1000": {"count": 499, "mean": 12.5, "std": 16.4}}`))
	f.Add([]byte(`{"a": {"mean": NaN}}`))
	f.Add([]byte(`{"a": {"mean": 1}, "a": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := parse(data)
		if err != nil {
			return
		}
		table, err := New(map[int]map[string]Entry{160: entries})
		if err != nil {
			t.Fatalf("%q: read and then refused: %v", data, err)
		}
		text, err := json.Marshal(table.sides[160])
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(text)
		if err != nil || !maps.Equal(entries, again) {
			t.Fatalf("%q: does not survive writing: %v", data, err)
		}
	})
}

func ExampleTable_Predict() {
	s := ofa.MobileNetV3(1, 10)
	n := s.Smallest()
	keys, err := Keys(s, n)
	if err != nil {
		panic(err)
	}
	measured := map[string]Entry{}
	for _, key := range keys {
		measured[key] = Entry{Count: 100, Mean: 0.25}
	}
	table, err := New(map[int]map[string]Entry{n.Resolution: measured})
	if err != nil {
		panic(err)
	}
	ms, err := table.Predict(s, n)
	fmt.Println(len(keys), ms, err)
	// Output: 16 4 <nil>
}

func BenchmarkPredict(b *testing.B) {
	s := ofa.MobileNetV3(1.2, 1000)
	n := s.Largest()
	keys, err := Keys(s, n)
	require.NoError(b, err)
	entries := map[string]Entry{}
	for _, key := range keys {
		entries[key] = Entry{Mean: 1}
	}
	table, err := New(map[int]map[string]Entry{n.Resolution: entries})
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Predict(s, n); err != nil {
			b.Fatal(err)
		}
	}
}
