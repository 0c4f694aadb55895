package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/profile"
)

type profileCmd struct {
	Bundle      string        `arg:"" help:"Bundle."`
	Output      string        `short:"o" required:"" help:"Folder for the table; with several engines or numbers of threads, for a folder each." placeholder:"DIR"`
	Backend     []string      `help:"Engines, of those that info lists; default: the best."`
	Threads     []int         `help:"Numbers of threads per inference." default:"1"`
	Resolutions []int         `help:"Image sides; default: all of the space's." placeholder:"R"`
	Limit       time.Duration `help:"Time for the layers, if not all intervals are narrow before." default:"200s"`
	Seed        uint64        `help:"Seed of the networks that are drawn." default:"1"`
	JSON        bool          `help:"Print JSON."`
}

func (c *profileCmd) Run(e *env) error {
	if c.Limit <= 0 {
		return fmt.Errorf("--limit is %v, expected a time above zero, such as 200s", c.Limit)
	}
	for _, threads := range c.Threads {
		if threads < 1 {
			return fmt.Errorf("--threads is %d, expected 1 or more", threads)
		}
	}
	contents, err := bundle.Import(c.Bundle, bundle.ImportOptions{})
	if err != nil {
		return err
	}
	sum, err := supernetHash(contents)
	if err != nil {
		return err
	}
	backends := c.Backend
	if len(backends) == 0 {
		backends = []string{""}
	}
	var reports []*profile.Report
	for _, backend := range backends {
		for _, threads := range c.Threads {
			dir := c.Output
			r, err := c.profile(e, backend, threads, func(name string) string {
				if len(backends)*len(c.Threads) > 1 {
					dir = filepath.Join(dir, fmt.Sprintf("%s_t%d", strings.ReplaceAll(name, "/", "-"), threads))
				}
				return dir
			}, sum)
			if err != nil {
				return err
			}
			reports = append(reports, r)
			if !c.JSON {
				printProfile(e, r)
			}
			for _, ext := range []string{".svg", ".png"} {
				path := filepath.Join(dir, "scatter"+ext)
				if err := plotProfile(r).Save(path); err != nil {
					return err
				}
				if !c.JSON {
					e.printf("wrote %s\n", path)
				}
			}
		}
	}
	if c.JSON {
		return e.json(reports)
	}
	return nil
}

func (c *profileCmd) profile(e *env, backend string, threads int, dir func(backend string) string, sum string) (r *profile.Report, err error) {
	m, err := open(c.Bundle, backend)
	if err != nil {
		return nil, err
	}
	defer closing(m, &err)
	s, err := m.NewSession(&dynofa.Config{Threads: threads})
	if err != nil {
		return nil, err
	}
	defer closing(s, &err)
	folder := dir(s.Backend())
	if t, err := latency.Load(folder); err == nil && t.Profile() != nil && t.Profile().Bundle == sum {
		fmt.Fprintf(e.stderr, "%s has a table of %s: it is measured again, and replaced in the end\n", folder, t.Profile().Date)
	}
	bar := e.progressShare("profile")
	defer bar.Finish() //nolint:errcheck // it is only a bar
	return profile.Run(e.ctx(), profile.Options{
		Engine: &profiled{session: prepared{s}}, Space: m.Space(), Dir: folder, Resolutions: c.Resolutions, Limit: c.Limit, Seed: c.Seed,
		Bundle: sum, Backend: s.Backend(), Device: m.Device().String(), Threads: s.Threads(), Dynofa: version(),
		// The bundle by its name, as nobody needs to know where it lay.
		Command: fmt.Sprintf("dynofa profile %s --backend %s --threads %d --limit %v --seed %d", filepath.Base(c.Bundle), s.Backend(), threads, c.Limit, c.Seed),
		Progress: func(what string, of float64) {
			bar.Describe(what)
			_ = bar.SetShare(of)
		},
	})
}

// prepared is a session that prepares what it configures, so that it takes the time that a level takes.
type prepared struct{ *dynofa.Session }

func (s prepared) Configure(n ofa.Subnet) error {
	if err := s.Session.Configure(n); err != nil {
		return err
	}
	return s.Prepare(1)
}

func (s prepared) ConfigureNorms(n ofa.Subnet, norms []ofa.Affine) error {
	if err := s.Session.ConfigureNorms(n, norms); err != nil {
		return err
	}
	return s.Prepare(1)
}

// profiled is a session as the profiler sees it.
type profiled struct {
	session prepared
	times   [1024]dynofa.LayerTime
}

func (p *profiled) Configure(n ofa.Subnet) error { return p.session.Configure(n) }

func (p *profiled) Run(ctx context.Context, image, logits []float32) error {
	return p.session.Run(ctx, image, logits)
}

func (p *profiled) Profile(ctx context.Context, image, logits []float32, parts []profile.Part) (int, error) {
	count, err := p.session.Profile(ctx, image, logits, p.times[:])
	if err != nil {
		return 0, err
	}
	for i := range min(count, len(parts), len(p.times)) {
		t := &p.times[i]
		parts[i] = profile.Part{Name: t.Name, Block: t.Block, Time: t.Time}
	}
	return count, nil
}

func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func printProfile(e *env, r *profile.Report) {
	e.printf("%s: %s, threads %d: %d keys, %d rounds, %.0f s; %.0f %% of the measurements disturbed, %.0f %% of the intervals narrow\n",
		r.Dir, r.Backend, r.Threads, r.Keys, r.Rounds, r.Seconds, 100*r.Dirty, 100*r.Tight)
	if len(r.Networks) == 0 {
		e.printf("no other networks to compare with\n")
		return
	}
	e.printf("  predicted   measured    error  sub-network\n")
	for _, n := range r.Networks {
		e.printf("%8.3f ms %7.3f ms  %+5.1f %%  %s\n", n.Predicted, n.Measured, 100*(n.Predicted/n.Measured-1), n.Subnet)
	}
	e.printf("%d networks that the table does not know: mean error %.2f %%, worst %.2f %%, rank correlation %.4f; runs took %+.1f %% longer meanwhile, which is divided out\n",
		r.Proof.Networks, 100*r.Proof.MeanError, 100*r.Proof.Worst, r.Proof.Rank, 100*(r.Proof.Drift-1))
	if r.Dirty > 0.5 {
		e.printf("most measurements were disturbed by other work, and repeated or marked: the errors above say how good the table is all the same.\n")
	}
}
