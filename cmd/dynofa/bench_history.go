package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/bench/regress"
	"github.com/dynofa/dynofa/gofacade/dynofa"
)

type benchHistoryCmd struct {
	Machine   string   `help:"Fingerprint; default: this machine's without a device, or that of the result added."`
	Add       []string `help:"Result file to append; several, of a process each, are one result, the median." placeholder:"FILE"`
	Revision  string   `help:"Revision that --add is of; default: the version that measured, if it knows its own."`
	Accept    string   `help:"Revision of which the shift is fine." placeholder:"REVISION"`
	Why       string   `help:"Why --accept." placeholder:"TEXT"`
	Effect    float64  `help:"Smallest shift of a time to tell of, in percent." default:"2"`
	Plot      string   `help:"Draw the series (.svg or .png)." placeholder:"FILE"`
	Baselines string   `help:"Folder of the histories, a folder a machine." default:"bench/baselines"`
	JSON      bool     `help:"Print JSON."`
}

func (c *benchHistoryCmd) Run(e *env) error {
	if (c.Accept == "") != (c.Why == "") {
		return errors.New("--accept and --why, expected both or neither")
	}
	if err := checkEffect(c.Effect); err != nil {
		return err
	}
	machine, revision := c.Machine, c.Revision
	var added []*harness.Result
	for _, path := range c.Add {
		r, err := harness.ReadFile(path)
		if err != nil {
			return err
		}
		if machine != "" && machine != r.Environment.Fingerprint {
			return fmt.Errorf("%s is of machine %s, expected %s", path, r.Environment.Fingerprint, machine)
		}
		if len(added) > 0 && r.Environment.Version != added[0].Environment.Version {
			return fmt.Errorf("%s is of version %s, expected %s as %s is of", path, r.Environment.Version, added[0].Environment.Version, c.Add[0])
		}
		machine, added = r.Environment.Fingerprint, append(added, r)
	}
	if machine == "" {
		machine = look(dynofa.Device{}).Fingerprint
	}
	if machine != filepath.Base(machine) || strings.HasPrefix(machine, ".") {
		return fmt.Errorf("--machine %q, expected a fingerprint", machine)
	}
	h, err := regress.OpenHistory(c.Baselines, machine)
	if err != nil {
		return err
	}
	if len(added) > 0 {
		if revision == "" {
			if revision = added[0].Environment.Version; revision == unknownVersion {
				return fmt.Errorf("%s is of version %q, which is no revision, expected --revision", c.Add[0], revision)
			}
		}
		if err := h.Add(revision, added...); err != nil {
			return err
		}
	}
	if c.Accept != "" {
		if err := h.Accept(c.Accept, c.Why, time.Now()); err != nil {
			return err
		}
	}
	if len(h.Entries) == 0 {
		return fmt.Errorf("%s: no history of machine %s, expected one: bench history --add FILE begins it", c.Baselines, machine)
	}
	series := h.Series(c.Effect / 100)
	if c.Plot != "" {
		p, err := regress.Plot(series)
		if err != nil {
			return err
		}
		if err := makeFolder(c.Plot); err != nil {
			return err
		}
		if err := p.Save(c.Plot); err != nil {
			return err
		}
	}
	if c.JSON {
		return e.json(series)
	}
	printSeries(e.stdout, machine, series)
	if c.Plot != "" {
		e.printf("wrote %s\n", c.Plot)
	}
	return nil
}

func printSeries(w io.Writer, machine string, series []regress.Series) {
	fmt.Fprintf(w, "machine %s\n", machine)
	for _, s := range series {
		fmt.Fprintf(w, "%s: %d results, last %.4f %s\n", s.Name, len(s.Values), s.Values[len(s.Values)-1], s.Unit)
		for _, p := range s.Shifts {
			state := "not accepted"
			if p.Accepted != "" {
				state = "accepted: " + p.Accepted
			}
			fmt.Fprintf(w, "  %s at %s (%.4f to %.4f %s, p %.1g), %s\n", s.Amount(&p.ChangePoint), p.Revision, p.Before, p.After, s.Unit, p.P, state)
		}
	}
}
