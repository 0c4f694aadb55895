package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

type infoCmd struct {
	Bundle  string `arg:"" optional:"" help:"Bundle to describe."`
	Backend string `help:"Engine whose kernels to show, which takes a bundle; default: the best."`
	JSON    bool   `help:"Print JSON."`
}

type info struct {
	Version  string             `json:"version"`
	Go       string             `json:"go"`
	Platform string             `json:"platform"`
	CPUs     int                `json:"cpus"`
	Backends []string           `json:"backends"`          // best first
	NoCUDA   string             `json:"no_cuda,omitempty"` // why no GPU is among them
	Backend  string             `json:"backend,omitempty"` // that runs the bundle
	Device   string             `json:"device,omitempty"`  // that it computes on, beside the CPU
	Kernels  []string           `json:"kernels,omitempty"` // that it calls
	Space    *ofa.Space         `json:"space,omitempty"`
	Levels   []bundle.Level     `json:"levels,omitempty"`
	Origin   *bundle.Provenance `json:"provenance,omitempty"`
}

func (c *infoCmd) Run(e *env) (err error) {
	if c.Backend != "" && c.Bundle == "" {
		return errors.New("--backend without a bundle, expected one: kernels are chosen for a model")
	}
	i := info{Version: version(), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		CPUs: runtime.NumCPU(), Backends: dynofa.Backends()}
	if err := dynofa.CheckBackend("cuda"); err != nil {
		i.NoCUDA = err.Error()
	}
	if c.Bundle != "" {
		var b *bundle.Bundle
		if b, err = bundle.Open(c.Bundle); err != nil {
			return err
		}
		defer closing(b, &err)
		var m *dynofa.Model
		if m, err = open(c.Bundle, c.Backend); err != nil {
			return err
		}
		defer closing(m, &err)
		origin := b.Provenance()
		i.Space, i.Levels, i.Origin = b.Space(), b.Levels(), &origin
		i.Backend, i.Device, i.Kernels = m.Backend(), m.Device().String(), slices.Compact(m.Kernels())
	}
	if c.JSON {
		return e.json(i)
	}
	e.printf("dynofa %s, %s, %s, %d CPUs\nbackends: %s\n", i.Version, i.Go, i.Platform, i.CPUs, i.Backends)
	if i.NoCUDA != "" {
		e.printf("no backend on a GPU: %s\n", i.NoCUDA)
	}
	if i.Space == nil {
		return nil
	}
	e.printf("\n%s: %s\n", c.Bundle, describe(i.Space))
	e.printf("kernels %v, expand ratios %v, resolutions %v\n", i.Space.Kernels, i.Space.Expands, i.Space.Resolutions)
	for n := range i.Space.Stages {
		st := &i.Space.Stages[n]
		e.printf("  stage %d: %3d channels, stride %d, %-7s SE %-5t depths %v\n", n, st.Channels, st.Stride, st.Act, st.SE, st.Depths)
	}
	if i.Origin.Source != "" {
		e.printf("from %s (SHA-256 %s)\n", i.Origin.Source, i.Origin.SourceSHA256)
	}
	if i.Origin.Training != "" {
		e.printf("training: %s\n", i.Origin.Training)
	}
	e.printf("backend %s\n", i.Backend)
	if i.Device != "" {
		e.printf("device %s\n", i.Device)
	}
	for _, k := range i.Kernels {
		e.printf("  %s\n", k)
	}
	e.printf("\n%s", levelTable(i.Space, i.Levels))
	return nil
}

// levelTable is the library as text, a line a level.
func levelTable(s *ofa.Space, levels []bundle.Level) string {
	text := "level  top-1 %   MMACs  params k  latency ms  sub-network\n"
	for i, l := range levels {
		top1, ms := "-", "-"
		if len(l.Accuracy) > 0 {
			top1 = fmt.Sprintf("%.2f", l.Accuracy[0].Top1)
		}
		if len(l.Latency) > 0 {
			ms = fmt.Sprintf("%.3f", l.Latency[len(l.Latency)-1].MedianMS)
		}
		text += fmt.Sprintf("%5d  %7s  %6.2f  %8.0f  %10s  %s\n", i, top1, float64(l.MACs)/1e6, float64(l.Params)/1e3, ms, s.Text(l.Subnet))
	}
	return text
}
