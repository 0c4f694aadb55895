package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a verb is: a bar on a terminal, elsewhere, as in the log of a job, a line now and then.
type progress struct {
	bar *progressbar.ProgressBar // on a terminal

	mu          sync.Mutex
	w           io.Writer
	what        string
	done, total int
	share       bool // the total is a resolution, which nobody counts
	start, last time.Time
}

// Time between two lines of a log; a verb that takes less writes none.
const progressInterval = 15 * time.Second

func (e *env) progress(total int, what string) *progress {
	return e.begin(&progress{what: what, total: total})
}

// progressShare is of what is not counted but known as a share, by SetShare.
func (e *env) progressShare(what string) *progress {
	return e.begin(&progress{what: what, total: 1000, share: true})
}

func (e *env) begin(p *progress) *progress {
	p.w, p.start = e.stderr, time.Now()
	p.last = p.start
	if isTerminal(e.stderr) {
		options := []progressbar.Option{progressbar.OptionSetWriter(e.stderr), progressbar.OptionSetDescription(p.what),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish()}
		if !p.share {
			options = append(options, progressbar.OptionShowCount())
		}
		p.bar = progressbar.NewOptions(p.total, options...)
	}
	return p
}

// Add counts n more. It may be called from several goroutines.
func (p *progress) Add(n int) error {
	if p.bar != nil {
		return p.bar.Add(n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.advance(p.done + n)
}

// SetShare says which share is done.
func (p *progress) SetShare(of float64) error { return p.Set(int(of * float64(p.total))) }

// Set says how many are done.
func (p *progress) Set(n int) error {
	if p.bar != nil {
		return p.bar.Set(n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.advance(n)
}

// Describe names what is done now.
func (p *progress) Describe(what string) {
	if p.bar != nil {
		p.bar.Describe(what)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what = what
}

func (p *progress) advance(done int) error {
	p.done = done
	if now := time.Now(); now.Sub(p.last) >= progressInterval {
		p.last = now
		_, err := fmt.Fprintln(p.w, p.line(now.Sub(p.start)))
		return err
	}
	return nil
}

func (p *progress) line(passed time.Duration) string {
	left := time.Duration(float64(passed) * float64(p.total-p.done) / float64(max(1, p.done)))
	percent := 100 * p.done / max(1, p.total)
	if p.share {
		return fmt.Sprintf("%s: %d %%, %v left", p.what, percent, left.Round(time.Second))
	}
	return fmt.Sprintf("%s: %d of %d (%d %%), %v left", p.what, p.done, p.total, percent, left.Round(time.Second))
}

// Finish clears the bar.
func (p *progress) Finish() error {
	if p.bar != nil {
		return p.bar.Finish()
	}
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
