package reference

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// The golden files were computed in float64 by the original network from float32 weights. What is left is the
// one rounding of each batch normalisation to float32.
const tolerance = 1e-6

var golden = filepath.Join("..", "..", "..", "..", "shared", "reference")

// open reads a golden file, or skips the test.
func open(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(golden, name))
	if os.IsNotExist(err) {
		t.Skipf("SKIPPED: reference data absent: %s", filepath.Join(golden, name))
	}
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, into))
}

// checkpoint is the space and the tensors of a golden checkpoint.
func checkpoint(t *testing.T, name string) (*ofa.Space, func(string) []float32) {
	t.Helper()
	c, err := bundle.Import(filepath.Join(golden, "checkpoints", name), bundle.ImportOptions{})
	require.NoError(t, err)
	return c.Space, c.Tensor
}

type goldenCase struct {
	Name  string
	Input struct {
		N0, Batch, R int
		S            float64
	}
	Logits64 [][]float64
	Subnet   ofa.Subnet `json:"-"`
}

func (c *goldenCase) UnmarshalJSON(data []byte) error {
	type plain goldenCase
	if err := json.Unmarshal(data, (*plain)(c)); err != nil {
		return err
	}
	return json.Unmarshal(data, &c.Subnet)
}

// image is image b of the case's input by the formula of the golden files, transposed to [r][r][3].
func (c *goldenCase) image(b int) []float32 {
	r, m, s := c.Input.R, c.Input.N0+b, c.Input.S
	out := make([]float32, r*r*3)
	for ch := range 3 {
		for p := range r * r {
			j := float64(ch*r*r + p)
			x := (0.6+0.2*float64(m%4))*math.Sin((0.11+0.13*float64(m%5))*j+1.7*float64(m)+s) +
				0.5*math.Cos(0.011*j-0.9*float64(m)+s) +
				0.3*float64(ch-1)*float64(m%3-1)
			out[p*3+ch] = float32(x)
		}
	}
	return out
}

func TestLogitsEqualTheOriginalNetwork(t *testing.T) {
	for _, files := range []struct{ cases, checkpoint string }{
		{"golden_subnets_tiny_w0.25_c10.json", "tiny_w0.25_c10.pth"},
		{"golden_subnets_full_w1.0_c1000.json", "full_w1.0_c1000.pth"},
	} {
		t.Run(files.checkpoint, func(t *testing.T) {
			if testing.Short() && files.checkpoint != "tiny_w0.25_c10.pth" {
				t.Skip("SKIPPED: -short: the full-size network in plain loops")
			}
			var file struct{ Cases []goldenCase }
			open(t, files.cases, &file)
			s, tensor := checkpoint(t, files.checkpoint)
			require.NotEmpty(t, file.Cases)
			var worst float64
			for i := range file.Cases {
				c := &file.Cases[i]
				if testing.Short() && i > 0 {
					break
				}
				require.NoError(t, s.CheckArch(c.Subnet))
				norms := bundle.FoldNorms(s, c.Subnet, tensor)
				require.Len(t, c.Logits64, c.Input.Batch)
				for b, want := range c.Logits64 {
					got := Forward(s, c.Subnet, tensor, norms, c.image(b))
					worst = max(worst, difference(got, want))
					require.Less(t, difference(got, want), tolerance, "%s, image %d", c.Name, b)
				}
			}
			t.Logf("worst relative difference %.2g", worst)
		})
	}
}

// difference is the largest difference relative to the largest wanted value.
func difference(got, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, scale float64
	for i := range want {
		diff = max(diff, math.Abs(got[i]-want[i]))
		scale = max(scale, math.Abs(want[i]))
	}
	return diff / scale
}

func TestActivationsEqualTheOriginalNetwork(t *testing.T) {
	type tap struct {
		Name      string
		Shape     []int
		Mean, Std float64
		First8    []float64
	}
	var taps struct {
		Subnets []struct {
			Name string
			Taps []tap
		}
	}
	open(t, "golden_activations_tiny_w0.25_c10.json", &taps)
	var file struct{ Cases []goldenCase }
	open(t, "golden_subnets_tiny_w0.25_c10.json", &file)
	cases := map[string]*goldenCase{}
	for i := range file.Cases {
		cases[file.Cases[i].Name] = &file.Cases[i]
	}
	s, tensor := checkpoint(t, "tiny_w0.25_c10.pth")

	for _, subnet := range taps.Subnets {
		t.Run(subnet.Name, func(t *testing.T) {
			c := cases[subnet.Name]
			require.NotNil(t, c)
			maps := map[string]*fmap{}
			net := Net{s, c.Subnet, tensor, bundle.FoldNorms(s, c.Subnet, tensor), func(name string, v []float64, h, w, c int) {
				maps[name] = &fmap{h, w, c, v}
			}}
			net.Forward(c.image(0))

			// The golden names number the blocks of the extracted network, without gaps.
			number := map[string]string{}
			for i, b := range s.Blocks(c.Subnet) {
				number[strconv.Itoa(i)] = strconv.Itoa(b.Index)
			}
			for _, want := range subnet.Taps {
				got := maps[rename(want.Name, number)]
				require.NotNil(t, got, want.Name)
				requireTap(t, want.Name, got, want.Shape, want.Mean, want.Std, want.First8)
			}
		})
	}
}

func requireTap(t *testing.T, name string, got *fmap, shape []int, mean, std float64, first8 []float64) {
	t.Helper()
	for len(shape) < 4 {
		shape = append(shape, 1)
	}
	require.Equal(t, shape[1:], []int{got.c, got.h, got.w}, name)
	var sum, squares float64
	for _, v := range got.v {
		sum += v
		squares += v * v
	}
	n := float64(len(got.v))
	m := sum / n
	scale := math.Sqrt(mean*mean + std*std)
	require.InDelta(t, mean, m, tolerance*scale, name)
	require.InDelta(t, std, math.Sqrt(squares/n-m*m), tolerance*scale, name)
	for i, want := range first8 { // channel by channel
		c, p := i/(got.h*got.w), i%(got.h*got.w)
		require.InDelta(t, want, got.v[p*got.c+c], 4*tolerance*scale, "%s value %d", name, i)
	}
}

// rename replaces the number of "blocks.N" or "blocks.N.more".
func rename(name string, number map[string]string) string {
	const prefix = "blocks."
	if len(name) < len(prefix) || name[:len(prefix)] != prefix {
		return name
	}
	end := len(prefix)
	for end < len(name) && name[end] != '.' {
		end++
	}
	return prefix + number[name[len(prefix):end]] + name[end:]
}
