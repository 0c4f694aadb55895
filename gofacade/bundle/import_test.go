package bundle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/torchtest"
	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// items are the Contents as the tensors of a checkpoint, counters included.
func items(c *bundle.Contents) []torchtest.Item {
	var list []torchtest.Item
	for _, spec := range c.Space.Tensors() {
		v, ok := c.Tensors[spec.Name]
		if !ok {
			continue
		}
		list = append(list, torchtest.Floats(spec.Name, spec.Shape, v))
		if norm, ok := strings.CutSuffix(spec.Name, ".running_var"); ok {
			list = append(list, torchtest.Item{Name: norm + ".num_batches_tracked", Class: "LongStorage", Raw: make([]byte, 8)})
		}
	}
	return list
}

func renamed(list []torchtest.Item, change func(string) string) []torchtest.Item {
	list = slices.Clone(list)
	for i := range list {
		list[i].Name = change(list[i].Name)
	}
	return list
}

func oldName(name string) string {
	if strings.HasPrefix(name, "blocks.") {
		return strings.Replace(name, ".conv.", ".mobile_inverted_conv.", 1)
	}
	return name
}

// nonElastic is what a network without elastic layers calls the tensor.
func nonElastic(name string) string {
	return strings.Replace(strings.Replace(name, ".conv.conv.weight", ".conv.weight", 1), ".bn.bn.", ".bn.", 1)
}

// st are the items as a safetensors file.
func st(t testing.TB, list []torchtest.Item, metadata map[string]string) []byte {
	var data []safetensors.Data
	for _, it := range list {
		if it.Class != "" {
			continue
		}
		v := make([]float32, len(it.Raw)/4)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(it.Raw[4*i:]))
		}
		data = append(data, safetensors.Data{Name: it.Name, Shape: it.Shape, F32: v})
	}
	var b bytes.Buffer
	require.NoError(t, safetensors.Write(&b, data, metadata))
	return b.Bytes()
}

func importBytes(data []byte, opts bundle.ImportOptions) (*bundle.Contents, error) {
	return bundle.ImportBytes(data, "x.pth", opts)
}

func TestInferSpaceAtEveryWidth(t *testing.T) {
	for _, family := range []func(float64, int) *ofa.Space{ofa.MobileNetV3, ofa.ProxylessNAS} {
		for _, width := range []float64{0.1, 0.25, 0.33, 0.35, 0.5, 0.75, 1, 1.2, 1.3, 1.4, 2, 4} {
			want := family(width, 7)
			got, err := bundle.InferSpace(want.Tensors())
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
	}
}

func TestImportInfersTheSpace(t *testing.T) {
	for name, space := range map[string]*ofa.Space{"mbv3": ofa.MobileNetV3(0.25, 10), "proxyless": ofa.ProxylessNAS(0.25, 4)} {
		c := bundletest.Random(space, 5)
		sound := items(c)
		for form, data := range map[string][]byte{
			"zip":                    torchtest.Zip(sound),
			"legacy, old names":      torchtest.Legacy(renamed(sound, oldName)),
			"zip, non-elastic names": torchtest.Zip(renamed(sound, nonElastic)),
			"safetensors":            st(t, sound, nil),
			"safetensors, both":      st(t, renamed(renamed(sound, nonElastic), oldName), map[string]string{"format": "pt"}),
		} {
			got, err := importBytes(data, bundle.ImportOptions{})
			require.NoError(t, err, "%s %s", name, form)
			require.Equal(t, space, got.Space, "%s %s", name, form)
			sameTensors(t, c.Tensors, got.Tensors, "%s %s", name, form)
			require.Equal(t, "x.pth", got.Provenance.Source)
			require.Len(t, got.Provenance.SourceSHA256, 64)
		}
	}
}

func TestImportWithoutMatrices(t *testing.T) {
	c := withoutMatrices(bundletest.Random(ofa.MobileNetV3(0.25, 10), 5))
	got, err := importBytes(torchtest.Zip(items(c)), bundle.ImportOptions{})
	require.NoError(t, err)
	sameTensors(t, c.Tensors, got.Tensors)
}

func TestImportOfChannelsThatNoMultiplierGives(t *testing.T) {
	space := ofa.MobileNetV3(0.25, 10)
	space.Width, space.Stages[1].Channels, space.First.Channels, space.First.Residual = 0, 40, 16, false
	c := bundletest.Random(space, 5)
	got, err := importBytes(torchtest.Zip(items(c)), bundle.ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, space, got.Space)
	_, err = importBytes(torchtest.Zip(items(c)), bundle.ImportOptions{Width: 0.25})
	require.ErrorContains(t, err, "has width 0, expected 0.25 (stages of [8 40 24 32 40] channels)")
}

func TestImportChecksTheWidth(t *testing.T) {
	data := torchtest.Zip(items(bundletest.Random(ofa.MobileNetV3(0.25, 10), 5)))
	_, err := importBytes(data, bundle.ImportOptions{Width: 1})
	require.ErrorContains(t, err, "has width 0.25, expected 1")
	// Another multiplier with the same channels is as good.
	got, err := importBytes(data, bundle.ImportOptions{Width: 0.2501})
	require.NoError(t, err)
	require.Equal(t, ofa.MobileNetV3(0.2501, 10), got.Space)
}

func TestImportOfOtherTypes(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(0.25, 10), 5)
	for _, v := range c.Tensors { // numbers that bfloat16 holds
		for i := range v {
			v[i] = math.Float32frombits(math.Float32bits(v[i]) &^ 0xffff)
		}
	}
	sound := items(c)
	for class, encode := range map[string]func(raw []byte, v float32) []byte{
		"DoubleStorage": func(raw []byte, v float32) []byte {
			return binary.LittleEndian.AppendUint64(raw, math.Float64bits(float64(v)))
		},
		"BFloat16Storage": func(raw []byte, v float32) []byte {
			return binary.LittleEndian.AppendUint16(raw, uint16(math.Float32bits(v)>>16))
		},
	} {
		list := slices.Clone(sound)
		for i := range list {
			if list[i].Class != "" {
				continue
			}
			list[i].Class, list[i].Raw = class, nil
			for _, v := range c.Tensors[list[i].Name] {
				list[i].Raw = encode(list[i].Raw, v)
			}
		}
		got, err := importBytes(torchtest.Legacy(list), bundle.ImportOptions{})
		require.NoError(t, err)
		sameTensors(t, c.Tensors, got.Tensors)
	}
}

func TestImportWithASpace(t *testing.T) {
	c := bundletest.Random(small(), 5)
	plain := torchtest.Zip(items(c))
	_, err := importBytes(plain, bundle.ImportOptions{})
	require.ErrorIs(t, err, bundle.ErrUnknownSpace)
	require.ErrorContains(t, err, "92 tensors, closest to OFA-")
	require.ErrorContains(t, err, "--space")

	got, err := importBytes(plain, bundle.ImportOptions{Space: small()})
	require.NoError(t, err)
	sameTensors(t, c.Tensors, got.Tensors)

	meta, err := json.Marshal(map[string]any{"version": 1, "space": small(), "provenance": map[string]any{
		"training": "20 epochs", "commands": []string{"train.py"}, "seed": 7, "host": "here"}})
	require.NoError(t, err)
	carried := st(t, items(c), map[string]string{"dynofa": string(meta)})
	got, err = importBytes(carried, bundle.ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, small(), got.Space)
	require.Equal(t, "20 epochs", got.Provenance.Training)
	require.Equal(t, map[string]string{"seed": "7", "host": "here"}, got.Provenance.Notes)
	require.Equal(t, "x.pth", got.Provenance.Source)

	bad := small()
	bad.Classes = 0
	_, err = importBytes(plain, bundle.ImportOptions{Space: bad})
	require.ErrorContains(t, err, "given space: classes is 0")
	withLevels := read(t, written(t, contents()))
	other := small()
	other.Resolutions = []int{16, 32}
	_, err = importBytes(withLevels, bundle.ImportOptions{Space: other})
	require.ErrorContains(t, err, "carries a library")
	_, err = importBytes(withLevels, bundle.ImportOptions{Space: small()})
	require.NoError(t, err)
}

func TestImportRefuses(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(0.25, 10), 5)
	sound := items(c)
	find := func(list []torchtest.Item, name string) *torchtest.Item {
		return &list[slices.IndexFunc(list, func(it torchtest.Item) bool { return it.Name == name })]
	}
	with := func(name string, change func(*torchtest.Item)) []torchtest.Item {
		list := slices.Clone(sound)
		it := find(list, name)
		it.Raw = slices.Clone(it.Raw)
		change(it)
		return list
	}
	number := func(name string, i int, v float32) []torchtest.Item {
		return with(name, func(it *torchtest.Item) { binary.LittleEndian.PutUint32(it.Raw[4*i:], math.Float32bits(v)) })
	}
	without := func(name string) []torchtest.Item {
		return slices.DeleteFunc(slices.Clone(sound), func(it torchtest.Item) bool { return it.Name == name })
	}
	const se = "blocks.5.conv.depth_conv.se.fc.reduce.bias"
	for name, tc := range map[string]struct {
		list []torchtest.Item
		want string
	}{
		"missing":            {without(se), "closest to OFA-MobileNetV3 but missing tensor " + se + "; its space has to be given"},
		"unexpected":         {append(slices.Clone(sound), torchtest.Floats("blocks.1.conv.se.weight", []int{1}, []float32{1})), "unexpected tensor blocks.1.conv.se.weight [1]; its space has to be given"},
		"prefixed":           {renamed(sound, func(s string) string { return "module." + s }), "unexpected tensor module.first_conv.conv.weight [8 3 3 3] and 474 more; missing tensor first_conv.conv.weight and"},
		"wrong shape":        {with(se, func(it *torchtest.Item) { it.Shape = []int{1, 16} }), "tensor " + se + " has the shape [1 16], expected [16]"},
		"kernel 5":           {with("blocks.9.conv.depth_conv.conv.conv.weight", func(it *torchtest.Item) { it.Shape, it.Raw = []int{96, 1, 5, 5}, make([]byte, 4*96*25) }), "tensor blocks.9.conv.depth_conv.conv.conv.weight has the shape [96 1 5 5], expected [96 1 7 7]"},
		"scalar":             {with("classifier.linear.weight", func(it *torchtest.Item) { it.Shape, it.Raw = nil, it.Raw[:4] }), "tensor classifier.linear.weight has the shape [], expected at least one dimension"},
		"no classes":         {with("classifier.linear.weight", func(it *torchtest.Item) { it.Shape = []int{0, 320} }), "classes is 0"},
		"NaN":                {number(se, 3, float32(math.NaN())), "tensor " + se + ": [3] is NaN, expected a finite number"},
		"infinite":           {number("first_conv.bn.running_mean", 0, float32(math.Inf(1))), "tensor first_conv.bn.running_mean: [0] is +Inf"},
		"negative variance":  {number("blocks.5.conv.depth_conv.bn.bn.running_var", 47, -1e-9), "tensor blocks.5.conv.depth_conv.bn.bn.running_var: [47] is -1e-09, expected a variance of at least 0"},
		"same name twice":    {append(slices.Clone(sound), torchtest.Floats("blocks.5.mobile_inverted_conv.depth_conv.se.fc.reduce.bias", []int{16}, make([]float32, 16))), "tensors " + se + " and blocks.5.mobile_inverted_conv.depth_conv.se.fc.reduce.bias are both " + se},
		"bytes for floats":   {with(se, func(it *torchtest.Item) { it.Class, it.Raw = "ByteStorage", it.Raw[:16] }), "tensor " + se + ": type uint8, expected float32"},
		"beyond float32":     {with(se, func(it *torchtest.Item) { it.Class, it.Raw = "DoubleStorage", bytes.Repeat([]byte{0x7d}, 16*8) }), "tensor " + se + ": element 0 is"},
		"channels of a bomb": {with("first_conv.conv.weight", func(it *torchtest.Item) { it.Shape, it.Raw = []int{1 << 20, 0, 1, 1}, []byte{} }), "stem.channels is 1048576, expected 1 to 16384"},
	} {
		_, err := importBytes(torchtest.Zip(tc.list), bundle.ImportOptions{})
		require.ErrorContains(t, err, tc.want, name)
	}
	for _, data := range []string{"hello, world", "\x80\x04N.", "PK\x03\x04", "{", "\x00", "\x10\x00\x00\x00\x00\x00\x00\x00{}"} {
		_, err := importBytes([]byte(data), bundle.ImportOptions{})
		require.Error(t, err, "%q", data)
	}
	path := filepath.Join(t.TempDir(), "x.pth")
	require.NoError(t, os.WriteFile(path, []byte("hello, world"), 0o600))
	_, err := bundle.Import(path, bundle.ImportOptions{})
	require.ErrorContains(t, err, "bundle: import "+path+": starts with 68 65 6c 6c 6f 2c 20 77, expected a PyTorch or safetensors file")
}

func TestImportOfTheFormsOfOthers(t *testing.T) {
	for _, file := range []string{"torch/testdata/forms.pth", "safetensors/testdata/types.safetensors"} {
		_, err := bundle.Import(filepath.FromSlash(file), bundle.ImportOptions{})
		require.ErrorIs(t, err, bundle.ErrUnknownSpace, file)
	}
}

// tiny is a space of about a thousand numbers, for the fuzzer.
func tiny() *ofa.Space {
	s := small()
	s.Stem.Channels, s.First.Channels, s.First.SE = 1, 1, false
	s.Stages = []ofa.Stage{{Channels: 1, Stride: 1, Act: ofa.ReLU, Depths: []int{1}}}
	s.Head, s.Classes, s.Kernels, s.Expands = ofa.Head{Features: 1, Act: ofa.ReLU}, 1, []int{3, 5}, []int{1}
	return s
}

func FuzzOpen(f *testing.F) {
	c := bundletest.Random(tiny(), 1)
	bundletest.AddLevel(c, c.Space.Smallest())
	f.Add(read(f, written(f, c)))
	meta, err := json.Marshal(map[string]any{"version": 1, "space": tiny()})
	require.NoError(f, err)
	f.Add(st(f, renamed(items(c), oldName), map[string]string{"dynofa": string(meta)}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if b, err := bundle.ParseBundle(data); err == nil {
			useAll(t, b)
		}
		if len(data) == 0 {
			return
		}
		c, err := importBytes(data, bundle.ImportOptions{})
		if err != nil {
			return
		}
		if _, _, err := bundle.Encode(c); err != nil {
			t.Fatalf("what was imported cannot be written: %v", err)
		}
	})
}
