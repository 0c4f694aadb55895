package regress

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gonum.org/v1/gonum/mathext"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/atomicfile"
)

// Limit is what a machine can find: the outcome of comparing one build with itself.
type Limit struct {
	Format      string              `json:"format"`
	Version     int                 `json:"version"`
	Environment harness.Environment `json:"environment"`
	Bundle      string              `json:"bundle"`
	Kernels     bool                `json:"kernels"`
	Effect      float64             `json:"effect"`
	Alpha       float64             `json:"alpha"`
	Comparisons int                 `json:"comparisons"`
	Rows        int                 `json:"rows"`         // of all comparisons
	FalseAlarms int                 `json:"false_alarms"` // comparisons that called something a regression or an improvement
	AtMost      float64             `json:"at_most"`      // upper bound of their rate at 95 % confidence
	Unsettled   int                 `json:"inconclusive"` // comparisons
	// Finds is the smallest change that a comparison finds in 95 of 100 cases, in the noisiest of ten rows.
	Finds float64 `json:"finds"`
}

const limitFormat = "dynofa-bench-limit"

// SelfTest compares a side with itself, again and again.
func SelfTest(ctx context.Context, s *Side, o Options, e *harness.Environment, comparisons int, done func()) (*Limit, error) {
	l := &Limit{Format: limitFormat, Version: 1, Environment: *e, Bundle: filepath.Base(s.Name), Kernels: o.Kernels,
		Effect: o.Effect, Alpha: o.Alpha, Comparisons: comparisons}
	var finds []float64
	for range comparisons {
		c, err := Compare(ctx, s, s, o)
		if err != nil {
			return nil, err
		}
		o.Seed++
		l.Rows += len(c.Rows)
		if len(c.Names(Regression))+len(c.Names(Improvement)) > 0 {
			l.FalseAlarms++
		} else if c.Verdict == Inconclusive {
			l.Unsettled++
		}
		for i := range c.Rows {
			finds = append(finds, c.Rows[i].Finds)
		}
		done()
	}
	slices.Sort(finds)
	l.Finds = quantile(finds, 0.9)
	l.AtMost = rateAtMost(l.FalseAlarms, comparisons)
	return l, nil
}

// rateAtMost is the upper end of Clopper and Pearson's one-sided 95 % interval of a rate.
func rateAtMost(hits, of int) float64 {
	if hits >= of {
		return 1
	}
	return mathext.InvRegIncBeta(float64(hits+1), float64(of-hits), 0.95)
}

// Print writes the outcome for people.
func (l *Limit) Print(w io.Writer) {
	fmt.Fprintf(w, "%d comparisons of %s with itself on machine %s, %d rows\n", l.Comparisons, l.Bundle, l.Environment.Fingerprint, l.Rows)
	fmt.Fprintf(w, "false alarms: %d, their rate is at most %.1f %% (95 %% confidence)\n", l.FalseAlarms, 100*l.AtMost)
	fmt.Fprintf(w, "inconclusive: %d\n", l.Unsettled)
	fmt.Fprintf(w, "a change of %.2f %% is found in 95 of 100 comparisons, in nine of ten rows\n", 100*l.Finds)
}

func limitPath(folder, fingerprint string, kernels bool) string {
	name := "limit.json"
	if kernels {
		name = "limit_kernels.json"
	}
	return filepath.Join(folder, fingerprint, name)
}

// Save writes the limit into the machine's folder and returns the file's name.
func (l *Limit) Save(folder string) (string, error) {
	path := limitPath(folder, l.Environment.Fingerprint, l.Kernels)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return path, atomicfile.Replace(path, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(l)
	})
}

// ReadLimit reads what a machine can find; nil if it was not measured yet.
func ReadLimit(folder string, e *harness.Environment, kernels bool) (*Limit, error) {
	path := limitPath(folder, e.Fingerprint, kernels)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var l Limit
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l.Format != limitFormat || l.Version != 1 || !(l.Finds > 0) {
		return nil, fmt.Errorf("%s: format %q, version %d, finds %g, expected %s, 1 and a number above zero", path, l.Format, l.Version, l.Finds, limitFormat)
	}
	return &l, nil
}

// Allows refuses an effect that the machine cannot find. A nil limit allows all.
func (l *Limit) Allows(want Limits) error {
	if l == nil || want.Effect >= l.Finds {
		return nil
	}
	return fmt.Errorf("an effect of %.2f %% is below what this machine finds, expected at least %.2f %% (bench aa of %s)",
		100*want.Effect, 100*l.Finds, l.Environment.Time.Format(time.DateOnly))
}
