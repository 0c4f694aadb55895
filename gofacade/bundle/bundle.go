package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/mapped"
	"github.com/dynofa/dynofa/gofacade/bundle/safetensors"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Version is the version of the metadata that this package writes, and the newest that it reads.
const Version = 1

// metadataKey is the entry of a safetensors file's __metadata__.
const metadataKey = "dynofa"

type metadata struct {
	Version    int        `json:"version"`
	Space      *ofa.Space `json:"space"`
	Library    []Level    `json:"library,omitempty"`
	Provenance Provenance `json:"provenance"`
}

// VersionError means that a file is of a version this package does not understand.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("metadata version is %d, expected 1 to %d; a newer dynofa may read it", e.Version, Version)
}

func parseMetadata(text string) (*metadata, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metadataKey, err)
	}
	if head.Version < 1 || head.Version > Version {
		return nil, &VersionError{head.Version}
	}
	m := &metadata{}
	if err := json.Unmarshal([]byte(text), m); err != nil {
		return nil, fmt.Errorf("metadata %q: %w", metadataKey, err)
	}
	if m.Space == nil {
		return nil, fmt.Errorf("metadata %q: no space", metadataKey)
	}
	if err := m.Space.Validate(); err != nil {
		return nil, fmt.Errorf("metadata %q: space: %w", metadataKey, err)
	}
	return m, nil
}

// Bundle is an open .dofa file. It is immutable and may be used by several goroutines. What Tensor and Levels
// return are read-only views of the file: to write to them, or to read them after Close, ends the process, and
// so does truncating the file under them (Write never does, it replaces files).
type Bundle struct {
	space      *ofa.Space
	tensors    map[string][]float32
	levels     []Level
	provenance Provenance
	file       *safetensors.File
	closed     atomic.Bool
}

// Open maps a bundle and checks everything in it against its space: names, types, shapes, offsets, and that
// every number is finite. The Bundle keeps showing the file that was opened when another takes its name. It must
// be closed. A newer version is a [*VersionError].
func Open(path string) (*Bundle, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, fmt.Errorf("bundle: open: %w", err)
	}
	var b *Bundle
	err = mapped.Guard(func() (err error) {
		b, err = newBundle(f)
		return err
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("bundle: open %s: %w", path, err)
	}
	return b, nil
}

// Parse is Open for a bundle in memory, which the Bundle keeps and which must not change.
func Parse(data []byte) (*Bundle, error) {
	b, err := parseBundle(data)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

func parseBundle(data []byte) (*Bundle, error) {
	f, err := safetensors.Parse(data)
	if err != nil {
		return nil, err
	}
	return newBundle(f)
}

func newBundle(f *safetensors.File) (*Bundle, error) {
	text, ok := f.Metadata[metadataKey]
	if !ok {
		return nil, fmt.Errorf("no metadata %q, expected a bundle; a checkpoint has to be imported first", metadataKey)
	}
	m, err := parseMetadata(text)
	if err != nil {
		return nil, err
	}
	b := &Bundle{space: m.Space, tensors: map[string][]float32{}, levels: m.Library, provenance: m.Provenance, file: f}
	used := map[string]bool{}
	for _, spec := range m.Space.Tensors() {
		if spec.Identity && f.Tensor(spec.Name) == nil {
			continue
		}
		v, err := values(f, spec.Name, spec.Shape)
		if err != nil {
			return nil, err
		}
		b.tensors[spec.Name], used[spec.Name] = v, true
	}
	if err := checkFold(m.Space, b.Tensor); err != nil {
		return nil, err
	}
	for i := range b.levels {
		l := &b.levels[i]
		if err := l.check(m.Space); err != nil {
			return nil, fmt.Errorf("level %d: %w", i, err)
		}
		for _, norm := range m.Space.Norms(l.Subnet) {
			scale, shift := levelNames(i, norm.Name)
			var a ofa.Affine
			if a.Scale, err = values(f, scale, []int{norm.Channels}); err != nil {
				return nil, err
			}
			if a.Shift, err = values(f, shift, []int{norm.Channels}); err != nil {
				return nil, err
			}
			l.Norms = append(l.Norms, a)
			used[scale], used[shift] = true, true
		}
	}
	for i := range f.Tensors {
		if t := &f.Tensors[i]; !used[t.Name] {
			return nil, fmt.Errorf("unexpected tensor %.200s %v", t.Name, t.Shape)
		}
	}
	return b, nil
}

// levelNames are the names of a level's batch normalisation in the file.
func levelNames(level int, norm string) (scale, shift string) {
	prefix := "library/" + strconv.Itoa(level) + "/" + norm
	return prefix + "/scale", prefix + "/shift"
}

// values checks a tensor of a bundle and returns its numbers, in place where they are aligned.
func values(f *safetensors.File, name string, shape []int) ([]float32, error) {
	t := f.Tensor(name)
	if t == nil {
		return nil, fmt.Errorf("missing tensor %s %v", name, shape)
	}
	if t.DType != "F32" || !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("tensor %s is %s %v, expected F32 %v", name, t.DType, t.Shape, shape)
	}
	v := t.View()
	if v == nil {
		var err error
		if v, err = t.Float32(); err != nil {
			return nil, err
		}
	}
	return v, check(name, v)
}

// Bytes is the file as a whole, read-only and valid until Close.
func (b *Bundle) Bytes() []byte { return b.file.Bytes() }

// Space is the supernet's shape. It must not be modified.
func (b *Bundle) Space() *ofa.Space { return b.space }

// Tensor returns a supernet tensor by canonical name, row-major in the shape that Space.Tensors gives. It is nil
// for a transform matrix that is the identity, for a name that the space does not have, and after Close.
func (b *Bundle) Tensor(name string) []float32 {
	if b.closed.Load() {
		return nil
	}
	return b.tensors[name]
}

// Levels is the library in the order of the file, nil after Close. The slice is the caller's, what it points to
// is not.
func (b *Bundle) Levels() []Level {
	if b.closed.Load() {
		return nil
	}
	return slices.Clone(b.levels)
}

// Provenance says where the supernet comes from. It must not be modified.
func (b *Bundle) Provenance() Provenance { return b.provenance }

// Contents copies everything into memory of the caller's, to be changed and written again; it stays valid after
// Close. It is nil if the Bundle is closed.
func (b *Bundle) Contents() *Contents {
	if b.closed.Load() {
		return nil
	}
	c := &Contents{Space: b.space, Tensors: make(map[string][]float32, len(b.tensors)), Levels: slices.Clone(b.levels), Provenance: b.provenance}
	for name, v := range b.tensors {
		c.Tensors[name] = slices.Clone(v)
	}
	for i := range c.Levels {
		l := &c.Levels[i]
		l.Accuracy, l.Latency, l.Norms = slices.Clone(l.Accuracy), slices.Clone(l.Latency), slices.Clone(l.Norms)
		for j, a := range l.Norms {
			l.Norms[j] = ofa.Affine{Scale: slices.Clone(a.Scale), Shift: slices.Clone(a.Shift)}
		}
	}
	c.Provenance.Commands = slices.Clone(b.provenance.Commands)
	c.Provenance.Notes = maps.Clone(b.provenance.Notes)
	return c
}

// Close gives the file back; views from it must not be used any more. Further calls do nothing.
func (b *Bundle) Close() error {
	b.closed.Store(true)
	return b.file.Close()
}

// errNil is returned instead of a crash where a caller passes nothing.
var errNil = errors.New("no contents, expected a space and its tensors")
