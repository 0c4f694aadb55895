package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// TestMain also stands in for the command: where it starts itself, as the demo's other load or a comparison's worker, and
// where a test wants a process of its own.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "burn" || os.Args[1] == "bench") || os.Getenv("DYNOFA_TEST_COMMAND") != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// command runs the command and returns its exit code and what it printed.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

// succeed runs the command and returns what it printed.
func succeed(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := command(args...)
	require.Zero(t, code, "dynofa %s: %s", strings.Join(args, " "), errs)
	return out
}

// reference is a path into the reference data beside the repository; the test is skipped without them.
func reference(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

// within is how far logits may be from float64 ones, of the largest: five times what the conformance suite argues for
// random networks where factors have 11 bits.
func within(backend string) float64 {
	if rounds11(backend) {
		return 1e-2
	}
	return 1e-5
}

func rounds11(backend string) bool { return dynofa.SignificantBits(backend) == 11 }

func TestVerifyAgainstReference(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	engines := dynofa.Backends()
	for _, c := range []struct {
		checkpoint, cases string
		n                 int
	}{
		{"tiny_w0.25_c10.pth", "golden_subnets_tiny_w0.25_c10.json", 24},
		{"tiny_w0.25_c10_legacy.pth", "golden_subnets_tiny_w0.25_c10.json", 24},
		{"tiny_w0.25_c10_oldkeys.pth", "golden_subnets_tiny_w0.25_c10.json", 24},
		{"tiny_w0.25_c10_oldkeys_legacy.pth", "golden_subnets_tiny_w0.25_c10.json", 24},
		{"full_w1.0_c1000.pth", "golden_subnets_full_w1.0_c1000.json", 10},
		{"tiny_w0.25_c10.pth", "bn_calibration_tiny_w0.25_c10.json", 6},
		{"tiny_w0.25_c10.pth", "preprocess_cases.json", 8},
	} {
		on := engines
		if strings.Contains(c.checkpoint, "_oldkeys") || strings.Contains(c.checkpoint, "_legacy") || strings.HasPrefix(c.cases, "bn_") {
			on = engines[:1] // other files of the same tensors; statistics, which the conformance suite takes on every engine
		}
		for _, backend := range on {
			t.Run(c.checkpoint+" "+c.cases+" "+backend, func(t *testing.T) {
				out := succeed(t, "verify", reference(t, "checkpoints/"+c.checkpoint), reference(t, c.cases), "--backend", backend,
					"--tolerance", fmt.Sprint(within(backend)), "--json", "--threads", "2")
				var v verdict
				require.NoError(t, json.Unmarshal([]byte(out), &v))
				require.Equal(t, backend, v.Backend)
				require.Equal(t, c.n, v.Cases)
				require.LessOrEqual(t, v.WorstRelative, within(backend), v.WorstCase)
				require.LessOrEqual(t, v.WorstStatistic, 1e-6)
				require.Equal(t, strings.HasPrefix(c.cases, "bn_"), v.WorstStatistic > 0)
				require.Positive(t, v.WorstRelative, "float32 cannot equal float64 to the last digit: was anything compared?")
			})
		}
	}
}

func TestVerifySaysNo(t *testing.T) {
	code, _, errs := command("verify", reference(t, "checkpoints/tiny_w0.25_c10.pth"), reference(t, "golden_subnets_tiny_w0.25_c10.json"), "--tolerance", "1e-9")
	require.Equal(t, exitNo, code)
	require.Contains(t, errs, "expected at most 1e-09")
	require.NotContains(t, errs, "--tolerance")
	require.Empty(t, rounding("cuda"))
	require.Contains(t, rounding("cuda/tf32:1"), "--tolerance 1e-2")
}

// Differences that are no numbers are a no, too, and JSON; probabilities that are none are an error.
func TestNoNumbers(t *testing.T) {
	dir, model, _ := workshop(t)
	original, err := bundle.Import(model, bundle.ImportOptions{})
	require.NoError(t, err)
	with := func(value float32, tensors ...string) string {
		c, path := *original, filepath.Join(dir, tensors[0]+".dofa")
		c.Tensors = maps.Clone(c.Tensors)
		for _, name := range tensors {
			c.Tensors[name] = slices.Repeat([]float32{value}, len(c.Tensors[name]))
		}
		require.NoError(t, bundle.Write(path, &c))
		return path
	}
	n := original.Space.Smallest()
	type statistics struct{ Mean, Var []float64 }
	var zero []statistics
	for _, norm := range original.Space.Norms(n) {
		zero = append(zero, statistics{make([]float64, norm.Channels), make([]float64, norm.Channels)})
	}
	input := map[string]any{"batch": 1, "r": n.Resolution}
	ones := slices.Repeat([]float64{1}, 10)
	for path, c := range map[string]map[string]any{
		model: {"input": input, "logits64": make([]float64, 10)}, // any difference from 0 is infinite
		with(3e38, "feature_mix_layer.conv.weight", "classifier.linear.weight"): {"input": input, "logits64": ones},
		with(0, "first_conv.conv.weight"): { // the first statistics are as expected, and 0 / 0 is no number
			"calibration": map[string]any{"r": n.Resolution, "batch_sizes": []int{1}}, "bn": zero, "eval_input": input, "logits64_after": ones,
		},
	} {
		c["ks"], c["e"], c["d"], c["r"] = n.Kernels, n.Expands, n.Depths, n.Resolution
		text, err := json.Marshal(map[string]any{"cases": []any{c}})
		require.NoError(t, err)
		cases := filepath.Join(dir, "cases.json")
		require.NoError(t, os.WriteFile(cases, text, 0o600))
		code, out, errs := command("verify", path, cases, "--json")
		require.Equal(t, exitNo, code, errs)
		var v verdict
		require.NoError(t, json.Unmarshal([]byte(out), &v))
		require.Equal(t, math.MaxFloat64, max(v.WorstRelative, v.WorstStatistic), path)
	}
	var picture bytes.Buffer
	require.NoError(t, png.Encode(&picture, image.NewGray(image.Rect(0, 0, 28, 28))))
	file := filepath.Join(dir, "a.png")
	require.NoError(t, os.WriteFile(file, picture.Bytes(), 0o600))
	code, out, errs := command("run", filepath.Join(dir, "feature_mix_layer.conv.weight.dofa"), file)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, file+": r28_5x3.5x3 gives logits that are no numbers")
	require.Empty(t, out)
	for _, tolerance := range []string{"NaN", "+Inf", "-1"} {
		code, _, errs := command("verify", model, filepath.Join(dir, "cases.json"), "--tolerance="+tolerance)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "--tolerance is")
	}
}

func TestScoreAgainstReference(t *testing.T) {
	table := reference(t, "latency_table@jetson_GPU")
	out := succeed(t, "score", "--specs", reference(t, "predictor_cases.json"), "--width", "1.2", "--predictor", reference(t, "acc_predictor.pth"),
		"--table", table, "--json")
	var got []struct {
		Macs, Params int64
		Accuracy     float64
		Latency      float64 `json:"latency_ms"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &got))
	require.Len(t, got, 200)
	var accuracy struct{ Cases []struct{ Acc64 float64 } }
	var latency struct{ Cases []struct{ GPU float64 } }
	var cost struct {
		Cases []struct {
			W struct{ Macs, Params int64 } `json:"w1.2"`
		}
	}
	require.NoError(t, readJSON(reference(t, "predictor_cases.json"), &accuracy))
	require.NoError(t, readJSON(reference(t, "latency_cases.json"), &latency))
	require.NoError(t, readJSON(reference(t, "flops_cases.json"), &cost))
	for i, g := range got {
		require.InDelta(t, accuracy.Cases[i].Acc64, g.Accuracy, 1e-6)
		require.InEpsilon(t, latency.Cases[i].GPU, g.Latency, 1e-9)
		require.Equal(t, cost.Cases[i].W.Macs, g.Macs)
		require.Equal(t, cost.Cases[i].W.Params, g.Params)
	}
	// Without a predictor and a table these are null, and the width is 1.
	out = succeed(t, "score", "--specs", reference(t, "flops_cases.json"), "--json")
	require.Contains(t, out, `"accuracy": null`)
	require.Contains(t, out, `"macs": 63240528`)
}

func TestImportedLibraryHasItsLevels(t *testing.T) {
	for name, levels := range map[string]int{"nets_6.pickle": 6, "nets_7.pickle": 7} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && levels != 6 {
				t.Skip("SKIPPED: -short: one of them is enough")
			}
			library := reference(t, name)
			dir := t.TempDir()
			plain := filepath.Join(dir, "plain.dofa")
			require.NoError(t, bundle.Write(plain, bundletest.Random(ofa.MobileNetV3(1.2, 1000), 1)))
			path := filepath.Join(dir, "m.dofa")
			out := succeed(t, "import", plain, "-o", path, "--library", library)
			require.Contains(t, out, "width 1.2, 1000 classes")
			var i info
			require.NoError(t, json.Unmarshal([]byte(succeed(t, "info", path, "--json")), &i))
			require.Len(t, i.Levels, levels)
			require.Greater(t, i.Levels[levels-1].Accuracy[0].Top1, i.Levels[0].Accuracy[0].Top1)
		})
	}
}

// workshop is a folder with a small bundle and a data set of real shape: random grey images with ten labels.
func workshop(t *testing.T) (dir, model, data string) {
	dir = t.TempDir()
	space := &ofa.Space{
		Family: "small", Width: 1, Classes: 10, BNEps: 1e-5,
		Stem: ofa.Stem{Channels: 8, Stride: 1, Act: ofa.HSwish}, First: ofa.First{Channels: 8, Stride: 2, Act: ofa.ReLU},
		Stages:  []ofa.Stage{{Channels: 16, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1, 2}}},
		Head:    ofa.Head{Expand: 32, Features: 40, Act: ofa.HSwish},
		Kernels: []int{3, 5}, Expands: []int{2, 3}, Resolutions: []int{20, 28},
		Preprocess: ofa.Preprocess{Crop: 1, Mean: [3]float32{0.5, 0.5, 0.5}, Std: [3]float32{0.3, 0.3, 0.3}},
	}
	model = filepath.Join(dir, "m.dofa")
	require.NoError(t, bundle.Write(model, bundletest.Random(space, 1)))
	data = filepath.Join(dir, "data")
	for _, split := range []string{"train", "test"} {
		require.NoError(t, imageio.WriteIDX(data, split, noise(60)))
	}
	return dir, model, data
}

// noise is a data set of n random grey images.
type noise int

func (n noise) Len() int { return int(n) }

func (n noise) Classes() []string { return strings.Split("abcdefghij", "") }

func (n noise) At(i int) (imageio.Sample, error) {
	img := image.NewGray(image.Rect(0, 0, 28, 28))
	rng := rand.New(rand.NewPCG(uint64(i), 1))
	for p := range img.Pix {
		img.Pix[p] = color.Gray{Y: uint8(rng.IntN(256))}.Y
	}
	return imageio.Sample{Image: img, Label: i % 10, Name: "noise"}, nil
}

func TestFromBundleToLibrary(t *testing.T) {
	dir, model, data := workshop(t)
	specs := filepath.Join(dir, "levels.json")
	require.NoError(t, os.WriteFile(specs, []byte(`{"cases":[{"ks":[3,3],"e":[2,2],"d":[1],"r":20},{"ks":[5,3],"e":[3,2],"d":[2],"r":28}]}`), 0o600))
	out := succeed(t, "calibrate", model, "--data", data, "--images", "50", "--batch", "20", "--subnets", specs, "--subnet", "r28_5x3")
	require.Contains(t, out, "3 levels calibrated")
	// Once more: a level of the same sub-network is replaced.
	require.Contains(t, succeed(t, "calibrate", model, "--data", data, "--images", "50", "--batch", "20", "--subnet", "r28_5x3"), "3 in all")

	var report evalReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "eval", model, "--data", data, "--json")), &report))
	require.Equal(t, 60, report.Images)
	require.Len(t, report.Levels, 3)
	for _, l := range report.Levels {
		require.LessOrEqual(t, l.Low, l.Top1)
		require.GreaterOrEqual(t, l.High, l.Top1)
		require.Positive(t, l.Latency.MedianMS)
	}

	code, _, errs := command("eval", model, "--data", data, "--predictions", filepath.Join(dir, "absent", "p.json"), "-o", filepath.Join(dir, "part.json"))
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "absent")
	require.NoFileExists(t, filepath.Join(dir, "part.json"), "refused before the work")
	for _, what := range [][]string{{"--level", "0"}, {"--subnet", "r20_3x2"}} {
		code, out, errs := command(append([]string{"eval", model, "--data", data, "--record", model}, what...)...)
		require.Equal(t, exitUsage, code)
		require.Contains(t, errs, "--record with --level or --subnet, expected all 3 levels")
		require.Empty(t, out, "refused before the work")
	}
	text := succeed(t, "eval", model, "--data", data, "--record", filepath.Join(dir, "recorded.dofa"), "--json")
	require.NoError(t, json.Unmarshal([]byte(text), &report), "JSON and nothing else")
	predictions := filepath.Join(dir, "predictions.json")
	succeed(t, "eval", model, "--data", data, "--record", model, "--device", "test bench", "--predictions", predictions)
	var classes map[string][]int
	require.NoError(t, readJSON(predictions, &classes))
	require.Len(t, classes["r20_3x2"], 60)
	var i info
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "info", model, "--json")), &i))
	require.NotEmpty(t, i.Levels)
	for n, l := range i.Levels {
		require.Equal(t, "test bench", l.Latency[0].Device)
		if n > 0 {
			require.Greater(t, l.Accuracy[0].Top1, i.Levels[n-1].Accuracy[0].Top1)
			require.GreaterOrEqual(t, l.Latency[0].MedianMS, i.Levels[n-1].Latency[0].MedianMS)
		}
	}

	require.Contains(t, succeed(t, "eval", model, "--data", data, "--subnet", "r20_3x2", "--batch", "64"), "r20_3x2")
	onnx := filepath.Join(dir, "net.onnx")
	require.Contains(t, succeed(t, "export", model, "--level", "0", "-o", onnx), "sub-network r")
	written, err := os.ReadFile(onnx)
	require.NoError(t, err)
	require.Contains(t, string(written), "HardSwish")

	picture := filepath.Join(dir, "a.png")
	f, err := os.Create(picture)
	require.NoError(t, err)
	sample, _ := noise(1).At(0)
	require.NoError(t, png.Encode(f, sample.Image))
	require.NoError(t, f.Close())
	var result runReport
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "run", model, picture, "--subnet", `{"ks":[3,3],"e":[2,2],"d":[1],"r":[20]}`, "--json")), &result))
	require.Equal(t, "r20_3x2", result.Subnet)
	require.Len(t, result.Images[0].Top, 5)
	require.Contains(t, succeed(t, "run", model, picture), "class ")
}

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	dir, model, data := workshop(t)
	succeed(t, "calibrate", model, "--data", data, "--images", "50", "--subnet", "r20_3x2", "--subnet", "r28_5x3.5x3")
	out := filepath.Join(dir, "out")
	text := succeed(t, "demo", "--bundle", model, "--data", data, "-o", out, "--seconds", "3s")
	require.Contains(t, text, "top-1 %")
	recorded, err := os.ReadFile(filepath.Join(out, "trace.jsonl"))
	require.NoError(t, err)
	played, err := parseTrace(recorded)
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(played.frames, func(f frame) bool { return f.Loaded }), "the other load never ran")
	require.True(t, slices.ContainsFunc(played.frames, func(f frame) bool { return !f.Loaded }))
	for _, name := range []string{"front.svg", "front.png", "trace.svg", "trace.png"} {
		info, err := os.Stat(filepath.Join(out, name))
		require.NoError(t, err)
		require.Greater(t, info.Size(), int64(1000), name)
	}
}

func TestErrorsAreOneLineAndSayWhatWasExpected(t *testing.T) {
	dir, model, data := workshop(t)
	junk := filepath.Join(dir, "junk")
	require.NoError(t, os.WriteFile(junk, []byte("junk"), 0o600))
	specs := filepath.Join(dir, "specs.json")
	require.NoError(t, os.WriteFile(specs, []byte(`{"cases":[]}`), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no verb":             {[]string{}, "expected"},
		"unknown verb":        {[]string{"fly"}, "fly"},
		"missing file":        {[]string{"info", filepath.Join(dir, "none.dofa")}, "none.dofa"},
		"no bundle":           {[]string{"info", junk}, junk},
		"no checkpoint":       {[]string{"import", junk, "-o", filepath.Join(dir, "o.dofa")}, junk},
		"wrong width":         {[]string{"import", model, "-o", filepath.Join(dir, "o.dofa"), "--width", "3"}, "width"},
		"illegal field":       {[]string{"run", model, junk, "--subnet", `{"ks":[4,3],"e":[2,2],"d":[1],"r":20}`}, "ks[0] is 4, expected one of [3 5]"},
		"no level":            {[]string{"run", model, junk, "--level", "7"}, "no such level"},
		"level and subnet":    {[]string{"run", model, junk, "--level", "0", "--subnet", "r20_3x2"}, "--level"},
		"no image":            {[]string{"run", model, junk}, junk},
		"backend, no bundle":  {[]string{"info", "--backend", "native"}, "--backend without a bundle"},
		"backend":             {[]string{"run", model, junk, "--backend", "tpu"}, `"tpu"`},
		"eval of no batch":    {[]string{"eval", model, "--data", data, "--batch", "0"}, "--batch is 0, expected 1 to 64"},
		"eval of large batch": {[]string{"eval", model, "--data", data, "--batch", "65"}, "--batch is 65, expected 1 to 64"},
		"no library":          {[]string{"eval", model, "--data", data}, "no levels"},
		"no data":             {[]string{"eval", model, "--data", junk}, junk},
		"nothing to estimate": {[]string{"calibrate", model, "--data", data}, "--subnet"},
		"too many images":     {[]string{"calibrate", model, "--data", data, "--subnet", "r20_3x2", "--images", "99"}, "1 to 60 images"},
		"cases":               {[]string{"verify", model, junk}, junk},
		"specs":               {[]string{"score", "--specs", junk}, junk + ": library: specs: expected a JSON object"},
		"pairs":               {[]string{"predictor", junk, "--space", model, "-o", filepath.Join(dir, "p")}, junk + ": predictor: pairs: expected a JSON object"},
		"score of no width":   {[]string{"score", "--specs", specs, "--width", "NaN"}, "--width is NaN, expected"},
		"search of no width":  {[]string{"search", "--predictor", junk, "--max-macs", "1", "--width=-1"}, "--width is -1, expected"},
		"part as a bundle":    {[]string{"eval", model, "--data", data, "--subnet", "r20_3x2", "-o", model}, "-o " + model + ": what is written there is no bundle, expected a name such as PART.json"},
		"classes as a bundle": {[]string{"eval", model, "--data", data, "--subnet", "r20_3x2", "--predictions", model}, "--predictions " + model + ": what is written there is no bundle"},
		"onnx as a bundle":    {[]string{"export", model, "-o", model}, "expected a name such as net.onnx"},
		"onnx level":          {[]string{"export", model, "-o", junk, "--level", "0"}, "has 0 levels"},
		"labels":              {[]string{"import", model, "-o", filepath.Join(dir, "o.dofa"), "--labels", junk}, "labels (number) is 1, expected 10"},
	} {
		t.Run(name, func(t *testing.T) {
			code, _, errs := command(c.args...)
			require.Equal(t, exitUsage, code)
			require.Contains(t, errs, c.want)
			require.Equal(t, 1, strings.Count(errs, "\n"), errs)
		})
	}
	kept, err := os.ReadFile(junk)
	require.NoError(t, err)
	require.Equal(t, "junk", string(kept), "a failed export must keep the old file")
}

func TestHelpAndVersion(t *testing.T) {
	require.Contains(t, succeed(t, "--help"), "verify")
	require.Contains(t, succeed(t, "import", "--help"), "--library")
	require.Contains(t, succeed(t, "version"), "dynofa ")
	text := succeed(t, "info")
	require.Contains(t, text, fmt.Sprintf("backends: %s\n", dynofa.Backends()))
	why := dynofa.CheckBackend("cuda")
	require.Equal(t, slices.Contains(dynofa.Backends(), "cuda"), why == nil)
	if why != nil {
		require.Contains(t, text, "no backend on a GPU: "+why.Error()+"\n")
	}
}

// What could not be printed is not "fine" to a script, whatever the verb thinks of its lines.
func TestLostOutputIsAnError(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"version"}, {"info"}, {"info", "--json"}, {"sim", "--seeds", "1", "--policy", "steady"}} {
		var errs bytes.Buffer
		require.Equal(t, exitUsage, run(args, full{}, &errs), args)
		require.Equal(t, "dynofa: no space left\n", errs.String(), args)
	}
}

// full is where nothing can be written.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// A signal ends what does not listen, and what listens stops by itself.
func TestSignals(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	stopped := func(atWork func() bool, args ...string) (code int, stderr string) {
		var errs bytes.Buffer
		c := exec.Command(self, args...)
		c.Env, c.Stderr = append(os.Environ(), "DYNOFA_TEST_COMMAND=1"), &errs
		require.NoError(t, c.Start())
		stuck := time.AfterFunc(30*time.Second, func() { _ = c.Process.Kill() })
		time.Sleep(200 * time.Millisecond)
		require.Eventually(t, atWork, 20*time.Second, 10*time.Millisecond)
		require.NoError(t, c.Process.Signal(syscall.SIGTERM))
		require.Error(t, c.Wait())
		require.True(t, stuck.Stop(), "%v went on", args)
		return c.ProcessState.ExitCode(), errs.String()
	}
	code, _ := stopped(func() bool { return true }, "sim", "--seeds", "100000")
	require.Equal(t, -1, code, "ended by the signal")
	out := filepath.Join(t.TempDir(), "r.jsonl")
	rows := func() bool {
		data, _ := os.ReadFile(out)
		return bytes.Count(data, []byte("\n")) > 1
	}
	code, errs := stopped(rows, "bench", "run", shipped+"fashion.dofa", "--data", shipped+"test", "--duration", "500ms", "-o", out)
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "context canceled")
}

func TestLabelsHaveNoLineEnds(t *testing.T) {
	dir, model, _ := workshop(t)
	labels, out := filepath.Join(dir, "labels.txt"), filepath.Join(dir, "o.dofa")
	for _, end := range []string{"\n", "\r\n"} {
		require.NoError(t, os.WriteFile(labels, []byte(strings.Join(strings.Split("abcdefghij", ""), end)+end), 0o600))
		succeed(t, "import", model, "-o", out, "--labels", labels)
		b, err := bundle.Open(out)
		require.NoError(t, err)
		require.Equal(t, strings.Split("abcdefghij", ""), b.Space().Labels)
		require.NoError(t, b.Close())
	}
}

func TestInfoShowsBackendAndKernels(t *testing.T) {
	_, model, _ := workshop(t)
	for _, backend := range dynofa.Backends() {
		var i info
		require.NoError(t, json.Unmarshal([]byte(succeed(t, "info", model, "--backend", backend, "--json")), &i))
		require.Equal(t, backend, i.Backend)
		require.Equal(t, backend != "purego", len(i.Kernels) > 0)
		text := succeed(t, "info", model, "--backend", backend)
		require.Contains(t, text, "backend "+backend+"\n")
		for _, k := range i.Kernels {
			require.Contains(t, text, k)
		}
	}
}

// A reference file is input like any other: whatever it says, verify answers with an error.
func TestVerifyRefusesHostileCases(t *testing.T) {
	dir, model, _ := workshop(t)
	path := filepath.Join(dir, "cases.json")
	subnet := `"ks":[3,3],"e":[2,2],"d":[1],"r":20`
	row := `[[1,2,3,4,5,6,7,8,9,10]]`
	for text, want := range map[string]string{
		`{"cases":[]}`:                                      "no cases",
		`{"cases":[{` + subnet + `}]}`:                      "neither input, calibration, file nor images",
		`{"cases":[{"ks":[9,3],"e":[2,2],"d":[1],"r":20}]}`: "ks[0] is 9",
		`{"cases":[{` + subnet + `,"input":{"n0":0,"batch":1,"r":24},"logits64":` + row + `}]}`:                               "wrong size",
		`{"cases":[{` + subnet + `,"input":{"n0":0,"batch":1,"r":99999},"logits64":` + row + `}]}`:                            "r 1 to 2048",
		`{"cases":[{` + subnet + `,"input":{"n0":0,"batch":2,"r":20},"logits64":` + row + `}]}`:                               "do not fit",
		`{"cases":[{` + subnet + `,"input":{"n0":0,"batch":1,"r":20},"logits64":[[1]]}]}`:                                     "do not fit",
		`{"cases":[{` + subnet + `,"images":[5],"logits64":` + row + `}],"data":"none"}`:                                      "none",
		`{"cases":[{` + subnet + `,"images":[60],"logits64":` + row + `}],"data":"data"}`:                                     "60",
		`{"cases":[{` + subnet + `,"images":[1],"logits64":[[1],[2]]}],"data":"data"}`:                                        "1 images for 2 rows",
		`{"cases":[{` + subnet + `,"images":[-1],"logits64":` + row + `}],"data":"data"}`:                                     "-1",
		`{"cases":[{"file":"x.png","r":20,"logits64":` + row + `}]}`:                                                          `no "net"`,
		`{"cases":[{"file":"x.png","r":20,"net":{"ks":3,"e":2,"d":1},"logits64":` + row + `}]}`:                               "x.png",
		`{"cases":[{` + subnet + `,"calibration":{"n0":0,"r":20,"batch_sizes":[99999999]},"eval_input":{"r":20,"batch":1}}]}`: "batch of 99999999",
		`{"cases":[{` + subnet + `,"calibration":{"n0":0,"r":20,"batch_sizes":[]},"eval_input":{"r":20,"batch":1}}]}`:         "no calibration images",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		code, _, errs := command("verify", model, path)
		require.Equal(t, exitUsage, code, text)
		require.Contains(t, errs, want, text)
	}
}

const shipped = "../../models/fashion/"

// The shipped network has an oracle of its own, so that a clone alone can be checked: logits that PyTorch
// computed in float64.
func TestShippedModelEqualsPyTorch(t *testing.T) {
	for i, backend := range dynofa.Backends() {
		if testing.Short() && i > 0 {
			break
		}
		var v verdict
		out := succeed(t, "verify", shipped+"fashion.dofa", shipped+"golden.json", "--backend", backend, "--tolerance", fmt.Sprint(within(backend)), "--json")
		require.NoError(t, json.Unmarshal([]byte(out), &v))
		require.Equal(t, backend, v.Backend)
		require.GreaterOrEqual(t, v.Cases, 12)
		require.LessOrEqual(t, v.WorstRelative, within(backend), backend)
		require.Positive(t, v.WorstRelative)
	}
}

func TestShippedLibrary(t *testing.T) {
	file, err := os.Stat(shipped + "fashion.dofa")
	require.NoError(t, err)
	require.LessOrEqual(t, file.Size(), int64(10<<20))
	b, err := bundle.Open(shipped + "fashion.dofa")
	require.NoError(t, err)
	defer b.Close()
	levels := b.Levels()
	require.GreaterOrEqual(t, len(levels), 6)
	for i, l := range levels {
		require.Len(t, l.Accuracy, 2, "test images, and those that chose the levels")
		require.Equal(t, 10000, l.Accuracy[0].Images)
		if i > 0 {
			require.Greater(t, l.Accuracy[1].Top1, levels[i-1].Accuracy[1].Top1, "level %d", i)
			// Test images chose nothing, so neighbours may be the other way round, by less than a standard error.
			require.Greater(t, l.Accuracy[0].Top1, levels[i-1].Accuracy[0].Top1-0.25, "level %d", i)
			require.Greater(t, l.Latency[0].MedianMS, levels[i-1].Latency[0].MedianMS, "level %d", i)
		}
	}
	first, last := levels[0], levels[len(levels)-1]
	require.GreaterOrEqual(t, first.Accuracy[0].Top1, 90.0)
	require.GreaterOrEqual(t, last.Accuracy[0].Top1, 93.5)
	require.GreaterOrEqual(t, last.Latency[0].MedianMS, 4*first.Latency[0].MedianMS)

	// The shipped tenth of the test images agrees with the record, within what a thousand images can tell.
	if testing.Short() {
		return
	}
	// Every engine predicts the same class for each of them: the first at all levels, the others at the largest.
	predictions := filepath.Join(t.TempDir(), "predictions.json")
	var agreed map[string][]int
	for _, backend := range dynofa.Backends() {
		args, want := []string{"eval", shipped + "fashion.dofa", "--data", shipped + "test", "--backend", backend, "--predictions", predictions, "--json"}, levels
		if agreed != nil {
			want = levels[len(levels)-1:]
			args = append(args, "--level", fmt.Sprint(len(levels)-1))
		}
		var report evalReport
		require.NoError(t, json.Unmarshal([]byte(succeed(t, args...)), &report))
		require.Equal(t, backend, report.Backend)
		require.Len(t, report.Levels, len(want))
		for i, l := range report.Levels {
			require.InDelta(t, want[i].Accuracy[0].Top1, l.Top1, 3, "level %d", i)
		}
		var classes map[string][]int
		require.NoError(t, readJSON(predictions, &classes))
		require.Len(t, classes, len(want))
		if agreed == nil {
			agreed = classes
		}
		for level := range classes {
			require.Len(t, classes[level], 1000)
			if !rounds11(backend) {
				require.Equal(t, agreed[level], classes[level], "%s predicts others than %s", backend, dynofa.Backends()[0])
				continue
			}
			others := 0 // where the two best logits are closer than within()
			for i, class := range classes[level] {
				if class != agreed[level][i] {
					others++
				}
			}
			require.LessOrEqual(t, others, 10, "%s predicts others than %s", backend, dynofa.Backends()[0])
		}
	}
}
