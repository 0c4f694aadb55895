package bundle_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// reference is the path of a file of the reference data beside the repository; without it the test is skipped.
func reference(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "reference", name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("SKIPPED: reference data absent: %s", path)
	}
	return path
}

func TestReferenceCheckpoints(t *testing.T) {
	// The four tiny files hold the same tensors in two containers and two namings.
	first, err := bundle.Import(reference(t, "checkpoints/tiny_w0.25_c10.pth"), bundle.ImportOptions{Width: 0.25})
	require.NoError(t, err)
	require.Equal(t, ofa.MobileNetV3(0.25, 10), first.Space)
	require.Len(t, first.Tensors, 475-64)
	require.Equal(t, "tiny_w0.25_c10.pth", first.Provenance.Source)
	sums, err := os.ReadFile(reference(t, "SHA256SUMS"))
	require.NoError(t, err)
	require.Contains(t, string(sums), first.Provenance.SourceSHA256+"  checkpoints/tiny_w0.25_c10.pth")
	for _, name := range []string{"tiny_w0.25_c10_legacy.pth", "tiny_w0.25_c10_oldkeys.pth", "tiny_w0.25_c10_oldkeys_legacy.pth"} {
		c, err := bundle.Import(reference(t, "checkpoints/"+name), bundle.ImportOptions{})
		require.NoError(t, err)
		require.Equal(t, first.Space, c.Space, name)
		sameTensors(t, first.Tensors, c.Tensors, name)
	}

	full, err := bundle.Import(reference(t, "checkpoints/full_w1.0_c1000.pth"), bundle.ImportOptions{})
	require.NoError(t, err)
	require.Equal(t, ofa.MobileNetV3(1, 1000), full.Space)
	numbers := 0
	for _, v := range full.Tensors {
		numbers += len(v)
	}
	require.Equal(t, 7720768-64, numbers)
	_, err = bundle.Import(reference(t, "checkpoints/full_w1.0_c1000.pth"), bundle.ImportOptions{Width: 1.2})
	require.ErrorContains(t, err, "has width 1, expected 1.2")
}

// libraryJSON is the decoded form of a library file in the reference data.
type libraryJSON struct {
	Subnets []struct {
		Config   ofa.Subnet
		Accuracy float64
		Latency  float64 `json:"latency_ms"`
		BN       []struct {
			Name       string
			Channels   int
			Count      int
			MeanFirst4 []float64 `json:"mean_first4"`
			MeanSum    float64   `json:"mean_sum"`
			VarFirst4  []float64 `json:"var_first4"`
			VarSum     float64   `json:"var_sum"`
		}
	}
}

func TestReferenceLibraries(t *testing.T) {
	space := ofa.MobileNetV3(1.2, 1000)
	c := bundletest.Random(space, 1)
	for name, entries := range map[string][]int{
		"nets_6": {40, 43, 49, 49, 55, 64},
		"nets_7": {40, 46, 55, 49, 55, 61, 64},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(reference(t, name+".json"))
			require.NoError(t, err)
			var want libraryJSON
			require.NoError(t, json.Unmarshal(data, &want))
			levels, err := bundle.ReadLibrary(reference(t, name+".pickle"), space)
			require.NoError(t, err)
			require.Len(t, levels, len(entries))
			require.Len(t, want.Subnets, len(entries))
			for i, l := range levels {
				w := want.Subnets[i]
				require.Equal(t, w.Config, l.Subnet)
				require.Equal(t, w.Accuracy, l.Top1)
				require.Equal(t, w.Latency, l.LatencyMS)
				require.Len(t, l.Norms, entries[i])
				require.Len(t, w.BN, entries[i])
				for j, n := range l.Norms {
					w := w.BN[j]
					require.Equal(t, w.Name, n.FileName)
					require.Equal(t, w.Count, n.Images)
					equalVector(t, w.Channels, w.MeanFirst4, w.MeanSum, n.Mean)
					equalVector(t, w.Channels, w.VarFirst4, w.VarSum, n.Var)
				}
			}
			before := len(c.Levels)
			require.NoError(t, bundle.ImportLibrary(reference(t, name+".pickle"), c))
			for i, l := range c.Levels[before:] {
				require.Equal(t, levels[i].Subnet, l.Subnet)
				require.Equal(t, levels[i].Top1, l.Accuracy[0].Top1)
				require.Equal(t, levels[i].LatencyMS, l.Latency[0].MedianMS)
				for j, norm := range space.Norms(l.Subnet) {
					n := levels[i].Norms[j]
					require.Equal(t, norm.Name, n.Name)
					for ch := range norm.Channels {
						weight, bias := float64(c.Tensors[n.Name+".weight"][ch]), float64(c.Tensors[n.Name+".bias"][ch])
						scale := weight / math.Sqrt(float64(n.Var[ch])+1e-5)
						shift := bias - float64(float64(n.Mean[ch])*scale)
						if got := [2]float32{l.Norms[j].Scale[ch], l.Norms[j].Shift[ch]}; got != [2]float32{float32(scale), float32(shift)} {
							t.Fatalf("%s[%d] is %v, expected %v and %v", n.Name, ch, got, scale, shift)
						}
					}
				}
			}
		})
	}
	if len(c.Levels) == 0 {
		t.Skip("SKIPPED: reference data absent: no library was read")
	}
	require.Len(t, c.Levels, 13)
	require.Len(t, c.Provenance.Notes, 2)
	path := filepath.Join(t.TempDir(), "w1.2.dofa")
	require.NoError(t, bundle.Write(path, c))
	b, err := bundle.Open(path)
	require.NoError(t, err)
	defer b.Close()
	sameContents(t, c, b.Contents())
}

// equalVector compares with the reference: the first four values to 9 digits, which identify a float32, and the
// sum to the 12 digits that are given.
func equalVector(t *testing.T, channels int, first4 []float64, sum float64, got []float32) {
	t.Helper()
	require.Len(t, got, channels)
	for i, w := range first4 {
		require.Equal(t, float32(w), got[i])
	}
	var s, size float64
	for _, v := range got {
		s += float64(v)
		size += math.Abs(float64(v))
	}
	require.InDelta(t, sum, s, 1e-11*size)
}

func TestLibraryOfAnotherWidth(t *testing.T) {
	c := bundletest.Random(ofa.MobileNetV3(0.25, 10), 1)
	err := bundle.ImportLibrary(reference(t, "nets_6.pickle"), c)
	require.ErrorContains(t, err, "bn_lists[0]: mean of first_conv.bn has the shape [24], expected [8]: the library belongs to another width")
	require.Empty(t, c.Levels)
	_, err = bundle.Import(reference(t, "nets_6.pickle"), bundle.ImportOptions{})
	require.ErrorContains(t, err, "a bare pickle")
	_, err = bundle.ReadLibrary(reference(t, "checkpoints/tiny_w0.25_c10.pth"), c.Space)
	require.ErrorContains(t, err, "pickle: at byte 0: opcode 0x50 (PERSID)")
}

func TestPredictorIsNoSupernet(t *testing.T) {
	_, err := bundle.Import(reference(t, "acc_predictor.pth"), bundle.ImportOptions{})
	require.ErrorIs(t, err, bundle.ErrUnknownSpace)
	require.True(t, strings.Contains(err.Error(), "8 tensors") && strings.Contains(err.Error(), "0.weight"), err)
}
