// Package sensor samples all sensors in the background and publishes what they know as one governor.Hardware, which
// readers take without locks, waiting or allocation.
package sensor

import (
	"errors"
	"sync"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
)

// Config says what is sampled. The zero value is this machine at 20 Hz.
type Config struct {
	Root    string               // where /proc and /sys are, "/" if empty
	Clock   func() time.Duration // the clock of the loop; nil: the time since Open. Any goroutine may call it
	Period  time.Duration        // between two readings of the fast sensors, 50 ms if zero; slow ones take 2 to 5 of it
	Threads []int                // whose waiting is Contention, by thread id; nil: all threads of the process
	Driver  nvml.Driver          // nil: the system's where Root is "/", none elsewhere
	GPU     int                  // index of the GPU for NVML
}

// Sampler reads the sensors. Hardware and List may be called from any goroutine, also while the sensors are read.
type Sampler struct {
	clock   func() time.Duration
	period  time.Duration
	entries []*entry

	mu     sync.Mutex // entry.rows and the writer's side of latest
	latest cell

	close      sync.Once
	alarm      alarm
	background bool // of Open, not of New
	running    sync.WaitGroup
}

// keeps is how many of its own periods a value is valid.
const keeps = 5

// New makes a Sampler that reads when Sample is called, for virtual clocks.
func New(c Config) *Sampler {
	if c.Root == "" {
		c.Root = "/"
	}
	if c.Clock == nil {
		started := time.Now()
		c.Clock = func() time.Duration { return time.Since(started) }
	}
	if c.Period <= 0 {
		c.Period = 50 * time.Millisecond
	}
	if c.Driver == nil {
		c.Driver = nvml.None{}
		if c.Root == "/" {
			c.Driver = nvml.System()
		}
	}
	return &Sampler{clock: c.Clock, period: c.Period, entries: all(c), alarm: newAlarm()}
}

// Open makes a Sampler that reads in the background until Close. The files of the kernel have been read once when it
// returns; devices and the GPU's driver, which may take long, have not.
func Open(c Config) *Sampler {
	s := New(c)
	s.background = true
	s.sample(kernel)
	for group := range groups {
		if group != driver {
			s.running.Add(1)
		}
		go func() {
			s.run(group)
			if group != driver {
				s.running.Done()
			}
		}()
	}
	return s
}

// run reads a group until the Sampler is closed, and then closes its sensors. Waking up costs more than most of the
// reading: the goroutine sleeps until the first of its sensors is due.
func (s *Sampler) run(group int) {
	defer s.closeGroup(group)
	for pause := time.Duration(0); s.alarm.sleep(pause); pause = s.pause(group) {
		s.sample(group)
	}
}

// pause is the time until the first sensor of a group is due, on a beat that all groups share, so that they wake up
// together.
func (s *Sampler) pause(group int) time.Duration {
	first := sysfs.Again
	for _, e := range s.entries {
		if e.group == group {
			first = min(first, e.period)
		}
	}
	return first - s.clock()%first
}

// periodOf is the time between two readings of a sensor: once a second is enough while all it has is missing.
func (s *Sampler) periodOf(e *entry) time.Duration {
	period := time.Duration(e.every) * s.period
	for i := range e.rows {
		if e.rows[i].Reading.Condition != governor.Missing || errors.Is(e.rows[i].Err, sysfs.ErrFirst) {
			return period
		}
	}
	return max(period, sysfs.Again)
}

// Sample reads every sensor that is due. Only for a Sampler of New, from one goroutine.
func (s *Sampler) Sample() {
	for group := range groups {
		s.sample(group)
	}
}

func (s *Sampler) sample(group int) {
	read := false
	for _, e := range s.entries {
		if e.group != group {
			continue
		}
		now := s.clock()
		// Half a period early is better than a whole one late.
		if !e.due.Due(now, e.period-s.period/2) {
			continue
		}
		rows := e.sensor.Read(now)
		s.mu.Lock()
		e.rows = append(e.rows[:0], rows...)
		s.mu.Unlock()
		e.period = s.periodOf(e)
		read = true
	}
	if read {
		s.publish()
	}
}

// publish merges the rows of all sensors.
func (s *Sampler) publish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var merged [source.Fields]published
	for _, e := range s.entries {
		for i := range e.rows {
			row := &e.rows[i]
			if row.Field == source.None {
				continue
			}
			p := published{row.Reading, s.until(e, row)}
			p.Condition = aged(p, now)
			if m := &merged[row.Field]; better(row.Field, p.Reading, m.Reading) {
				*m = p
			}
		}
	}
	s.latest.store(&merged)
}

// until is when a value of a sensor becomes stale.
func (s *Sampler) until(e *entry, r *source.Row) time.Duration {
	return r.Reading.At + max(r.Keep, keeps*time.Duration(e.every)*s.period)
}

// published is a Reading and the end of its validity.
type published struct {
	governor.Reading
	until time.Duration
}

// aged is the condition at the time now.
func aged(p published, now time.Duration) governor.Condition {
	switch {
	case p.Condition != governor.Valid:
	case now > p.until:
		return governor.Stale
	case now < p.At:
		return governor.Wrong
	}
	return p.Condition
}

// better tells whether a later source in the list takes the place of an earlier one.
func better(f source.Field, later, earlier governor.Reading) bool {
	switch {
	case later.Condition != governor.Valid || earlier.Condition != governor.Valid:
		return later.Condition > earlier.Condition
	case f == source.Cores:
		return later.Value < earlier.Value
	case f == source.Cooling:
		return later.Value > earlier.Value
	}
	return false
}

// Hardware is what the sensors know now. It allocates nothing and waits for nobody.
func (s *Sampler) Hardware() governor.Hardware {
	var merged [source.Fields]published
	s.latest.load(&merged)
	now := s.clock()
	var hw governor.Hardware
	for f := source.None + 1; f < source.Fields; f++ {
		p := &merged[f]
		p.Condition = aged(*p, now)
		*f.Of(&hw) = p.Reading
	}
	return hw
}

// Row is one value of one sensor as List shows it.
type Row struct {
	Sensor  string // its folder
	Name    string // of the value
	Field   string // of governor.Hardware, empty if it is only shown
	Path    string // the file, or the function of a library
	Unit    string // empty for shares and counts
	Reading governor.Reading
	Err     error // why there is no valid value
}

var errStale = errors.New("not read for too long")

// List is what every sensor knows: all values, where they are read from, or why they are missing.
func (s *Sampler) List() []Row {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var list []Row
	for _, e := range s.entries {
		for i := range e.rows {
			r := &e.rows[i]
			row := Row{e.name, r.Name, r.Field.String(), r.Path, r.Unit, r.Reading, r.Err}
			switch row.Reading.Condition = aged(published{r.Reading, s.until(e, r)}, now); {
			case r.Err != nil || row.Reading.Condition == governor.Valid:
			case row.Reading.Condition == governor.Stale:
				row.Err = errStale
			default:
				row.Err = sysfs.ErrBackwards
			}
			list = append(list, row)
		}
	}
	return list
}

// Close ends the sampling; a second Close does nothing. It does not wait for a call of the GPU's driver that is
// under way: that goroutine ends when the call does.
func (s *Sampler) Close() error {
	s.close.Do(func() {
		s.alarm.end()
		s.running.Wait()
		if !s.background {
			for group := range groups {
				s.closeGroup(group)
			}
		}
	})
	return nil
}

func (s *Sampler) closeGroup(group int) {
	for _, e := range s.entries {
		if e.group == group {
			e.sensor.Close()
		}
	}
}
