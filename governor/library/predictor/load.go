package predictor

import (
	"fmt"

	"github.com/dynofa/dynofa/gofacade/bundle/torch"
)

// Load reads a predictor from a PyTorch checkpoint of [New]'s tensors, such as acc_predictor.pth with the encoding
// [Public] of ofa.MobileNetV3. The file is data only and may be hostile; the error names it and the tensor, its
// shape and what was expected.
func Load(path string, e Encoding) (*Predictor, error) {
	c, err := torch.Open(path)
	if err != nil {
		return nil, fmt.Errorf("predictor: %w", err)
	}
	defer c.Close() //nolint:errcheck // only read
	tensors := make(map[string]Tensor, len(c.Tensors))
	for _, t := range c.Tensors {
		data, err := t.Float32()
		if err != nil {
			return nil, fmt.Errorf("predictor: %s: %w", path, err)
		}
		tensors[t.Name] = Tensor{t.Shape, data}
	}
	p, err := build(e, tensors)
	if err != nil {
		return nil, fmt.Errorf("predictor: %s: %w", path, err)
	}
	return p, nil
}
