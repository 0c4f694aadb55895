package bundle_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// small is a space of a few thousand numbers with everything a space may have.
func small() *ofa.Space {
	return &ofa.Space{
		Family: "small", Classes: 3, BNEps: 1e-5,
		Stem:  ofa.Stem{Channels: 8, Stride: 1, Act: ofa.HSwish},
		First: ofa.First{Channels: 8, Stride: 1, Act: ofa.ReLU, SE: true, Residual: true},
		Stages: []ofa.Stage{
			{Channels: 8, Stride: 1, Act: ofa.ReLU, Depths: []int{1, 2}},
			{Channels: 8, Stride: 2, Act: ofa.HSwish, SE: true, Depths: []int{1}},
		},
		Head:        ofa.Head{Expand: 16, Features: 12, Act: ofa.HSwish},
		Kernels:     []int{3, 5},
		Expands:     []int{1, 2},
		Resolutions: []int{16, 28},
		Preprocess:  ofa.ImageNet(),
	}
}

// contents are a small supernet with two levels.
func contents() *bundle.Contents {
	c := bundletest.Random(small(), 1)
	c.Provenance.Commands = []string{"train", "import"}
	c.Provenance.Notes = map[string]string{"why": "<test> & ä"}
	bundletest.AddLevel(c, c.Space.Smallest())
	bundletest.AddLevel(c, c.Space.Largest())
	return c
}

func written(t testing.TB, c *bundle.Contents) string {
	path := filepath.Join(t.TempDir(), "m.dofa")
	require.NoError(t, bundle.Write(path, c))
	return path
}

// sameTensors compares number by number; require.Equal takes seconds for a supernet.
func sameTensors(t *testing.T, want, got map[string][]float32, msg ...any) {
	t.Helper()
	require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), msg...)
	for name, v := range want {
		require.True(t, slices.Equal(v, got[name]), append([]any{"tensor " + name}, msg...)...)
	}
}

func sameContents(t *testing.T, want, got *bundle.Contents) {
	t.Helper()
	sameTensors(t, want.Tensors, got.Tensors)
	require.Len(t, got.Levels, len(want.Levels))
	for i := range want.Levels {
		sameAffines(t, want.Levels[i].Norms, got.Levels[i].Norms)
	}
	require.Equal(t, withoutNumbers(want), withoutNumbers(got))
}

func sameAffines(t *testing.T, want, got []ofa.Affine) {
	t.Helper()
	require.Len(t, got, len(want))
	for i := range want {
		require.True(t, slices.Equal(want[i].Scale, got[i].Scale) && slices.Equal(want[i].Shift, got[i].Shift), "batch normalisation %d", i)
	}
}

func withoutNumbers(c *bundle.Contents) bundle.Contents {
	out := *c
	out.Tensors, out.Levels = nil, slices.Clone(c.Levels)
	for i := range out.Levels {
		out.Levels[i].Norms = nil
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	for name, c := range map[string]*bundle.Contents{
		"small":      contents(),
		"mbv3":       bundletest.Random(ofa.MobileNetV3(0.25, 10), 2),
		"proxyless":  bundletest.Random(ofa.ProxylessNAS(0.35, 5), 3),
		"identities": withoutMatrices(contents()),
	} {
		t.Run(name, func(t *testing.T) {
			path := written(t, c)
			b, err := bundle.Open(path)
			require.NoError(t, err)
			require.Equal(t, c.Space, b.Space())
			require.Equal(t, c.Provenance, b.Provenance())
			require.Equal(t, len(c.Levels), len(b.Levels()))
			sameContents(t, c, b.Contents())
			for _, spec := range c.Space.Tensors() {
				require.True(t, slices.Equal(c.Tensor(spec.Name), b.Tensor(spec.Name)), spec.Name)
			}
			require.Nil(t, b.Tensor("absent"))

			// The same contents give the same bytes, also after a round trip; an import keeps everything.
			again := written(t, b.Contents())
			require.True(t, bytes.Equal(read(t, path), read(t, again)))
			imported, err := bundle.Import(path, bundle.ImportOptions{})
			require.NoError(t, err)
			require.Equal(t, "m.dofa", imported.Provenance.Source)
			imported.Provenance = c.Provenance
			sameContents(t, c, imported)

			kept := b.Contents()
			require.NoError(t, b.Close())
			require.NoError(t, b.Close())
			require.Nil(t, b.Tensor("first_conv.conv.weight"))
			require.Nil(t, b.Levels())
			require.Nil(t, b.Contents())
			sameContents(t, c, kept)
		})
	}
}

func withoutMatrices(c *bundle.Contents) *bundle.Contents {
	maps.DeleteFunc(c.Tensors, func(name string, _ []float32) bool { return strings.HasSuffix(name, "_matrix") })
	return c
}

func read(t testing.TB, path string) []byte {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

func TestFileIsPlainSafetensors(t *testing.T) {
	c := contents()
	f, err := safetensors.Open(written(t, c))
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, "F32", f.Tensor("first_conv.conv.weight").DType)
	require.Equal(t, []int{8, 3, 3, 3}, f.Tensor("first_conv.conv.weight").Shape)
	require.Equal(t, []int{16}, f.Tensor("library/1/final_expand_layer.bn/scale").Shape)
	require.Equal(t, []int{16}, f.Tensor("library/1/blocks.3.conv.depth_conv.bn.bn/shift").Shape)
	require.Nil(t, f.Tensor("library/0/blocks.2.conv.depth_conv.bn.bn/shift"), "cut off by the depth")
	var meta map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(f.Metadata["dynofa"]), &meta))
	require.ElementsMatch(t, []string{"version", "space", "library", "provenance"}, slices.Collect(maps.Keys(meta)))
	require.JSONEq(t, `{"subnet":{"ks":[3,3,3],"e":[1,1,1],"d":[1,1],"r":16},
		"accuracy":[{"data":"made up","images":1000,"top1":70,"low":69,"high":90}],
		"latency":[{"device":"made up","backend":"ref","threads":1,"median_ms":10,"runs":1}],
		"macs":`+fmt.Sprint(c.Levels[0].MACs)+`,"params":`+fmt.Sprint(c.Levels[0].Params)+`,"calibration":"made up for a test"}`,
		string(library(t, meta["library"])[0]))
}

func library(t *testing.T, raw json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	require.NoError(t, json.Unmarshal(raw, &list))
	return list
}

func TestWriteFillsInCosts(t *testing.T) {
	c := contents()
	c.Levels[0].MACs, c.Levels[0].Params = 0, 0
	b, err := bundle.Open(written(t, c))
	require.NoError(t, err)
	defer b.Close()
	macs, params := c.Space.Cost(c.Levels[0].Subnet)
	require.Equal(t, macs, b.Levels()[0].MACs)
	require.Equal(t, params, b.Levels()[0].Params)
	require.Zero(t, c.Levels[0].MACs, "the caller's contents stay as they are")
}

func TestWriteRefuses(t *testing.T) {
	nan := float32(math.NaN())
	for want, change := range map[string]func(*bundle.Contents){
		"no contents":                    func(c *bundle.Contents) { c.Space = nil },
		"space: classes is 0":            func(c *bundle.Contents) { c.Space.Classes = 0 },
		"missing tensor first_conv.conv": func(c *bundle.Contents) { delete(c.Tensors, "first_conv.conv.weight") },
		"unexpected tensor x":            func(c *bundle.Contents) { c.Tensors["x"] = nil },
		"tensor classifier.linear.bias has 2 numbers, expected those of shape [3]": func(c *bundle.Contents) { c.Tensors["classifier.linear.bias"] = []float32{1, 2} },
		"batch normalisation first_conv.bn: channel 1 has scale 2.999985e+38 and shift -Inf, expected finite float32": func(c *bundle.Contents) {
			c.Tensors["first_conv.bn.weight"][1], c.Tensors["first_conv.bn.running_mean"][1] = 3e38, 3e38
			c.Tensors["first_conv.bn.running_var"][1] = 1
		},
		"tensor classifier.linear.bias: [1] is NaN":                                                             func(c *bundle.Contents) { c.Tensors["classifier.linear.bias"][1] = nan },
		"tensor first_conv.bn.running_var: [2] is -1, expected a variance of at least 0":                        func(c *bundle.Contents) { c.Tensors["first_conv.bn.running_var"][2] = -1 },
		"level 1: subnet: ks[0] is 7":                                                                           func(c *bundle.Contents) { c.Levels[1].Subnet.Kernels[0] = 7 },
		"level 0: macs and params are 1 and 0":                                                                  func(c *bundle.Contents) { c.Levels[0].MACs, c.Levels[0].Params = 1, 0 },
		"level 0 has 2 batch normalisations":                                                                    func(c *bundle.Contents) { c.Levels[0].Norms = c.Levels[0].Norms[:2] },
		"tensor library/0/first_conv.bn/shift has 0 numbers, expected those of shape [8]":                       func(c *bundle.Contents) { c.Levels[0].Norms[0].Shift = nil },
		"tensor library/1/first_conv.bn/scale: [7] is NaN":                                                      func(c *bundle.Contents) { c.Levels[1].Norms[0].Scale[7] = nan },
		"level 0: accuracy[0] is {Data:made up Images:1000 Top1:101 Top5:0 Low:69 High:90}, expected percentag": func(c *bundle.Contents) { c.Levels[0].Accuracy[0].Top1 = 101 },
		"level 0: latency[0] is {Device:made up Backend:ref Threads:1 MedianMS:NaN":                             func(c *bundle.Contents) { c.Levels[0].Latency[0].MedianMS = math.NaN() },
	} {
		c := contents()
		change(c)
		path := filepath.Join(t.TempDir(), "m.dofa")
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
		err := bundle.Write(path, c)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "bundle: write "+path)
		require.Equal(t, "old", string(read(t, path)))
	}
	require.ErrorContains(t, bundle.Write("x", nil), "no contents")
}

// rewrite changes the tensors and metadata of a bundle's file, past all checks.
func rewrite(t testing.TB, path string, change func(tensors []safetensors.Data, meta map[string]any) []safetensors.Data) []byte {
	f, err := safetensors.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var tensors []safetensors.Data
	for i := range f.Tensors {
		v, err := f.Tensors[i].Float32()
		require.NoError(t, err)
		tensors = append(tensors, safetensors.Data{Name: f.Tensors[i].Name, Shape: f.Tensors[i].Shape, F32: v})
	}
	var meta map[string]any
	require.NoError(t, json.Unmarshal([]byte(f.Metadata["dynofa"]), &meta))
	tensors = change(tensors, meta)
	text, err := json.Marshal(meta)
	require.NoError(t, err)
	var b bytes.Buffer
	require.NoError(t, safetensors.Write(&b, tensors, map[string]string{"dynofa": string(text)}))
	return b.Bytes()
}

func TestOpenRefuses(t *testing.T) {
	path := written(t, contents())
	type tensors = []safetensors.Data
	type object = map[string]any
	find := func(in tensors, name string) *safetensors.Data {
		i := slices.IndexFunc(in, func(d safetensors.Data) bool { return d.Name == name })
		require.GreaterOrEqual(t, i, 0, name)
		return &in[i]
	}
	drop := func(name string) func(tensors, object) tensors {
		return func(in tensors, _ object) tensors {
			find(in, name)
			return slices.DeleteFunc(in, func(d safetensors.Data) bool { return d.Name == name })
		}
	}
	set := func(name string, i int, v float32) func(tensors, object) tensors {
		return func(in tensors, _ object) tensors { find(in, name).F32[i] = v; return in }
	}
	meta := func(change func(object)) func(tensors, object) tensors {
		return func(in tensors, m object) tensors { change(m); return in }
	}
	level := func(key string, v any) func(tensors, object) tensors {
		return meta(func(m object) { m["library"].([]any)[1].(object)[key] = v })
	}
	inf := float32(math.Inf(-1))
	for name, c := range map[string]struct {
		change func(tensors, object) tensors
		want   string
	}{
		"missing":           {drop("classifier.linear.bias"), "missing tensor classifier.linear.bias [3]"},
		"missing level":     {drop("library/1/first_conv.bn/shift"), "missing tensor library/1/first_conv.bn/shift [8]"},
		"unexpected":        {func(in tensors, _ object) tensors { return append(in, safetensors.Data{Name: "x", Shape: []int{0}}) }, "unexpected tensor x [0]"},
		"shape":             {func(in tensors, _ object) tensors { find(in, "classifier.linear.bias").Shape = []int{1, 3}; return in }, "tensor classifier.linear.bias is F32 [1 3], expected F32 [3]"},
		"infinite":          {set("classifier.linear.bias", 2, inf), "tensor classifier.linear.bias: [2] is -Inf, expected a finite number"},
		"infinite in level": {set("library/0/first_conv.bn/scale", 0, inf), "tensor library/0/first_conv.bn/scale: [0] is -Inf"},
		"infinite if folded": {func(in tensors, m object) tensors {
			find(in, "first_conv.bn.running_var").F32[1] = 0
			return set("first_conv.bn.weight", 1, 3e38)(in, m)
		}, "batch normalisation first_conv.bn: channel 1 has scale +Inf and shift"},
		"negative variance":  {set("first_conv.bn.running_var", 1, -2), "tensor first_conv.bn.running_var: [1] is -2"},
		"version 2":          {meta(func(m object) { m["version"] = 2; m["space"] = "of the future" }), "metadata version is 2, expected 1 to 1; a newer dynofa may read it"},
		"version 0":          {meta(func(m object) { delete(m, "version") }), "metadata version is 0, expected 1 to 1"},
		"no space":           {meta(func(m object) { delete(m, "space") }), `metadata "dynofa": no space`},
		"space is text":      {meta(func(m object) { m["space"] = "x" }), `metadata "dynofa": json: cannot unmarshal`},
		"space illegal":      {meta(func(m object) { m["space"].(object)["bn_eps"] = 2 }), `metadata "dynofa": space: bn_eps is 2`},
		"space huge":         {meta(func(m object) { m["space"].(object)["classes"] = 1 << 20 }), "tensor classifier.linear.weight is F32 [3 12], expected F32 [1048576 12]"},
		"space other":        {meta(func(m object) { m["space"].(object)["stem"].(object)["channels"] = 16 }), "space: first.residual"},
		"subnet outside":     {level("subnet", object{"ks": []int{3, 3, 3}, "e": []int{1, 1, 1}, "d": []int{1, 1}, "r": 17}), "level 1: subnet: r is 17, expected one of [16 28]"},
		"no subnet":          {level("subnet", nil), `metadata "dynofa": r is missing, expected an image side`},
		"macs":               {level("macs", 1), "level 1: macs and params are 1 and"},
		"accuracy":           {level("accuracy", []any{object{"top1": -1}}), "level 1: accuracy[0] is {Data: Images:0 Top1:-1"},
		"latency":            {level("latency", []any{object{"median_ms": -1}}), "level 1: latency[0] is"},
		"one level too many": {meta(func(m object) { m["library"] = append(m["library"].([]any), m["library"].([]any)[0]) }), "missing tensor library/2/first_conv.bn/scale"},
		"one level too few":  {meta(func(m object) { m["library"] = m["library"].([]any)[:1] }), "unexpected tensor library/1/"},
	} {
		bad := filepath.Join(t.TempDir(), "bad.dofa")
		require.NoError(t, os.WriteFile(bad, rewrite(t, path, c.change), 0o600))
		_, err := bundle.Open(bad)
		require.ErrorContains(t, err, c.want, name)
		require.ErrorContains(t, err, "bundle: open "+bad, name)
	}

	var version *bundle.VersionError
	_, err := bundle.ParseBundle(rewrite(t, path, meta(func(m object) { m["version"] = 9 })))
	require.ErrorAs(t, err, &version)
	require.Equal(t, 9, version.Version)

	var b bytes.Buffer
	require.NoError(t, safetensors.Write(&b, nil, nil))
	_, err = bundle.ParseBundle(b.Bytes())
	require.ErrorContains(t, err, `no metadata "dynofa", expected a bundle; a checkpoint has to be imported first`)
	_, err = bundle.Open(filepath.Join(t.TempDir(), "absent"))
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = bundle.Open(t.TempDir())
	require.ErrorContains(t, err, "not a regular file")
}

func TestTruncatedAndFlippedBundles(t *testing.T) {
	data := read(t, written(t, contents()))
	for n := 0; n < len(data); n += 1 + n/32 {
		_, err := bundle.ParseBundle(data[:n:n])
		require.Error(t, err, "cut to %d bytes", n)
	}
	_, err := bundle.ParseBundle(append(slices.Clone(data), 0))
	require.ErrorContains(t, err, "1 bytes after the last tensor")
	for i := 0; i < len(data); i += 1 + i/64 {
		data[i] ^= 0x10
		if b, err := bundle.ParseBundle(data); err == nil {
			useAll(t, b)
		}
		data[i] ^= 0x10
	}
}

// useAll does what an engine does with a bundle: everything it reads must be there.
func useAll(t *testing.T, b *bundle.Bundle) {
	space := b.Space()
	for _, spec := range space.Tensors() {
		numbers := 1
		for _, d := range spec.Shape {
			numbers *= d
		}
		v := b.Tensor(spec.Name)
		if v == nil && spec.Identity {
			continue
		}
		if len(v) != numbers {
			t.Fatalf("%s has %d numbers, expected %v", spec.Name, len(v), spec.Shape)
		}
	}
	for _, l := range b.Levels() {
		if err := space.Check(l.Subnet); err != nil {
			t.Fatal(err)
		}
		for i, norm := range space.Norms(l.Subnet) {
			if len(l.Norms[i].Scale) != norm.Channels || len(l.Norms[i].Shift) != norm.Channels {
				t.Fatalf("%s has %d and %d channels, expected %d", norm.Name, len(l.Norms[i].Scale), len(l.Norms[i].Shift), norm.Channels)
			}
		}
	}
	if _, err := json.Marshal(b.Provenance()); err != nil {
		t.Fatal(err)
	}
}

func TestMemoryOfOpen(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(1, 1000), 1)
	bundletest.AddLevel(c, c.Space.Largest())
	path := written(t, c)
	size := len(read(t, path))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b, err := bundle.Open(path)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	defer b.Close()
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size/10), "the weights stay in the map")
}

func TestFailedWriteKeepsTheOldFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.dofa")
	require.NoError(t, bundle.Write(path, contents()))
	old := read(t, path)
	broken := errors.New("no space left on device")
	err := atomicfile.Replace(path, func(w io.Writer) error {
		_, _ = w.Write([]byte("half of it"))
		return broken
	})
	require.ErrorIs(t, err, broken)
	require.Equal(t, old, read(t, path))
	onlyFile(t, path)

	require.ErrorIs(t, bundle.Write(filepath.Join(dir, "absent", "m.dofa"), contents()), os.ErrNotExist)
	require.ErrorContains(t, bundle.Write(dir, contents()), "not a regular file")
	if os.Getuid() != 0 && runtime.GOOS != "windows" {
		require.NoError(t, os.Chmod(dir, 0o500))
		require.ErrorIs(t, bundle.Write(path, contents()), os.ErrPermission)
		require.NoError(t, os.Chmod(dir, 0o700))
		require.Equal(t, old, read(t, path))
	}
	onlyFile(t, path)
}

func onlyFile(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file may stay")
	require.Equal(t, filepath.Base(path), entries[0].Name())
}

func TestWriteKeepsModeAndLink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: no modes here")
	}
	path := written(t, contents())
	require.NoError(t, os.Chmod(path, 0o604))
	link := filepath.Join(t.TempDir(), "link.dofa")
	require.NoError(t, os.Symlink(path, link))
	c := contents()
	c.Provenance.Training = "second"
	require.NoError(t, bundle.Write(link, c))
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.Equal(t, os.ModeSymlink, info.Mode().Type())
	info, err = os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o604), info.Mode())
	b, err := bundle.Open(path)
	require.NoError(t, err)
	defer b.Close()
	require.Equal(t, "second", b.Provenance().Training)
}

// TestMain runs the other processes of the tests below.
func TestMain(m *testing.M) {
	switch os.Getenv("BUNDLE_TEST_CHILD") {
	case "":
		os.Exit(m.Run())
	case "reader":
		exit(readWhileReplaced(os.Getenv("BUNDLE_TEST_PATH")))
	case "limited":
		exit(writeLimited(os.Getenv("BUNDLE_TEST_PATH")))
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(t *testing.T, role, path string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "BUNDLE_TEST_CHILD="+role, "BUNDLE_TEST_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// generation marks Contents in the metadata and in every number of a tensor, so that a mixture would show.
func generation(n int) *bundle.Contents {
	c := contents()
	for i := range c.Tensors["classifier.linear.weight"] {
		c.Tensors["classifier.linear.weight"][i] = float32(n)
	}
	c.Provenance.Training = fmt.Sprint(n)
	return c
}

// lastGeneration ends the second process.
const lastGeneration = "99"

func checkGeneration(b *bundle.Bundle) (string, error) {
	training := b.Provenance().Training
	for _, v := range b.Tensor("classifier.linear.weight") {
		if fmt.Sprint(v) != training {
			return "", fmt.Errorf("weights of generation %v in a file of generation %s", v, training)
		}
	}
	return training, nil
}

// readWhileReplaced is the second process: it opens the bundle over and over until the last generation shows, and
// keeps the first one open all the time.
func readWhileReplaced(path string) error {
	first, err := bundle.Open(path)
	if err != nil {
		return err
	}
	defer first.Close()
	fmt.Println("ready")
	for {
		b, err := bundle.Open(path)
		if err != nil {
			return err
		}
		training, err := checkGeneration(b)
		if err = errors.Join(err, b.Close()); err != nil {
			return err
		}
		if kept, err := checkGeneration(first); err != nil || kept != "0" {
			return fmt.Errorf("the open bundle changed to generation %s: %w", kept, err)
		}
		if training == lastGeneration {
			return nil
		}
	}
}

func TestReaderWhileReplaced(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short: starts itself, which an emulator cannot")
	}
	if runtime.GOOS == "windows" {
		t.Skip("SKIPPED: an open file cannot be replaced here")
	}
	path := filepath.Join(t.TempDir(), "m.dofa")
	require.NoError(t, bundle.Write(path, generation(0)))
	reader := child(t, "reader", path)
	out, err := reader.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, reader.Start())
	_, err = io.ReadFull(out, make([]byte, len("ready\n")))
	require.NoError(t, err)
	for n := range 100 {
		require.NoError(t, bundle.Write(path, generation(n)))
	}
	require.NoError(t, reader.Wait())
	onlyFile(t, path)
}

func TestMarshalIsWriteIntoMemory(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(0.25, 10), 1)
	bundletest.AddLevel(c, c.Space.Smallest())
	path := filepath.Join(t.TempDir(), "m.dofa")
	require.NoError(t, bundle.Write(path, c))
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	data, err := bundle.Marshal(c)
	require.NoError(t, err)
	require.True(t, bytes.Equal(written, data))
	b, err := bundle.Parse(data)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, b.Bytes()))
	sameContents(t, c, b.Contents())
	require.NoError(t, b.Close())
	require.Nil(t, b.Levels())

	_, err = bundle.Parse(data[:100])
	require.ErrorContains(t, err, "bundle: safetensors: header length")
	delete(c.Tensors, "classifier.linear.bias")
	_, err = bundle.Marshal(c)
	require.ErrorContains(t, err, "bundle: missing tensor classifier.linear.bias [10]")
}
