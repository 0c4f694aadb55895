// Package psi reads the pressure on the CPUs of the whole machine: the "some" line of /proc/pressure/cpu, whose
// total counts the microseconds during which at least one task waited for a CPU. Differences of the total are used,
// because the averages that the file also has begin at ten seconds.
package psi

import (
	"bytes"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads the share of time since its last Read.
type Sensor struct {
	file  *sysfs.File
	total source.Counter
	rows  [1]source.Row
}

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{file: sysfs.At(root, "proc/pressure/cpu")}
	s.rows = [1]source.Row{{Name: "some", Field: source.Pressure, Path: s.file.Path}}
	return s
}

// Read reads the total.
func (s *Sensor) Read(now time.Duration) []source.Row {
	share, err := s.read(now)
	s.rows[0].Set(now, share, err)
	return s.rows[:]
}

func (s *Sensor) read(now time.Duration) (float64, error) {
	text, err := s.file.Read(now)
	if err != nil {
		s.total.Forget()
		return 0, err
	}
	total, err := parseTotal(text)
	if err != nil {
		return 0, err
	}
	gained, passed, err := s.total.Step(total, now)
	if err != nil {
		return 0, err
	}
	return source.Share(float64(gained), float64(passed.Microseconds())), nil
}

// parseTotal is the total of the line "some avg10=0.26 avg60=0.51 avg300=0.71 total=11656859242".
func parseTotal(text []byte) (uint64, error) {
	for len(text) > 0 {
		var line []byte
		line, text = sysfs.Line(text)
		if !bytes.HasPrefix(line, []byte("some ")) {
			continue
		}
		if i := bytes.LastIndex(line, []byte(" total=")); i >= 0 {
			return sysfs.ParseUint(line[i+len(" total="):])
		}
	}
	return 0, sysfs.ErrFormat
}

// Close closes the file.
func (s *Sensor) Close() { s.file.Close() }
