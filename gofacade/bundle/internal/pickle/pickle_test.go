package pickle_test

import (
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/pickle"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/torchtest"
)

func read(data string) (any, error) {
	v, _, err := pickle.Read([]byte(data), &pickle.Config{Classes: map[string]*pickle.Class{"collections.OrderedDict": pickle.OrderedDict()}})
	return v, err
}

func TestValues(t *testing.T) {
	huge, _ := new(big.Int).SetString("1950a86a20f9469cfc6c", 16)
	list := &pickle.List{Items: []any{int64(1), int64(2)}}
	for name, c := range map[string]struct {
		data string
		want any
	}{
		"none":             {"N.", nil},
		"true":             {"\x88.", true},
		"false":            {"\x89.", false},
		"binint1":          {"K\xff.", int64(255)},
		"binint2":          {"M\x01\x02.", int64(513)},
		"binint negative":  {"J\xfe\xff\xff\xff.", int64(-2)},
		"long1 empty":      {"\x8a\x00.", int64(0)},
		"long1 negative":   {"\x8a\x01\xff.", int64(-1)},
		"long1 min":        {"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x80.", int64(-1 << 63)},
		"long4":            {"\x8b\x02\x00\x00\x00\x01\x02.", int64(513)},
		"long1 magic":      {"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", huge},
		"long1 minus 2^72": {"\x8a\x0a\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff.", new(big.Int).Neg(new(big.Int).Lsh(big.NewInt(1), 72))},
		"float":            {"G\xc0\x04\x00\x00\x00\x00\x00\x00.", -2.5},
		"str":              {"X\x02\x00\x00\x00\xc3\xa4.", "ä"},
		"short str":        {"\x8c\x01a.", "a"},
		"long str":         {"\x8d\x01\x00\x00\x00\x00\x00\x00\x00a.", "a"},
		"bytes":            {"B\x01\x00\x00\x00\xff.", pickle.Bytes("\xff")},
		"short bytes":      {"C\x01\xff.", pickle.Bytes("\xff")},
		"long bytes":       {"\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xff.", pickle.Bytes("\xff")},
		"bytearray":        {"\x96\x01\x00\x00\x00\x00\x00\x00\x00\xff.", pickle.Bytes("\xff")},
		"framed":           {"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", nil},
		"tuple1, tuple2":   {"K\x01)\x85\x86.", pickle.Tuple{int64(1), pickle.Tuple{pickle.Tuple(nil)}}},
		"tuple3":           {"K\x01K\x02K\x03\x87.", pickle.Tuple{int64(1), int64(2), int64(3)}},
		"tuple":            {"(K\x01(K\x02tt.", pickle.Tuple{int64(1), pickle.Tuple{int64(2)}}},
		"list":             {"(K\x01K\x02l.", &pickle.List{Items: []any{int64(1), int64(2)}}},
		"append, appends":  {"]K\x01a(K\x02K\x03e.", &pickle.List{Items: []any{int64(1), int64(2), int64(3)}}},
		"pop":              {"K\x01K\x020.", int64(1)},
		"pop a mark":       {"K\x01(0.", int64(1)},
		"pop to a mark":    {"K\x01(NNN1.", int64(1)},
		"dup":              {"K\x012\x86.", pickle.Tuple{int64(1), int64(1)}},
		"memo":             {"K\x07q\x05h\x05\x86.", pickle.Tuple{int64(7), int64(7)}},
		"memoize":          {"\x8c\x01a\x94\x8c\x01b\x94h\x00\x87.", pickle.Tuple{"a", "b", "a"}},
		"long memo":        {"K\x07r\x03\x00\x00\x00j\x03\x00\x00\x00\x86.", pickle.Tuple{int64(7), int64(7)}},
		"memo shares":      {"]\x94K\x01ah\x00K\x02a\x86.", pickle.Tuple{list, list}},
	} {
		v, err := read(c.data)
		require.NoError(t, err, name)
		require.Equal(t, c.want, v, name)
	}
}

func TestDicts(t *testing.T) {
	for name, data := range map[string]string{
		"setitem":  "}\x8c\x01aK\x01sK\x05K\x02s\x8c\x01aK\x03s.",
		"setitems": "}(\x8c\x01aK\x01K\x05K\x02\x8c\x01aK\x03u.",
		"dict":     "(\x8c\x01aK\x01K\x05K\x02\x8c\x01aK\x03d.",
		"ordered":  "ccollections\nOrderedDict\n)R(\x8c\x01aK\x01K\x05K\x02\x8c\x01aK\x03u}b.",
	} {
		v, err := read(data)
		require.NoError(t, err, name)
		d := v.(*pickle.Dict)
		require.Equal(t, []pickle.Entry{{Key: "a", Value: int64(3)}, {Key: int64(5), Value: int64(2)}}, d.Entries, name)
		got, ok := d.Get("a")
		require.True(t, ok)
		require.Equal(t, int64(3), got)
		_, ok = d.Get("b")
		require.False(t, ok)
		require.Equal(t, []string{`"a"`, "int 5"}, d.Keys())
	}
	// Keys that cannot be compared are kept and never looked up.
	v, err := read("}]K\x01s)]\x85K\x02s.")
	require.Error(t, err)
	require.Nil(t, v)
	v, err = read("}]K\x01s(K\x01tK\x02s.")
	require.NoError(t, err)
	require.Len(t, v.(*pickle.Dict).Entries, 2)
}

func TestNothingIsExecuted(t *testing.T) {
	for _, data := range []string{
		"cos\nsystem\n(X\x02\x00\x00\x00idtR.",
		"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
	} {
		_, err := read(data)
		var refused *pickle.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "os.system", refused.Class)
		require.ErrorContains(t, err, "pickle: refuses os.system at byte ")
		require.ErrorContains(t, err, "only data is read, nothing is executed")
	}
	_, err := read("(X\x02\x00\x00\x00idios\nsystem\n.")
	require.ErrorContains(t, err, "pickle: at byte 8: opcode 0x69 (INST)")
	_, err = read("\x8c\x02o\n\x8c\x01\x1b\x93.")
	require.ErrorContains(t, err, `refuses o\n.\x1b at byte`)
}

func TestHostile(t *testing.T) {
	for name, c := range map[string]struct{ data, want string }{
		"empty":                {"", "at byte 0: 1 more bytes expected, 0 left"},
		"no stop":              {"N", "at byte 1: 1 more bytes expected"},
		"stop on nothing":      {".", "STOP with 0 values"},
		"stop on two":          {"NN.", "STOP with 2 values"},
		"stop on a mark":       {"(.", "STOP with 1 values"},
		"unknown opcode":       {"\xff.", "at byte 0: opcode 0xff (unknown)"},
		"protocol":             {"\x80\x06.", "protocol 6, expected 0 to 5"},
		"frame too long":       {"\x95\xff\xff\xff\xff\xff\xff\xff\xffN.", "length 18446744073709551615, but 2 bytes are left"},
		"str too long":         {"X\xff\xff\xff\xffa.", "length 4294967295, but 2 bytes are left"},
		"str too long 8":       {"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fa.", "length 9223372036854775807, but 2 bytes are left"},
		"bytes too long":       {"\x8e\x03\x00\x00\x00\x00\x00\x00\x00a.", "length 3, but 2 bytes are left"},
		"long too long":        {"\x8b\xff\xff\xff\xff.", "length 4294967295"},
		"not UTF-8":            {"\x8c\x01\xff.", "is not UTF-8"},
		"tuple of nothing":     {"\x86.", "needs 2 values, the stack has 0"},
		"tuple across a mark":  {"N(\x85.", "needs 1 values, the stack has 0"},
		"no mark":              {"Nt.", "needs a mark"},
		"append to None":       {"NNa.", "appends to a None, expected a list"},
		"append across a mark": {"](Na.", "needs 1 values"},
		"setitems odd":         {"}(Nu.", "from 1 values, expected pairs"},
		"setitem to list":      {"]NNs.", "sets items of a list of length 0, expected a dict"},
		"get of nothing":       {"h\x05.", "memo 5 is empty"},
		"get in a gap":         {"Nq\x03h\x02.", "memo 2 is empty"},
		"get far":              {"j\xff\xff\xff\xff.", "memo 2147483647 is empty"},
		"put far":              {"Nr\xff\xff\xff\x7f.", "memo 2147483647 in a pickle of 7 bytes"},
		"put of nothing":       {"q\x00.", "needs 1 values"},
		"global without end":   {"cos", "GLOBAL without an end of line"},
		"global of numbers":    {"K\x01K\x02\x93.", "STACK_GLOBAL of a int 1 and a int 2"},
		"call of a str":        {"\x8c\x01a)R.", `calls a str "a" with a tuple of length 0`},
		"call with arguments":  {"ccollections\nOrderedDict\n]\x85R.", "collections.OrderedDict: has 1 arguments"},
		"build of a list":      {"]}b.", "gives a state to a list of length 0"},
		"persistent id":        {"NQ.", "persistent id, expected plain data"},
	} {
		_, err := read(c.data)
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "pickle: "), name)
	}
}

func TestEveryTruncationIsAnError(t *testing.T) {
	whole := torchtest.Library([]torchtest.Level{{Kernels: []int{3}, Norms: []torchtest.Norm{{Name: "a", Mean: []float32{1}, Var: []float32{2}}}}}, true)
	for n := range whole {
		_, _, err := pickle.Read(whole[:n], &pickle.Config{})
		require.Error(t, err, n)
	}
}

func TestSharingIsNotExpanded(t *testing.T) {
	// Billion laughs: each list holds the one before ten times.
	p := torchtest.New().Op("]\x94")
	for range 100 {
		p.Op("](" + strings.Repeat("h\x00", 10) + "eq\x00\x86")
	}
	v, _, err := pickle.Read(p.Op(".").B, &pickle.Config{})
	require.NoError(t, err)
	require.Len(t, v, 2)
	// A list that holds itself.
	v, err = read("]\x94h\x00a.")
	require.NoError(t, err)
	require.Same(t, v, v.(*pickle.List).Items[0])
	require.Equal(t, "list of length 1", pickle.Describe(v))
}

func TestMemoryIsBoundedByThePickle(t *testing.T) {
	const n = 1 << 18
	for name, data := range map[string]string{
		"empty dicts":  strings.Repeat("}", n),
		"empty lists":  strings.Repeat("]", n),
		"marks":        strings.Repeat("(", n),
		"dups":         "N" + strings.Repeat("2", n),
		"memo":         "N" + strings.Repeat("\x94", n),
		"far memo":     "Nr\xff\xff\x03\x00" + strings.Repeat("2", n),
		"nested lists": strings.Repeat("]", n) + strings.Repeat("a", n),
		"tuples":       ")" + strings.Repeat("\x85", n),
		"dict entries": "}" + strings.Repeat("N2s", n/3),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := read(data)
		runtime.ReadMemStats(&after)
		require.Error(t, err, name)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(160*len(data)), name)
	}
}

func FuzzPickle(f *testing.F) {
	f.Add(torchtest.Object([]torchtest.Item{torchtest.Floats("a", []int{2}, []float32{1, 2})}, false))
	f.Add(torchtest.Library([]torchtest.Level{{Kernels: []int{3}, Norms: []torchtest.Norm{{Name: "a", Mean: []float32{1}, Var: []float32{2}}}}}, true))
	f.Add([]byte("cos\nsystem\n(X\x02\x00\x00\x00idtR."))
	f.Add([]byte("]\x94h\x00a}\x8c\x01aK\x01s\x86(NN1."))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg := &pickle.Config{
			Classes:    map[string]*pickle.Class{"collections.OrderedDict": pickle.OrderedDict(), "torch.FloatStorage": {}},
			Persistent: func(id any) (any, error) { return pickle.Describe(id), nil },
		}
		v, n, err := pickle.Read(data, cfg)
		if err != nil {
			if refused := (*pickle.RefusedError)(nil); !errors.As(err, &refused) && !strings.HasPrefix(err.Error(), "pickle: ") {
				t.Fatalf("error without its origin: %v", err)
			}
			return
		}
		if n < 1 || n > len(data) || data[n-1] != '.' {
			t.Fatalf("length %d of %d bytes", n, len(data))
		}
		_ = pickle.Describe(v)
	})
}
