package main

import (
	"fmt"
	"os"
	"slices"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

type calibrateCmd struct {
	Bundle  string   `arg:"" help:"Bundle."`
	Data    string   `required:"" help:"Folder of training images: ImageFolder tree or IDX files." placeholder:"DIR"`
	Split   string   `help:"Split of the data set." default:"train"`
	Images  int      `help:"Number of images, from the first on." default:"2000"`
	Batch   int      `help:"Images in a batch; each is normalised with its own statistics." default:"100"`
	Subnet  []string `help:"Sub-network, as JSON or in text form; may be repeated." placeholder:"JSON" sep:"none"`
	Subnets string   `help:"JSON file with an array \"cases\" of sub-networks." placeholder:"FILE"`
	Output  string   `short:"o" help:"Bundle to write; default: the input is replaced." placeholder:"M.dofa"`
}

func (c *calibrateCmd) Run(e *env) (err error) {
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	space := contents.Space
	subnets, err := c.subnets(space)
	if err != nil {
		return err
	}
	ds, err := imageio.Open(c.Data, c.Split)
	if err != nil {
		return err
	}
	if c.Images < 1 || c.Images > ds.Len() || c.Batch < 1 {
		return fmt.Errorf("%d images in batches of %d, expected 1 to %d images (%s) and at least 1 a batch", c.Images, c.Batch, ds.Len(), c.Data)
	}
	if ds, err = imageio.Range(ds, 0, c.Images); err != nil {
		return err
	}
	m, err := dynofa.New(contents, nil)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	how := fmt.Sprintf("%d images of %s in batches of %d", c.Images, dataName(c.Data, c.Split), c.Batch)
	bar := e.progress(len(subnets)*c.Images, "calibrate")
	var added []bundle.Level
	for _, n := range subnets {
		batches := evaluate.Batches(ds, network(space, n.Resolution), c.Batch)
		counted := func(yield func([]float32, error) bool) {
			for batch, err := range batches {
				if !yield(batch, err) {
					return
				}
				_ = bar.Add(len(batch) / (n.Resolution * n.Resolution * 3))
			}
		}
		calibration, err := m.Calibrate(e.ctx, n, counted)
		if err != nil {
			return err
		}
		level := bundle.Level{Subnet: calibration.Subnet, Calibration: how, Norms: calibration.Norms}
		level.MACs, level.Params = space.Cost(n)
		added = append(added, level)
	}
	_ = bar.Finish()
	for _, level := range added {
		text := space.Text(level.Subnet)
		contents.Levels = slices.DeleteFunc(contents.Levels, func(l bundle.Level) bool { return space.Text(l.Subnet) == text })
		contents.Levels = append(contents.Levels, level)
	}
	slices.SortStableFunc(contents.Levels, func(a, b bundle.Level) int { return int(a.MACs - b.MACs) })
	if c.Output == "" {
		c.Output = c.Bundle
	}
	if err := bundle.Write(c.Output, contents); err != nil {
		return err
	}
	e.printf("%s: %d levels calibrated with %s, %d in all\n", c.Output, len(added), how, len(contents.Levels))
	return nil
}

func (c *calibrateCmd) subnets(s *ofa.Space) ([]ofa.Subnet, error) {
	var list []ofa.Subnet
	for _, text := range c.Subnet {
		n, err := s.Parse(text)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	if c.Subnets != "" {
		f, err := os.Open(c.Subnets)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		more, err := library.ReadSpecs(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Subnets, err)
		}
		for i, n := range more {
			if err := s.Check(n); err != nil {
				return nil, fmt.Errorf("%s: case %d: %w", c.Subnets, i, err)
			}
		}
		list = append(list, more...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no sub-network given, expected --subnet or --subnets")
	}
	return list, nil
}
