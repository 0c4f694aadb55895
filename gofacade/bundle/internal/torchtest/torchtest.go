// Package torchtest writes pickles and PyTorch containers for tests, sound ones and broken ones.
package torchtest

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Pickle is a pickle being written. Its methods append opcodes and return it.
type Pickle struct{ B []byte }

// New starts a pickle of protocol 4, which may hold every opcode that checkpoints use.
func New() *Pickle { return (&Pickle{}).Op("\x80\x04") }

// Op appends raw opcodes.
func (p *Pickle) Op(s string) *Pickle { p.B = append(p.B, s...); return p }

// Str appends a str.
func (p *Pickle) Str(s string) *Pickle { return p.counted('X', s) }

// Bytes appends a bytes object.
func (p *Pickle) Bytes(b []byte) *Pickle { return p.counted('B', string(b)) }

func (p *Pickle) counted(op byte, s string) *Pickle {
	p.B = append(p.B, op)
	p.B = binary.LittleEndian.AppendUint32(p.B, uint32(len(s)))
	return p.Op(s)
}

// Int appends an int.
func (p *Pickle) Int(v int) *Pickle {
	p.B = append(p.B, 0x8a, 8)
	p.B = binary.LittleEndian.AppendUint64(p.B, uint64(v))
	return p
}

// Float appends a float.
func (p *Pickle) Float(v float64) *Pickle {
	p.B = append(p.B, 'G')
	p.B = binary.BigEndian.AppendUint64(p.B, math.Float64bits(v))
	return p
}

// Ints appends a tuple of int.
func (p *Pickle) Ints(v []int) *Pickle {
	p.Op("(")
	for _, x := range v {
		p.Int(x)
	}
	return p.Op("t")
}

// IntList appends a list of int.
func (p *Pickle) IntList(v ...int) *Pickle {
	p.Op("](")
	for _, x := range v {
		p.Int(x)
	}
	return p.Op("e")
}

// Global appends a class.
func (p *Pickle) Global(module, name string) *Pickle { return p.Op("c" + module + "\n" + name + "\n") }

// OrderedDict appends an empty OrderedDict.
func (p *Pickle) OrderedDict() *Pickle { return p.Global("collections", "OrderedDict").Op(")R") }

// Item is one tensor. Zero fields mean the sound value.
type Item struct {
	Name     string
	Class    string // storage class, default FloatStorage
	Shape    []int
	Stride   []int // default contiguous
	Offset   int
	Elements int    // what the persistent id claims; default what Raw has
	Key      string // default the position
	Raw      []byte // nil shares the storage of the item with the same Key
}

// Floats is an item of float32 numbers.
func Floats(name string, shape []int, v []float32) Item {
	return Item{Name: name, Shape: shape, Raw: Raw(v)}
}

// Raw are float32 numbers in little-endian order.
func Raw(v []float32) []byte {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return raw
}

var sizes = map[string]int{"FloatStorage": 4, "DoubleStorage": 8, "HalfStorage": 2, "BFloat16Storage": 2, "LongStorage": 8, "ByteStorage": 1}

// complete fills in the defaults.
func complete(items []Item) []Item {
	items = slices.Clone(items)
	for i := range items {
		it := &items[i]
		if it.Class == "" {
			it.Class = "FloatStorage"
		}
		if it.Key == "" {
			it.Key = fmt.Sprint(i)
		}
		if it.Elements == 0 {
			it.Elements = len(it.Raw) / max(1, sizes[it.Class])
		}
		if it.Stride == nil {
			it.Stride = make([]int, len(it.Shape))
			step := 1
			for d := len(it.Shape) - 1; d >= 0; d-- {
				it.Stride[d] = step
				step *= max(it.Shape[d], 1)
			}
		}
	}
	return items
}

// storage appends a persistent id.
func (p *Pickle) storage(it Item, legacy bool) *Pickle {
	p.Op("(").Str("storage").Global("torch", it.Class).Str(it.Key).Str("cuda:0").Int(it.Elements)
	if legacy {
		p.Op("N")
	}
	return p.Op("tQ")
}

// tensorRest appends what follows the storage in a tensor.
func (p *Pickle) tensorRest(it Item) *Pickle {
	return p.Int(it.Offset).Ints(it.Shape).Ints(it.Stride).Op("\x89").OrderedDict().Op("tR")
}

// Object is the pickle of {"state_dict": OrderedDict of the items}.
func Object(items []Item, legacy bool) []byte {
	p := New().Op("}").Str("state_dict").OrderedDict().Op("(")
	for _, it := range complete(items) {
		p.Str(it.Name).Global("torch._utils", "_rebuild_tensor_v2").Op("(").storage(it, legacy).tensorRest(it)
	}
	return p.Op("us.").B
}

// Zip is a zip container of the items.
func Zip(items []Item) []byte {
	members := [][2]string{{"stem/data.pkl", string(Object(items, false))}}
	for _, it := range complete(items) {
		if it.Raw != nil {
			members = append(members, [2]string{"stem/data/" + it.Key, string(it.Raw)})
		}
	}
	return Members(zip.Store, append(members, [2]string{"stem/version", "3\n"})...)
}

// Members is a zip file of name and content pairs.
func Members(method uint16, members ...[2]string) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		f, err := w.CreateHeader(&zip.FileHeader{Name: m[0], Method: method})
		if err == nil {
			_, err = f.Write([]byte(m[1]))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// Legacy is a legacy container of the items.
func Legacy(items []Item) []byte { return legacy(Object(items, true), complete(items)) }

// StorageBytes is the legacy container of one storage, as torch.storage._load_from_bytes reads it.
func StorageBytes(v []float32) []byte {
	items := complete([]Item{Floats("", []int{len(v)}, v)})
	return legacy(New().storage(items[0], true).Op(".").B, items)
}

func legacy(object []byte, items []Item) []byte {
	var b []byte
	b = append(b, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."...)
	b = append(b, New().Int(1001).Op(".").B...)
	b = append(b, New().Op("}").Str("little_endian").Op("\x88s.").B...)
	b = append(b, object...)
	keys := New().Op("](")
	for _, it := range items {
		if it.Raw != nil {
			keys.Str(it.Key)
		}
	}
	b = append(b, keys.Op("e.").B...)
	for _, it := range items {
		if it.Raw != nil {
			b = binary.LittleEndian.AppendUint64(b, uint64(it.Elements))
			b = append(b, it.Raw...)
		}
	}
	return b
}

// Level is a level of a Dynamic-OFA library.
type Level struct {
	Kernels, Expands, Depths []int
	Resolution               int
	Top1, LatencyMS          float64
	Norms                    []Norm
}

// Norm is the statistics of one batch normalisation.
type Norm struct {
	Name      string
	Mean, Var []float32
}

// Library is the pickle of a Dynamic-OFA library, lists nested in lists or in numpy arrays.
func Library(levels []Level, arrays bool) []byte {
	p := New().Op("}(")
	p.Str("configs").Op("](")
	for _, l := range levels {
		p.Op("}(").Str("wid").Op("N").Str("ks").IntList(l.Kernels...).Str("e").IntList(l.Expands...)
		p.Str("d").IntList(l.Depths...).Str("r").IntList(l.Resolution).Op("u")
	}
	p.Op("e").Str("accu_lat").Op("](")
	for _, l := range levels {
		p.array("f8", 2, func() {
			p.Bytes(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, math.Float64bits(l.Top1)), math.Float64bits(l.LatencyMS)))
		})
	}
	p.Op("e").Str("bn_lists").Op("](")
	for _, l := range levels {
		pair := func() {
			p.Op("](")
			p.meters(l.Norms, func(n Norm) []float32 { return n.Mean })
			p.meters(l.Norms, func(n Norm) []float32 { return n.Var })
			p.Op("e")
		}
		if arrays {
			p.array("O8", 2, pair)
		} else {
			p.Op("](")
			pair()
			p.Op("e")
		}
	}
	return p.Op("eu.").B
}

func (p *Pickle) array(code string, n int, data func()) {
	p.Global("numpy.core.multiarray", "_reconstruct").Global("numpy", "ndarray").Ints([]int{0}).Bytes([]byte("b")).Op("\x87R(")
	p.Int(1).Ints([]int{n})
	p.Global("numpy", "dtype").Str(code).Op("\x89\x88\x87R(").Int(3).Str("<").Op("NNN").Int(-1).Int(-1).Int(0).Op("tb\x89")
	data()
	p.Op("tb")
}

func (p *Pickle) meters(norms []Norm, part func(Norm) []float32) {
	p.Op("}(")
	for _, n := range norms {
		v := part(n)
		p.Str(n.Name).Global("ofa.utils", "AverageMeter").Op(")\x81}(")
		p.Str("avg").Global("torch._utils", "_rebuild_tensor_v2").Op("(")
		p.Global("torch.storage", "_load_from_bytes").Bytes(StorageBytes(v)).Op("\x85R")
		p.tensorRest(complete([]Item{{Shape: []int{len(v)}}})[0])
		p.Str("count").Int(2000).Op("ub")
	}
	p.Op("u")
}
