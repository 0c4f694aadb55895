package main

import (
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/dynofa"
)

type benchCmd struct {
	Run      benchRunCmd      `cmd:"" help:"Measure a bundle: LoadGen-compatible scenarios over levels and threads."`
	Compare  benchCompareCmd  `cmd:"" help:"Tell whether B is slower than A: two bundles, builds of dynofa, or result files."`
	AA       benchAACmd       `cmd:"" name:"aa" help:"Compare a build with itself: this machine's false alarms and the smallest change it can find."`
	History  benchHistoryCmd  `cmd:"" help:"Keep results of one machine in order and find when speed changed."`
	Export   benchExportCmd   `cmd:"" help:"Write result files in the formats of other tools."`
	Roofline benchRooflineCmd `cmd:"" help:"Tell and draw how much of this CPU's peak and bandwidth the parts of a network reach."`
	Worker   benchWorkerCmd   `cmd:"" hidden:"" help:"Run inferences when asked; a comparison's other side."`
}

// subject is the flags that say what is measured.
type subject struct {
	Backend string `help:"Engine, one of those that info lists; default: the best."`
	Data    string `help:"Folder of test images: ImageFolder tree or IDX files." default:"models/fashion/test"`
}

// args are the flags again, for another process.
func (s *subject) args() []string {
	args := []string{"--data", s.Data}
	if s.Backend != "" {
		args = append(args, "--backend", s.Backend)
	}
	return args
}

type benchWorkerCmd struct {
	Bundle string `arg:"" help:"Bundle."`
	subject
	Threads int `help:"Threads per inference." default:"1"`
}

func (c *benchWorkerCmd) Run(e *env) (err error) {
	slow, err := harness.ParseSlow(os.Getenv("DYNOFA_BENCH_SLOW"))
	if err != nil {
		return err
	}
	m, err := harness.Open(c.Bundle, c.Backend, c.Data)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	return harness.Worker(e.ctx(), m, c.Threads, version(), slow, os.Stdin, e.stdout)
}

// look is the environment of what is measured now on a device, zero for the CPU.
func look(d dynofa.Device) *harness.Environment {
	return harness.Look(os.DirFS("/"), version(), time.Now()).On(d)
}

// record writes a result file of this machine and a device, now.
func record(path string, d dynofa.Device, rows func(w *harness.Writer) error) error {
	return writeFile(path, func(out io.Writer) error {
		w, err := harness.NewWriter(out, look(d), harness.NoMeter)
		if err != nil {
			return err
		}
		return rows(w)
	})
}

// makeFolder makes the folder that a file is to be in.
func makeFolder(path string) error { return os.MkdirAll(filepath.Dir(path), 0o755) }

// makeFolders makes those of the files that are wanted, before long work: an empty path is none.
func makeFolders(paths ...string) error {
	for _, path := range paths {
		if path == "" {
			continue
		}
		if err := makeFolder(path); err != nil {
			return err
		}
	}
	return nil
}
