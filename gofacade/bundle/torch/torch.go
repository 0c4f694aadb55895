// Package torch reads PyTorch checkpoints, in the zip and the legacy container, as data only.
//
// The top level is a dict with the key state_dict, or itself a dict of tensors. Locations such as cuda:0 are
// ignored. Nothing is executed: the pickles inside may name the classes that tensors are made of, and any other
// is an error naming it.
package torch

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/mapped"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/number"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/pickle"
)

// Tensor is one tensor of a checkpoint. Its numbers stay in the file until they are asked for. It is
// immutable, may be used by several goroutines, and is valid until its Checkpoint is closed.
type Tensor struct {
	Name  string
	Shape []int // empty for a scalar

	store    *storage
	offset   int   // in elements of the storage
	stride   []int // in elements
	elements int
}

// storage is the run of numbers that tensors look into.
type storage struct {
	kind     number.Type
	elements int
	raw      []byte // elements * kind.Size() bytes; in the legacy container filled in after the pickles
}

// Type names the element type as PyTorch does, e.g. "float32".
func (t *Tensor) Type() string { return t.store.kind.String() }

// Len is the number of elements.
func (t *Tensor) Len() int { return t.elements }

// Float32 returns a copy of the numbers, converted to float32, in row-major order of Shape. A type that is not
// float32, float64, float16, bfloat16 or int64, a finite float64 beyond float32's range, and a file that was
// truncated meanwhile are errors.
func (t *Tensor) Float32() ([]float32, error) {
	v := make([]float32, t.elements)
	err := mapped.Guard(func() error { return number.Float32(v, t.packed(), t.store.kind) })
	if err != nil {
		return nil, fmt.Errorf("torch: tensor %s: %w", t.Name, err)
	}
	return v, nil
}

// packed returns the elements in row-major order as they are in the file, without a copy if they lie so.
func (t *Tensor) packed() []byte {
	size := t.store.kind.Size()
	raw := t.store.raw[t.offset*size:]
	if t.contiguous() {
		return raw[:t.elements*size]
	}
	out := make([]byte, 0, t.elements*size)
	index := make([]int, len(t.Shape))
	at := 0
	for range t.elements {
		out = append(out, raw[at*size:(at+1)*size]...)
		for d := len(index) - 1; d >= 0; d-- {
			index[d]++
			at += t.stride[d]
			if index[d] < t.Shape[d] {
				break
			}
			at -= index[d] * t.stride[d]
			index[d] = 0
		}
	}
	return out
}

func (t *Tensor) contiguous() bool {
	if t.elements == 0 {
		return true
	}
	want := 1
	for d := len(t.Shape) - 1; d >= 0; d-- {
		if t.Shape[d] != 1 && t.stride[d] != want {
			return false
		}
		want *= t.Shape[d]
	}
	return true
}

// Checkpoint is an open checkpoint. It is immutable; several goroutines may use it.
type Checkpoint struct {
	Tensors []*Tensor // in the order of the file
	file    *mapped.File
}

// Open maps a checkpoint file and reads everything but the numbers. The Checkpoint must be closed.
func Open(path string) (*Checkpoint, error) {
	f, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("torch: %w", err)
	}
	var c *Checkpoint
	err = mapped.Guard(func() (err error) {
		c, err = Parse(f.Bytes())
		return err
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.file = f
	return c, nil
}

// Close gives up the file; the tensors must not be used any more. Further calls do nothing.
func (c *Checkpoint) Close() error {
	if c.file == nil {
		return nil
	}
	return c.file.Close()
}

// Tensor returns the tensor of that name, or nil.
func (c *Checkpoint) Tensor(name string) *Tensor {
	for _, t := range c.Tensors {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// IsCheckpoint says whether a file that starts like this is in one of PyTorch's two containers.
func IsCheckpoint(data []byte) bool {
	return isZip(data) || len(data) > 2 && data[0] == 0x80 && bytes.HasPrefix(data[2:], legacyMagic)
}

// Parse reads a checkpoint that lies in memory; the Tensors keep pointing into data. Memory stays within a
// multiple of len(data): tensors that share or repeat numbers may together not be more than four times as
// large as the file.
func Parse(data []byte) (*Checkpoint, error) {
	var top any
	var err error
	if isZip(data) {
		top, err = readZip(data)
	} else {
		top, err = readLegacy(data)
	}
	if err != nil {
		return nil, fmt.Errorf("torch: %w", err)
	}
	c, err := collect(top, len(data))
	if err != nil {
		return nil, fmt.Errorf("torch: %w", err)
	}
	return c, nil
}

// collect finds the state dict in a checkpoint's object and lists its tensors.
func collect(top any, fileSize int) (*Checkpoint, error) {
	dict, ok := top.(*pickle.Dict)
	if !ok {
		return nil, fmt.Errorf("top level is %s, expected a dict", pickle.Describe(top))
	}
	if inner, ok := dict.Get("state_dict"); ok {
		if dict, ok = inner.(*pickle.Dict); !ok {
			return nil, fmt.Errorf("state_dict is %s, expected a dict of tensors", pickle.Describe(inner))
		}
	} else if len(dict.Entries) > 0 {
		if _, ok := dict.Entries[0].Value.(*Tensor); !ok {
			return nil, fmt.Errorf("top level has the keys %s, expected state_dict, or tensors only", strings.Join(dict.Keys(), ", "))
		}
	}
	if len(dict.Entries) == 0 {
		return nil, errors.New("no tensors in the state dict")
	}
	budget := fileSize + 1<<18 // in elements: at four bytes each, four times the file and a megabyte
	c := &Checkpoint{Tensors: make([]*Tensor, 0, len(dict.Entries))}
	for i, e := range dict.Entries {
		name, ok := e.Key.(string)
		if !ok {
			return nil, fmt.Errorf("key %d of the state dict is %s, expected str", i, pickle.Describe(e.Key))
		}
		t, ok := e.Value.(*Tensor)
		if !ok {
			return nil, fmt.Errorf("%.200q in the state dict is %s, expected a tensor", name, pickle.Describe(e.Value))
		}
		named := *t
		named.Name = name
		if budget -= t.elements; budget < 0 {
			return nil, fmt.Errorf("tensors up to %.200q, of shape %v, expand to more than four times the file's %d bytes", name, t.Shape, fileSize)
		}
		c.Tensors = append(c.Tensors, &named)
	}
	return c, nil
}

// storageClasses are the storage types by the name of their class in the package torch.
var storageClasses = map[string]number.Type{
	"torch.DoubleStorage": number.F64, "torch.FloatStorage": number.F32, "torch.HalfStorage": number.F16,
	"torch.BFloat16Storage": number.BF16, "torch.LongStorage": number.I64, "torch.IntStorage": number.I32,
	"torch.ShortStorage": number.I16, "torch.CharStorage": number.I8, "torch.ByteStorage": number.U8, "torch.BoolStorage": number.Bool,
}

// classes are what a checkpoint's pickle may name.
func classes() map[string]*pickle.Class {
	m := map[string]*pickle.Class{
		"collections.OrderedDict":         pickle.OrderedDict(),
		"torch._utils._rebuild_tensor_v2": {Call: rebuildTensor},
		"torch._utils._rebuild_parameter": {Call: rebuildParameter},
	}
	for name := range storageClasses {
		m[name] = &pickle.Class{}
	}
	return m
}

// Classes are what a pickle that holds tensors outside of a container may name: those of a checkpoint, and
// torch.storage._load_from_bytes, whose argument is a legacy container of one storage. It is for the packages
// beside this one. The map is the caller's; the pickle that it is used for must stay in memory with the tensors.
func Classes() map[string]*pickle.Class {
	m := classes()
	// A pickle may name the same bytes any number of times.
	loaded := map[*byte]*storage{}
	m["torch.storage._load_from_bytes"] = &pickle.Class{Call: func(args pickle.Tuple) (any, error) {
		if len(args) != 1 {
			return nil, fmt.Errorf("has %d arguments, expected 1", len(args))
		}
		raw, ok := args[0].(pickle.Bytes)
		if !ok || len(raw) == 0 {
			return nil, fmt.Errorf("argument is %s, expected the bytes of a container", pickle.Describe(args[0]))
		}
		if s := loaded[&raw[0]]; s != nil {
			return s, nil
		}
		top, err := readLegacy(raw)
		if err != nil {
			return nil, err
		}
		s, ok := top.(*storage)
		if !ok {
			return nil, fmt.Errorf("holds %s, expected a storage", pickle.Describe(top))
		}
		loaded[&raw[0]] = s
		return s, nil
	}}
	return m
}

// storageID is a persistent id: ('storage', class, key, location, number of elements) and in the legacy container
// a sixth element, which is None in every file since PyTorch 0.4.
type storageID struct {
	kind     number.Type
	key      string
	elements int
}

func parseStorageID(id any, length int) (s storageID, err error) {
	t, ok := id.(pickle.Tuple)
	if !ok || len(t) != length {
		return s, fmt.Errorf("is %s, expected a tuple of length %d", pickle.Describe(id), length)
	}
	if word, ok := t[0].(string); !ok || word != "storage" {
		return s, fmt.Errorf("starts with %s, expected 'storage'", pickle.Describe(t[0]))
	}
	class, ok := t[1].(*pickle.Class)
	if ok {
		s.kind, ok = storageClasses[class.Name]
	}
	if !ok {
		return s, fmt.Errorf("has the type %s, expected a storage class", pickle.Describe(t[1]))
	}
	if s.key, ok = t[2].(string); !ok {
		return s, fmt.Errorf("has the key %s, expected str", pickle.Describe(t[2]))
	}
	if s.elements, ok = natural(t[4]); !ok {
		return s, fmt.Errorf("has %s elements, expected a number of them", pickle.Describe(t[4]))
	}
	if length == 6 && t[5] != nil {
		return s, errors.New("is a view of another storage (PyTorch before 0.4), expected a storage of its own")
	}
	return s, nil
}

// maxElements keeps products with an element's size within int, also where int has 32 bits.
const maxElements = int(^uint(0)>>1) / 8

// natural reads an int from 0 to maxElements.
func natural(v any) (int, bool) {
	n, ok := v.(int64)
	if !ok || n < 0 || n > int64(maxElements) {
		return 0, false
	}
	return int(n), true
}

// maxRank is far above the 4 dimensions of a convolution.
const maxRank = 16

func naturals(v any) ([]int, error) {
	t, ok := v.(pickle.Tuple)
	if !ok || len(t) > maxRank {
		return nil, fmt.Errorf("is %s, expected a tuple of at most %d numbers", pickle.Describe(v), maxRank)
	}
	list := make([]int, len(t))
	for i := range t {
		if list[i], ok = natural(t[i]); !ok {
			return nil, fmt.Errorf("[%d] is %s, expected a number from 0 to %d", i, pickle.Describe(t[i]), maxElements)
		}
	}
	return list, nil
}

// rebuildTensor is torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]).
func rebuildTensor(args pickle.Tuple) (any, error) {
	if len(args) != 6 && len(args) != 7 {
		return nil, fmt.Errorf("has %d arguments, expected 6 or 7", len(args))
	}
	store, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("storage is %s, expected a storage", pickle.Describe(args[0]))
	}
	offset, ok := natural(args[1])
	if !ok {
		return nil, fmt.Errorf("offset is %s, expected a number from 0 to %d", pickle.Describe(args[1]), maxElements)
	}
	shape, err := naturals(args[2])
	if err != nil {
		return nil, fmt.Errorf("size %w", err)
	}
	stride, err := naturals(args[3])
	if err != nil {
		return nil, fmt.Errorf("stride %w", err)
	}
	if len(stride) != len(shape) {
		return nil, fmt.Errorf("size %v and stride %v, expected the same length", shape, stride)
	}
	return newTensor(store, offset, shape, stride)
}

// newTensor checks that every element lies inside the storage.
func newTensor(store *storage, offset int, shape, stride []int) (*Tensor, error) {
	elements, ok := number.Elements(shape, maxElements)
	if !ok {
		return nil, fmt.Errorf("size %v has more than %d elements", shape, maxElements)
	}
	t := &Tensor{Shape: shape, store: store, offset: offset, stride: stride, elements: elements}
	if !t.inside() {
		return nil, fmt.Errorf("offset %d, size %v and stride %v reach beyond the storage's %d elements", offset, shape, stride, store.elements)
	}
	return t, nil
}

func (t *Tensor) inside() bool {
	if t.elements == 0 {
		return t.offset <= t.store.elements
	}
	left := t.store.elements - 1 - t.offset // what the strides may still add
	for d, n := range t.Shape {
		if left >= 0 && n > 1 && t.stride[d] > 0 {
			if n-1 > left/t.stride[d] {
				return false
			}
			left -= (n - 1) * t.stride[d]
		}
	}
	return left >= 0
}

// rebuildParameter is torch._utils._rebuild_parameter(tensor, requires_grad, hooks).
func rebuildParameter(args pickle.Tuple) (any, error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("has %d arguments, expected 3", len(args))
	}
	t, ok := args[0].(*Tensor)
	if !ok {
		return nil, fmt.Errorf("data is %s, expected a tensor", pickle.Describe(args[0]))
	}
	return t, nil
}
