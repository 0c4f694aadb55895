package library

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

// reference is the path of a file of the reference data beside the repository, or skips the test.
func reference(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

// cases decodes the "cases" of a reference file and reads them with ReadSpecs.
func cases[T any](t *testing.T, name string) ([]T, []ofa.Subnet) {
	t.Helper()
	data, err := os.ReadFile(reference(t, name))
	require.NoError(t, err)
	var file struct{ Cases []T }
	require.NoError(t, json.Unmarshal(data, &file))
	subnets, err := ReadSpecs(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, subnets, len(file.Cases))
	return file.Cases, subnets
}

func TestScoreEqualsReference(t *testing.T) {
	type cost struct{ Macs, Params int64 }
	costs, subnets := cases[struct {
		W10 cost `json:"w1.0"`
		W12 cost `json:"w1.2"`
	}](t, "flops_cases.json")
	accuracies, same := cases[struct{ Acc64 float64 }](t, "predictor_cases.json")
	require.Equal(t, subnets, same)
	latencies, more := cases[struct{ CPU, GPU float64 }](t, "latency_cases.json")
	require.Equal(t, subnets, more[:len(subnets)])

	narrow, wide := ofa.MobileNetV3(1, 1000), ofa.MobileNetV3(1.2, 1000)
	p, err := predictor.Load(reference(t, "acc_predictor.pth"), wide)
	require.NoError(t, err)
	cpu, err := latency.Load(reference(t, "latency_table@jetson"))
	require.NoError(t, err)

	scored, err := Score(wide, p, cpu, subnets)
	require.NoError(t, err)
	require.Len(t, scored, 200)
	for i, got := range scored {
		require.Equal(t, costs[i].W12, cost{got.MACs, got.Params}, "case %d", i)
		require.InDelta(t, accuracies[i].Acc64, *got.Accuracy, 1e-6, "case %d", i)
		require.InEpsilon(t, latencies[i].CPU, *got.LatencyMS, 1e-9, "case %d", i)
	}
	scored, err = Score(narrow, nil, nil, subnets)
	require.NoError(t, err)
	for i, got := range scored {
		require.Equal(t, costs[i].W10, cost{got.MACs, got.Params}, "case %d", i)
		require.Nil(t, got.Accuracy)
		require.Nil(t, got.LatencyMS)
	}
}

// TestReadSpecsReadsEveryReferenceFile: other keys, of cases and beside them, do not disturb.
func TestReadSpecsReadsEveryReferenceFile(t *testing.T) {
	for name, space := range map[string]*ofa.Space{
		"golden_subnets_tiny_w0.25_c10.json":  ofa.MobileNetV3(0.25, 10),
		"golden_subnets_full_w1.0_c1000.json": ofa.MobileNetV3(1, 1000),
		"bn_calibration_tiny_w0.25_c10.json":  ofa.MobileNetV3(0.25, 10),
	} {
		_, subnets := cases[json.RawMessage](t, name)
		require.NotEmpty(t, subnets)
		for i, n := range subnets {
			require.NoError(t, space.CheckArch(n), "%s: case %d", name, i)
		}
	}
}

// fixture is a Space with a predictor and a table of made-up numbers for the image sides 128 and 160.
func fixture(t *testing.T) (*ofa.Space, *predictor.Predictor, *latency.Table) {
	t.Helper()
	s := ofa.MobileNetV3(0.25, 10)
	rng := rand.New(rand.NewPCG(3, 0))
	tensors := map[string]predictor.Tensor{}
	for name, shape := range map[string][]int{"0.weight": {8, 128}, "0.bias": {8}, "2.weight": {1, 8}, "2.bias": {1}} {
		tensor := predictor.Tensor{Shape: shape}
		for range shape[0] * append(shape, 1)[1] {
			tensor.Data = append(tensor.Data, rng.Float32())
		}
		tensors[name] = tensor
	}
	p, err := predictor.New(predictor.Public(s), tensors)
	require.NoError(t, err)
	sides := map[int]map[string]latency.Entry{}
	for _, r := range []int{128, 160} {
		sides[r] = map[string]latency.Entry{}
		for _, e := range s.Expands {
			keys, err := latency.Keys(s, s.Uniform(3, e, 4, r))
			require.NoError(t, err)
			for _, key := range keys {
				sides[r][key] = latency.Entry{Mean: 0.5}
			}
		}
	}
	table, err := latency.New(sides)
	require.NoError(t, err)
	return s, p, table
}

func TestScoreJoinsItsParts(t *testing.T) {
	s, p, table := fixture(t)
	subnets := []ofa.Subnet{s.Uniform(3, 6, 4, 160), s.Uniform(3, 3, 2, 128)}
	scored, err := Score(s, p, table, subnets)
	require.NoError(t, err)
	require.Len(t, scored, 2)
	for i, got := range scored {
		macs, params := s.Cost(subnets[i])
		accuracy, err := p.Accuracy(subnets[i])
		require.NoError(t, err)
		require.Equal(t, Scored{macs, params, &accuracy, got.LatencyMS}, got)
	}
	require.Equal(t, 0.5*26, *scored[0].LatencyMS)
	require.Equal(t, 0.5*16, *scored[1].LatencyMS)
}

func TestScoreJSON(t *testing.T) {
	s, _, table := fixture(t)
	n := s.Uniform(3, 3, 2, 128)
	macs, params := s.Cost(n)
	scored, err := Score(s, nil, table, []ofa.Subnet{n})
	require.NoError(t, err)
	data, err := json.Marshal(scored)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(`[{"macs":%d,"params":%d,"accuracy":null,"latency_ms":8}]`, macs, params), string(data))
	scored, err = Score(s, nil, nil, nil)
	require.NoError(t, err)
	data, err = json.Marshal(scored)
	require.NoError(t, err)
	require.Equal(t, "[]", string(data))
}

func TestScoreNamesTheSubnet(t *testing.T) {
	s, p, table := fixture(t)
	good := s.Uniform(3, 3, 2, 128)
	for want, change := range map[string]func(n *ofa.Subnet){
		"sub-network 1: d[2] is 9, expected one of [2 3 4]": func(n *ofa.Subnet) { n.Depths[2] = 9 },
		"sub-network 1: e is 0 long, expected 20 values":    func(n *ofa.Subnet) { n.Expands = nil },
		"sub-network 1: predictor: r is 64, expected 112":   func(n *ofa.Subnet) { n.Resolution = 64 },
		"sub-network 1: latency: no table for r=144":        func(n *ofa.Subnet) { n.Resolution = 144 },
		"has no key \"expanded_conv-input:64x64x8":          func(n *ofa.Subnet) { n.Kernels[0] = 5 },
	} {
		bad := s.Uniform(3, 3, 2, 128)
		change(&bad)
		_, err := Score(s, p, table, []ofa.Subnet{good, bad})
		require.ErrorContains(t, err, want)
	}
}

func TestReadSpecs(t *testing.T) {
	got, err := ReadSpecs(strings.NewReader(`{"note": {"cases": 1}, "cases": [
		{"ks": [3, 5], "e": [4, 6], "d": [2], "r": 160, "acc64": 0.8, "hot": []},
		{"name": "as OFA writes it", "wid": null, "ks": [7], "e": [3], "d": [1], "r": [224]}], "after": []}`))
	require.NoError(t, err)
	require.Equal(t, []ofa.Subnet{
		{Kernels: []int{3, 5}, Expands: []int{4, 6}, Depths: []int{2}, Resolution: 160},
		{Kernels: []int{7}, Expands: []int{3}, Depths: []int{1}, Resolution: 224},
	}, got)
	got, err = ReadSpecs(strings.NewReader(`{"cases": []}`))
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestReadSpecsNamesCaseAndField(t *testing.T) {
	good := `{"ks":[3],"e":[3],"d":[2],"r":160}`
	for text, want := range map[string]string{
		``:                                 `expected a JSON object with an array "cases"`,
		`[]`:                               `expected a JSON object with an array "cases"`,
		`{}`:                               `no "cases"`,
		`{"Cases": []}`:                    `no "cases"`,
		`{"cases": null}`:                  `"cases" is <nil>, expected an array`,
		`{"cases": {}}`:                    `"cases" is {, expected an array`,
		`{"a": NaN}`:                       `"a": invalid character 'N'`,
		`{"cases": []} true`:               `more text`,
		`{"cases": []`:                     `the object does not end`,
		`{"cases": [], "cases": []}`:       `given twice`,
		`{"cases": [` + good + `, ` + good: `cases[2]: the array does not end`,
		`{"cases": [` + good + `, 7]}`:     `cases[1]: `,
		`{"cases": [` + good + `, null]}`:  `cases[1]: r is missing, expected an image side`,
		`{"cases": [{"ks":[3],"e":[3],"d":[2]}]}`:                                           `cases[0]: r is missing, expected an image side`,
		`{"cases": [{"ks":[3],"e":[3],"d":[2],"r":"x"}]}`:                                   `cases[0]: r is "x"`,
		`{"cases": [{"e":[3],"d":[2],"r":160}]}`:                                            `cases[0]: ks is 0 long, expected a list of 1 to 1024`,
		`{"cases": [{"ks":[3],"e":[],"d":[2],"r":160}]}`:                                    `cases[0]: e is 0 long`,
		`{"cases": [{"ks":[3],"e":[3],"d":[2.5],"r":160}]}`:                                 `d of type int`,
		`{"cases": [{"ks":[3],"e":[3],"d":[2],"r":160,"wid":[1.2]}]}`:                       `cases[0]: wid is [1.2], expected null`,
		`{"cases": [{"ks":[3` + strings.Repeat(",3", 1024) + `],"e":[3],"d":[2],"r":160}]}`: `cases[0]: ks is 1025 long`,
		strings.Repeat("[", 20000):                                                          `expected a JSON object`,
		`{"a":` + strings.Repeat("[", 20000):                                                `"a": `,
	} {
		_, err := ReadSpecs(strings.NewReader(text))
		require.ErrorContains(t, err, want, "%.80s", text)
		require.ErrorContains(t, err, "library: specs: ")
	}
	broken := errors.New("broken")
	_, err := ReadSpecs(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

// endless is a file that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestReadSpecsIsBounded(t *testing.T) {
	_, err := ReadSpecs(endless{})
	require.ErrorContains(t, err, "larger than 67108864 bytes")
}

func FuzzSpecs(f *testing.F) {
	f.Add([]byte(`{"cases": [{"ks":[3],"e":[3],"d":[2],"r":[160],"wid":null}], "x": {}}`))
	f.Add([]byte(`{"cases": [{"ks":[3],"e":[3],"d":[2],"r":160}, null]}`))
	s := ofa.MobileNetV3(1, 10)
	largest, err := json.Marshal(map[string]any{"cases": []ofa.Subnet{s.Largest()}})
	require.NoError(f, err)
	f.Add(largest)
	f.Fuzz(func(t *testing.T, data []byte) {
		subnets, err := ReadSpecs(bytes.NewReader(data))
		if err != nil {
			return
		}
		scored, err := Score(s, nil, nil, subnets) // must not panic
		if err == nil && len(scored) != len(subnets) {
			t.Fatalf("%d results for %d sub-networks", len(scored), len(subnets))
		}
		text, err := json.Marshal(map[string]any{"cases": subnets})
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadSpecs(bytes.NewReader(text))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(subnets) {
			t.Fatalf("%q: does not survive writing: %v", data, err)
		}
	})
}

func ExampleReadSpecs() {
	subnets, err := ReadSpecs(strings.NewReader(`{"cases": [{"ks": [3], "e": [6], "d": [1], "r": 160}]}`))
	fmt.Println(subnets, err)
	// Output: [{[3] [6] [1] 160}] <nil>
}
