// Package schedstat reads how much our own threads wait for a CPU, from /proc/self/task/<tid>/schedstat: nanoseconds
// on a CPU, nanoseconds on a run queue, number of time slices. It needs no privilege and sees only what hurts us: a
// busy machine that leaves our threads alone does not count.
//
// The value is the share of the time during which the threads wanted to run that they had to wait, over all of them:
// with a share c an inference takes about 1/(1-c) as long as on an idle machine. While the threads hardly want to run,
// the share is of a fiftieth of the wall time, so that the noise of an idle process is no contention.
//
// A thread that has rested for twenty readings is looked at every fifth time only, until it runs again: most threads of a
// process do nothing, and reading their files costs more than everything else.
package schedstat

import (
	"strconv"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// A thread rests after so many readings without any gain, and is then read once in so many.
const (
	resting = 20
	rarely  = 5
)

// least of the wall time is what the waiting is at least compared with.
const least = 0.02

// Sensor reads the threads of this process.
type Sensor struct {
	threads *sysfs.Nodes[*thread]
	last    time.Duration // when Read was called last
	rows    [2]source.Row
}

type thread struct {
	file      *sysfs.File
	run, wait source.Counter
	rest      int // readings without any gain; from resting on also those left out
}

func (t *thread) Close() { t.file.Close() }

// New reads below root: the threads named, or all threads of the process.
func New(root string, tids []int) *Sensor {
	s := &Sensor{}
	dir := sysfs.At(root, "proc/self/task").Path
	chosen := map[string]bool{}
	for _, tid := range tids {
		chosen[strconv.Itoa(tid)] = true
	}
	s.threads = sysfs.Follow(dir, func(name string) (*thread, bool) {
		return &thread{file: sysfs.At(dir, name, "schedstat")}, len(chosen) == 0 || chosen[name]
	})
	path := sysfs.At(dir, "*/schedstat").Path
	s.rows = [2]source.Row{{Name: "waiting", Field: source.Contention, Path: path}, {Name: "threads", Path: path}}
	return s
}

// Read sums what the threads gained since the last Read. Threads that are new begin with the next one.
func (s *Sensor) Read(now time.Duration) []source.Row {
	var run, wait float64
	passed := float64(now - s.last)
	s.last = now
	count := 0
	failed := sysfs.ErrNoNode
	for _, t := range s.threads.List(now) {
		if t.rest >= resting && passed > 0 {
			if t.rest++; t.rest%rarely != 0 {
				count++
				continue
			}
		}
		ran, waited, err := t.read(now)
		if sysfs.Condition(err) == governor.Missing && err != sysfs.ErrFirst { //nolint:errorlint // a sentinel of our own
			s.threads.Rescan() // it has ended
		}
		if err != nil {
			failed = err
			continue
		}
		run, wait = run+ran, wait+waited
		count++
	}
	if count == 0 {
		s.rows[0].Set(now, 0, failed)
		s.rows[1].Set(now, 0, failed)
		return s.rows[:]
	}
	s.rows[0].Set(now, source.Share(wait, max(run+wait, least*passed)), nil)
	s.rows[1].Set(now, float64(count), nil)
	return s.rows[:]
}

// read is what the thread ran and waited since the last call, in nanoseconds.
func (t *thread) read(now time.Duration) (run, wait float64, err error) {
	rested := t.rest
	t.rest = 0
	text, err := t.file.Read(now)
	if err != nil {
		return 0, 0, err
	}
	a, b, err := parse(text)
	if err != nil {
		return 0, 0, err
	}
	ran, _, err := t.run.Step(a, now)
	waited, _, err2 := t.wait.Step(b, now)
	if err == nil {
		err = err2
	}
	if err == nil && ran+waited == 0 {
		t.rest = max(rested, min(rested+1, resting))
	}
	return float64(ran), float64(waited), err
}

// parse reads "run wait slices". A kernel that does not keep these counters writes "0 0 0", also for a thread
// that has been running.
func parse(text []byte) (run, wait uint64, err error) {
	var n [3]uint64
	for i := range n {
		var word []byte
		word, text = sysfs.Word(text)
		if n[i], err = sysfs.ParseUint(word); err != nil {
			return 0, 0, err
		}
	}
	if n == ([3]uint64{}) {
		return 0, 0, sysfs.ErrUnsupported
	}
	return n[0], n[1], nil
}

// Close closes the files.
func (s *Sensor) Close() { s.threads.Close() }
