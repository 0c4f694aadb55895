package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

type calibrateCmd struct {
	Images calibrateImagesCmd `cmd:"" default:"withargs" help:"Estimate the batch normalisation of sub-networks and add them to a bundle as levels; the word images may be left out."`
	Merge  calibrateMergeCmd  `cmd:"" help:"Add the sub-networks of all shards' part files to the bundle as levels."`
}

type calibrateImagesCmd struct {
	Bundle  string   `arg:"" help:"Bundle."`
	Data    string   `required:"" help:"Folder of training images: ImageFolder tree or IDX files." placeholder:"DIR"`
	Split   string   `help:"Split of the data set." default:"train"`
	Images  int      `help:"Number of images: the first, of an image folder random ones, always the same." default:"2000"`
	Batch   int      `help:"Images in a batch; each is normalised with its own statistics." default:"100"`
	Subnet  []string `help:"Sub-network, as JSON or in text form; may be repeated." placeholder:"JSON" sep:"none"`
	Subnets string   `help:"JSON file with an array \"cases\" of sub-networks." placeholder:"FILE"`
	Shard   string   `help:"Measure one of n equal parts of the batches, i from 0 to n-1; default where -o is a part: what Slurm or Kubernetes says, else all." placeholder:"i/n"`
	Output  string   `short:"o" help:"Bundle to write, default: the input is replaced; or, if it ends in .json, part file for dynofa calibrate merge." placeholder:"M.dofa|PART.json"`
}

func (c *calibrateImagesCmd) Run(e *env) (err error) {
	toPart := strings.EqualFold(filepath.Ext(c.Output), ".json")
	if c.Shard != "" && !toPart {
		return fmt.Errorf("--shard %s with -o %q, expected the name of a part file that ends in .json", c.Shard, c.Output)
	}
	shard, err := e.shard(c.Shard, toPart)
	if err != nil {
		return err
	}
	if c.Output == "" {
		c.Output = c.Bundle
	}
	if err := atomicfile.Check(c.Output); err != nil {
		return err
	}
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	subnets, err := c.subnets(contents.Space)
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
	batches := (c.Images + c.Batch - 1) / c.Batch
	part := &evaluate.CalibrationPart{
		Source: evaluate.Source{Split: c.Split, Images: c.Images},
		Name:   dataName(c.Data, c.Split), Batch: c.Batch,
	}
	part.From, part.To = shard.Range(batches)
	if part.From == part.To {
		return fmt.Errorf("shard %v of %d batches is empty, expected at most %d shards", shard, batches, batches)
	}
	if part.Model, err = fileSum(c.Bundle); err != nil {
		return err
	}
	if part.Data, err = imageio.Identity(ds); err != nil {
		return err
	}
	if ds, err = imageio.Range(imageio.Mixed(ds), part.From*c.Batch, min(part.To*c.Batch, c.Images)); err != nil {
		return err
	}
	m, err := dynofa.New(contents, nil)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	bar := e.progress(len(subnets)*ds.Len(), "calibrate")
	for _, n := range subnets {
		s := evaluate.CalibrationSubnet{Subnet: contents.Space.Text(n)}
		for stats, err := range m.CalibrateBatches(e.ctx(), n, evaluate.Batches(ds, network(contents.Space, n.Resolution), c.Batch)) {
			if err != nil {
				return err
			}
			s.Batches = append(s.Batches, evaluate.Batch(stats))
			_ = bar.Add(stats.Images)
		}
		part.Subnets = append(part.Subnets, s)
	}
	_ = bar.Finish()
	if !toPart {
		return e.addLevels(m, contents, part, c.Output)
	}
	if err := writePart(c.Output, part); err != nil {
		return err
	}
	e.printf("%s: batches %d to %d of %d, %d sub-networks\n", c.Output, part.From, part.To-1, batches, len(part.Subnets))
	return nil
}

// addLevels writes a bundle with the sub-networks of a whole calibration as levels; one of the same sub-network
// is replaced.
func (e *env) addLevels(m *dynofa.Model, contents *bundle.Contents, part *evaluate.CalibrationPart, path string) error {
	space := contents.Space
	how := fmt.Sprintf("%d images of %s in batches of %d", part.Images, part.Name, part.Batch)
	for _, s := range part.Subnets {
		n, err := space.Parse(s.Subnet)
		if err != nil {
			return err
		}
		var batches []dynofa.BatchStatistics
		for _, b := range s.Batches {
			batches = append(batches, dynofa.BatchStatistics(b))
		}
		calibration, err := m.AverageBatches(n, batches)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Subnet, err)
		}
		level := bundle.Level{Subnet: calibration.Subnet, Calibration: how, Norms: calibration.Norms}
		level.MACs, level.Params = space.Cost(n)
		contents.Levels = slices.DeleteFunc(contents.Levels, func(l bundle.Level) bool { return space.Text(l.Subnet) == s.Subnet })
		contents.Levels = append(contents.Levels, level)
	}
	slices.SortStableFunc(contents.Levels, func(a, b bundle.Level) int { return cmp.Compare(a.MACs, b.MACs) })
	if err := bundle.Write(path, contents); err != nil {
		return err
	}
	e.printf("%s: %d levels calibrated with %s, %d in all\n", path, len(part.Subnets), how, len(contents.Levels))
	return nil
}

type calibrateMergeCmd struct {
	Bundle string   `arg:"" help:"Bundle that the parts were measured with."`
	Parts  []string `arg:"" help:"Part files of all shards, in any order." placeholder:"PART.json"`
	Output string   `short:"o" help:"Bundle to write; default: the input is replaced." placeholder:"M.dofa"`
}

func (c *calibrateMergeCmd) Run(e *env) (err error) {
	parts, err := readParts(c.Parts, evaluate.DecodeCalibrationPart)
	if err != nil {
		return err
	}
	whole, err := evaluate.MergeCalibration(parts)
	if err != nil {
		return err
	}
	hash, err := fileSum(c.Bundle)
	if err != nil {
		return err
	}
	if hash != whole.Model {
		return fmt.Errorf("%s has SHA-256 %s, the parts were measured with %.64s", c.Bundle, hash, whole.Model)
	}
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	m, err := dynofa.New(contents, nil)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	if c.Output == "" {
		c.Output = c.Bundle
	}
	return e.addLevels(m, contents, whole, c.Output)
}

func (c *calibrateImagesCmd) subnets(s *ofa.Space) ([]ofa.Subnet, error) {
	var list []ofa.Subnet
	for _, text := range c.Subnet {
		n, err := s.Parse(text)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	if c.Subnets != "" {
		more, err := readSpecs(c.Subnets)
		if err != nil {
			return nil, err
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
