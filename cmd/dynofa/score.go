package main

import (
	"fmt"
	"os"

	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
)

type scoreCmd struct {
	Specs     string  `required:"" help:"JSON file with an array \"cases\" of sub-networks." placeholder:"SPECS.json"`
	Space     string  `help:"Bundle whose sub-networks they are; default: OFA-MobileNetV3." placeholder:"M.dofa" xor:"space"`
	Width     float64 `xor:"space" help:"Width multiplier of the OFA-MobileNetV3 space; default: the table's, else 1."`
	Classes   int     `help:"Number of its classes." default:"1000"`
	Predictor string  `help:"Accuracy predictor: OFA's (.pth) or one that the verb predictor made." placeholder:"P"`
	Table     string  `help:"Folder of latency tables." placeholder:"DIR"`
	JSON      bool    `help:"Print JSON."`
}

func (c *scoreCmd) Run(e *env) error {
	subnets, err := readSpecs(c.Specs)
	if err != nil {
		return err
	}
	var t *latency.Table
	if c.Table != "" {
		if t, err = latency.Load(c.Table); err != nil {
			return err
		}
	}
	space, err := c.space(t, subnets)
	if err != nil {
		return err
	}
	var p *predictor.Predictor
	if c.Predictor != "" {
		if p, err = predictor.Load(c.Predictor, space); err != nil {
			return err
		}
	}
	scored, err := library.Score(space, p, t, subnets)
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(scored)
	}
	e.printf("     MMACs  params k  accuracy  latency ms  sub-network\n")
	for i, s := range scored {
		accuracy, ms := "-", "-"
		if s.Accuracy != nil {
			accuracy = fmt.Sprintf("%.5f", *s.Accuracy)
		}
		if s.LatencyMS != nil {
			ms = fmt.Sprintf("%.3f", *s.LatencyMS)
		}
		e.printf("%10.2f  %8.0f  %8s  %10s  %s\n", float64(s.MACs)/1e6, float64(s.Params)/1e3, accuracy, ms, space.Text(subnets[i]))
	}
	return nil
}

// readSpecs reads a file with an array "cases" of sub-networks.
func readSpecs(path string) ([]ofa.Subnet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	subnets, err := library.ReadSpecs(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return subnets, nil
}

func (c *scoreCmd) space(t *latency.Table, subnets []ofa.Subnet) (*ofa.Space, error) {
	if c.Space != "" {
		return bundleSpace(c.Space)
	}
	return mobileNetV3(c.width(t, subnets), c.Classes)
}

// mobileNetV3 is the space of the flags --width and --classes.
func mobileNetV3(width float64, classes int) (*ofa.Space, error) {
	if !(width > 0 && width <= 16) { // channels of others are no numbers, or round up to one size
		return nil, fmt.Errorf("--width is %v, expected a number above 0 and at most 16", width)
	}
	s := ofa.MobileNetV3(width, classes)
	return s, s.Validate()
}

// width is the given width, else that of the published supernet which the table was measured for, else 1.
func (c *scoreCmd) width(t *latency.Table, subnets []ofa.Subnet) float64 {
	if c.Width != 0 {
		return c.Width
	}
	for _, w := range []float64{1, 1.2} {
		space := ofa.MobileNetV3(w, c.Classes)
		if t == nil || len(subnets) == 0 || space.CheckArch(subnets[0]) != nil {
			break
		}
		if _, err := t.Predict(space, subnets[0]); err == nil {
			return w
		}
	}
	return 1
}
