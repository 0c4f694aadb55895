package onnx

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// The tests read a file back with nothing but protobuf's wire format: what follows knows the field numbers of
// onnx.proto for itself.

// fields is a decoded message: the values of each field in order, []byte, uint64 or uint32.
type fields map[protowire.Number][]any

func parse(t *testing.T, data []byte) fields {
	t.Helper()
	f := fields{}
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		require.NoError(t, protowire.ParseError(n))
		data = data[n:]
		var v any
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			v, n = protowire.ConsumeBytes(data)
		case protowire.Fixed32Type:
			v, n = protowire.ConsumeFixed32(data)
		default:
			t.Fatalf("field %d has wire type %d, which ONNX does not use", num, typ)
		}
		require.NoError(t, protowire.ParseError(n))
		data = data[n:]
		f[num] = append(f[num], v)
	}
	return f
}

func (f fields) text(num protowire.Number) string {
	if len(f[num]) == 0 {
		return ""
	}
	return string(f[num][0].([]byte))
}

func (f fields) texts(num protowire.Number) []string {
	var out []string
	for _, v := range f[num] {
		out = append(out, string(v.([]byte)))
	}
	return out
}

func (f fields) int(num protowire.Number) int {
	if len(f[num]) == 0 {
		return 0
	}
	return int(f[num][0].(uint64))
}

func (f fields) ints(num protowire.Number) []int {
	var out []int
	for _, v := range f[num] {
		out = append(out, int(v.(uint64)))
	}
	return out
}

type parsedNode struct {
	name, op       string
	inputs, output []string
	attributes     map[string]any // int, []int or float32
}

type parsedTensor struct {
	shape []int
	data  []float32
}

type parsedModel struct {
	top           fields
	name          string
	nodes         []parsedNode
	tensors       map[string]parsedTensor
	shapes        map[string][]any // of inputs, values and outputs: "n" or an int a dimension
	input, output string
	meta          map[string]string
}

func parseModel(t *testing.T, data []byte) parsedModel {
	t.Helper()
	m := parsedModel{top: parse(t, data), tensors: map[string]parsedTensor{}, shapes: map[string][]any{}, meta: map[string]string{}}
	require.Len(t, m.top[7], 1, "graphs")
	g := parse(t, m.top[7][0].([]byte))
	m.name = g.text(2)
	for _, raw := range g[1] {
		n := parse(t, raw.([]byte))
		attributes := map[string]any{}
		for _, raw := range n[5] {
			a := parse(t, raw.([]byte))
			switch a.int(20) {
			case 1:
				attributes[a.text(1)] = math.Float32frombits(a[2][0].(uint32))
			case 2:
				attributes[a.text(1)] = a.int(3)
			case 7:
				attributes[a.text(1)] = a.ints(8)
			}
		}
		m.nodes = append(m.nodes, parsedNode{n.text(3), n.text(4), n.texts(1), n.texts(2), attributes})
	}
	for _, raw := range g[5] {
		f := parse(t, raw.([]byte))
		require.Equal(t, 1, f.int(2), "data type of %s", f.text(8))
		bytes := f[9][0].([]byte)
		v := parsedTensor{f.ints(1), make([]float32, len(bytes)/4)}
		for i := range v.data {
			v.data[i] = math.Float32frombits(binary.LittleEndian.Uint32(bytes[4*i:]))
		}
		require.NotContains(t, m.tensors, f.text(8))
		m.tensors[f.text(8)] = v
	}
	for _, num := range []protowire.Number{11, 12, 13} {
		for _, raw := range g[num] {
			v := parse(t, raw.([]byte))
			tensor := parse(t, parse(t, v[2][0].([]byte))[1][0].([]byte))
			require.Equal(t, 1, tensor.int(1), "element type of %s", v.text(1))
			var dims []any
			for _, raw := range parse(t, tensor[2][0].([]byte))[1] {
				if dim := parse(t, raw.([]byte)); dim[2] != nil {
					dims = append(dims, dim.text(2))
				} else {
					dims = append(dims, dim.int(1))
				}
			}
			require.NotContains(t, m.shapes, v.text(1))
			m.shapes[v.text(1)] = dims
		}
	}
	require.Len(t, g[11], 1, "inputs")
	require.Len(t, g[12], 1, "outputs")
	m.input, m.output = parse(t, g[11][0].([]byte)).text(1), parse(t, g[12][0].([]byte)).text(1)
	for _, raw := range m.top[14] {
		kv := parse(t, raw.([]byte))
		m.meta[kv.text(1)] = kv.text(2)
	}
	return m
}
