package sim

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
)

// recording is what a live run leaves behind, such as the trace.json of dynofa demo; other keys are left alone.
type recording struct {
	Deadline float64 `json:"deadline_ms"`
	Frames   []struct {
		Seconds float64 `json:"seconds"`
		Level   int     `json:"level"`
		Latency float64 `json:"latency_ms"`
		Correct int     `json:"correct"`
		Images  int     `json:"images"`
	} `json:"frames"`
}

// Replay makes a scenario of a recorded run. The levels are those that ran, with the lower quartile of their latencies
// as profile and the share of their correct answers as accuracy; the slowdown at each recorded inference is its latency
// over the profile. That includes the noise, so the oracle of a replay is clairvoyant.
func Replay(name string, r io.Reader) (*Scenario, error) {
	var rec recording
	if err := json.NewDecoder(io.LimitReader(r, 64<<20)).Decode(&rec); err != nil {
		return nil, fmt.Errorf("recording: %w", err)
	}
	if len(rec.Frames) < 2 || len(rec.Frames) > maxItems {
		return nil, fmt.Errorf("recording %q: %d frames, expected 2 to %d", name, len(rec.Frames), maxItems)
	}
	latencies, correct, images := map[int][]float64{}, map[int]int{}, map[int]int{}
	for i, f := range rec.Frames {
		if !(f.Latency > 0 && f.Latency < 3600e3) || f.Correct < 0 || f.Correct > f.Images || f.Images > 1<<30 ||
			i > 0 && f.Seconds < rec.Frames[i-1].Seconds || f.Seconds < 0 {
			return nil, fmt.Errorf("recording %q: frame %d is %+v, expected times in order, a latency, and no more correct answers than images", name, i, f)
		}
		latencies[f.Level] = append(latencies[f.Level], f.Latency)
		correct[f.Level] += f.Correct
		images[f.Level] += f.Images
	}
	s := &Scenario{Name: name, About: "recorded run", Length: rec.Frames[len(rec.Frames)-1].Seconds * 1e3, Constraints: Constraints{Deadline: rec.Deadline}}
	profile := map[int]float64{}
	var levels []int
	for level, list := range latencies {
		slices.Sort(list)
		profile[level] = list[len(list)/4]
		levels = append(levels, level)
	}
	slices.Sort(levels)
	for _, level := range levels {
		s.Levels = append(s.Levels, Level{Accuracy: 100 * ratio(float64(correct[level]), float64(images[level])), Latency: []float64{profile[level]}})
	}
	for _, f := range rec.Frames {
		s.Events = append(s.Events, Event{At: min(f.Seconds*1e3, s.Length), Slowdown: max(0.05, min(100, f.Latency/profile[f.Level]))})
	}
	return s, s.complete()
}
