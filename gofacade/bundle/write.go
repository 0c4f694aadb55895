package bundle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
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
	err = replace(path, func(w io.Writer) error {
		return safetensors.Write(w, tensors, map[string]string{metadataKey: meta})
	})
	if err != nil {
		return fmt.Errorf("bundle: write %s: %w", path, err)
	}
	return nil
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

// replace writes a file so that its name shows either what it showed before or the complete new content: into a
// temporary file beside it, synced, renamed over it, and the directory synced. A symbolic link is followed.
func replace(path string, fill func(io.Writer) error) error {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	mode := fs.FileMode(0o666) // less the umask, as for any new file
	old, err := os.Stat(path)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return errors.New("there is something there that is not a regular file")
	case err == nil:
		mode = old.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, fmt.Sprintf(".dofa-%016x.tmp", rand.Uint64()))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	err = finish(f, fill)
	if err == nil && old != nil {
		err = os.Chmod(temp, mode) // the umask may have taken bits that the old file had
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// finish fills, syncs and closes the file; it is closed in any case.
func finish(f *os.File, fill func(io.Writer) error) error {
	err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
