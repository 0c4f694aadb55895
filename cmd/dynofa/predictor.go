package main

import (
	"fmt"
	"os"

	"github.com/dynofa/dynofa/governor/library/predictor"
)

type predictorCmd struct {
	Pairs  string `arg:"" help:"JSON file with an array \"pairs\" of {\"subnet\", \"accuracy\", \"images\"}."`
	Space  string `required:"" help:"Bundle whose sub-networks they are." placeholder:"M.dofa"`
	Output string `short:"o" required:"" help:"Predictor to write." placeholder:"P.safetensors"`
	Seed   uint64 `help:"Seed of the training and of which pairs are held out." default:"1"`
	JSON   bool   `help:"Print JSON."`
}

func (c *predictorCmd) Run(e *env) error {
	space, err := bundleSpace(c.Space)
	if err != nil {
		return err
	}
	f, err := os.Open(c.Pairs)
	if err != nil {
		return err
	}
	defer f.Close()
	pairs, err := predictor.ReadPairs(f)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Pairs, err)
	}
	p, report, err := predictor.Train(space, pairs, c.Seed)
	if err != nil {
		return err
	}
	if err := p.Save(c.Output, space, report); err != nil {
		return err
	}
	if c.JSON {
		return e.json(report)
	}
	e.printf("%s: %d networks; on %d held out: mean error %.2f points, rank correlation %.3f (Spearman), %.3f (Kendall)\n",
		c.Output, report.Pairs, report.HeldOut, 100*report.MeanError, report.Spearman, report.Kendall)
	return nil
}
