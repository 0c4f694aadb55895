package main

import "github.com/dynofa/dynofa/bench/harness"

type benchRooflineCmd struct {
	Result string `arg:"" help:"Result file of bench run --layers."`
	Roof   string `help:"What the CPU can do, as checkkern --roof prints it." required:"" placeholder:"FILE"`
	Output string `short:"o" help:"Draw the parts below their roof (.svg or .png)." placeholder:"FILE"`
}

func (c *benchRooflineCmd) Run(e *env) error {
	res, err := harness.ReadFile(c.Result)
	if err != nil {
		return err
	}
	roofs, err := harness.ReadRoofs(c.Roof)
	if err != nil {
		return err
	}
	if err := harness.WriteRoofline(e.stdout, res, roofs); err != nil {
		return err
	}
	if c.Output == "" {
		return nil
	}
	f, err := harness.Roofline(res, roofs)
	if err != nil {
		return err
	}
	if err := makeFolder(c.Output); err != nil {
		return err
	}
	if err := f.Save(c.Output); err != nil {
		return err
	}
	e.printf("wrote %s\n", c.Output)
	return nil
}
