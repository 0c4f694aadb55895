package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sim"
)

// trace is a recorded live run: JSON lines, the head first, then a frame each.
type trace struct {
	head   traceHead
	frames []frame
}

// traceHead is what was known before the run. Latencies are those of a frame.
type traceHead struct {
	Trace          int                      `json:"trace"` // version of the format
	Policy         string                   `json:"policy"`
	Engine         string                   `json:"engine"`
	Model          string                   `json:"model"`
	DeadlineMS     float64                  `json:"deadline_ms"`
	Probability    float64                  `json:"probability"`
	MinAccuracy    float64                  `json:"min_accuracy"`
	Images         int                      `json:"images"` // of a frame
	Labels         bool                     `json:"labels"` // correct answers were counted
	Levels         []traceLevel             `json:"levels"`
	Configurations []governor.Configuration `json:"configurations"`
	Load           []string                 `json:"load"`
}

type traceLevel struct {
	Subnet    string    `json:"subnet"`
	Accuracy  float64   `json:"accuracy"`   // percent
	LatencyMS []float64 `json:"latency_ms"` // quiet, per configuration
}

// frame is one step of a live run.
type frame struct {
	Seconds       float64            `json:"seconds"` // since the start
	Level         int                `json:"level"`
	Configuration int                `json:"configuration"`
	LatencyMS     float64            `json:"latency_ms"`
	Loaded        bool               `json:"loaded"`   // a load of ours is running
	Slowdown      float64            `json:"slowdown"` // as estimated before the frame; 0 where the policy has none
	GaveUp        string             `json:"gave_up"`
	SwitchUS      float64            `json:"switch_us"`
	GovernorUS    float64            `json:"governor_us"` // of Next and Observe
	Correct       int                `json:"correct"`
	Images        int                `json:"images"`
	Sensors       map[string]float64 `json:"sensors,omitempty"` // those with a valid value

	hardware governor.Hardware // Sensors are made of it when the run is over
}

const traceVersion = 1

// write replaces a file with the trace.
func (t *trace) write(path string) error {
	return atomicfile.Replace(path, func(w io.Writer) error {
		buffered := bufio.NewWriter(w)
		enc := json.NewEncoder(buffered)
		err := enc.Encode(t.head)
		for i := range t.frames {
			err = errors.Join(err, enc.Encode(t.frames[i]))
		}
		return errors.Join(err, buffered.Flush())
	})
}

// finish fills in the sensors of frames that were recorded.
func (t *trace) finish() {
	for i := range t.frames {
		f := &t.frames[i]
		names, list := readings(&f.hardware)
		for k, r := range list {
			if v, ok := r.Get(); ok {
				if f.Sensors == nil {
					f.Sensors = map[string]float64{}
				}
				f.Sensors[names[k]] = v
			}
		}
	}
}

// fileKind is what the first line of a trace or a result file says it is; a scenario says nothing.
type fileKind struct {
	Trace  int
	Format string
}

func kindOf(data []byte) (k fileKind) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	if json.Unmarshal(line, &k) != nil {
		return fileKind{}
	}
	return k
}

// parseTrace reads a trace and takes nothing that it does not know.
func parseTrace(data []byte) (*trace, error) {
	strict := func(line []byte, v any) error {
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(v); err != nil {
			return err
		}
		if dec.More() {
			return errors.New("more than one value, expected one a line")
		}
		return nil
	}
	t := &trace{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		var err error
		if number == 1 {
			if err = strict(line, &t.head); err == nil {
				err = t.head.check()
			}
		} else {
			var f frame
			if err = strict(line, &f); err == nil {
				err = t.head.checkFrame(&f)
			}
			if n := len(t.frames); err == nil && n > 0 && f.Seconds < t.frames[n-1].Seconds {
				err = fmt.Errorf("time %v after %v, expected times in order", f.Seconds, t.frames[n-1].Seconds)
			}
			t.frames = append(t.frames, f)
		}
		if err != nil {
			return nil, fmt.Errorf("trace, line %d: %w", number, err)
		}
	}
	return t, nil
}

func (h *traceHead) check() error {
	switch {
	case h.Trace != traceVersion:
		return fmt.Errorf("version %d, expected %d", h.Trace, traceVersion)
	case len(h.Levels) == 0 || len(h.Configurations) == 0:
		return fmt.Errorf("%d levels and %d configurations, expected at least one of each", len(h.Levels), len(h.Configurations))
	case !(h.DeadlineMS > 0 && h.DeadlineMS < 24*3600e3):
		return fmt.Errorf("deadline_ms %v, expected more than zero and less than a day", h.DeadlineMS)
	case !(h.Probability > 0 && h.Probability < 1):
		return fmt.Errorf("probability %v, expected between 0 and 1", h.Probability)
	}
	for i, l := range h.Levels {
		if len(l.LatencyMS) != len(h.Configurations) || !(l.Accuracy >= 0 && l.Accuracy <= 100) {
			return fmt.Errorf("level %d has %d latencies and accuracy %v, expected %d and percent", i, len(l.LatencyMS), l.Accuracy, len(h.Configurations))
		}
		for _, v := range l.LatencyMS {
			if !(v > 0 && v < 3600e3) {
				return fmt.Errorf("level %d has latency %v ms, expected more than zero and less than an hour", i, v)
			}
		}
	}
	return nil
}

func (h *traceHead) checkFrame(f *frame) error {
	switch {
	case f.Level < 0 || f.Level >= len(h.Levels) || f.Configuration < 0 || f.Configuration >= len(h.Configurations):
		return fmt.Errorf("level %d with configuration %d, expected less than %d and %d", f.Level, f.Configuration, len(h.Levels), len(h.Configurations))
	case !(f.LatencyMS > 0 && f.LatencyMS < 3600e3):
		return fmt.Errorf("latency_ms %v, expected more than zero and less than an hour", f.LatencyMS)
	case !(f.Seconds >= 0 && f.Seconds < 24*3600):
		return fmt.Errorf("seconds %v, expected 0 to a day", f.Seconds)
	case f.Correct < 0 || f.Correct > f.Images:
		return fmt.Errorf("%d of %d images correct, expected no more than there are", f.Correct, f.Images)
	}
	return nil
}

const recordedRun = "recorded run" // what the scenario of a trace is about

// scenario makes a scenario of the trace: each frame met the slowdown that its latency shows against the profile. The
// noise is part of it, so other policies are played against it without any of their own, and without
// sensors: their averages would be averaged again.
func (t *trace) scenario(name string) (*sim.Scenario, error) {
	if len(t.frames) < 2 {
		return nil, fmt.Errorf("trace with %d frames, expected at least 2", len(t.frames))
	}
	h := &t.head
	s := sim.Scenario{Name: name, About: recordedRun, Length: t.frames[len(t.frames)-1].Seconds * 1e3, Period: h.DeadlineMS,
		Configurations: h.Configurations, Constraints: sim.Constraints{Deadline: h.DeadlineMS, Probability: h.Probability, MinAccuracy: h.MinAccuracy}}
	for _, l := range h.Levels {
		s.Levels = append(s.Levels, sim.Level{Accuracy: l.Accuracy, Latency: l.LatencyMS})
	}
	for _, f := range t.frames {
		slowdown := f.LatencyMS / h.Levels[f.Level].LatencyMS[f.Configuration]
		s.Events = append(s.Events, sim.Event{At: min(f.Seconds*1e3, s.Length), Slowdown: max(0.05, min(100, slowdown))})
	}
	data, err := json.Marshal(&s)
	if err != nil {
		return nil, err
	}
	return sim.Parse(bytes.NewReader(data))
}
