package torch

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/torchtest"
)

func two() []torchtest.Item {
	return []torchtest.Item{
		torchtest.Floats("a", []int{2, 3}, []float32{1, 2, 3, 4, 5, 6}),
		torchtest.Floats("b", []int{1}, []float32{7}),
	}
}

func containers(items []torchtest.Item) map[string][]byte {
	return map[string][]byte{"zip": torchtest.Zip(items), "legacy": torchtest.Legacy(items)}
}

func TestHostileTensors(t *testing.T) {
	raw := make([]byte, 24)
	far := math.MaxInt / 4
	for name, c := range map[string]struct {
		item torchtest.Item
		want string
	}{
		"beyond the storage":   {torchtest.Item{Shape: []int{7}, Raw: raw}, "reach beyond the storage's 6 elements"},
		"offset beyond":        {torchtest.Item{Shape: []int{2}, Offset: 5, Raw: raw}, "reach beyond"},
		"offset of nothing":    {torchtest.Item{Shape: []int{0}, Offset: 7, Raw: raw}, "reach beyond"},
		"stride beyond":        {torchtest.Item{Shape: []int{2, 2}, Stride: []int{5, 1}, Raw: raw}, "reach beyond"},
		"negative offset":      {torchtest.Item{Shape: []int{2}, Offset: -1, Raw: raw}, "offset is int -1"},
		"negative size":        {torchtest.Item{Shape: []int{-2}, Raw: raw}, "size [0] is int -2"},
		"negative stride":      {torchtest.Item{Shape: []int{2}, Stride: []int{-1}, Raw: raw}, "stride [0] is int -1"},
		"product overflows":    {torchtest.Item{Shape: []int{far / 3, far / 3}, Stride: []int{0, 0}, Raw: raw}, "elements"},
		"strides overflow":     {torchtest.Item{Shape: []int{2, 2}, Stride: []int{far / 3, far / 3}, Raw: raw}, "reach beyond"},
		"expanded":             {torchtest.Item{Shape: []int{1 << 17, 1 << 10}, Stride: []int{0, 0}, Raw: raw}, "expand to more than four times the file's"},
		"rank":                 {torchtest.Item{Shape: make([]int, 17), Raw: raw}, "size is tuple of length 17, expected a tuple of at most 16"},
		"size without stride":  {torchtest.Item{Shape: []int{2, 1}, Stride: []int{1}, Raw: raw}, "expected the same length"},
		"storage type":         {torchtest.Item{Class: "QInt8Storage", Shape: []int{2}, Raw: raw}, "refuses torch.QInt8Storage"},
		"more than is there":   {torchtest.Item{Shape: []int{2}, Elements: 7, Raw: raw}, "24 "},
		"less than is there":   {torchtest.Item{Shape: []int{2}, Elements: 5, Raw: raw}, ""},
		"negative elements":    {torchtest.Item{Shape: []int{2}, Elements: -1, Raw: raw}, "has int -1 elements"},
		"far too many":         {torchtest.Item{Shape: []int{2}, Elements: math.MaxInt, Raw: raw}, "elements"},
		"nothing behind a key": {torchtest.Item{Shape: []int{2}, Elements: 2, Key: "x"}, ""},
	} {
		c.item.Name = "t"
		for kind, data := range containers([]torchtest.Item{c.item}) {
			_, err := Parse(data)
			require.ErrorContains(t, err, c.want, "%s %s", name, kind)
			require.True(t, strings.HasPrefix(err.Error(), "torch: "), "%s %s", name, kind)
		}
	}
}

func TestTypesThatCannotBeConverted(t *testing.T) {
	for _, data := range containers([]torchtest.Item{{Name: "t", Class: "ByteStorage", Shape: []int{2}, Raw: []byte{1, 2}}}) {
		c, err := Parse(data)
		require.NoError(t, err)
		_, err = c.Tensors[0].Float32()
		require.ErrorContains(t, err, "torch: tensor t: type uint8, expected float32, float64, float16, bfloat16 or int64")
	}
}

func TestSharedStorage(t *testing.T) {
	items := two()[:1]
	items[0].Key = "k"
	items = append(items, torchtest.Item{Name: "column", Key: "k", Elements: 6, Shape: []int{2}, Stride: []int{3}, Offset: 1})
	for kind, data := range containers(items) {
		c, err := Parse(data)
		require.NoError(t, err, kind)
		v, err := c.Tensor("column").Float32()
		require.NoError(t, err)
		require.Equal(t, []float32{2, 5}, v, kind)
	}
	items[1].Class, items[1].Elements = "DoubleStorage", 3
	_, err := Parse(torchtest.Legacy(items))
	require.ErrorContains(t, err, `storage "k" is 6 float32 and 3 float64, expected one form`)
}

func TestHostileTopLevels(t *testing.T) {
	for name, c := range map[string]struct {
		object *torchtest.Pickle
		want   string
	}{
		"list":              {torchtest.New().Op("]."), "top level is list of length 0, expected a dict"},
		"empty":             {torchtest.New().Op("}."), "no tensors in the state dict"},
		"other keys":        {torchtest.New().Op("}").Str("model").Op("}s").Str("epoch").Int(3).Op("s."), `top level has the keys "model", "epoch", expected state_dict, or tensors only`},
		"state is a number": {torchtest.New().Op("}").Str("state_dict").Int(1).Op("s."), "state_dict is int 1, expected a dict of tensors"},
		"value is a number": {torchtest.New().Op("}").Str("state_dict").Op("}").Str("w").Int(1).Op("ss."), `"w" in the state dict is int 1, expected a tensor`},
		"key is a number":   {torchtest.New().Op("}").Str("state_dict").Op("}").Int(1).Int(1).Op("ss."), "key 0 of the state dict is int 1, expected str"},
		"os.system":         {torchtest.New().Global("os", "system").Op("(").Str("touch /tmp/pwned").Op("tR."), "refuses os.system at byte 2: only data is read, nothing is executed"},
		"load from bytes":   {torchtest.New().Global("torch.storage", "_load_from_bytes").Op("."), "refuses torch.storage._load_from_bytes"},
		"trailing":          {torchtest.New().Op("}.N"), "1 bytes after the pickle"},
	} {
		_, err := Parse(torchtest.Members(zip.Store, [2]string{"s/data.pkl", string(c.object.B)}))
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestHostileZips(t *testing.T) {
	object := string(torchtest.Object(two(), false))
	data0, data1 := string(torchtest.Raw([]float32{1, 2, 3, 4, 5, 6})), string(torchtest.Raw([]float32{7}))
	sound := [][2]string{{"s/data.pkl", object}, {"s/data/0", data0}, {"s/data/1", data1}}
	for name, c := range map[string]struct {
		members [][2]string
		want    string
	}{
		"no pickle":         {sound[1:], "0 members named data.pkl, expected 1"},
		"two pickles":       {append([][2]string{{"t/data.pkl", object}}, sound...), "2 members named data.pkl"},
		"member twice":      {append([][2]string{{"s/data/1", data1}}, sound...), `member "s/data/1" is there twice`},
		"no data":           {sound[:2], `no member "s/data/1"`},
		"big-endian":        {append([][2]string{{"s/byteorder", "big"}}, sound...), `byte order is "big", expected little`},
		"data of two sizes": {append([][2]string{{"s/data/1", data0}}, sound[:2]...), `storage "1" has 24 bytes, expected 1 elements of float32`},
	} {
		_, err := Parse(torchtest.Members(zip.Store, c.members...))
		require.ErrorContains(t, err, c.want, name)
	}
	bomb := torchtest.Members(zip.Deflate, [2]string{"s/data.pkl", strings.Repeat("N", 1<<20)})
	_, err := Parse(bomb)
	require.ErrorContains(t, err, "inflates to 1048576 bytes, more than 16 times the file")

	// A flipped bit in the numbers does not pass.
	zipped := torchtest.Members(zip.Store, sound...)
	zipped[bytes.Index(zipped, []byte(data0))] ^= 1
	_, err = Parse(zipped)
	require.ErrorContains(t, err, `member "s/data/0": checksum is`)
}

func TestHostileLegacy(t *testing.T) {
	sound := torchtest.Legacy(two())
	_, err := Parse(append(bytes.Clone(sound), 0))
	require.ErrorContains(t, err, "1 bytes after the last storage")
	count := bytes.LastIndex(sound, binary.LittleEndian.AppendUint64(nil, 1))
	huge := bytes.Clone(sound)
	binary.LittleEndian.PutUint64(huge[count:], math.MaxUint64)
	_, err = Parse(huge)
	require.ErrorContains(t, err, "has 18446744073709551615 elements, expected 1")
	_, err = Parse(bytes.Replace(sound, []byte{0xe9, 3, 0, 0}, []byte{0xea, 3, 0, 0}, 1))
	require.ErrorContains(t, err, "version is int 1002, expected 1001")
	_, err = Parse(bytes.Replace(sound, []byte("little_endian\x88"), []byte("little_endian\x89"), 1))
	require.ErrorContains(t, err, "little_endian is False")
	_, err = Parse([]byte("\x80\x04N."))
	require.ErrorContains(t, err, "neither a zip nor a legacy container")
	_, err = Parse(nil)
	require.ErrorContains(t, err, "neither a zip nor a legacy container")
}

func TestEveryTruncationIsAnError(t *testing.T) {
	for kind, data := range containers(two()) {
		for n := range data {
			_, err := Parse(data[:n:n])
			require.Error(t, err, "%s cut to %d bytes", kind, n)
		}
	}
}

// TestBitFlips is about crashes; a flip in numbers or names of a legacy container goes unseen there.
func TestBitFlips(t *testing.T) {
	for _, data := range containers(two()) {
		for bit := range 8 * len(data) {
			data[bit/8] ^= 1 << (bit % 8)
			readAll(t, data)
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// readAll reads whatever a file lets be read.
func readAll(t *testing.T, data []byte) {
	c, err := Parse(data)
	if err != nil {
		if !strings.HasPrefix(err.Error(), "torch: ") {
			t.Fatalf("error without its origin: %v", err)
		}
		return
	}
	sum := 0
	for _, tensor := range c.Tensors {
		v, err := tensor.Float32()
		if err == nil && len(v) != tensor.Len() {
			t.Fatalf("%d numbers, expected %d", len(v), tensor.Len())
		}
		sum += len(v)
	}
	if sum > len(data)+1<<18 {
		t.Fatalf("%d numbers from %d bytes", sum, len(data))
	}
}

func TestMemoryIsBoundedByTheFile(t *testing.T) {
	// A thousand names for one storage of 4 MB, and a thousand claims of huge numbers.
	items := []torchtest.Item{torchtest.Floats("0", []int{1 << 20}, make([]float32, 1<<20))}
	for i := range 1000 {
		items = append(items, torchtest.Item{Name: "x" + strings.Repeat("y", i), Key: "0", Elements: 1 << 20, Shape: []int{1 << 20}})
	}
	for kind, data := range containers(items) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Parse(data)
		runtime.ReadMemStats(&after)
		require.ErrorContains(t, err, "expand to more than four times the file's", kind)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2*len(data)), kind)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pth")
	_, err := Open(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "x.pth")
	require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "x.pth: torch: neither")
}

func FuzzTorch(f *testing.F) {
	for _, data := range containers(two()) {
		f.Add(data)
	}
	f.Add(torchtest.Members(zip.Deflate, [2]string{"s/data.pkl", string(torchtest.Object(two(), false))}))
	f.Add(torchtest.StorageBytes([]float32{1}))
	f.Fuzz(readAll)
}
