package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

type importCmd struct {
	Checkpoint string  `arg:"" help:"PyTorch checkpoint (zip or legacy container) or safetensors file."`
	Output     string  `short:"o" required:"" help:"Bundle to write." placeholder:"M.dofa"`
	Width      float64 `help:"Width multiplier that the file has to have; it is inferred anyway."`
	Space      string  `help:"JSON file of the space, for supernets that names and shapes do not identify." placeholder:"FILE"`
	Labels     string  `help:"Text file with the name of one class a line." placeholder:"FILE"`
	Library    string  `help:"Dynamic-OFA library pickle, whose entries become levels." placeholder:"PICKLE"`
}

func (c *importCmd) Run(e *env) error {
	opts := bundle.ImportOptions{Width: c.Width}
	if c.Space != "" {
		opts.Space = new(ofa.Space)
		if err := readJSON(c.Space, opts.Space); err != nil {
			return err
		}
	}
	contents, err := bundle.Import(c.Checkpoint, opts)
	if err != nil {
		return err
	}
	if c.Labels != "" {
		text, err := os.ReadFile(c.Labels)
		if err != nil {
			return err
		}
		contents.Space.Labels = nil
		for line := range strings.Lines(strings.TrimSpace(string(text))) {
			contents.Space.Labels = append(contents.Space.Labels, strings.TrimSpace(line)) // without Windows' line ends, too
		}
		if err := contents.Space.Validate(); err != nil {
			return fmt.Errorf("%s: %w", c.Labels, err)
		}
	}
	if c.Library != "" {
		if err := bundle.ImportLibrary(c.Library, contents); err != nil {
			return err
		}
	}
	if err := bundle.Write(c.Output, contents); err != nil {
		return err
	}
	e.printf("%s: %s, %d levels\n", c.Output, describe(contents.Space), len(contents.Levels))
	return nil
}

// describe is a Space in one line.
func describe(s *ofa.Space) string {
	return fmt.Sprintf("%s, width %g, %d classes, %.2g sub-networks, r %d to %d",
		s.Family, s.Width, s.Classes, s.Size(), s.Resolutions[0], s.MaxResolution())
}
