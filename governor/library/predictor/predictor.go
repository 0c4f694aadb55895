// Package predictor predicts the accuracy of sub-networks with the small fully connected network that
// Once-for-All publishes (acc_predictor.pth: linear layers 128-400-400-400-1, ReLU between), and with any other
// of that form. It ranks sub-networks of the supernet it was trained on; it is no measurement.
package predictor

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"gonum.org/v1/gonum/blas/gonum"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Limits of a predictor's size, far above the published one's four layers of at most 400.
const (
	maxLayers = 16
	maxWidth  = 1 << 14
)

// Tensor is a tensor of float32 values in row-major order.
type Tensor struct {
	Shape []int
	Data  []float32
}

// Predictor is a trained accuracy predictor. It is immutable and safe for concurrent use.
//
// It computes in float32, the last layer in float64: within 2e-8 of exact arithmetic for the published predictor on
// 200 sub-networks, and twice as fast as float64. Weights are kept input-major, so that a layer is a sum of rows over
// the inputs that are not zero: 41 of 128 one-hot features at most, and after ReLU a fifth to a half of the hidden
// values.
type Predictor struct {
	encoding Encoding
	layers   []layer
	scratch  sync.Pool // *scratch
}

type layer struct {
	weight []float32 // [inputs][outputs]
	bias   []float32 // [outputs]
}

// scratch holds the values of two successive layers.
type scratch struct{ x, y []float32 }

// New makes a Predictor from tensors named as PyTorch's Sequential of linear layers with ReLU between names them:
// "0.weight" [outputs, inputs], "0.bias" [outputs], "2.weight", ... It takes 2 to 16 layers; the first has the
// encoding's inputs, the last one output. The error names the tensor that is missing, extra, of another shape or
// not finite.
func New(e Encoding, tensors map[string]Tensor) (*Predictor, error) {
	p, err := build(e, tensors)
	if err != nil {
		return nil, fmt.Errorf("predictor: %w", err)
	}
	return p, nil
}

func build(e Encoding, tensors map[string]Tensor) (*Predictor, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	n := len(tensors) / 2
	if len(tensors)%2 != 0 || n < 2 || n > maxLayers {
		return nil, fmt.Errorf("%d tensors, expected weight and bias of 2 to %d layers", len(tensors), maxLayers)
	}
	e.Kernels, e.Expands, e.Depths = slices.Clone(e.Kernels), slices.Clone(e.Expands), slices.Clone(e.Depths)
	p := &Predictor{encoding: e}
	inputs, widest := e.Inputs(), 0
	for i := range n {
		name := fmt.Sprintf("%d.weight", 2*i)
		outputs := 1
		if i < n-1 {
			// The hidden width is the file's choice; one that is not legal is reported as a shape below.
			if shape := tensors[name].Shape; len(shape) == 2 && shape[0] >= 1 && shape[0] <= maxWidth {
				outputs = shape[0]
			}
		}
		weight, err := take(tensors, name, outputs, inputs)
		if err != nil {
			if i == 0 {
				err = fmt.Errorf("%w (%d slots of %d kernel sizes and %d expand ratios, %d resolution bins)",
					err, e.slots(), len(e.Kernels), len(e.Expands), e.Bins)
			}
			return nil, err
		}
		bias, err := take(tensors, fmt.Sprintf("%d.bias", 2*i), outputs)
		if err != nil {
			return nil, err
		}
		p.layers = append(p.layers, layer{transpose(weight, outputs, inputs), slices.Clone(bias)})
		inputs, widest = outputs, max(widest, outputs)
	}
	p.scratch.New = func() any {
		values := make([]float32, 2*widest)
		return &scratch{values[:widest:widest], values[widest:]}
	}
	return p, nil
}

// take returns a tensor's values after checking its shape, number and finiteness.
func take(tensors map[string]Tensor, name string, shape ...int) ([]float32, error) {
	t, ok := tensors[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing, expected shape %v", name, shape)
	}
	if !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("%s has shape %v, expected %v", name, t.Shape, shape)
	}
	numbers := 1
	for _, d := range shape {
		numbers *= d
	}
	if len(t.Data) != numbers {
		return nil, fmt.Errorf("%s has %d values, expected %d for shape %v", name, len(t.Data), numbers, shape)
	}
	for i, v := range t.Data {
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return nil, fmt.Errorf("%s: value %d is %v, expected a finite number", name, i, v)
		}
	}
	return t.Data, nil
}

func transpose(w []float32, rows, columns int) []float32 {
	t := make([]float32, len(w))
	for i := range rows {
		for j := range columns {
			t[j*rows+i] = w[i*columns+j]
		}
	}
	return t
}

// Accuracy predicts one Subnet's accuracy as a fraction, 0.8 for 80 %. It allocates nothing. The error names the
// field of the Subnet that the encoding does not know; slots that the depth cuts off are not looked at.
func (p *Predictor) Accuracy(n ofa.Subnet) (float64, error) {
	s := p.scratch.Get().(*scratch)
	v, err := p.run(s, n)
	p.scratch.Put(s)
	if err != nil {
		return 0, fmt.Errorf("predictor: %w", err)
	}
	return v, nil
}

// Predict is Accuracy for many: dst[i] becomes the accuracy of subnets[i], and both have to be of one length. It
// allocates nothing. The error names the first Subnet that is illegal; dst is then valid before it.
func (p *Predictor) Predict(dst []float64, subnets []ofa.Subnet) error {
	if len(dst) != len(subnets) {
		return fmt.Errorf("predictor: room for %d results, expected %d", len(dst), len(subnets))
	}
	s := p.scratch.Get().(*scratch)
	defer p.scratch.Put(s)
	for i := range subnets {
		v, err := p.run(s, subnets[i])
		if err != nil {
			return fmt.Errorf("predictor: sub-network %d: %w", i, err)
		}
		dst[i] = v
	}
	return nil
}

func (p *Predictor) run(s *scratch, n ofa.Subnet) (float64, error) {
	l := &p.layers[0]
	y := s.x[:copy(s.x, l.bias)]
	if err := p.encoding.hot(n, func(feature int) { l.add(y, feature, 1) }); err != nil {
		return 0, err
	}
	x, spare := y, s.y
	last := len(p.layers) - 1
	for i := 1; i < last; i++ {
		l := &p.layers[i]
		y := spare[:copy(spare, l.bias)]
		for j, v := range x {
			if v > 0 { // ReLU
				l.add(y, j, v)
			}
		}
		x, spare = y, x[:cap(x)]
	}
	accuracy := float64(p.layers[last].bias[0])
	for j, v := range x {
		if v > 0 {
			accuracy += float64(v) * float64(p.layers[last].weight[j])
		}
	}
	if math.IsNaN(accuracy) || math.IsInf(accuracy, 0) {
		return 0, fmt.Errorf("the accuracy is %v, expected a finite number: the weights are too large", accuracy)
	}
	return accuracy, nil
}

// add accumulates input j of value v into the outputs y.
func (l *layer) add(y []float32, j int, v float32) {
	gonum.Implementation{}.Saxpy(len(y), v, l.weight[j*len(y):(j+1)*len(y)], 1, y, 1)
}

// Resolutions are those of the given image sides that training has seen, or sides of one bin with them.
func (p *Predictor) Resolutions(sides []int) []int {
	e := &p.encoding
	var seen []int
	for _, r := range sides {
		if r >= e.MinSide+e.Unseen*e.BinWidth && r < e.MinSide+e.Bins*e.BinWidth {
			seen = append(seen, r)
		}
	}
	return seen
}

// Slope linearises the predictor at a Subnet. The function that it returns says how much accuracy a slot's block
// contributes to first order, for any kernel size and expand ratio that the predictor knows, whether the Subnet
// executes the slot or not; differences are meaningful, the zero is not. It costs as much as two predictions.
func (p *Predictor) Slope(n ofa.Subnet) (func(slot, kernel, expand int) float64, error) {
	hidden := make([][]float32, len(p.layers)-1) // values before ReLU
	for i := range hidden {
		l := &p.layers[i]
		hidden[i] = slices.Clone(l.bias)
		if i > 0 {
			for j, v := range hidden[i-1] {
				if v > 0 {
					l.add(hidden[i], j, v)
				}
			}
			continue
		}
		if err := p.encoding.hot(n, func(feature int) { l.add(hidden[i], feature, 1) }); err != nil {
			return nil, fmt.Errorf("predictor: %w", err)
		}
	}
	slope := []float32{1}
	for i := len(hidden) - 1; i >= 0; i-- {
		l, below := &p.layers[i+1], make([]float32, len(hidden[i]))
		for j, v := range hidden[i] {
			if v > 0 {
				below[j] = l.dot(j, slope)
			}
		}
		slope = below
	}
	features := make([]float32, p.encoding.Inputs())
	for j := range features {
		features[j] = p.layers[0].dot(j, slope)
	}
	e := &p.encoding
	expands := e.slots() * len(e.Kernels)
	return func(slot, kernel, expand int) float64 {
		return float64(features[slot*len(e.Kernels)+slices.Index(e.Kernels, kernel)]) +
			float64(features[expands+slot*len(e.Expands)+slices.Index(e.Expands, expand)])
	}, nil
}

// dot is the derivative by input j, given that by the outputs.
func (l *layer) dot(j int, slope []float32) float32 {
	return gonum.Implementation{}.Sdot(len(slope), l.weight[j*len(slope):(j+1)*len(slope)], 1, slope, 1)
}
