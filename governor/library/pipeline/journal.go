package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle"
)

// A journal is the work folder's memory of what was measured: a line of JSON each, the first one saying of what job.
// A line is written in one piece and synced. A process that is killed can leave half a line at the end, which the
// next one cuts off; anything else that does not read is an error.
type journal struct {
	file       *os.File
	accuracies map[accuracyKey]Accuracy
	latencies  map[latencyKey]bundle.Latency
}

const journalName = "journal.jsonl"

// entry is a line. One of its fields is set.
type entry struct {
	Job      *job      `json:"job,omitempty"`
	Accuracy *Accuracy `json:"accuracy,omitempty"`
	Latency  *measured `json:"latency,omitempty"`
}

// job is everything that the measurements depend on.
type job struct {
	Format  string `json:"format"`
	Bundle  string `json:"supernet_sha256"`
	Data    string `json:"data_sha256"`
	Test    string `json:"test_sha256,omitempty"`
	Backend string `json:"backend"`
	Seed    uint64 `json:"seed"`
	Holdout int    `json:"holdout"`
	Batch   int    `json:"batch"`
}

// unlike names the first thing in which two jobs differ.
func (j job) unlike(want job) string {
	have, other := reflect.ValueOf(j), reflect.ValueOf(want)
	for i := range have.NumField() {
		if name := have.Type().Field(i).Tag.Get("json"); !have.Field(i).Equal(other.Field(i)) {
			name, _, _ = strings.Cut(name, ",")
			return fmt.Sprintf("%s is %q, expected %q", name, fmt.Sprint(have.Field(i)), fmt.Sprint(other.Field(i)))
		}
	}
	return ""
}

const journalFormat = "dynofa build 1"

// Accuracy is what a network with calibrated batch normalisation made of a set of images.
type Accuracy struct {
	Subnet     string `json:"subnet"`
	Calibrated int    `json:"calibrated"` // on the first so many training images
	Test       bool   `json:"test,omitempty"`
	Images     int    `json:"images"`
	Top1       int    `json:"top1"` // of them right
	Top5       int    `json:"top5"`
}

type accuracyKey struct {
	subnet     string
	calibrated int
	test       bool
}

func (a Accuracy) key() accuracyKey { return accuracyKey{a.Subnet, a.Calibrated, a.Test} }

// measured is a latency of one network.
type measured struct {
	Subnet string `json:"subnet"`
	bundle.Latency
}

type latencyKey struct {
	subnet, device, backend string
	threads                 int
}

func (l measured) key() latencyKey { return latencyKey{l.Subnet, l.Device, l.Backend, l.Threads} }

// openJournal reads the journal of a folder and goes on with it, or begins one.
func openJournal(dir string, of job) (*journal, error) {
	of.Format = journalFormat
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, journalName)
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	j := &journal{accuracies: map[accuracyKey]Accuracy{}, latencies: map[latencyKey]bundle.Latency{}}
	found, whole, err := j.read(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if found != nil && *found != of {
		return nil, fmt.Errorf("%s is of another job: %s; remove the folder, or name another one", path, found.unlike(of))
	}
	if j.file, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, err
	}
	err = j.file.Truncate(int64(whole))
	if err == nil {
		_, err = j.file.Seek(int64(whole), 0)
	}
	if err == nil && found == nil {
		err = j.write(entry{Job: &of})
	}
	if err != nil {
		return nil, errors.Join(err, j.file.Close())
	}
	return j, nil
}

// read takes what a journal says and returns its job and the length of its whole lines. An empty one has no job.
func (j *journal) read(text []byte) (*job, int, error) {
	var found *job
	whole := 0
	for number := 1; ; number++ {
		end := bytes.IndexByte(text[whole:], '\n')
		if end < 0 {
			return found, whole, nil
		}
		var e entry
		d := json.NewDecoder(bytes.NewReader(text[whole : whole+end]))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", number, err)
		}
		if d.More() {
			return nil, 0, fmt.Errorf("line %d: more text after the entry", number)
		}
		whole += end + 1
		switch {
		case number == 1:
			if e.Job == nil || e.Job.Format != journalFormat {
				return nil, 0, fmt.Errorf("line 1: expected the job of a %q", journalFormat)
			}
			found = e.Job
		case e.Accuracy != nil:
			a := *e.Accuracy
			if a.Images < 1 || a.Top1 < 0 || a.Top5 < a.Top1 || a.Images < a.Top5 {
				return nil, 0, fmt.Errorf("line %d: top1 is %d and top5 %d of %d images", number, a.Top1, a.Top5, a.Images)
			}
			j.accuracies[a.key()] = a
		case e.Latency != nil:
			l := e.Latency
			if !(l.MedianMS > 0) {
				return nil, 0, fmt.Errorf("line %d: a latency of %v ms, expected more than 0", number, l.MedianMS)
			}
			j.latencies[l.key()] = l.Latency
		default:
			return nil, 0, fmt.Errorf("line %d: expected accuracy or latency", number)
		}
	}
}

func (j *journal) write(e entry) error {
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = j.file.Sync()
	}
	return err
}

func (j *journal) addAccuracy(a Accuracy) error {
	j.accuracies[a.key()] = a
	return j.write(entry{Accuracy: &a})
}

func (j *journal) addLatency(subnet string, l bundle.Latency) error {
	m := measured{subnet, l}
	j.latencies[m.key()] = l
	return j.write(entry{Latency: &m})
}

func (j *journal) close() error { return j.file.Close() }
