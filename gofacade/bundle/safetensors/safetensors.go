// Package safetensors reads and writes safetensors files: eight bytes of header length, a JSON header of names,
// types, shapes and offsets, then the numbers, row-major and little-endian, without gaps.
package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/mapped"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/number"
)

// MaxHeader is the largest header length in bytes, the format's own limit.
const MaxHeader = 100_000_000

// Tensor is one tensor of a file. It is immutable, may be used by several goroutines, and is valid until its
// File is closed.
type Tensor struct {
	Name  string
	DType string // as the header spells it, e.g. "F32"
	Shape []int  // empty for a scalar

	raw   []byte
	begin int
}

// File is an open safetensors file. It is immutable; several goroutines may use it.
type File struct {
	Tensors  []Tensor          // in the order of the header
	Metadata map[string]string // the header's __metadata__, may be nil

	byName map[string]int
	data   []byte
	file   *mapped.File
}

// dtypes are the types with their size in bytes; those with a number.Type can be converted to float32.
var dtypes = map[string]struct {
	size int
	kind number.Type
}{
	"F64": {8, number.F64}, "F32": {4, number.F32}, "F16": {2, number.F16}, "BF16": {2, number.BF16}, "I64": {8, number.I64},
	"U64": {8, 0}, "I32": {4, number.I32}, "U32": {4, 0}, "I16": {2, number.I16}, "U16": {2, 0},
	"I8": {1, number.I8}, "U8": {1, number.U8}, "BOOL": {1, number.Bool}, "F8_E4M3": {1, 0}, "F8_E5M2": {1, 0},
}

// Open maps a file and checks its header. The File must be closed.
func Open(path string) (*File, error) {
	m, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	var f *File
	err = mapped.Guard(func() (err error) {
		f, err = Parse(m.Bytes())
		return err
	})
	if err != nil {
		_ = m.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.file = m
	return f, nil
}

// Close gives up the file; its tensors must not be used any more. Further calls do nothing.
func (f *File) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}

// Bytes are those of the whole file, read-only and valid until Close.
func (f *File) Bytes() []byte { return f.data }

// Tensor returns the tensor of that name, or nil.
func (f *File) Tensor(name string) *Tensor {
	if i, ok := f.byName[name]; ok {
		return &f.Tensors[i]
	}
	return nil
}

// IsFile says whether a file that starts like this looks like safetensors.
func IsFile(data []byte) bool { return len(data) > 8 && data[8] == '{' }

// Parse reads a file that lies in memory; the Tensors keep pointing into data.
func Parse(data []byte) (*File, error) {
	f, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

func parse(data []byte) (*File, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("file of %d bytes, expected a header length of 8", len(data))
	}
	length := binary.LittleEndian.Uint64(data)
	if limit := uint64(min(len(data)-8, MaxHeader)); length > limit {
		return nil, fmt.Errorf("header length is %d, expected at most %d in a file of %d bytes", length, limit, len(data))
	}
	f := &File{byName: map[string]int{}, data: data}
	header, body := data[8:8+length], data[8+length:]
	if err := f.header(header, body); err != nil {
		return nil, err
	}
	return f, f.layout(len(body))
}

// header reads the JSON token by token, to keep the order and to see names that are there twice.
func (f *File) header(header, body []byte) error {
	if len(header) == 0 || header[0] != '{' {
		return errors.New("header does not start with {")
	}
	d := json.NewDecoder(bytes.NewReader(header))
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("header: %w", err)
		}
		name := token.(string) // the decoder accepts nothing else here
		if name == "__metadata__" {
			if f.Metadata != nil {
				return errors.New("header: __metadata__ is there twice")
			}
			if err := d.Decode(&f.Metadata); err != nil {
				return fmt.Errorf("header: __metadata__: %w", noEOF(err))
			}
			if f.Metadata == nil {
				return errors.New("header: __metadata__ is null, expected an object")
			}
			continue
		}
		if _, twice := f.byName[name]; twice {
			return fmt.Errorf("tensor %.200q is there twice", name)
		}
		t, err := tensor(d, body)
		if err != nil {
			return fmt.Errorf("tensor %.200q: %w", name, err)
		}
		t.Name = name
		f.byName[name] = len(f.Tensors)
		f.Tensors = append(f.Tensors, t)
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("header: %w", noEOF(err))
	}
	if rest := bytes.TrimRight(header[d.InputOffset():], " \t\r\n\x00"); len(rest) != 0 {
		return fmt.Errorf("header: %d bytes after the JSON object", len(rest))
	}
	return nil
}

// noEOF keeps callers from taking a header that ends early for a file that ends.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func tensor(d *json.Decoder, body []byte) (Tensor, error) {
	var h struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets []int  `json:"data_offsets"`
	}
	if err := d.Decode(&h); err != nil {
		return Tensor{}, noEOF(err)
	}
	kind, ok := dtypes[h.DType]
	if !ok {
		return Tensor{}, fmt.Errorf("dtype %.40q is unknown", h.DType)
	}
	if len(h.Offsets) != 2 || h.Offsets[0] < 0 || h.Offsets[0] > h.Offsets[1] || h.Offsets[1] > len(body) {
		return Tensor{}, fmt.Errorf("data_offsets %s, expected [begin, end] within the %d bytes after the header", brief(h.Offsets), len(body))
	}
	size := h.Offsets[1] - h.Offsets[0]
	elements, ok := number.Elements(h.Shape, size/kind.size)
	if !ok || elements*kind.size != size {
		return Tensor{}, fmt.Errorf("shape %s of %s does not have the %d bytes of data_offsets %v", brief(h.Shape), h.DType, size, h.Offsets)
	}
	return Tensor{DType: h.DType, Shape: h.Shape, raw: body[h.Offsets[0]:h.Offsets[1]:h.Offsets[1]], begin: h.Offsets[0]}, nil
}

// brief prints a list for a message, cut off where it is absurdly long.
func brief(v []int) string {
	if len(v) > 16 {
		return fmt.Sprintf("%v and %d more", v[:16], len(v)-16)
	}
	return fmt.Sprint(v)
}

// layout checks that the tensors cover the body without gaps and overlaps, as the format demands.
func (f *File) layout(size int) error {
	order := make([]*Tensor, len(f.Tensors))
	for i := range f.Tensors {
		order[i] = &f.Tensors[i]
	}
	slices.SortFunc(order, func(a, b *Tensor) int {
		if a.begin != b.begin {
			return a.begin - b.begin
		}
		return len(a.raw) - len(b.raw) // an empty tensor first
	})
	end, before := 0, "the header"
	for _, t := range order {
		if t.begin != end {
			return fmt.Errorf("tensor %.200q begins at byte %d of the data, expected %d, where %.200s ends", t.Name, t.begin, end, before)
		}
		end, before = t.begin+len(t.raw), t.Name
	}
	if end != size {
		return fmt.Errorf("%d bytes after the last tensor", size-end)
	}
	return nil
}

// Len is the number of elements.
func (t *Tensor) Len() int { return len(t.raw) / dtypes[t.DType].size }

// View returns the numbers of an F32 tensor without a copy, read-only, and nil if that is impossible: another
// type, data that is not aligned to 4 bytes, or a big-endian machine.
func (t *Tensor) View() []float32 {
	if t.DType != "F32" {
		return nil
	}
	v, _ := number.View(t.raw)
	return v
}

// Float32 returns a copy of the numbers, converted to float32. A type other than F32, F64, F16, BF16 and I64, a
// finite F64 beyond float32's range, and a file that was truncated meanwhile are errors.
func (t *Tensor) Float32() ([]float32, error) {
	v := make([]float32, t.Len())
	kind := dtypes[t.DType].kind
	if kind == 0 {
		return nil, fmt.Errorf("safetensors: tensor %s: dtype %s, expected F32, F64, F16, BF16 or I64", t.Name, t.DType)
	}
	if err := mapped.Guard(func() error { return number.Float32(v, t.raw, kind) }); err != nil {
		return nil, fmt.Errorf("safetensors: tensor %s: %w", t.Name, err)
	}
	return v, nil
}

// Data is a tensor to be written.
type Data struct {
	Name  string
	Shape []int
	F32   []float32 // row-major
}

// alignment of the numbers in a written file: a cache line, and a multiple of every vector register.
const alignment = 64

// Write writes tensors in their order, and metadata if there is any. The same input gives the same bytes. The
// header is padded with spaces so that the numbers start at a multiple of 64 bytes.
func Write(w io.Writer, tensors []Data, metadata map[string]string) error {
	header, err := encodeHeader(tensors, metadata)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	b := bufio.NewWriterSize(w, 1<<18)
	// A bufio.Writer keeps its first error and returns it from Flush.
	_, _ = b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header))))
	_, _ = b.Write(header)
	for i := range tensors {
		_, _ = b.Write(number.Bytes(tensors[i].F32))
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("safetensors: write: %w", err)
	}
	return nil
}

// WriteFile is Write into a file that appears complete under its name, or not at all.
func WriteFile(path string, tensors []Data, metadata map[string]string) error {
	return atomicfile.Replace(path, func(w io.Writer) error { return Write(w, tensors, metadata) })
}

func encodeHeader(tensors []Data, metadata map[string]string) ([]byte, error) {
	header := []byte{'{'}
	entry := func(name string, value any) error {
		if len(header) > 1 {
			header = append(header, ',')
		}
		key, err := json.Marshal(name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		header = append(append(append(header, key...), ':'), text...)
		return nil
	}
	if len(metadata) > 0 {
		if err := entry("__metadata__", metadata); err != nil { // encoding/json sorts the keys
			return nil, err
		}
	}
	names := map[string]bool{"__metadata__": true}
	at := 0
	for _, t := range tensors {
		if names[t.Name] {
			return nil, fmt.Errorf("tensor %q is reserved or there twice", t.Name)
		}
		names[t.Name] = true
		if n, ok := number.Elements(t.Shape, len(t.F32)); !ok || n != len(t.F32) {
			return nil, fmt.Errorf("tensor %s has %d numbers, expected those of shape %v", t.Name, len(t.F32), t.Shape)
		}
		end := at + 4*len(t.F32)
		err := entry(t.Name, struct {
			DType   string `json:"dtype"`
			Shape   []int  `json:"shape"`
			Offsets [2]int `json:"data_offsets"`
		}{"F32", append([]int{}, t.Shape...), [2]int{at, end}})
		if err != nil {
			return nil, err
		}
		at = end
	}
	header = append(header, '}')
	for (8+len(header))%alignment != 0 {
		header = append(header, ' ')
	}
	if len(header) > MaxHeader {
		return nil, fmt.Errorf("header of %d bytes, expected at most %d", len(header), MaxHeader)
	}
	return header, nil
}
