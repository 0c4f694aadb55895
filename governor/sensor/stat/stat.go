// Package stat reads the time that the hypervisor took from our virtual CPUs: the steal column of the first line
// of /proc/stat, in ticks of 10 ms, over the time of all columns. The kernel writes the whole file for it, so it is
// read a few times a second only.
package stat

import (
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads the share since its last Read.
type Sensor struct {
	file         *sysfs.File
	steal, total uint64
	at           time.Duration
	has          bool
	rows         [1]source.Row
}

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{file: sysfs.At(root, "proc/stat")}
	s.rows = [1]source.Row{{Name: "steal", Field: source.Steal, Path: s.file.Path}}
	return s
}

// Read reads the counters.
func (s *Sensor) Read(now time.Duration) []source.Row {
	text, err := s.file.Read(now)
	if err != nil {
		s.has = false
		s.rows[0].Set(now, 0, err)
		return s.rows[:]
	}
	steal, total, err := parse(text)
	if err != nil {
		s.rows[0].Set(now, 0, err)
		return s.rows[:]
	}
	had, stolen, passed := s.has, steal-s.steal, total-s.total
	backwards := had && (steal < s.steal || total < s.total || now < s.at)
	if had && !backwards && passed == 0 {
		return s.rows[:] // no tick yet: the last value gets older
	}
	s.steal, s.total, s.at, s.has = steal, total, now, true
	switch {
	case !had:
		s.rows[0].Set(now, 0, sysfs.ErrFirst)
	case backwards:
		s.rows[0].Set(now, 0, sysfs.ErrBackwards)
	default:
		s.rows[0].Set(now, source.Share(float64(stolen), float64(passed)), nil)
	}
	return s.rows[:]
}

// parse reads "cpu user nice system idle iowait irq softirq steal ...". Guests' time is part of user. Without a
// steal column (before Linux 2.6.11) nothing is known.
func parse(text []byte) (steal, total uint64, err error) {
	line, _ := sysfs.Line(text)
	word, line := sysfs.Word(line)
	if string(word) != "cpu" {
		return 0, 0, sysfs.ErrFormat
	}
	for column := range 8 {
		word, line = sysfs.Word(line)
		if len(word) == 0 && column == 7 {
			return 0, 0, sysfs.ErrUnsupported
		}
		n, err := sysfs.ParseUint(word)
		if err != nil || n > 1<<56 {
			return 0, 0, sysfs.ErrNumber
		}
		total += n
		steal = n
	}
	return steal, total, nil
}

// Close closes the file.
func (s *Sensor) Close() { s.file.Close() }
