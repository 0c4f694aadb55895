package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

// choice is the flags that pick what runs.
type choice struct {
	Level   *int   `help:"Level of the library; default: the most accurate." xor:"what"`
	Subnet  string `help:"Any sub-network of the space, as JSON or in text form, with the supernet's own batch normalisation." placeholder:"JSON" xor:"what"`
	Backend string `help:"Engine, one of those that info lists; default: the best."`
	Threads int    `help:"Threads per inference." default:"1"`
}

// apply makes the choice current: the given level or sub-network, else the most accurate level, else the
// largest sub-network.
func (c *choice) apply(m *dynofa.Model, s *dynofa.Session) error {
	switch {
	case c.Subnet != "":
		n, err := m.Space().Parse(c.Subnet)
		if err != nil {
			return err
		}
		return s.Configure(n)
	case c.Level != nil:
		return s.Select(*c.Level)
	case len(m.Levels()) > 0:
		return s.Select(len(m.Levels()) - 1)
	}
	return s.Configure(m.Space().Largest())
}

// open opens a bundle, or a checkpoint as if it had been imported.
func open(path, backend string) (*dynofa.Model, error) {
	cfg := &dynofa.Config{Backend: backend}
	if strings.EqualFold(filepath.Ext(path), ".dofa") {
		return dynofa.Open(path, cfg)
	}
	c, err := bundle.Import(path, bundle.ImportOptions{})
	if err != nil {
		return nil, err
	}
	return dynofa.New(c, cfg)
}

// noBundle refuses a name of bundles, such as the input's, for a file that is to be none.
func noBundle(flag, path, expected string) error {
	if strings.EqualFold(filepath.Ext(path), ".dofa") {
		return fmt.Errorf("%s %s: what is written there is no bundle, expected %s", flag, path, expected)
	}
	return nil
}

// network is what evaluation needs to know of a sub-network of the model.
func network(s *ofa.Space, resolution int) evaluate.Network {
	return evaluate.Network{Transform: imageio.Transform(s.Preprocess), Resolution: resolution, Classes: s.Classes}
}

// dataName is what a record says of a data set: the folder's own name and the split.
func dataName(dir, split string) string {
	return filepath.ToSlash(filepath.Join(filepath.Base(dir), split))
}

// readJSON reads a file of at most 64 MiB.
func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	const limit = 64 << 20
	if info.Size() > limit {
		return fmt.Errorf("%s: %d bytes, expected at most %d", path, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces a file.
func writeJSON(path string, v any) error {
	return atomicfile.Replace(path, func(w io.Writer) error { return json.NewEncoder(w).Encode(v) })
}

// closing joins the error of closing c to *err.
func closing(c interface{ Close() error }, err *error) { *err = errors.Join(*err, c.Close()) }
