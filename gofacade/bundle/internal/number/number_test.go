package number

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryHalf(t *testing.T) {
	for h := range 1 << 16 {
		sign, exp, frac := 1-2*float64(h>>15), h>>10&31, float64(h&1023)
		want := sign * frac * math.Ldexp(1, -24)
		switch {
		case exp == 31 && frac != 0:
			require.True(t, math.IsNaN(float64(half(uint16(h)))), "%#x", h)
			continue
		case exp == 31:
			want = math.Inf(int(sign))
		case exp > 0:
			want = sign * math.Ldexp(1+frac/1024, exp-15)
		}
		require.Equal(t, math.Float32bits(float32(want)), math.Float32bits(half(uint16(h))), "%#x", h)
	}
}

func TestFloat32(t *testing.T) {
	le := binary.LittleEndian
	raw := map[Type][]byte{
		F32:  le.AppendUint32(nil, math.Float32bits(-2.5)),
		F16:  le.AppendUint16(nil, 0xc100),
		BF16: le.AppendUint16(nil, 0xc020),
		F64:  le.AppendUint64(nil, math.Float64bits(-2.5)),
	}
	dst := make([]float32, 1)
	for typ, bytes := range raw {
		require.Len(t, bytes, typ.Size())
		require.NoError(t, Float32(dst, bytes, typ))
		require.Equal(t, float32(-2.5), dst[0], typ)
	}
	minus := int64(-3)
	require.NoError(t, Float32(dst, le.AppendUint64(nil, uint64(minus)), I64))
	require.Equal(t, float32(-3), dst[0])
	require.ErrorContains(t, Float32(dst, le.AppendUint64(nil, math.Float64bits(1e300)), F64), "element 0 is 1e+300")
	require.NoError(t, Float32(dst, le.AppendUint64(nil, math.Float64bits(math.Inf(1))), F64))
}

func TestViewAndBytes(t *testing.T) {
	v := []float32{1, -2, 3.5}
	back, ok := View(Bytes(v))
	require.Equal(t, littleEndian, ok)
	if ok {
		require.Equal(t, v, back)
		_, ok = View(append(make([]byte, 1), Bytes(v)...)[1:])
		require.False(t, ok, "unaligned")
	}
	_, ok = View(make([]byte, 5))
	require.False(t, ok)
}

func TestElements(t *testing.T) {
	for _, c := range []struct {
		shape []int
		n     int
		ok    bool
	}{
		{nil, 1, true}, {[]int{3, 4}, 12, true}, {[]int{101}, 0, false}, {[]int{-1}, 0, false}, {[]int{0, -1}, 0, false},
		{[]int{math.MaxInt, math.MaxInt}, 0, false}, {[]int{math.MaxInt, 0, math.MaxInt}, 0, true}, {[]int{10, 10}, 100, true},
	} {
		n, ok := Elements(c.shape, 100)
		require.Equal(t, c.ok, ok, c.shape)
		require.Equal(t, c.n, n, c.shape)
	}
}
