package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dynofa/dynofa/bench/regress"
)

// A worker that says nothing for longer hangs; loading and blocks of runs on a busy machine are what may take long.
const (
	patience    = 2 * time.Minute
	longestLine = 1 << 20
)

// worker is a process that runs one engine on one network.
type worker struct {
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // closed at the end of its output
	said  *regress.Tail
	limit time.Duration // of an answer
	wait  func() error  // for the end of the process, any number of times
}

// start starts a program that answers each line of its input by one line of JSON.
func start(name string, argv []string) (*worker, error) {
	w := &worker{name: name, cmd: exec.Command(argv[0], argv[1:]...), lines: make(chan string), said: &regress.Tail{}, limit: patience}
	w.cmd.Stderr = w.said
	w.cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	w.cmd.WaitDelay = time.Second // a process that it leaves behind may keep its pipes open
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	w.in = in
	w.wait = sync.OnceValue(w.cmd.Wait)
	go func() {
		defer close(w.lines)
		s := bufio.NewScanner(out)
		s.Buffer(nil, longestLine)
		for s.Scan() {
			w.lines <- s.Text()
		}
		if s.Err() != nil { // nobody reads the rest
			fmt.Fprintf(w.said, "\n%v\n", s.Err())
			_ = w.cmd.Process.Kill()
		}
	}()
	return w, nil
}

// answer reads one line of JSON into v, which must know all its fields.
func (w *worker) answer(v any) error {
	timer := time.NewTimer(w.limit)
	defer timer.Stop()
	select {
	case line, ok := <-w.lines:
		if !ok {
			_ = w.cmd.Process.Kill() // it may have closed its output only
			_ = w.wait()             // the reason is in what it said
			return fmt.Errorf("%s: ended: %s", w.name, w.said.Last("without a word"))
		}
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		err := d.Decode(v)
		if err == nil && d.More() {
			err = errors.New("expected one JSON object")
		}
		if err != nil {
			return fmt.Errorf("%s: said %.80q: %w", w.name, line, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%s: no answer in %v", w.name, w.limit)
	}
}

// ask writes a line and reads the answer. A worker that no longer reads has no answer either.
func (w *worker) ask(question string, v any) error {
	_, _ = io.WriteString(w.in, question+"\n")
	return w.answer(v)
}

// version waits until the engine is loaded.
func (w *worker) version() (string, error) {
	var a struct{ Version string }
	if err := w.answer(&a); err != nil {
		return "", err
	}
	if a.Version == "" || len(a.Version) > 200 || strings.ContainsAny(a.Version, "\n|") {
		return "", fmt.Errorf("%s: said its version is %.80q", w.name, a.Version)
	}
	return a.Version, nil
}

// block is the times of inferences one after the other, in milliseconds.
type block struct {
	Wall []float64 `json:"wall"`
	CPU  []float64 `json:"cpu"` // of the whole process
}

// run lets the engine run n inferences.
func (w *worker) run(n int) (block, error) {
	var a struct{ Wall, CPU []int64 }
	if err := w.ask(fmt.Sprintf("run %d", n), &a); err != nil {
		return block{}, err
	}
	wall, err := milliseconds(a.Wall, n)
	if err != nil {
		return block{}, fmt.Errorf("%s: wall times: %w", w.name, err)
	}
	cpu, err := milliseconds(a.CPU, n)
	if err != nil {
		return block{}, fmt.Errorf("%s: processor times: %w", w.name, err)
	}
	return block{wall, cpu}, nil
}

func milliseconds(ns []int64, n int) ([]float64, error) {
	if len(ns) != n {
		return nil, fmt.Errorf("%d of them, expected %d", len(ns), n)
	}
	ms := make([]float64, n)
	for i, v := range ns {
		if v <= 0 || v > patience.Nanoseconds() {
			return nil, fmt.Errorf("%d ns, expected 1 to %d", v, patience.Nanoseconds())
		}
		ms[i] = float64(v) / 1e6
	}
	return ms, nil
}

// logits are those of the last run.
func (w *worker) logits(classes int) ([]float64, error) {
	var a struct{ Logits []float64 }
	if err := w.ask("logits", &a); err != nil {
		return nil, err
	}
	if len(a.Logits) != classes {
		return nil, fmt.Errorf("%s: %d logits, expected %d", w.name, len(a.Logits), classes)
	}
	return a.Logits, nil
}

// peak is the FMA peak of so many cores in FLOP/s.
func (w *worker) peak(threads int) (float64, error) {
	var a struct{ FLOPS float64 }
	if err := w.ask(fmt.Sprintf("peak %d", threads), &a); err != nil {
		return 0, err
	}
	if !(a.FLOPS > 0 && !math.IsInf(a.FLOPS, 0)) {
		return 0, fmt.Errorf("%s: %g FLOP/s, expected more than 0", w.name, a.FLOPS)
	}
	return a.FLOPS, nil
}

// quiet waits until the threads of the process have stopped spinning: two looks at their processor time, each
// longer than a tick of the kernel's accounting, show no difference.
func (w *worker) quiet() {
	const look, limit = 11 * time.Millisecond, 2 * time.Second
	pattern := fmt.Sprintf("/proc/%d/task/*/schedstat", w.cmd.Process.Pid)
	before := ""
	for began := time.Now(); time.Since(began) < limit; time.Sleep(look) {
		files, _ := filepath.Glob(pattern)
		var now bytes.Buffer
		for _, name := range files {
			data, _ := os.ReadFile(name)
			now.Write(data)
		}
		if now.String() == before {
			return
		}
		before = now.String()
	}
}

// close ends the process, by force if it does not end by itself.
func (w *worker) close() error {
	err := w.in.Close()
	timer := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer timer.Stop()
	go func() {
		for range w.lines { // so that its reader ends
		}
	}()
	return errors.Join(err, w.wait())
}
