package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// file is a safetensors file of a header and a body.
func file(header, body string) []byte {
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...), body...)
}

// TestFormsWrittenByOthers reads what the reference implementation wrote (torch/testdata/make.py).
func TestFormsWrittenByOthers(t *testing.T) {
	f, err := Open(filepath.Join("testdata", "types.safetensors"))
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, map[string]string{"format": "pt"}, f.Metadata)
	data, err := os.ReadFile(filepath.Join("..", "torch", "testdata", "forms.json"))
	require.NoError(t, err)
	var want struct {
		Tensors map[string]struct {
			Shape  []int
			Values []float32
		}
	}
	require.NoError(t, json.Unmarshal(data, &want))
	delete(want.Tensors, "shared")
	for name, w := range want.Tensors {
		tensor := f.Tensor(name)
		require.NotNil(t, tensor, name)
		require.Equal(t, w.Shape, tensor.Shape, name)
		v, err := tensor.Float32()
		require.NoError(t, err, name)
		require.Equal(t, w.Values, v, name)
		if view := tensor.View(); tensor.DType == "F32" {
			require.Equal(t, v, view, name)
		} else {
			require.Nil(t, view, name)
		}
	}
	_, err = f.Tensor("uint8").Float32()
	require.ErrorContains(t, err, "uint8")
	require.Nil(t, f.Tensor("absent"))
	require.Len(t, f.Tensors, len(want.Tensors)+1)
	require.NoError(t, f.Close())
}

func TestRoundTrip(t *testing.T) {
	in := []Data{
		{"z", []int{2, 2}, []float32{1, float32(math.Inf(1)), -0.5, 4}},
		{"a <&> ä", []int{3}, []float32{7, 8, 9}},
		{"empty", []int{0, 3}, nil},
		{"scalar", nil, []float32{5}},
	}
	var b bytes.Buffer
	require.NoError(t, Write(&b, in, map[string]string{"k": `{"v":1}`, "j": "x"}))
	again := bytes.Buffer{}
	require.NoError(t, Write(&again, in, map[string]string{"j": "x", "k": `{"v":1}`}))
	require.Equal(t, b.Bytes(), again.Bytes())
	require.Zero(t, (8+binary.LittleEndian.Uint64(b.Bytes()))%64)
	f, err := Parse(b.Bytes())
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": `{"v":1}`, "j": "x"}, f.Metadata)
	require.Len(t, f.Tensors, len(in))
	for i, d := range in {
		require.Equal(t, d.Name, f.Tensors[i].Name)
		require.Equal(t, append([]int{}, d.Shape...), f.Tensors[i].Shape)
		v, err := f.Tensors[i].Float32()
		require.NoError(t, err)
		require.Equal(t, append([]float32{}, d.F32...), v)
	}
	require.NoError(t, f.Close())
}

type failing struct{ left int }

func (w *failing) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestWriteErrors(t *testing.T) {
	require.ErrorContains(t, Write(&failing{10}, []Data{{"a", []int{1}, []float32{1}}}, nil), "safetensors: write: no space left")
	require.ErrorContains(t, Write(&failing{0}, []Data{{"a", []int{2}, []float32{1}}}, nil), "tensor a has 1 numbers")
	require.ErrorContains(t, Write(&failing{0}, []Data{{"a", nil, []float32{1}}, {"a", nil, []float32{1}}}, nil), "there twice")
	require.ErrorContains(t, Write(&failing{0}, []Data{{"__metadata__", nil, []float32{1}}}, nil), "reserved")
}

func TestHostile(t *testing.T) {
	one := `"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"short":               {[]byte("abc"), "file of 3 bytes"},
		"header length":       {append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "{}"...), "header length is 18446744073709551615, expected at most 2 in a file of 10 bytes"},
		"no object":           {file(`[]`, ""), "header does not start with {"},
		"empty header":        {file("", ""), "header does not start with {"},
		"cut header":          {file(`{"a":`, ""), `tensor "a": unexpected EOF`},
		"open header":         {file(`{`+one, "0000"), "unexpected EOF"},
		"text after header":   {file(`{} x`, ""), "2 bytes after the JSON object"},
		"twice":               {file(`{`+one+`,`+one+`}`, "0000"), `tensor "a" is there twice`},
		"metadata twice":      {file(`{"__metadata__":{},"__metadata__":{}}`, ""), "__metadata__ is there twice"},
		"metadata of numbers": {file(`{"__metadata__":{"a":1}}`, ""), "header: __metadata__: json"},
		"metadata null":       {file(`{"__metadata__":null}`, ""), "__metadata__ is null"},
		"dtype":               {file(`{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}`, "0000"), `tensor "a": dtype "F31" is unknown`},
		"null":                {file(`{"a":null}`, ""), `tensor "a": dtype "" is unknown`},
		"one offset":          {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}`, "0000"), "data_offsets [0], expected [begin, end]"},
		"offset beyond":       {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "0000"), "data_offsets [4 8], expected [begin, end] within the 4 bytes"},
		"offset negative":     {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, "0000"), "data_offsets [-4 0]"},
		"offset reversed":     {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, "0000"), "data_offsets [4 0]"},
		"offset huge":         {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}}`, "0000"), "cannot unmarshal"},
		"shape too large":     {file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "0000"), "shape [2] of F32 does not have the 4 bytes"},
		"shape too small":     {file(`{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,4]}}`, "0000"), "shape [1] of F64 does not have the 4 bytes"},
		"shape negative":      {file(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, "0000"), "shape [-1 -1]"},
		"shape overflows":     {file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, ""), "4294967296"},
		"shape is no number":  {file(`{"a":{"dtype":"F32","shape":["x"],"data_offsets":[0,4]}}`, "0000"), "cannot unmarshal"},
		"gap at the start":    {file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "00000000"), `tensor "a" begins at byte 4 of the data, expected 0, where the header ends`},
		"overlap":             {file(`{`+one+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, "000000"), `tensor "b" begins at byte 2 of the data, expected 4, where a ends`},
		"gap":                 {file(`{`+one+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[5,9]}}`, "000000000"), "expected 4, where a ends"},
		"same place":          {file(`{`+one+`,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "0000"), "expected 4"},
		"trailing bytes":      {file(`{`+one+`}`, "00001"), "1 bytes after the last tensor"},
		"deep":                {file(`{"a":`+strings.Repeat("[", 1<<16), ""), "exceeded max depth"},
	} {
		_, err := Parse(c.data)
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "safetensors: "), name)
	}
	_, err := Parse(file(`{`+one+`,"empty":{"dtype":"F32","shape":[0],"data_offsets":[4,4]}}`+strings.Repeat(" ", 5), "0000"))
	require.NoError(t, err)
}

func TestUnalignedIsNotViewed(t *testing.T) {
	f, err := Parse(file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`, "0\x00\x00\x80\x3f"))
	require.NoError(t, err)
	v, err := f.Tensor("b").Float32()
	require.NoError(t, err)
	require.Equal(t, []float32{1}, v)
	if view := f.Tensor("b").View(); view != nil {
		require.Equal(t, v, view)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	_, err := Open(path)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(path, []byte("hello"), 0o600))
	_, err = Open(path)
	require.ErrorContains(t, err, "x.safetensors: safetensors: file of 5 bytes")
}

func FuzzSafetensors(f *testing.F) {
	var b bytes.Buffer
	require.NoError(f, Write(&b, []Data{{"a", []int{2}, []float32{1, 2}}, {"b", nil, []float32{3}}}, map[string]string{"k": "v"}))
	f.Add(b.Bytes())
	f.Add(file(`{"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]},"e":{"dtype":"I64","shape":[0],"data_offsets":[4,4]}}`, "0000"))
	f.Fuzz(func(t *testing.T, data []byte) {
		f, err := Parse(data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "safetensors: ") {
				t.Fatalf("error without its origin: %v", err)
			}
			return
		}
		bytes := 0
		for i := range f.Tensors {
			tensor := &f.Tensors[i]
			if f.Tensor(tensor.Name) != tensor {
				t.Fatalf("tensor %q is not found by its name", tensor.Name)
			}
			bytes += len(tensor.raw)
			if v, err := tensor.Float32(); err == nil && len(v) != tensor.Len() {
				t.Fatalf("%d numbers, expected %d", len(v), tensor.Len())
			}
			if v := tensor.View(); v != nil && len(v) != tensor.Len() {
				t.Fatalf("a view of %d numbers, expected %d", len(v), tensor.Len())
			}
		}
		if bytes > len(data) {
			t.Fatalf("%d bytes of tensors in %d", bytes, len(data))
		}
	})
}
