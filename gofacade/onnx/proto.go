package onnx

import (
	"encoding/binary"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// message is an encoded protobuf message that grows field by field. The field numbers are those of onnx.proto;
// the comments beside them are its field names.
type message []byte

func (m *message) number(field protowire.Number, v int) {
	*m = protowire.AppendTag(*m, field, protowire.VarintType)
	*m = protowire.AppendVarint(*m, uint64(v))
}

func (m *message) float(field protowire.Number, v float32) {
	*m = protowire.AppendTag(*m, field, protowire.Fixed32Type)
	*m = protowire.AppendFixed32(*m, math.Float32bits(v))
}

func (m *message) text(field protowire.Number, s string) { m.message(field, message(s)) }

func (m *message) message(field protowire.Number, sub message) {
	m.open(field, len(sub))
	*m = append(*m, sub...)
}

// open starts a field whose size bytes the caller writes next.
func (m *message) open(field protowire.Number, size int) {
	*m = protowire.AppendTag(*m, field, protowire.BytesType)
	*m = protowire.AppendVarint(*m, uint64(size))
}

// Values of the enumerations in onnx.proto.
const (
	float32Tensor  = 1 // TensorProto.DataType
	floatAttribute = 1 // AttributeProto.AttributeType
	intAttribute   = 2
	intsAttribute  = 7
)

// model is the ModelProto around a graph.
type model struct {
	version string // of the producer
	doc     string
	graph   *graph
	meta    [][2]string
}

// write encodes the model without ever holding it: all but the weights is small and encoded first, so that
// the sizes which protobuf puts in front are known, and the weights follow one by one.
func (m *model) write(w io.Writer) error {
	var opsets, tail message
	opsets.text(1, "")      // domain
	opsets.number(2, opset) // version
	for _, kv := range m.meta {
		var entry message
		entry.text(1, kv[0])    // key
		entry.text(2, kv[1])    // value
		tail.message(14, entry) // metadata_props
	}

	var head message
	head.number(1, irVersion)    // ir_version
	head.text(2, "dynofa")       // producer_name
	head.text(3, m.version)      // producer_version
	head.text(6, m.doc)          // doc_string
	head.message(8, opsets)      // opset_import
	head.open(7, m.graph.size()) // graph
	head = append(head, m.graph.encode()...)

	if _, err := w.Write(head); err != nil {
		return err
	}
	for i := range m.graph.tensors {
		if err := m.graph.tensors[i].write(w); err != nil {
			return err
		}
	}
	_, err := w.Write(tail)
	return err
}

// encode is the GraphProto but for its initializers.
func (g *graph) encode() message {
	var m message
	for i := range g.nodes {
		m.message(1, g.nodes[i].encode()) // node
	}
	m.text(2, g.name) // name
	last := len(g.nodes) - 1
	m.message(11, g.input.encode())              // input
	m.message(12, g.nodes[last].output.encode()) // output
	for i := range g.nodes[:last] {
		m.message(13, g.nodes[i].output.encode()) // value_info
	}
	return m
}

// size is the length of the GraphProto.
func (g *graph) size() int {
	size := len(g.encode())
	for i := range g.tensors {
		size += g.tensors[i].size()
	}
	return size
}

// encode is the NodeProto.
func (n *node) encode() message {
	var m message
	for _, in := range n.inputs {
		m.text(1, in) // input
	}
	m.text(2, n.output.name) // output
	m.text(3, n.name)        // name
	m.text(4, n.op)          // op_type
	for _, a := range n.attributes {
		m.message(5, a.encode()) // attribute
	}
	return m
}

// encode is the AttributeProto.
func (a attribute) encode() message {
	var m message
	m.text(1, a.name) // name
	switch v := a.value.(type) {
	case float32:
		m.float(2, v)                // f
		m.number(20, floatAttribute) // type
	case int:
		m.number(3, v)             // i
		m.number(20, intAttribute) // type
	case []int:
		for _, i := range v {
			m.number(8, i) // ints
		}
		m.number(20, intsAttribute) // type
	}
	return m
}

// encode is the ValueInfoProto of a float32 tensor whose first dimension is the batch.
func (v value) encode() message {
	var batch, shape, tensor, typ, m message
	batch.text(2, "n")      // dim_param
	shape.message(1, batch) // dim
	for _, d := range v.shape {
		var dim message
		dim.number(1, d)      // dim_value
		shape.message(1, dim) // dim
	}
	tensor.number(1, float32Tensor) // elem_type
	tensor.message(2, shape)        // shape
	typ.message(1, tensor)          // tensor_type
	m.text(1, v.name)               // name
	m.message(2, typ)               // type
	return m
}

// header is the TensorProto up to its data.
func (t *tensor) header() message {
	var m message
	for _, d := range t.shape {
		m.number(1, d) // dims
	}
	m.number(2, float32Tensor) // data_type
	m.text(8, t.name)          // name
	m.open(9, 4*len(t.data))   // raw_data
	return m
}

// size is the length of the tensor as an initializer of the GraphProto.
func (t *tensor) size() int {
	return protowire.SizeTag(5) + protowire.SizeBytes(len(t.header())+4*len(t.data))
}

func (t *tensor) write(w io.Writer) error {
	header := t.header()
	var m message
	m.open(5, len(header)+4*len(t.data)) // initializer
	m = append(m, header...)
	if _, err := w.Write(m); err != nil {
		return err
	}
	return binary.Write(w, binary.LittleEndian, t.data)
}
