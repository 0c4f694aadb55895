package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// disturbance is a load that a live run creates itself: KIND:FROM-TO[:AMOUNT].
type disturbance struct {
	kind     string
	from, to time.Duration
	amount   int // processes per core; of a quota, percent of one core
}

const loadSyntax = "expected KIND:FROM-TO[:AMOUNT], such as cpu:2.5s-7.5s, with KIND one of cpu, free, memory, quota"

func parseLoad(s string) (disturbance, error) {
	wrong := func(what string) (disturbance, error) {
		return disturbance{}, fmt.Errorf("load %q: %s, %s", s, what, loadSyntax)
	}
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return wrong("not two or three parts")
	}
	d := disturbance{kind: parts[0], amount: 1}
	switch d.kind {
	case "cpu", "free", "memory":
	case "quota":
		d.amount = 50
	default:
		return wrong("unknown kind")
	}
	from, to, _ := strings.Cut(parts[1], "-")
	var err1, err2 error
	d.from, err1 = time.ParseDuration(from)
	d.to, err2 = time.ParseDuration(to)
	if err1 != nil || err2 != nil || d.from < 0 || d.to <= d.from || d.to > time.Hour {
		return wrong("no two times in order within an hour")
	}
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[2])
		if err != nil || n < 1 || n > 100 {
			return wrong("amount is no number from 1 to 100")
		}
		d.amount = n
	}
	return d, nil
}

func (d disturbance) String() string {
	return fmt.Sprintf("%s:%v-%v:%d", d.kind, d.from, d.to, d.amount)
}

// load starts and stops disturbances.
type load struct {
	list  []disturbance
	cores []int  // that the inferences may use; empty: nobody knows
	root  string // where /proc and /sys are
	on    []*running
}

// running is a disturbance that goes on.
type running struct {
	procs []*exec.Cmd
	quota *os.File
	old   []byte // content of the quota's file
}

func (l *load) any() bool {
	return slices.ContainsFunc(l.on, func(r *running) bool { return r != nil })
}

// at starts and stops what is due; without news it does nothing.
func (l *load) at(now time.Duration) error {
	for i := range l.list {
		d := &l.list[i]
		due := now >= d.from && now < d.to
		if due == (l.on[i] != nil) {
			continue
		}
		if !due {
			err := l.on[i].stop()
			l.on[i] = nil
			if err != nil {
				return fmt.Errorf("load %v: %w", d, err)
			}
			continue
		}
		r, err := l.start(d)
		if err != nil {
			return fmt.Errorf("load %v: %w", d, err)
		}
		l.on[i] = r
	}
	return nil
}

func (l *load) stop() (err error) {
	for i, r := range l.on {
		if r != nil {
			err = errors.Join(err, r.stop())
			l.on[i] = nil
		}
	}
	return err
}

func (l *load) start(d *disturbance) (*running, error) {
	r := &running{}
	if d.kind == "quota" {
		f, err := openQuota(l.root)
		if err != nil {
			return nil, err
		}
		r.quota = f
		r.old = make([]byte, 64)
		n, err := f.Read(r.old)
		r.old = r.old[:n]
		if err == nil {
			_, err = f.WriteAt(fmt.Appendf(nil, "%d 100000", d.amount*1000), 0)
		}
		if err != nil {
			_ = f.Close()
			return nil, err
		}
		return r, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cores := l.cores
	if d.kind != "cpu" && len(cores) > 1 || len(cores) == 0 { // where the system wants them
		cores = slices.Repeat([]int{-1}, max(len(cores), runtime.NumCPU()))
	}
	for _, core := range cores {
		for range d.amount {
			args := []string{"burn", "--core", strconv.Itoa(core), "--seconds", (d.to - d.from + 10*time.Second).String()}
			if d.kind == "memory" {
				args = append(args, "--memory")
			}
			cmd := exec.Command(self, args...)
			if err := cmd.Start(); err != nil {
				return nil, errors.Join(err, r.stop())
			}
			r.procs = append(r.procs, cmd)
		}
	}
	return r, nil
}

// stop ends a disturbance. The error is a quota that stays as the disturbance set it.
func (r *running) stop() error {
	for _, p := range r.procs {
		_ = p.Process.Kill()
	}
	for _, p := range r.procs {
		_ = p.Wait()
	}
	if r.quota == nil {
		return nil
	}
	_, err := r.quota.WriteAt(r.old, 0)
	if err = errors.Join(err, r.quota.Close()); err != nil {
		return fmt.Errorf("the quota could not be put back to %q: %w", bytes.TrimSpace(r.old), err)
	}
	return nil
}

// possible tells why a disturbance cannot be created here, if so.
func (l *load) possible(d disturbance) error {
	if d.kind != "quota" {
		return nil
	}
	f, err := openQuota(l.root)
	if err == nil {
		_ = f.Close()
	}
	return err
}

// openQuota opens cpu.max of our own cgroup, version 2.
func openQuota(root string) (*os.File, error) {
	data, err := os.ReadFile(filepath.Join(root, "proc/self/cgroup"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return os.OpenFile(filepath.Join(root, "sys/fs/cgroup", path, "cpu.max"), os.O_RDWR, 0)
		}
	}
	return nil, errors.New("no cgroup of version 2 in /proc/self/cgroup, expected a line that begins with \"0::\"")
}

// burnCmd is a load: a busy loop that ends by itself if nobody ends it.
type burnCmd struct {
	Core   int           `help:"Core to stay on, -1 for any." default:"-1"`
	Memory bool          `help:"Stream memory instead of counting."`
	Length time.Duration `name:"seconds" help:"Latest end." default:"1m"`
}

func (c *burnCmd) Run(e *env) error {
	runtime.LockOSThread()
	if c.Core >= 0 {
		pinThreadTo(c.Core)
	}
	var from, to []uint64
	if c.Memory { // beyond any cache
		from, to = make([]uint64, 16<<20), make([]uint64, 16<<20)
	}
	ctx, start := e.ctx(), time.Now()
	for time.Since(start) < c.Length && ctx.Err() == nil { // without memory, reading the clock is the work
		copy(to, from)
	}
	return nil
}
