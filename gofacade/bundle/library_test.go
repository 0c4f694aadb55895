package bundle_test

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/torchtest"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// libraryLevels are two levels of the small space; in the first the depth leaves a gap in the block numbers.
func libraryLevels() []torchtest.Level {
	space := small()
	var levels []torchtest.Level
	for i, n := range []ofa.Subnet{space.Smallest(), space.Largest()} {
		l := torchtest.Level{Kernels: n.Kernels, Expands: n.Expands, Depths: n.Depths, Resolution: n.Resolution, Top1: 70 + float64(i), LatencyMS: 5}
		gapless := map[string]int{}
		for at, b := range space.Blocks(n) {
			gapless[b.Name()] = at
		}
		for k, norm := range space.Norms(n) {
			name := strings.Replace(norm.Name, ".bn.bn", ".bn", 1)
			if block, rest, ok := strings.Cut(name, ".conv."); ok {
				name = fmt.Sprintf("blocks.%d.mobile_inverted_conv.%s", gapless[block+".conv"], rest)
			}
			mean, variance := make([]float32, norm.Channels), make([]float32, norm.Channels)
			for c := range mean {
				mean[c], variance[c] = float32(k)+float32(c)/16, 1+float32(i)
			}
			l.Norms = append(l.Norms, torchtest.Norm{Name: name, Mean: mean, Var: variance})
		}
		levels = append(levels, l)
	}
	return levels
}

func TestLibraryInBothNestings(t *testing.T) {
	for _, arrays := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "nets_2.pickle")
		require.NoError(t, os.WriteFile(path, torchtest.Library(libraryLevels(), arrays), 0o600))
		c := contents()
		require.NoError(t, bundle.ImportLibrary(path, c))
		require.Len(t, c.Levels, 4)
		l := c.Levels[2]
		require.Equal(t, c.Space.Smallest(), l.Subnet)
		require.Equal(t, []bundle.Accuracy{{Data: "ImageNet (from the library file)", Top1: 70}}, l.Accuracy)
		require.Equal(t, []bundle.Latency{{Device: "from the library file", MedianMS: 5}}, l.Latency)
		require.Equal(t, "statistics of nets_2.pickle, averaged over 2000 images", l.Calibration)
		require.Len(t, c.Provenance.Notes["library nets_2.pickle"], len("sha256 ")+64)
		norms := c.Space.Norms(l.Subnet)
		require.Equal(t, "blocks.3.conv.depth_conv.bn.bn", norms[7].Name, "the block behind the gap")
		want := libraryLevels()[0].Norms[7]
		require.Equal(t, "blocks.2.mobile_inverted_conv.depth_conv.bn", want.Name)
		name := norms[7].Name
		require.Equal(t, ofa.Fold(c.Tensors[name+".weight"][:8], c.Tensors[name+".bias"][:8], want.Mean, want.Var, 1e-5), l.Norms[7])
		b, err := bundle.Open(written(t, c))
		require.NoError(t, err)
		require.Equal(t, c.Levels, b.Contents().Levels)
		require.NoError(t, b.Close())
	}
}

func TestLibraryRefuses(t *testing.T) {
	nan := float32(math.NaN())
	for want, change := range map[string]func(l *torchtest.Level){
		"configs[1]: ks is list of length 2, expected a list of 3": func(l *torchtest.Level) { l.Kernels = l.Kernels[:2] },
		"configs[1]: ks[0] is 4, expected one of [3 5]":            func(l *torchtest.Level) { l.Kernels = []int{4, 3, 3} },
		"configs[1]: e": func(l *torchtest.Level) { l.Expands = []int{1, 1<<(bits.UintSize/2) + 1, 1} }, // 1 if it is cut to 32 bits
		"configs[1]: r is 17, expected one of [16 28]":                                                              func(l *torchtest.Level) { l.Resolution = 17 },
		"accu_lat[1]: accuracy is 100.5, expected percent from 0 to 100":                                            func(l *torchtest.Level) { l.Top1 = 100.5 },
		"accu_lat[1]: latency is 0, expected milliseconds above 0":                                                  func(l *torchtest.Level) { l.LatencyMS = 0 },
		"bn_lists[1]: 12 means and 12 variances, expected the sub-network's 13":                                     func(l *torchtest.Level) { l.Norms = l.Norms[:12] },
		"bn_lists[1]: no mean or no variance for first_conv.bn":                                                     func(l *torchtest.Level) { l.Norms[0].Name = "x" },
		"bn_lists[1]: mean of first_conv.bn has the shape [24], expected [8]: the library belongs to another width": func(l *torchtest.Level) { l.Norms[0].Mean = make([]float32, 24) },
		"bn_lists[1]: variance of first_conv.bn has the shape [1], expected [8]":                                    func(l *torchtest.Level) { l.Norms[0].Var = l.Norms[0].Var[:1] },
		"bn_lists[1]: tensor first_conv.bn (mean): [3] is NaN, expected a finite number":                            func(l *torchtest.Level) { l.Norms[0].Mean[3] = nan },
		"bn_lists[1]: tensor first_conv.bn.running_var: [2] is -1, expected a variance":                             func(l *torchtest.Level) { l.Norms[0].Var[2] = -1 },
		`bn_lists[1]: means: "blocks.0.conv.depth_conv.bn" is there twice`:                                          func(l *torchtest.Level) { l.Norms[2].Name = "blocks.0.conv.depth_conv.bn" },
	} {
		levels := libraryLevels()
		change(&levels[1])
		for _, arrays := range []bool{false, true} {
			_, err := bundle.ParseLibrary(torchtest.Library(levels, arrays), small())
			require.ErrorContains(t, err, want)
		}
	}

	sound := torchtest.Library(libraryLevels(), true)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"os.system":     {[]byte("cos\nsystem\n(X\x02\x00\x00\x00idtR."), "pickle: refuses os.system at byte 0: only data is read, nothing is executed"},
		"nested":        {bytes.Replace(sound, []byte("FloatStorage"), []byte("EvilyStorage"), 1), "refuses torch.EvilyStorage"},
		"other keys":    {torchtest.New().Op("}").Str("configs").Op("]s.").B, `top level has the keys "configs", expected lists configs, accu_lat and bn_lists`},
		"no levels":     {torchtest.Library(nil, false), "0 configs, 0 accu_lat and 0 bn_lists"},
		"trailing":      {append(slices.Clone(sound), 'N'), "1 bytes after the pickle"},
		"no dict":       {[]byte("N."), "top level is None"},
		"big-endian":    {bytes.ReplaceAll(sound, []byte("X\x01\x00\x00\x00<"), []byte("X\x01\x00\x00\x00>")), `byte order is str ">", expected little-endian`},
		"float32 array": {bytes.ReplaceAll(sound, []byte("f8"), []byte("f4")), `is str "f4", expected 'f8' or 'O8'`},
	} {
		_, err := bundle.ParseLibrary(c.data, small())
		require.ErrorContains(t, err, c.want, name)
	}
	for n := 0; n < len(sound); n += 1 + n/32 {
		_, err := bundle.ParseLibrary(sound[:n:n], small())
		require.Error(t, err, "cut to %d bytes", n)
	}
	for i := 0; i < len(sound); i += 1 + i/512 {
		sound[i] ^= 4
		_, _ = bundle.ParseLibrary(sound, small())
		sound[i] ^= 4
	}
}

// TestLibraryOfSharedLevels names the same statistics for a hundred thousand levels.
func TestLibraryOfSharedLevels(t *testing.T) {
	const n = 100_000
	p := torchtest.New().Op("}(")
	one := libraryLevels()[:1]
	// Take the three lists of a library of one level apart by repeating each list's only item from the memo.
	data := torchtest.Library(one, false)
	body := data[len("\x80\x04}("):]
	for _, key := range []string{"configs", "accu_lat", "bn_lists"} {
		start := bytes.Index(body, []byte(key)) + len(key) + len("](")
		end := len(body) - len("eu.")
		for _, next := range []string{"accu_lat", "bn_lists"} {
			if at := bytes.Index(body, []byte(next)); at > start {
				end = min(end, at-len("eX....."[:6]))
			}
		}
		p.Str(key).Op("](").Op(string(body[start:end])).Op("q\x00" + strings.Repeat("h\x00", n-1) + "e")
	}
	_, err := bundle.ParseLibrary(p.Op("u.").B, small())
	require.ErrorContains(t, err, "statistics up to here are larger than the file")
}

func TestImportLibraryKeepsContentsOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l.pickle")
	require.NoError(t, os.WriteFile(path, torchtest.Library(libraryLevels(), false), 0o600))
	c := bundletest.Random(small(), 1)
	delete(c.Tensors, "final_expand_layer.bn.bias")
	require.ErrorContains(t, bundle.ImportLibrary(path, c), "final_expand_layer.bn of the supernet has 16 weights and 0 biases, expected at least 16")
	require.Empty(t, c.Levels)
	require.ErrorContains(t, bundle.ImportLibrary(path, nil), "no contents")
	_, err := bundle.ReadLibrary(filepath.Join(t.TempDir(), "absent"), small())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func FuzzLibrary(f *testing.F) {
	f.Add(torchtest.Library(libraryLevels(), false))
	f.Add(torchtest.Library(libraryLevels()[:1], true))
	space := small()
	f.Fuzz(func(t *testing.T, data []byte) {
		levels, err := bundle.ParseLibrary(data, space)
		if err != nil {
			return
		}
		numbers := 0
		for _, l := range levels {
			norms := space.Norms(l.Subnet)
			if len(norms) != len(l.Norms) {
				t.Fatalf("%d batch normalisations, expected %d", len(l.Norms), len(norms))
			}
			for i, n := range l.Norms {
				if len(n.Mean) != norms[i].Channels || len(n.Var) != norms[i].Channels {
					t.Fatalf("%s has %d and %d channels, expected %d", n.Name, len(n.Mean), len(n.Var), norms[i].Channels)
				}
				numbers += 2 * len(n.Mean)
			}
		}
		if 4*numbers > len(data) {
			t.Fatalf("%d numbers from %d bytes", numbers, len(data))
		}
	})
}
