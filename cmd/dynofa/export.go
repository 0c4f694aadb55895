package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/gofacade/onnx"
)

type exportCmd struct {
	Bundle string `arg:"" help:"Bundle or checkpoint."`
	Level  *int   `help:"Level of the library; default: the most accurate." xor:"what"`
	Subnet string `help:"Any sub-network of the space, with the supernet's own batch normalisation." placeholder:"JSON" xor:"what"`
	Output string `short:"o" required:"" help:"File to write." placeholder:"net.onnx"`
}

func (c *exportCmd) Run(e *env) (err error) {
	if err := noBundle("-o", c.Output, "a name such as net.onnx"); err != nil {
		return err
	}
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	n, norms, err := c.choose(contents)
	if err != nil {
		return err
	}
	err = atomicfile.Replace(c.Output, func(w io.Writer) error {
		return onnx.Write(w, contents.Space, n, contents.Tensor, norms, &onnx.Options{Version: version(), Metadata: metadata(contents.Space)})
	})
	if err != nil {
		return err
	}
	e.printf("%s: sub-network %s\n", c.Output, contents.Space.Text(n))
	return nil
}

// choose is the given level or sub-network, else the most accurate level, else the largest sub-network.
func (c *exportCmd) choose(contents *bundle.Contents) (ofa.Subnet, []ofa.Affine, error) {
	space, levels := contents.Space, contents.Levels
	n := space.Largest()
	switch {
	case c.Subnet != "":
		var err error
		if n, err = space.Parse(c.Subnet); err != nil {
			return n, nil, err
		}
	case c.Level != nil && (*c.Level < 0 || *c.Level >= len(levels)):
		return n, nil, fmt.Errorf("level %d: %s has %d levels", *c.Level, c.Bundle, len(levels))
	case c.Level != nil:
		return levels[*c.Level].Subnet, levels[*c.Level].Norms, nil
	case len(levels) > 0:
		last := levels[len(levels)-1]
		return last.Subnet, last.Norms, nil
	}
	return n, bundle.FoldNorms(space, n, contents.Tensor), nil
}

// metadata tells a reader of the file what the logits mean.
func metadata(s *ofa.Space) map[string]string {
	if len(s.Labels) == 0 {
		return nil
	}
	return map[string]string{"labels": strings.Join(s.Labels, "\n")}
}
