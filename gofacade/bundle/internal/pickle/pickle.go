// Package pickle reads Python pickles as data only.
//
// A pickle is a program for a small stack machine, and Python's own loader lets it call anything. This reader
// knows the opcodes that build data, and the few classes its caller lists; any other class or opcode is an
// error that names it and its offset. Nothing is executed.
//
// The result is shared exactly as the pickle shares it: an object fetched from the memo a thousand times is
// one object. So memory stays within a multiple of the pickle's size, but the result may be a graph with
// cycles; callers walk it to a fixed depth only and never format it.
//
// Python values come as: None nil, bool, int int64 or [*big.Int] beyond it, float float64, str string, bytes
// and bytearray [Bytes], list [*List], tuple [Tuple], dict [*Dict], a class [*Class], and whatever the
// caller's classes and persistent ids give.
package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Bytes is a bytes or bytearray object; it points into the pickle.
type Bytes []byte

// Tuple is a tuple. It must not be modified.
type Tuple []any

// List is a list.
type List struct{ Items []any }

// Entry is one key and value of a Dict.
type Entry struct{ Key, Value any }

// Dict is a dict in order of insertion. Only str, int and bool keys can be found again; others are kept.
type Dict struct {
	Entries []Entry
	index   map[any]int
}

// Get returns the value of a str key.
func (d *Dict) Get(key string) (value any, ok bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.Entries[i].Value, true
}

// Keys lists the keys as text, for messages; at most 20 of them.
func (d *Dict) Keys() []string {
	var keys []string
	for _, e := range d.Entries[:min(len(d.Entries), 20)] {
		if s, ok := e.Key.(string); ok {
			keys = append(keys, fmt.Sprintf("%.60q", s))
		} else {
			keys = append(keys, Describe(e.Key))
		}
	}
	if len(keys) < len(d.Entries) {
		keys = append(keys, fmt.Sprintf("and %d more", len(d.Entries)-len(keys)))
	}
	return keys
}

func (d *Dict) set(key, value any) {
	switch key.(type) {
	case string, int64, bool:
		if d.index == nil {
			d.index = map[any]int{}
		}
		if i, ok := d.index[key]; ok {
			d.Entries[i].Value = value
			return
		}
		d.index[key] = len(d.Entries)
	}
	d.Entries = append(d.Entries, Entry{key, value})
}

// Class is a class or function that a pickle may name.
type Class struct {
	Name string // "module.name"; filled in by the reader
	// Call makes an object from the arguments. A class without Call can only be passed as a value.
	Call func(args Tuple) (any, error)
}

// Object is an object that a pickle may give a state to after making it (the BUILD opcode).
type Object interface {
	Build(state any) error
}

// OrderedDict is collections.OrderedDict for use in Config.Classes: an empty Dict. Attributes (such as
// PyTorch's _metadata) are dropped.
func OrderedDict() *Class {
	return &Class{Call: func(args Tuple) (any, error) {
		if len(args) != 0 {
			return nil, fmt.Errorf("has %d arguments, expected none", len(args))
		}
		return &Dict{}, nil
	}}
}

// Build drops the attributes of an OrderedDict.
func (d *Dict) Build(any) error { return nil }

// Config says what a pickle may contain beyond plain data.
type Config struct {
	// Classes by "module.name". The reader does not change the map, so one Config may serve many readers.
	Classes map[string]*Class
	// Persistent resolves a persistent id (BINPERSID); nil refuses them.
	Persistent func(id any) (any, error)
}

// Describe names the type of a value in Python's words, without looking inside.
func Describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64:
		return fmt.Sprintf("int %d", v)
	case *big.Int:
		return "int beyond 64 bits"
	case float64:
		return fmt.Sprintf("float %v", v)
	case string:
		return fmt.Sprintf("str %.60q", v)
	case Bytes:
		return fmt.Sprintf("bytes of length %d", len(v))
	case *List:
		return fmt.Sprintf("list of length %d", len(v.Items))
	case Tuple:
		return fmt.Sprintf("tuple of length %d", len(v))
	case *Dict:
		return fmt.Sprintf("dict of length %d", len(v.Entries))
	case *Class:
		return "class " + v.Name
	}
	return fmt.Sprintf("object of %T", v)
}

// RefusedError says that a pickle names a class that is not on the caller's list.
type RefusedError struct {
	Class  string // "module.name"
	Offset int    // byte of the opcode in the pickle
}

func (e *RefusedError) Error() string {
	name := strconv.Quote(e.Class[:min(len(e.Class), 200)])
	return fmt.Sprintf("refuses %s at byte %d: only data is read, nothing is executed", name[1:len(name)-1], e.Offset)
}

// mark is what MARK puts on the stack, and what an empty place in the memo holds.
type mark struct{}

type reader struct {
	cfg   *Config
	data  []byte
	pos   int
	op    int // offset of the opcode being executed
	stack []any
	marks []int // positions of the marks in stack
	memo  []any
	used  int // places of the memo that are not empty
}

// Read reads one pickle from the start of data and returns its object and its length in bytes. Errors start
// with "pickle:" and name the offset.
func Read(data []byte, cfg *Config) (v any, length int, err error) {
	r := &reader{cfg: cfg, data: data}
	for {
		stop, err := r.step()
		if refused := (*RefusedError)(nil); errors.As(err, &refused) {
			return nil, 0, fmt.Errorf("pickle: %w", err)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("pickle: at byte %d: %w", r.op, err)
		}
		if stop {
			return r.stack[0], r.pos, nil
		}
	}
}

// The opcodes that are read, under the names of Python's pickletools.
const (
	opMark            = '('
	opStop            = '.'
	opPop             = '0'
	opPopMark         = '1'
	opDup             = '2'
	opBinInt          = 'J'
	opBinInt1         = 'K'
	opBinInt2         = 'M'
	opNone            = 'N'
	opBinPersID       = 'Q'
	opReduce          = 'R'
	opBinUnicode      = 'X'
	opAppend          = 'a'
	opBuild           = 'b'
	opGlobal          = 'c'
	opDict            = 'd'
	opEmptyDict       = '}'
	opAppends         = 'e'
	opBinGet          = 'h'
	opLongBinGet      = 'j'
	opList            = 'l'
	opEmptyList       = ']'
	opBinPut          = 'q'
	opLongBinPut      = 'r'
	opSetItem         = 's'
	opTuple           = 't'
	opEmptyTuple      = ')'
	opSetItems        = 'u'
	opBinFloat        = 'G'
	opProto           = 0x80
	opNewObj          = 0x81
	opTuple1          = 0x85
	opTuple2          = 0x86
	opTuple3          = 0x87
	opNewTrue         = 0x88
	opNewFalse        = 0x89
	opLong1           = 0x8a
	opLong4           = 0x8b
	opBinBytes        = 'B'
	opShortBinBytes   = 'C'
	opShortBinUnicode = 0x8c
	opBinUnicode8     = 0x8d
	opBinBytes8       = 0x8e
	opStackGlobal     = 0x93
	opMemoize         = 0x94
	opFrame           = 0x95
	opByteArray8      = 0x96
)

// refused names the other opcodes, for messages.
var refused = map[byte]string{
	'F': "FLOAT", 'I': "INT", 'L': "LONG", 'S': "STRING", 'T': "BINSTRING", 'U': "SHORT_BINSTRING", 'V': "UNICODE",
	'P': "PERSID", 'g': "GET", 'p': "PUT", 'i': "INST", 'o': "OBJ", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4",
	0x8f: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET", 0x92: "NEWOBJ_EX", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}

// step executes one opcode.
func (r *reader) step() (stop bool, err error) {
	r.op = r.pos
	code, err := r.take(1)
	if err != nil {
		return false, err
	}
	switch op := code[0]; op {
	case opStop:
		if len(r.stack) != 1 || len(r.marks) != 0 {
			return false, fmt.Errorf("STOP with %d values on the stack, expected 1", len(r.stack))
		}
		return true, nil
	case opProto:
		version, err := r.take(1)
		if err == nil && version[0] > 5 {
			err = fmt.Errorf("protocol %d, expected 0 to 5", version[0])
		}
		return false, err
	case opFrame:
		_, err = r.size(8) // a frame only groups what follows; what it holds is checked as it is read
		return false, err
	case opMark:
		r.marks = append(r.marks, len(r.stack))
		r.push(mark{})
	case opNone:
		r.push(nil)
	case opNewTrue:
		r.push(true)
	case opNewFalse:
		r.push(false)
	case opBinInt, opBinInt1, opBinInt2, opLong1, opLong4, opBinFloat:
		return false, r.number(op)
	case opBinUnicode, opShortBinUnicode, opBinUnicode8, opBinBytes, opShortBinBytes, opBinBytes8, opByteArray8:
		return false, r.text(op)
	case opEmptyDict:
		r.push(&Dict{})
	case opEmptyList:
		r.push(&List{})
	case opEmptyTuple:
		r.push(Tuple(nil))
	case opTuple1, opTuple2, opTuple3:
		return false, r.tuple(int(op-opTuple1) + 1)
	case opTuple, opList, opDict, opAppends, opSetItems, opPopMark:
		return false, r.marked(op)
	case opAppend, opSetItem:
		n := 1
		if op == opSetItem {
			n = 2
		}
		items, err := r.pop(n)
		if err != nil {
			return false, err
		}
		return false, r.extend(op == opSetItem, items)
	case opPop:
		if n := len(r.marks); n > 0 && r.marks[n-1] == len(r.stack)-1 {
			r.marks, r.stack = r.marks[:n-1], r.stack[:len(r.stack)-1]
			return false, nil
		}
		_, err = r.pop(1)
		return false, err
	case opDup:
		top, err := r.top()
		r.push(top)
		return false, err
	case opMemoize, opBinPut, opLongBinPut, opBinGet, opLongBinGet:
		return false, r.memory(op)
	case opGlobal, opStackGlobal:
		return false, r.global(op)
	case opReduce, opNewObj:
		return false, r.call()
	case opBuild:
		return false, r.build()
	case opBinPersID:
		return false, r.persistent()
	default:
		name := refused[op]
		if name == "" {
			name = "unknown"
		}
		return false, fmt.Errorf("opcode %#02x (%s) is not one that checkpoints use", op, name)
	}
	return false, nil
}

// take returns the next n bytes of the pickle.
func (r *reader) take(n int) ([]byte, error) {
	if n > len(r.data)-r.pos {
		return nil, fmt.Errorf("%d more bytes expected, %d left", n, len(r.data)-r.pos)
	}
	r.pos += n
	return r.data[r.pos-n : r.pos : r.pos], nil
}

// size reads an unsigned length of n bytes and checks that that much is left.
func (r *reader) size(n int) (int, error) {
	raw, err := r.take(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], raw)
	size := binary.LittleEndian.Uint64(wide[:])
	if size > uint64(len(r.data)-r.pos) {
		return 0, fmt.Errorf("length %d, but %d bytes are left", size, len(r.data)-r.pos)
	}
	return int(size), nil
}

func (r *reader) push(v any) { r.stack = append(r.stack, v) }

// pop removes n values above the last mark.
func (r *reader) pop(n int) ([]any, error) {
	floor := 0
	if len(r.marks) > 0 {
		floor = r.marks[len(r.marks)-1] + 1
	}
	if len(r.stack)-floor < n {
		return nil, fmt.Errorf("opcode %#02x needs %d values, the stack has %d", r.data[r.op], n, len(r.stack)-floor)
	}
	values := r.stack[len(r.stack)-n:]
	r.stack = r.stack[:len(r.stack)-n]
	return values, nil
}

// top returns the value on top of the stack and leaves it there.
func (r *reader) top() (any, error) {
	v, err := r.pop(1)
	if err != nil {
		return nil, err
	}
	r.push(v[0])
	return v[0], nil
}

// popMark removes everything down to the last mark.
func (r *reader) popMark() ([]any, error) {
	n := len(r.marks)
	if n == 0 {
		return nil, fmt.Errorf("opcode %#02x needs a mark, the stack has none", r.data[r.op])
	}
	at := r.marks[n-1]
	values := r.stack[at+1:]
	r.marks, r.stack = r.marks[:n-1], r.stack[:at]
	return values, nil
}

func (r *reader) number(op byte) error {
	var n int
	var err error
	switch op {
	case opBinInt1:
		n = 1
	case opBinInt2:
		n = 2
	case opBinInt:
		n = 4
	case opBinFloat:
		n = 8
	case opLong1:
		n, err = r.size(1)
	case opLong4:
		n, err = r.size(4) // a negative length is one far beyond the file
	}
	if err != nil {
		return err
	}
	raw, err := r.take(n)
	if err != nil {
		return err
	}
	switch op {
	case opBinInt1:
		r.push(int64(raw[0]))
	case opBinInt2:
		r.push(int64(binary.LittleEndian.Uint16(raw)))
	case opBinInt:
		r.push(int64(int32(binary.LittleEndian.Uint32(raw))))
	case opBinFloat:
		r.push(math.Float64frombits(binary.BigEndian.Uint64(raw)))
	default:
		r.push(long(raw))
	}
	return nil
}

// long decodes a two's complement little-endian integer of any length.
func long(raw []byte) any {
	negative := len(raw) > 0 && raw[len(raw)-1] >= 0x80
	if len(raw) <= 8 {
		var wide [8]byte
		if negative {
			wide = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
		}
		copy(wide[:], raw)
		return int64(binary.LittleEndian.Uint64(wide[:]))
	}
	reversed := make([]byte, len(raw))
	for i, b := range raw {
		reversed[len(raw)-1-i] = b
	}
	v := new(big.Int).SetBytes(reversed)
	if negative {
		v.Sub(v, new(big.Int).Lsh(big.NewInt(1), uint(8*len(raw))))
	}
	return v
}

func (r *reader) text(op byte) error {
	width := 1
	switch op {
	case opBinUnicode, opBinBytes:
		width = 4
	case opBinUnicode8, opBinBytes8, opByteArray8:
		width = 8
	}
	n, err := r.size(width)
	if err != nil {
		return err
	}
	raw, err := r.take(n)
	if err != nil {
		return err
	}
	switch op {
	case opBinUnicode, opShortBinUnicode, opBinUnicode8:
		if !utf8.Valid(raw) {
			return fmt.Errorf("str %.40q is not UTF-8", raw)
		}
		r.push(string(raw))
	default:
		r.push(Bytes(raw))
	}
	return nil
}

func (r *reader) tuple(n int) error {
	values, err := r.pop(n)
	if err != nil {
		return err
	}
	r.push(Tuple(append([]any(nil), values...)))
	return nil
}

// marked executes the opcodes that take everything above the last mark.
func (r *reader) marked(op byte) error {
	values, err := r.popMark()
	if err != nil {
		return err
	}
	switch op {
	case opTuple:
		r.push(Tuple(append([]any(nil), values...)))
	case opList:
		r.push(&List{append([]any(nil), values...)})
	case opDict:
		r.push(&Dict{})
		return r.extend(true, values)
	case opAppends:
		return r.extend(false, values)
	case opSetItems:
		return r.extend(true, values)
	}
	return nil
}

// extend adds values to the list, or pairs of them to the dict, on top of the stack.
func (r *reader) extend(dict bool, values []any) error {
	// The values lie in the stack's array just above its top, so the top must be looked at without a push that
	// would move: top writes back only what is already there.
	target, err := r.top()
	if err != nil {
		return err
	}
	if !dict {
		list, ok := target.(*List)
		if !ok {
			return fmt.Errorf("appends to a %s, expected a list", Describe(target))
		}
		list.Items = append(list.Items, values...)
		return nil
	}
	d, ok := target.(*Dict)
	if !ok {
		return fmt.Errorf("sets items of a %s, expected a dict", Describe(target))
	}
	if len(values)%2 != 0 {
		return fmt.Errorf("sets items from %d values, expected pairs", len(values))
	}
	for i := 0; i < len(values); i += 2 {
		d.set(values[i], values[i+1])
	}
	return nil
}

// memory executes the opcodes that put into the memo and get from it. Picklers number the memo from 0 without
// gaps, so a place beyond the pickle's own length is refused rather than stored.
func (r *reader) memory(op byte) error {
	key := r.used
	if op != opMemoize {
		n := 1
		if op == opLongBinPut || op == opLongBinGet {
			n = 4
		}
		raw, err := r.take(n)
		if err != nil {
			return err
		}
		key = int(raw[0])
		if n == 4 {
			key = int(binary.LittleEndian.Uint32(raw) & math.MaxInt32)
		}
	}
	if op == opBinGet || op == opLongBinGet {
		if key >= len(r.memo) || r.memo[key] == (mark{}) {
			return fmt.Errorf("memo %d is empty", key)
		}
		r.push(r.memo[key])
		return nil
	}
	v, err := r.top()
	if err != nil {
		return err
	}
	if key > len(r.data) {
		return fmt.Errorf("memo %d in a pickle of %d bytes", key, len(r.data))
	}
	r.memo = slices.Grow(r.memo, max(0, key+1-len(r.memo)))
	for len(r.memo) <= key {
		r.memo = append(r.memo, mark{})
	}
	if r.memo[key] == (mark{}) {
		r.used++
	}
	r.memo[key] = v
	return nil
}

// global resolves a class through the caller's list.
func (r *reader) global(op byte) error {
	var module, name string
	if op == opGlobal {
		for _, dst := range []*string{&module, &name} {
			rest := r.data[r.pos:]
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				return errors.New("GLOBAL without an end of line")
			}
			*dst = string(rest[:end])
			r.pos += end + 1
		}
	} else {
		values, err := r.pop(2)
		if err != nil {
			return err
		}
		var ok [2]bool
		module, ok[0] = values[0].(string)
		name, ok[1] = values[1].(string)
		if !ok[0] || !ok[1] {
			return fmt.Errorf("STACK_GLOBAL of a %s and a %s, expected two str", Describe(values[0]), Describe(values[1]))
		}
	}
	full := module + "." + name
	class, ok := r.cfg.Classes[full]
	if !ok {
		return &RefusedError{full, r.op}
	}
	r.push(&Class{full, class.Call})
	return nil
}

// call executes REDUCE and NEWOBJ, which are the same for classes of the caller.
func (r *reader) call() error {
	values, err := r.pop(2)
	if err != nil {
		return err
	}
	class, ok1 := values[0].(*Class)
	args, ok2 := values[1].(Tuple)
	if !ok1 || !ok2 {
		return fmt.Errorf("calls a %s with a %s, expected a class and a tuple", Describe(values[0]), Describe(values[1]))
	}
	if class.Call == nil {
		return fmt.Errorf("calls %s, which is only read as a value", class.Name)
	}
	v, err := class.Call(args)
	if err != nil {
		return fmt.Errorf("%s: %w", class.Name, err)
	}
	r.push(v)
	return nil
}

func (r *reader) build() error {
	state, err := r.pop(1)
	if err != nil {
		return err
	}
	target, err := r.top()
	if err != nil {
		return err
	}
	object, ok := target.(Object)
	if !ok {
		return fmt.Errorf("gives a state to a %s, which takes none", Describe(target))
	}
	if err := object.Build(state[0]); err != nil {
		return fmt.Errorf("state of %T: %w", object, err)
	}
	return nil
}

func (r *reader) persistent() error {
	id, err := r.pop(1)
	if err != nil {
		return err
	}
	if r.cfg.Persistent == nil {
		return errors.New("persistent id, expected plain data")
	}
	v, err := r.cfg.Persistent(id[0])
	if err != nil {
		return fmt.Errorf("persistent id: %w", err)
	}
	r.push(v)
	return nil
}
