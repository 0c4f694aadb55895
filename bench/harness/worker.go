package harness

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// Protocol is the version of what Worker speaks. Both sides of a comparison of two builds have to agree on it.
const Protocol = 1

// Hello is a worker's first line.
type Hello struct {
	Protocol int      `json:"protocol"`
	Version  string   `json:"version"`
	Model    string   `json:"model"`
	SHA256   string   `json:"sha256"`
	Backend  string   `json:"backend"`
	Threads  int      `json:"threads"`
	Levels   []string `json:"levels"` // their sub-networks
}

// Burst is the answer to "run LEVEL N": inferences one after the other, in nanoseconds. CPU is the processor
// time of the whole process, and zero where the system does not tell.
type Burst struct {
	Wall []int64 `json:"wall"`
	CPU  []int64 `json:"cpu"`
	// Wait is for how long threads of the process were ready to run and had no CPU, -1 if that is not known.
	Wait int64 `json:"wait"`
	// Parts is the time of each part of the network by name, summed over the blocks, where "profile" was asked.
	Parts map[string][]int64 `json:"parts,omitempty"`
}

// Dirty tells whether the process lacked a CPU for so long that times suffer.
func (b *Burst) Dirty() bool {
	var all int64
	for _, ns := range b.Wall {
		all += ns
	}
	return float64(b.Wait) > dirtyWait*float64(all)
}

// Slow makes a worker slower on purpose, for tests of what finds that: a part of the network by name, or all of
// it as "run", takes the given share longer. It is read from DYNOFA_BENCH_SLOW=PART=SHARE by the hidden worker
// and nowhere else.
type Slow struct {
	Part  string
	Share float64
}

// ParseSlow reads PART=SHARE; nothing is no slow-down.
func ParseSlow(text string) (Slow, error) {
	if text == "" {
		return Slow{}, nil
	}
	part, share, found := strings.Cut(text, "=")
	v, err := strconv.ParseFloat(share, 64)
	if !found || err != nil || !(v >= 0 && v <= 10) {
		return Slow{}, fmt.Errorf("harness: slow-down %q, expected PART=SHARE with a share of 0 to 10", text)
	}
	return Slow{part, v}, nil
}

// Worker is the side of a comparison that runs inferences. It says Hello, then answers each line of its input by
// one line of JSON until the input ends:
//
//	run LEVEL N        Burst of N inferences
//	profile LEVEL N    the same with Parts, which makes the inferences a little slower
func Worker(ctx context.Context, m *Model, threads int, version string, slow Slow, in io.Reader, out io.Writer) error {
	target, err := m.NewTarget(0, threads)
	if err != nil {
		return err
	}
	defer target.Close()
	// The garbage collector's work would count as the inferences', and there is next to no garbage.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(1 << 30)
	defer spareP()()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	hello := Hello{Protocol: Protocol, Version: version, Model: m.Name, SHA256: m.SHA256, Backend: m.Backend(), Threads: threads}
	for _, l := range m.Levels() {
		hello.Levels = append(hello.Levels, m.Space().Text(l.Subnet))
	}
	enc := json.NewEncoder(out)
	if err := enc.Encode(hello); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		level, n, profile, err := parseQuestion(lines.Text())
		if err != nil {
			return err
		}
		b, err := target.burst(ctx, level, n, profile, slow)
		if err != nil {
			return err
		}
		if err := enc.Encode(b); err != nil {
			return err
		}
	}
	return lines.Err()
}

const mostRuns = 100000

func parseQuestion(line string) (level, n int, profile bool, err error) {
	f := strings.Fields(line)
	if len(f) == 3 && (f[0] == "run" || f[0] == "profile") {
		var errLevel, errN error
		level, errLevel = strconv.Atoi(f[1])
		n, errN = strconv.Atoi(f[2])
		if errLevel == nil && errN == nil && n >= 1 && n <= mostRuns {
			return level, n, f[0] == "profile", nil
		}
	}
	return 0, 0, false, fmt.Errorf("harness: worker was asked %.80q, expected run LEVEL N or profile LEVEL N with N of 1 to %d", line, mostRuns)
}

func (t *Target) burst(ctx context.Context, level, n int, profile bool, slow Slow) (*Burst, error) {
	if t.Session.Level() != level {
		if err := t.Select(level); err != nil {
			return nil, err
		}
	}
	b := &Burst{Wall: make([]int64, n), CPU: make([]int64, n)}
	if profile {
		b.Parts = map[string][]int64{}
	}
	system := os.DirFS("/")
	waited := ownWait(system)
	for i := range n {
		cpu, start := processTime(), time.Now()
		if profile {
			layers, err := t.Profile(ctx)
			if err != nil {
				return nil, err
			}
			for _, l := range layers {
				times := b.Parts[l.Name]
				if times == nil {
					times = make([]int64, n)
					b.Parts[l.Name] = times
				}
				times[i] += l.Time.Nanoseconds()
			}
			if times := b.Parts[slow.Part]; times != nil {
				times[i] += busy(time.Duration(float64(times[i]) * slow.Share))
			}
		} else if err := t.Run(ctx); err != nil {
			return nil, err
		}
		if slow.Part == "run" {
			busy(time.Duration(float64(time.Since(start)) * slow.Share))
		}
		b.Wall[i], b.CPU[i] = time.Since(start).Nanoseconds(), processTime()-cpu
	}
	b.Wait = -1
	if wait := ownWait(system) - waited; wait >= 0 {
		b.Wait = int64(wait * 1e9)
	}
	return b, nil
}

// busy keeps the processor busy and returns for how long it did, in nanoseconds.
func busy(d time.Duration) int64 {
	start := time.Now()
	for time.Since(start) < d { //nolint:revive // looking at the clock is the work
	}
	return time.Since(start).Nanoseconds()
}
