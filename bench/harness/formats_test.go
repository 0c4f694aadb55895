package harness

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
	"github.com/stretchr/testify/require"
	"golang.org/x/perf/benchfmt"
)

func export(t *testing.T, format string) []byte {
	var b bytes.Buffer
	require.NoError(t, Export(&b, format, []*Result{sampleResult(t)}))
	return b.Bytes()
}

// benchstat's own reader takes every line, and knows which way is better.
func TestGoText(t *testing.T) {
	r := benchfmt.NewReader(bytes.NewReader(export(t, "go")), "sample")
	values := map[string]int{}
	for r.Scan() {
		switch rec := r.Result().(type) {
		case *benchfmt.Result:
			require.Equal(t, "Test CPU", rec.GetConfig("cpu"))
			require.Contains(t, rec.Name.String(), "Singlestream/model=m.dofa/level=")
			for _, v := range rec.Values {
				values[v.Unit]++
			}
		case *benchfmt.SyntaxError:
			t.Fatal(rec)
		}
	}
	require.NoError(t, r.Err())
	require.Equal(t, map[string]int{"sec/op": 16, "images/sec": 2, "p90-sec": 2, "p99-sec": 2}, values)
	require.Equal(t, -1, r.Units().GetBetter("p99-sec"))
	require.Equal(t, 1, r.Units().GetBetter("images/sec"))
}

func TestGoTextSaysWhatIsUnknown(t *testing.T) {
	r := sampleResult(t)
	text := func() string {
		var b bytes.Buffer
		require.NoError(t, WriteGo(&b, r))
		return b.String()
	}
	r.Environment.Affinity, r.Environment.Governor, r.Environment.LimitKHz = "0-3", "powersave", 2000000
	require.Contains(t, text(), "; affinity 0-3, governor powersave, limit 2000000 kHz\n")
	r.Environment.Affinity, r.Environment.Governor, r.Environment.LimitKHz = "", "", 0
	require.Contains(t, text(), "; affinity unknown, governor unknown, limit unknown\n")
}

func TestPprof(t *testing.T) {
	data := export(t, "pprof")
	p, err := profile.ParseData(data)
	require.NoError(t, err)
	require.Len(t, p.Sample, 4)
	require.Equal(t, []string{"1"}, p.Sample[1].Label["stage"])
	require.Equal(t, []string{"2"}, p.Sample[1].Label["block"])
	require.NotContains(t, p.Sample[0].Label, "stage", "the stem is in none")
	require.NotContains(t, p.Sample[0].Label, "block")
	require.Equal(t, []string{"dynk_pointwise+dynk_dwconv"}, p.Sample[1].Label["kernel"])
	require.EqualValues(t, 2000, p.DurationNanos)
	if testing.Short() {
		return // what follows is another program's time, to build it first
	}
	file := filepath.Join(t.TempDir(), "parts.pb.gz")
	require.NoError(t, Export(writerOf(t, file), "pprof", []*Result{sampleResult(t)}))
	out, err := exec.Command("go", "tool", "pprof", "-top", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Regexp(t, `1200ns +60\S* .*dynk_pointwise\+dynk_dwconv`, string(out))
}

func TestTableSaysWhereAPartIs(t *testing.T) {
	text := string(export(t, "table"))
	require.Regexp(t, `(?m)^  stem +0\.40 us`, text)
	require.Regexp(t, `(?m)^  expand, depthwise +stage 1, block 2 +0\.60 us`, text)
	require.Equal(t, "first block", (&Part{Name: "project", Stage: -1}).place())
}

func TestPprofNeedsParts(t *testing.T) {
	r := sampleResult(t)
	for i := range r.Rows {
		r.Rows[i].Layers = nil
	}
	require.ErrorContains(t, WritePprof(&bytes.Buffer{}, r), "sample: no row has timed parts, expected a result of bench run --layers")
}

func TestGoogleBenchmarkJSON(t *testing.T) {
	var v struct {
		Context struct {
			Version *int   `json:"json_schema_version"`
			CPUs    int    `json:"num_cpus"`
			Date    string `json:"date"`
		} `json:"context"`
		Benchmarks []struct {
			Name     string   `json:"name"`
			RunType  string   `json:"run_type"`
			RealTime *float64 `json:"real_time"`
			CPUTime  *float64 `json:"cpu_time"`
			Unit     string   `json:"time_unit"`
		} `json:"benchmarks"`
	}
	require.NoError(t, json.Unmarshal(export(t, "gbench"), &v))
	require.Equal(t, 1, *v.Context.Version)
	require.Len(t, v.Benchmarks, 18)
	for _, b := range v.Benchmarks {
		require.NotNil(t, b.RealTime)
		require.NotNil(t, b.CPUTime)
		require.Equal(t, "ns", b.Unit)
		require.Equal(t, b.RunType == "aggregate", strings.HasSuffix(b.Name, "_median"))
	}
}

func TestGitHubActionJSON(t *testing.T) {
	var v []map[string]any
	require.NoError(t, json.Unmarshal(export(t, "gha"), &v))
	require.Len(t, v, 6)
	for _, e := range v {
		require.IsType(t, "", e["name"])
		require.IsType(t, "", e["unit"])
		require.IsType(t, 1.0, e["value"])
	}
}

func TestSeveralResults(t *testing.T) {
	var b bytes.Buffer
	r := sampleResult(t)
	require.ErrorContains(t, Export(&b, "gbench", []*Result{r, r}), "expected one")
	require.NoError(t, Export(&b, "otava", []*Result{r, r}))
	require.Equal(t, 3, strings.Count(b.String(), "\n"))
	other := sampleResult(t)
	other.Environment.Fingerprint = "other"
	require.ErrorContains(t, Export(&b, "otava", []*Result{r, other}), "expected one")
}

// governedResult is a file of a governor alone.
func governedResult(t *testing.T) *Result {
	var file bytes.Buffer
	w, err := NewWriter(&file, fixed(), NoMeter)
	require.NoError(t, err)
	require.NoError(t, w.Governed(&Governed{"G1 load step", "steady", true, []float64{1, 2, 6}, []float64{-0.5, 0, 0.5}, []float64{10, 20, 30}}))
	r, err := Read(&file, "governor")
	require.NoError(t, err)
	return r
}

func TestGovernedFormats(t *testing.T) {
	r := governedResult(t)
	text := func(format string) string {
		var b bytes.Buffer
		require.NoError(t, Export(&b, format, []*Result{r}))
		return b.String()
	}
	reader := benchfmt.NewReader(strings.NewReader(text("go")), "governor")
	var miss []float64
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.Result:
			require.Equal(t, "Governor/scenario=G1_load_step/policy=steady", rec.Name.String())
			v, _ := rec.Value("miss-%")
			miss = append(miss, v)
		case *benchfmt.SyntaxError:
			t.Fatal(rec)
		}
	}
	require.NoError(t, reader.Err())
	require.Equal(t, []float64{1, 2, 6}, miss)
	require.Equal(t, -1, reader.Units().GetBetter("regret-points"))
	require.Contains(t, text("table"), "3.00 ± 2.65") // variance (4+1+9)/2
	require.Contains(t, text("gha"), `"name": "governor/scenario=G1_load_step/policy=steady/miss"`)
	var v struct{ Benchmarks []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(text("gbench")), &v))
	require.Len(t, v.Benchmarks, 2)
	require.Equal(t, 3.0, v.Benchmarks[0]["miss-%"])
	require.Equal(t, "governor/scenario=G1_load_step/policy=steady_stddev", v.Benchmarks[1]["name"])
	require.Equal(t, 10.0, v.Benchmarks[1]["switches/1000"])
	require.NotContains(t, v.Benchmarks[0], "real_time", "no time, no number")
	require.Contains(t, text("otava"), ",3.000,0.000,20.000\n")
	require.Contains(t, text("json"), `"seeded": true`)
}
