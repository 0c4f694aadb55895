package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/number"
	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
)

// Write checks the Contents and writes them as a bundle. The file appears under its name complete and synced to
// the disk, or not at all: on any error an existing file stays as it is. The same Contents give the same bytes.
// A level's MACs and Params are filled in where both are 0.
func Write(path string, c *Contents) error {
	tensors, meta, err := encode(c)
	if err != nil {
		return fmt.Errorf("bundle: write %s: %w", path, err)
	}
	if err := safetensors.WriteFile(path, tensors, map[string]string{metadataKey: meta}); err != nil {
		return fmt.Errorf("bundle: write %s: %w", path, err)
	}
	return nil
}

// Marshal is Write into memory.
func Marshal(c *Contents) ([]byte, error) {
	tensors, meta, err := encode(c)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	var b bytes.Buffer
	if err := safetensors.Write(&b, tensors, map[string]string{metadataKey: meta}); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b.Bytes(), nil
}

// encode checks the Contents and lays out the file.
func encode(c *Contents) (tensors []safetensors.Data, meta string, err error) {
	if c == nil || c.Space == nil {
		return nil, "", errNil
	}
	if err := c.Space.Validate(); err != nil {
		return nil, "", fmt.Errorf("space: %w", err)
	}
	add := func(name string, v []float32, shape ...int) error {
		if n, ok := number.Elements(shape, len(v)); !ok || n != len(v) {
			return fmt.Errorf("tensor %s has %d numbers, expected those of shape %v", name, len(v), shape)
		}
		tensors = append(tensors, safetensors.Data{Name: name, Shape: shape, F32: v})
		return check(name, v)
	}
	known := map[string]bool{}
	for _, spec := range c.Space.Tensors() {
		v, ok := c.Tensors[spec.Name]
		if !ok {
			if spec.Identity {
				continue
			}
			return nil, "", fmt.Errorf("missing tensor %s %v", spec.Name, spec.Shape)
		}
		known[spec.Name] = true
		if err := add(spec.Name, v, spec.Shape...); err != nil {
			return nil, "", err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Tensors)) {
		if !known[name] {
			return nil, "", fmt.Errorf("unexpected tensor %s", name)
		}
	}
	if err := checkFold(c.Space, c.Tensor); err != nil {
		return nil, "", err
	}
	levels := slices.Clone(c.Levels)
	for i := range levels {
		l := &levels[i]
		if err := c.Space.Check(l.Subnet); err != nil {
			return nil, "", fmt.Errorf("level %d: subnet: %w", i, err)
		}
		if l.MACs == 0 && l.Params == 0 {
			l.MACs, l.Params = c.Space.Cost(l.Subnet)
		}
		if err := l.check(c.Space); err != nil {
			return nil, "", fmt.Errorf("level %d: %w", i, err)
		}
		norms := c.Space.Norms(l.Subnet)
		if len(l.Norms) != len(norms) {
			return nil, "", fmt.Errorf("level %d has %d batch normalisations, expected %d", i, len(l.Norms), len(norms))
		}
		for j, norm := range norms {
			scale, shift := levelNames(i, norm.Name)
			if err := add(scale, l.Norms[j].Scale, norm.Channels); err != nil {
				return nil, "", err
			}
			if err := add(shift, l.Norms[j].Shift, norm.Channels); err != nil {
				return nil, "", err
			}
		}
	}
	// The format allows no gaps, so whole cache lines come first: those tensors are aligned to 64 bytes.
	slices.SortStableFunc(tensors, func(a, b safetensors.Data) int {
		return ragged(a) - ragged(b)
	})
	text, err := json.Marshal(metadata{Version, c.Space, levels, c.Provenance})
	return tensors, string(text), err
}

// ragged is 1 for a tensor that does not fill whole cache lines.
func ragged(d safetensors.Data) int { return min(1, len(d.F32)%16) }
