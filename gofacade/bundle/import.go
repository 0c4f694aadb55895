package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/mapped"
	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/bundle/torch"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// ImportOptions says what the caller knows about a checkpoint. The zero value infers everything.
type ImportOptions struct {
	Width float64    // width multiplier to check against; 0 does not check
	Space *ofa.Space // the supernet's shape; nil takes it from the file's metadata, or infers it
}

// checkpointTensor is a tensor of any container, its numbers still in the file.
type checkpointTensor interface {
	Float32() ([]float32, error)
}

// checkpoint is what all containers come down to.
type checkpoint struct {
	specs   []ofa.TensorSpec // names as in the file
	tensors []checkpointTensor
	meta    *metadata // of a safetensors file that carries one
}

func (c *checkpoint) add(name string, shape []int, t checkpointTensor) {
	c.specs = append(c.specs, ofa.TensorSpec{Name: name, Shape: shape})
	c.tensors = append(c.tensors, t)
}

// Import reads a supernet from a checkpoint, whatever container its content shows: PyTorch's zip or legacy
// container, safetensors, or a .dofa bundle, whose levels are kept. Names may be current, old or non-elastic.
//
// Missing transform matrices are the identity and num_batches_tracked is dropped; any other missing or unexpected
// tensor, a wrong shape, a number that is not finite and a negative variance are errors that name the tensor.
// Provenance gets the file's name and SHA-256 unless the file names its own source.
func Import(path string, opts ImportOptions) (*Contents, error) {
	f, err := mapped.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: import: %w", err)
	}
	defer f.Close()
	var c *Contents
	err = mapped.Guard(func() (err error) {
		c, err = importBytes(f.Bytes(), filepath.Base(path), opts)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bundle: import %s: %w", path, err)
	}
	return c, nil
}

func importBytes(data []byte, name string, opts ImportOptions) (*Contents, error) {
	ck, err := parseCheckpoint(data)
	if err != nil {
		return nil, err
	}
	c := &Contents{}
	if ck.meta != nil {
		c.Provenance = ck.meta.Provenance
		if len(ck.meta.Library) > 0 {
			if opts.Space != nil && !reflect.DeepEqual(opts.Space, ck.meta.Space) {
				return nil, errors.New("the file carries a library, which belongs to its own space and to no other")
			}
			b, err := parseBundle(data)
			if err != nil {
				return nil, err
			}
			c = b.Contents()
		}
	}
	if c.Space == nil {
		if c.Space, err = ck.space(opts); err != nil {
			return nil, err
		}
		if c.Tensors, err = ck.adopt(c.Space); err != nil {
			return nil, err
		}
	}
	if opts.Width != 0 && c.Space.Width != opts.Width {
		return nil, fmt.Errorf("the checkpoint has width %v, expected %v (stages of %v channels)", c.Space.Width, opts.Width, stageChannels(c.Space))
	}
	if c.Provenance.Source == "" {
		sum := sha256.Sum256(data)
		c.Provenance.Source, c.Provenance.SourceSHA256 = name, hex.EncodeToString(sum[:])
	}
	return c, nil
}

func stageChannels(s *ofa.Space) []int {
	var list []int
	for i := range s.Stages {
		list = append(list, s.Stages[i].Channels)
	}
	return list
}

// parseCheckpoint tells the container by its content.
func parseCheckpoint(data []byte) (*checkpoint, error) {
	ck := &checkpoint{}
	switch {
	case torch.IsCheckpoint(data):
		t, err := torch.Parse(data)
		if err != nil {
			return nil, err
		}
		for _, tensor := range t.Tensors {
			ck.add(tensor.Name, tensor.Shape, tensor)
		}
	case safetensors.IsFile(data):
		f, err := safetensors.Parse(data)
		if err != nil {
			return nil, err
		}
		for i := range f.Tensors {
			ck.add(f.Tensors[i].Name, f.Tensors[i].Shape, &f.Tensors[i])
		}
		if text, ok := f.Metadata[metadataKey]; ok {
			if ck.meta, err = parseMetadata(text); err != nil {
				return nil, err
			}
		}
	case data[0] == 0x80:
		return nil, errors.New("a bare pickle, expected a checkpoint (a Dynamic-OFA library is given with --library)")
	default:
		return nil, fmt.Errorf("starts with % x, expected a PyTorch or safetensors file", data[:min(len(data), 8)])
	}
	return ck, nil
}

// space is the caller's, the file's own, or inferred.
func (c *checkpoint) space(opts ImportOptions) (*ofa.Space, error) {
	if opts.Space != nil {
		if err := opts.Space.Validate(); err != nil {
			return nil, fmt.Errorf("given space: %w", err)
		}
		return opts.Space, nil
	}
	if c.meta != nil {
		return c.meta.Space, nil
	}
	space, err := InferSpace(c.specs)
	if err != nil {
		return nil, err
	}
	// Several multipliers may give the same channels.
	for _, f := range families {
		if s := f.make(opts.Width, space.Classes); opts.Width > 0 && opts.Width < 16 && s.Family == space.Family && sameChannels(s, space) {
			return s, nil
		}
	}
	return space, nil
}

// adopt takes over the numbers of the tensors of a space, by canonical name.
func (c *checkpoint) adopt(space *ofa.Space) (map[string][]float32, error) {
	m, err := lay(c.specs, space)
	if err != nil {
		return nil, err
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	index := make(map[string]int, len(c.specs))
	for i := range c.specs {
		index[c.specs[i].Name] = i
	}
	out := make(map[string][]float32, len(c.specs))
	for _, spec := range space.Tensors() {
		shape, ok := m.shapes[spec.Name]
		if !ok {
			continue
		}
		if !slices.Equal(shape, spec.Shape) {
			return nil, fmt.Errorf("tensor %s has the shape %v, expected %v", m.from[spec.Name], shape, spec.Shape)
		}
		v, err := c.tensors[index[m.from[spec.Name]]].Float32()
		if err != nil {
			return nil, err
		}
		if err := check(m.from[spec.Name], v); err != nil {
			return nil, err
		}
		out[spec.Name] = v
	}
	return out, nil
}
