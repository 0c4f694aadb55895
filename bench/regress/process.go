package regress

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
)

// Side is one of the two that are compared: how its worker is started.
type Side struct {
	Name string   // for people: a file or a revision
	Argv []string // a program that speaks harness.Worker's protocol
	Env  []string // beside the environment's
}

// Opening a large bundle and a burst on a busy machine are what may take long.
const (
	patience    = 2 * time.Minute
	longestLine = 64 << 20
)

// asked runs inferences when it is asked to: a worker, or in tests what one once answered.
type asked interface {
	greeting() harness.Hello
	burst(level, n int, profile bool) (*harness.Burst, error)
	close() error
}

// worker is a process of a side.
type worker struct {
	ctx   context.Context // whose end is that of the process
	name  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan []byte // closed at the end of its output
	said  *Tail
	hello harness.Hello
}

func (s *Side) start(ctx context.Context) (*worker, error) {
	w := &worker{ctx: ctx, name: s.Name, cmd: exec.CommandContext(ctx, s.Argv[0], s.Argv[1:]...), lines: make(chan []byte), said: &Tail{}}
	w.cmd.Stderr = w.said
	w.cmd.Env = append(os.Environ(), s.Env...)
	w.cmd.WaitDelay = time.Second
	in, err := w.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	out, err := w.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := w.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w, expected a bundle (.dofa), a result file (.jsonl) or a build of dynofa", s.Name, err)
	}
	w.in = in
	go func() {
		defer close(w.lines)
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, longestLine)
		for lines.Scan() {
			w.lines <- []byte(lines.Text())
		}
		if lines.Err() != nil {
			fmt.Fprintf(w.said, "\n%v\n", lines.Err())
		}
	}()
	if err := w.answer(&w.hello); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if w.hello.Protocol != harness.Protocol {
		return nil, errors.Join(fmt.Errorf("%s: speaks protocol %d, expected %d: build both from revisions that agree",
			s.Name, w.hello.Protocol, harness.Protocol), w.close())
	}
	return w, nil
}

func (w *worker) greeting() harness.Hello { return w.hello }

// answer reads one line of JSON into v, which must know all its fields.
func (w *worker) answer(v any) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-w.ctx.Done():
		return fmt.Errorf("%s: %w", w.name, w.ctx.Err())
	case line, ok := <-w.lines:
		if !ok {
			_ = w.close()           // what it said is complete afterwards
			if w.ctx.Err() != nil { // that is why
				return fmt.Errorf("%s: %w", w.name, w.ctx.Err())
			}
			return fmt.Errorf("%s: the worker ended: %s", w.name, w.said.Last("without a word; does this build have bench worker?"))
		}
		d := json.NewDecoder(strings.NewReader(string(line)))
		d.DisallowUnknownFields()
		if err := d.Decode(v); err != nil {
			return fmt.Errorf("%s: the worker said %.80q: %w", w.name, line, err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("%s: no answer from the worker in %v", w.name, patience)
	}
}

// burst asks for n inferences.
func (w *worker) burst(level, n int, profile bool) (*harness.Burst, error) {
	verb := "run"
	if profile {
		verb = "profile"
	}
	fmt.Fprintf(w.in, "%s %d %d\n", verb, level, n) // a worker that no longer reads does not answer either
	b := &harness.Burst{}
	if err := w.answer(b); err != nil {
		return nil, err
	}
	if len(b.Wall) != n || len(b.CPU) != n {
		return nil, fmt.Errorf("%s: the worker answered %d wall and %d processor times, expected %d each", w.name, len(b.Wall), len(b.CPU), n)
	}
	for i := range n {
		if b.Wall[i] <= 0 || b.CPU[i] < 0 {
			return nil, fmt.Errorf("%s: the worker answered %d ns of wall and %d ns of processor time, expected more than nothing", w.name, b.Wall[i], b.CPU[i])
		}
	}
	return b, nil
}

// close ends the process, by force if it does not end by itself. It may be called again.
func (w *worker) close() error {
	if w.in == nil {
		return nil
	}
	_ = w.in.Close()
	w.in = nil
	timer := time.AfterFunc(5*time.Second, func() { _ = w.cmd.Process.Kill() })
	defer timer.Stop()
	for range w.lines { // so that its reader ends
	}
	return w.cmd.Wait()
}

// Tail keeps the end of what a process says. Its methods may be called from several goroutines.
type Tail struct {
	mu   sync.Mutex
	data []byte
}

// Write takes what is said.
func (t *Tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - 4096; extra > 0 {
		t.data = t.data[extra:]
	}
	return len(p), nil
}

// Last is the last line that is not empty, or the given text if there is none.
func (t *Tail) Last(none string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(t.data))
	if text == "" {
		return none
	}
	return text[strings.LastIndexByte(text, '\n')+1:]
}
