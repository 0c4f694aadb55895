package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/pipeline"
	"github.com/dynofa/dynofa/governor/library/profile"
)

type buildCmd struct {
	Bundle string `arg:"" help:"Bundle with the supernet; a library that it has is left out."`
	Data   string `required:"" help:"Folder of images: ImageFolder tree or IDX files." placeholder:"DIR"`
	Output string `short:"o" required:"" help:"Bundle to write." placeholder:"OUT.dofa"`
	Split  string `help:"Split that calibrates and, with images held out, chooses." default:"train"`
	Test   string `name:"test-split" help:"Split whose accuracy is recorded in the end and chooses nothing; default: none." placeholder:"SPLIT"`
	Work   string `help:"Folder for what was measured, so that a run that was stopped goes on, and for the report; default: OUT.dofa.work." placeholder:"DIR"`

	Table       []string      `help:"Latency tables of a device, as dynofa profile writes them; may be repeated. Default: this device is profiled." placeholder:"NAME=DIR" sep:"none"`
	Device      string        `help:"Name of this device: latencies are measured again here if no --table is given or one has this name." default:"this device"`
	Backend     string        `help:"Engine, one of those that info lists; default: the best."`
	Threads     int           `help:"Threads per inference where latency is measured." default:"1"`
	ProfileTime time.Duration `help:"Time to measure this device's latency table, if it has to be." default:"200s"`

	Networks    int     `help:"Sub-networks to measure and to learn from, 25 to 1000." default:"400"`
	Holdout     int     `help:"The last images of the split measure accuracy; nothing is calibrated on them. Default: a twelfth." placeholder:"N"`
	Images      int     `help:"The first images calibrate a measured sub-network." default:"500"`
	LevelImages int     `help:"The first images calibrate a candidate." default:"2000"`
	Batch       int     `help:"Images in a batch; each is normalised with its own statistics." default:"100"`
	Candidates  int     `help:"Limits of latency to search below, for each device." default:"24"`
	Levels      int     `help:"Levels for each device, at most." default:"8"`
	Gap         float64 `help:"Points of accuracy between levels, at least." default:"0.3"`
	MinAccuracy float64 `help:"Smallest accuracy of a level, a fraction." placeholder:"A"`
	Seed        uint64  `help:"Seed of the sample and the search." default:"1"`
	JSON        bool    `help:"Print the report as JSON."`
}

func (c *buildCmd) Run(e *env) (err error) {
	if err := atomicfile.Check(c.Output); err != nil {
		return err
	}
	if c.Work == "" {
		c.Work = c.Output + ".work"
	}
	if c.MinAccuracy < 0 || c.MinAccuracy > 1 {
		return fmt.Errorf("--min-accuracy is %v, expected a fraction from 0 to 1", c.MinAccuracy)
	}
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	contents.Levels = nil
	o := pipeline.Options{
		Contents: contents, Work: c.Work, Networks: c.Networks, Holdout: c.Holdout, Images: c.Images, LevelImages: c.LevelImages, Batch: c.Batch,
		Candidates: c.Candidates, Levels: c.Levels, Gap: c.Gap, MinAccuracy: 100 * c.MinAccuracy, Seed: c.Seed,
	}
	if o.Bundle, err = supernetHash(contents); err != nil {
		return err
	}
	if o.Train, err = data(c.Data, c.Split); err != nil {
		return err
	}
	if c.Test != "" {
		test, err := data(c.Data, c.Test)
		if err != nil {
			return err
		}
		if test.ID == o.Train.ID {
			return fmt.Errorf("--test-split %s has the images of --split %s, expected others", c.Test, c.Split)
		}
		o.Test = &test
	}
	m, err := dynofa.New(contents, &dynofa.Config{Backend: c.Backend})
	if err != nil {
		return err
	}
	defer closing(m, &err)
	o.Engine = calibrator{m}
	for range runtime.GOMAXPROCS(0) {
		s, err := m.NewSession(nil)
		if err != nil {
			return err
		}
		defer closing(s, &err)
		o.Sessions = append(o.Sessions, s)
	}
	timed, err := m.NewSession(&dynofa.Config{Threads: c.Threads})
	if err != nil {
		return err
	}
	defer closing(timed, &err)
	if err := o.Check(); err != nil {
		return err
	}
	if o.Devices, err = c.devices(e, m, timed, o.Bundle); err != nil {
		return err
	}
	stage, bar := "", (*progress)(nil)
	o.Progress = func(what string, done, total int) {
		if what != stage {
			stage, bar = what, e.progress(total, what)
		}
		_ = bar.Set(done)
		if done == total {
			_ = bar.Finish()
		}
	}
	built, report, err := pipeline.Run(e.ctx(), o)
	if err != nil && e.ctx().Err() != nil {
		return fmt.Errorf("build: stopped; what was measured is kept in %s, the same command goes on from there", c.Work)
	}
	if err != nil {
		return err
	}
	built.Provenance.Commands = append(slices.DeleteFunc(built.Provenance.Commands, func(old string) bool { return strings.HasPrefix(old, "dynofa build ") }), c.command())
	if err := c.report(built.Space, report); err != nil {
		return err
	}
	if err := bundle.Write(c.Output, built); err != nil {
		return err
	}
	if c.JSON {
		return e.json(report)
	}
	q := report.Quality
	e.printf("predictions of %d networks that were not learnt from: rank correlation %.3f, mean error %.2f points, worst %.2f\n", q.Networks, q.Rank, q.MeanError, q.Worst)
	e.printf("%s", levelTable(built.Space, built.Levels))
	e.printf("wrote %s and %s\n", filepath.Join(c.Work, "report.md"), c.Output)
	return nil
}

// supernetHash is that of the supernet alone, so that a bundle may be built from itself again.
func supernetHash(c *bundle.Contents) (string, error) {
	data, err := bundle.Marshal(&bundle.Contents{Space: c.Space, Tensors: c.Tensors})
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), err
}

// command is what was asked for, without paths of a machine.
func (c *buildCmd) command() string {
	text := fmt.Sprintf("dynofa build %s --data %s --split %s --networks %d --images %d --level-images %d --batch %d --candidates %d --levels %d --gap %g --min-accuracy %g --seed %d",
		filepath.Base(c.Bundle), filepath.Base(c.Data), c.Split, c.Networks, c.Images, c.LevelImages, c.Batch, c.Candidates, c.Levels, c.Gap, c.MinAccuracy, c.Seed)
	if c.Test != "" {
		text += " --test-split " + c.Test
	}
	if c.Holdout != 0 {
		text += fmt.Sprintf(" --holdout %d", c.Holdout)
	}
	return text
}

// data opens a split.
func data(dir, split string) (pipeline.Data, error) {
	ds, err := imageio.Open(dir, split)
	if err != nil {
		return pipeline.Data{}, err
	}
	id, err := imageio.Identity(ds)
	return pipeline.Data{Set: imageio.Mixed(ds), Name: dataName(dir, split), ID: id}, err
}

// calibrator is a model as the pipeline sees it.
type calibrator struct{ *dynofa.Model }

func (c calibrator) Calibrate(ctx context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) ([]ofa.Affine, error) {
	found, err := c.Model.Calibrate(ctx, n, batches)
	if err != nil {
		return nil, err
	}
	return found.Norms, nil
}

// devices are those of the tables, or this one.
func (c *buildCmd) devices(e *env, m *dynofa.Model, s *dynofa.Session, sum string) ([]pipeline.Device, error) {
	here := pipeline.Device{Name: c.Device, Backend: s.Backend(), Threads: s.Threads(), Session: prepared{s}}
	var devices []pipeline.Device
	for _, text := range c.Table {
		name, dir, found := strings.Cut(text, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("--table is %q, expected NAME=DIR", text)
		}
		t, err := latency.Load(dir)
		if err != nil {
			return nil, err
		}
		d := here
		if name != c.Device {
			d = pipeline.Device{Name: name}
			if p := t.Profile(); p != nil {
				d.Backend, d.Threads = p.Backend, p.Threads
			}
		}
		d.Table = t
		devices = append(devices, d)
	}
	if len(devices) > 0 {
		return devices, nil
	}
	dir := filepath.Join(c.Work, "table")
	if t, err := latency.Load(dir); err == nil {
		if p := t.Profile(); p != nil && p.Bundle == sum && p.Backend == here.Backend && p.Device == m.Device().String() && p.Threads == here.Threads {
			here.Table = t
			return []pipeline.Device{here}, nil
		}
	}
	bar := e.progressShare("profile")
	r, err := profile.Run(e.ctx(), profile.Options{
		Engine: &profiled{session: prepared{s}}, Space: m.Space(), Dir: dir, Limit: c.ProfileTime, Seed: c.Seed,
		Bundle: sum, Backend: s.Backend(), Device: m.Device().String(), Threads: s.Threads(), Dynofa: version(),
		Command: fmt.Sprintf("dynofa build %s --profile-time %v --seed %d", filepath.Base(c.Bundle), c.ProfileTime, c.Seed),
		Progress: func(what string, of float64) {
			bar.Describe("profile: " + what)
			_ = bar.SetShare(of)
		},
	})
	_ = bar.Finish()
	if err != nil {
		return nil, err
	}
	here.Table = r.Table
	return []pipeline.Device{here}, nil
}
