package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/bench/regress"
)

// comparison is the flags of everything that compares.
type comparison struct {
	subject
	Threads   int     `help:"Threads per inference." default:"1"`
	Level     []int   `help:"Levels of the library; default: every one."`
	Kernels   bool    `help:"Compare the parts of the network, too."`
	Effect    float64 `help:"Smallest change that matters, in percent." default:"2"`
	Alpha     float64 `help:"Chance of a false alarm of the whole comparison, in percent." default:"1"`
	Baselines string  `help:"Folder with what machines can find, by bench aa." default:"bench/baselines"`
	Seed      uint64  `help:"Of the order; default: the time."`
	JSON      bool    `help:"Print JSON."`
}

func (c *comparison) options() (regress.Options, error) {
	o := regress.Options{Limits: regress.Limits{Effect: c.Effect / 100, Alpha: c.Alpha / 100}, Levels: c.Level, Kernels: c.Kernels, Seed: c.Seed}
	if err := checkEffect(c.Effect); err != nil {
		return o, err
	}
	if !(c.Alpha >= 0.1 && c.Alpha <= 20) {
		return o, fmt.Errorf("--alpha %g, expected 0.1 to 20 percent", c.Alpha)
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	return o, nil
}

func checkEffect(percent float64) error {
	if !(percent > 0 && percent < 100) {
		return fmt.Errorf("--effect %g, expected more than 0 and less than 100 percent", percent)
	}
	return nil
}

// machine is where the bundle runs: a device has limits of its own.
func (c *comparison) machine(bundle string) (e *harness.Environment, err error) {
	m, err := open(bundle, c.Backend)
	if err != nil {
		return nil, err
	}
	defer closing(m, &err)
	return look(m.Device()), nil
}

// side is a worker of a program on a bundle.
func (c *comparison) side(name, program, bundle string) *regress.Side {
	argv := []string{program, "bench", "worker", bundle, "--threads", fmt.Sprint(c.Threads)}
	return &regress.Side{Name: name, Argv: append(argv, c.args()...)}
}

type benchCompareCmd struct {
	A     string `arg:"" help:"Bundle, program or result file: before."`
	B     string `arg:"" help:"The same: after."`
	Model string `help:"Bundle that two programs run." default:"models/fashion/fashion.dofa"`
	comparison
}

func (c *benchCompareCmd) Run(e *env) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	kind := func(path string) string {
		switch filepath.Ext(path) {
		case ".dofa":
			return "bundle"
		case ".jsonl":
			return "result file"
		}
		return "program"
	}
	if a, b := kind(c.A), kind(c.B); a != b {
		return fmt.Errorf("%s is a %s and %s a %s, expected two of a kind (.dofa is a bundle, .jsonl a result file, anything else a program)", c.A, a, c.B, b)
	}
	var found *regress.Comparison
	if kind(c.A) == "result file" {
		if found, err = regress.CompareFiles(c.A, c.B, o.Limits); err != nil {
			return err
		}
	} else {
		bundle := c.Model
		if kind(c.A) == "bundle" {
			bundle = c.A
		}
		machine, err := c.machine(bundle)
		if err != nil {
			return err
		}
		limit, err := regress.ReadLimit(c.Baselines, machine, c.Kernels)
		if err != nil {
			return err
		}
		if err := limit.Allows(o.Limits); err != nil {
			return err
		}
		a, b := c.side(c.A, "", c.A), c.side(c.B, "", c.B)
		if kind(c.A) == "bundle" {
			self, err := os.Executable()
			if err != nil {
				return err
			}
			a.Argv[0], b.Argv[0] = self, self
		} else {
			for _, side := range []*regress.Side{a, b} {
				if side.Argv[0], err = filepath.Abs(side.Argv[3]); err != nil {
					return err
				}
				side.Argv[3] = c.Model
			}
		}
		bar := e.progress(regress.MostRounds, "compare")
		o.Done = func() { _ = bar.Add(1) }
		if found, err = regress.Compare(e.ctx(), a, b, o); err != nil {
			return err
		}
		_ = bar.Finish()
		if limit == nil {
			fmt.Fprintln(e.stderr, "no limit of this machine is known (dynofa bench aa measures it): --effect is not checked")
		}
	}
	if c.JSON {
		if err := e.json(found); err != nil {
			return err
		}
	} else {
		found.Print(e.stdout)
	}
	return answer(found)
}

// answer is the exit status that a comparison deserves.
func answer(c *regress.Comparison) error {
	switch c.Verdict {
	case regress.Regression:
		return negative{errors.New("bench compare: regression: " + strings.Join(c.Names(regress.Regression), ", "))}
	case regress.Inconclusive:
		return inconclusive{errors.New("bench compare: inconclusive: " + strings.Join(c.Names(regress.Inconclusive), ", "))}
	}
	return nil
}

type benchAACmd struct {
	Bundle      string `arg:"" help:"Bundle." default:"models/fashion/fashion.dofa"`
	Comparisons int    `help:"How many comparisons of this build with itself." default:"20"`
	comparison
}

func (c *benchAACmd) Run(e *env) error {
	o, err := c.options()
	if err != nil {
		return err
	}
	if c.Comparisons < 1 {
		return fmt.Errorf("--comparisons %d, expected at least 1", c.Comparisons)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	machine, err := c.machine(c.Bundle)
	if err != nil {
		return err
	}
	side := c.side(c.Bundle, self, c.Bundle)
	bar := e.progress(c.Comparisons, "compare with itself")
	limit, err := regress.SelfTest(e.ctx(), side, o, machine, c.Comparisons, func() { _ = bar.Add(1) })
	if err != nil {
		return err
	}
	_ = bar.Finish()
	path, err := limit.Save(c.Baselines)
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(limit)
	}
	limit.Print(e.stdout)
	e.printf("wrote %s\n", path)
	return nil
}
