// Package number converts the raw little-endian numbers of checkpoint files.
package number

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"
)

// Type is an element type of a checkpoint. The zero Type is not valid.
type Type uint8

// The types that can be converted to float32, then those that can only be skipped.
const (
	F64 Type = iota + 1
	F32
	F16
	BF16
	I64
	I32
	I16
	I8
	U8
	Bool
)

var types = [...]struct {
	name string
	size int
}{
	F64: {"float64", 8}, F32: {"float32", 4}, F16: {"float16", 2}, BF16: {"bfloat16", 2}, I64: {"int64", 8},
	I32: {"int32", 4}, I16: {"int16", 2}, I8: {"int8", 1}, U8: {"uint8", 1}, Bool: {"bool", 1},
}

// Size is the number of bytes of one element.
func (t Type) Size() int { return types[t].size }

func (t Type) String() string { return types[t].name }

// Elements is the product of the dimensions; ok is false if a dimension is negative or the product does not
// fit limit, which must not be negative.
func Elements(shape []int, limit int) (n int, ok bool) {
	if slices.ContainsFunc(shape, func(d int) bool { return d < 0 }) {
		return 0, false
	}
	if slices.Contains(shape, 0) {
		return 0, true
	}
	n = 1
	for _, d := range shape {
		if n > limit/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// littleEndian is whether float32 values in memory look as they do in a file.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// View reinterprets raw as float32 values without a copy if the machine's byte order and the address allow it.
func View(raw []byte) (v []float32, ok bool) {
	if len(raw)%4 != 0 {
		return nil, false
	}
	if len(raw) == 0 {
		return []float32{}, true
	}
	if !littleEndian || uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%4 != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(raw))), len(raw)/4), true
}

// Bytes is the inverse of View on a little-endian machine and a converted copy on others.
func Bytes(v []float32) []byte {
	if littleEndian && len(v) > 0 {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
	}
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return raw
}

// Float32 converts len(dst) elements of type t at the start of raw, which must hold them. A finite float64 that
// float32 cannot hold is an error naming its index, and so is a type that cannot be converted; integers are
// rounded to the nearest float32.
func Float32(dst []float32, raw []byte, t Type) error {
	le := binary.LittleEndian
	switch t {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half(le.Uint16(raw[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(raw[2*i:])) << 16)
		}
	case F64:
		for i := range dst {
			x := math.Float64frombits(le.Uint64(raw[8*i:]))
			dst[i] = float32(x)
			if math.IsInf(float64(dst[i]), 0) && !math.IsInf(x, 0) {
				return fmt.Errorf("element %d is %v, beyond float32", i, x)
			}
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(raw[8*i:])))
		}
	default:
		return fmt.Errorf("type %v, expected float32, float64, float16, bfloat16 or int64", t)
	}
	return nil
}

// half widens an IEEE 754 binary16 exactly.
func half(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(frac)/(1<<24)))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
