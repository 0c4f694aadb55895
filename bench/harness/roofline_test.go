package harness

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/dynofa"
)

func TestInside(t *testing.T) {
	require.Equal(t, 3, inside(3, 1, 1))
	require.Equal(t, 2+3+2, inside(3, 3, 1)) // the middle sees all
	require.Equal(t, 9, inside(3, 7, 1))     // everybody sees everybody
	require.Equal(t, 2+3, inside(4, 3, 2))   // at 0 and 2
}

// The traffic of the parts adds up to what the sub-network has: each weight once.
func TestTrafficOfParts(t *testing.T) {
	m, err := Open(shipped+"/fashion.dofa", "", shipped+"/test")
	require.NoError(t, err)
	defer m.Close()
	target, err := m.NewTarget(6, 1)
	require.NoError(t, err)
	defer target.Close()
	layers, err := target.Profile(context.Background())
	require.NoError(t, err)
	traffic := m.traffic(target.Session)
	n := target.Session.Subnet()
	_, params := m.Space().Cost(n)
	var all, macs, padded int64
	for _, l := range layers {
		b, p := traffic(l)
		require.Positive(t, b, l.Name)
		require.LessOrEqual(t, p, l.MACs, l.Name)
		all, macs, padded = all+b/4, macs+l.MACs, padded+p
	}
	require.Greater(t, all, params*9/10, "weights without normalisation are most of the parameters")
	require.Less(t, all, params+int64(40*n.Resolution*n.Resolution*24), "maps are no larger than forty of the widest")
	require.Positive(t, padded)
	require.Less(t, padded, macs/2)
	if strings.HasPrefix(m.Backend(), "native") {
		b, p := traffic(dynofa.LayerTime{Name: "stem", Block: -1})
		require.EqualValues(t, 4*(3*28*28+27*m.Space().Stem.Channels+28*28*m.Space().Stem.Channels), b)
		require.EqualValues(t, 3*m.Space().Stem.Channels*(84*84-82*82), p)
	}
}

func TestRoofline(t *testing.T) {
	r := sampleResult(t)
	for i := range r.Rows {
		r.Rows[i].Layers.Parts[0].Bytes, r.Rows[i].Layers.Parts[0].MACs, r.Rows[i].Layers.Parts[0].Padded = 1000, 4000, 1000
	}
	roofs := []Roof{{"ref", 100, []Bandwidth{{16 << 10, 50}, {256 << 10, 10}}}}
	var b bytes.Buffer
	require.NoError(t, WriteRoofline(&b, r, roofs))
	// 6000 FLOP in 400 ns are 15 GFLOP/s, of 100; 6 a byte at 10 GB/s would allow 60.
	require.Regexp(t, `stem +0.40 +6.0 +15.0 +15 % +25 %`, b.String())
	f, err := Roofline(r, roofs)
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "roof.svg")
	require.NoError(t, f.Save(path))
	svg, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(svg), "100 GFLOP/s, 10 GB/s of 256 KiB")
	require.ErrorContains(t, f.Save("roof.bmp"), "expected a name that ends in .svg or .png")
	_, err = Roofline(r, []Roof{{"avx2", 100, roofs[0].Reads}})
	require.ErrorContains(t, err, "sample: no row of one thread")
}

func TestReadRoofs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "roof.jsonl")
	for text, want := range map[string]string{
		"":                        "no roofs",
		`{"isa":"avx2"}` + "\n":   ":1: ",
		`{"isa":"x","gflops":-1}`: "above zero",
		`{"isa":"x","gflops":1,"reads":[{"bytes":1,"gbs":0}]}`: "above zero",
		`{"peak":1}`: "unknown field",
		"# dynofa\n": "roof.jsonl:1: invalid character '#' looking for beginning of value, expected what checkkern --roof prints",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		_, err := ReadRoofs(path)
		require.ErrorContains(t, err, want, text)
	}
	require.NoError(t, os.WriteFile(path, []byte(`{"isa":"x","gflops":1,"reads":[{"bytes":16384,"gbs":2}]}`+"\n"), 0o644))
	roofs, err := ReadRoofs(path)
	require.NoError(t, err)
	require.Equal(t, []Roof{{"x", 1, []Bandwidth{{16384, 2}}}}, roofs)
}
