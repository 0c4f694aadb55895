package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
)

type runCmd struct {
	Bundle string   `arg:"" help:"Bundle."`
	Images []string `arg:"" help:"PNG or JPEG files."`
	choice
	JSON bool `help:"Print JSON."`
}

type runReport struct {
	Model   string     `json:"model"`
	Backend string     `json:"backend"`
	Threads int        `json:"threads"`
	Level   int        `json:"level"` // -1 for a sub-network that is no level
	Subnet  string     `json:"subnet"`
	Images  []runImage `json:"images"`
}

type runImage struct {
	File      string     `json:"file"`
	LatencyMS float64    `json:"latency_ms"`
	Plan      string     `json:"plan"` // the engine's id of what it executed; equal on every engine
	Top       []runClass `json:"top"`
}

type runClass struct {
	Class       int     `json:"class"`
	Label       string  `json:"label"`
	Logit       float32 `json:"logit"`
	Probability float64 `json:"probability"`
}

func (c *runCmd) Run(e *env) (err error) {
	m, err := open(c.Bundle, c.Backend)
	if err != nil {
		return err
	}
	defer closing(m, &err)
	s, err := m.NewSession(&dynofa.Config{Threads: c.Threads})
	if err != nil {
		return err
	}
	defer closing(s, &err)
	if err := c.apply(m, s); err != nil {
		return err
	}
	space, n := m.Space(), s.Subnet()
	report := runReport{Model: c.Bundle, Backend: s.Backend(), Threads: s.Threads(), Level: s.Level(), Subnet: space.Text(n)}
	transform := imageio.Transform(space.Preprocess)
	image, logits := make([]float32, n.Resolution*n.Resolution*3), make([]float32, m.Classes())
	for _, file := range c.Images {
		decoded, err := imageio.DecodeFile(file, nil)
		if err != nil {
			return err
		}
		if err := transform.Apply(image, decoded, n.Resolution); err != nil {
			return err
		}
		start := time.Now()
		if err := s.Run(e.ctx(), image, logits); err != nil {
			return err
		}
		took := time.Since(start)
		if slices.ContainsFunc(logits, func(v float32) bool { return v-v != 0 }) {
			return fmt.Errorf("%s: %s gives logits that are no numbers, expected finite ones", file, report.Subnet)
		}
		report.Images = append(report.Images, runImage{
			File: file, LatencyMS: float64(took.Microseconds()) / 1e3,
			Plan: fmt.Sprintf("%016x", s.Ran().Plan), Top: top(space.Label, logits, 5),
		})
	}
	if c.JSON {
		return e.json(report)
	}
	e.printf("%s on %s: sub-network %s\n", report.Model, report.Backend, report.Subnet)
	for _, image := range report.Images {
		e.printf("%s  (%.2f ms)\n", image.File, image.LatencyMS)
		for _, t := range image.Top {
			e.printf("  %5.1f %%  %s\n", 100*t.Probability, t.Label)
		}
	}
	return nil
}

// top lists the k likeliest classes with their softmax probabilities.
func top(label func(int) string, logits []float32, k int) []runClass {
	order := dynofa.Classify(logits, k)
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v - logits[order[0]]))
	}
	var out []runClass
	for _, i := range order {
		out = append(out, runClass{i, label(i), logits[i], math.Exp(float64(logits[i]-logits[order[0]])) / sum})
	}
	return out
}
