package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

// watched is a watcher that was told of two runs: levels 0, 1, 1 in 10, 45 and 90 ms, and then level 0.
func watched(t *testing.T, address string) (*watcher, string) {
	path := filepath.Join(t.TempDir(), "events")
	w, err := watch(40*time.Millisecond, address, path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	with := governor.Hardware{Clock: governor.Reading{Value: 1, Condition: governor.Valid}}
	w.run("steady")
	w.load(time.Second/100, true)
	w.frame(&frame{Seconds: 0, LatencyMS: 10, Slowdown: 1}, &with)
	w.event(governor.Event{GaveUp: governor.Latency, Decision: governor.Decision{Level: 1}})
	w.frame(&frame{Seconds: 0.04, LatencyMS: 45, Level: 1, Slowdown: 1.5}, &with)
	w.event(governor.Event{})
	w.frame(&frame{Seconds: 0.08, LatencyMS: 90, Level: 1, Configuration: 1, Slowdown: 2.5}, &governor.Hardware{})
	w.run("alert")
	w.frame(&frame{Seconds: 0, LatencyMS: 40, Slowdown: 1}, &governor.Hardware{})
	return w, path
}

// The text follows Prometheus' format and rules for names: a HELP and a TYPE before the samples, base units, _total of counters
// alone; buckets are cumulative, and the last is the count.
func TestMetricsAreThoseOfPrometheus(t *testing.T) {
	w, _ := watched(t, "127.0.0.1:0")
	reply := httptest.NewRecorder()
	w.metrics.ServeHTTP(reply, nil)
	require.Equal(t, "text/plain; version=0.0.4; charset=utf-8", reply.Header().Get("Content-Type"))
	line := regexp.MustCompile(`^([a-z_]+)(?:\{([a-z]+)="([^"]*)"\})? ([0-9.e+-]+)$`)
	kinds, values := map[string]string{}, map[string]float64{}
	name, before := "", 0.0
	for text := range strings.Lines(reply.Body.String()) {
		text = strings.TrimSuffix(text, "\n")
		if help, ok := strings.CutPrefix(text, "# HELP "); ok {
			name, _, _ = strings.Cut(help, " ")
			continue
		}
		if kind, ok := strings.CutPrefix(text, "# TYPE "+name+" "); ok {
			require.NotContains(t, kinds, name, "twice")
			kinds[name] = kind
			continue
		}
		m := line.FindStringSubmatch(text)
		require.NotNil(t, m, text)
		value, err := strconv.ParseFloat(m[4], 64)
		require.NoError(t, err)
		require.Equal(t, kinds[name] == "counter", strings.HasSuffix(m[1], "_total"), text)
		require.True(t, strings.HasPrefix(m[1], name), text)
		if m[2] == "le" {
			require.GreaterOrEqual(t, value, before, text)
			before = value
		}
		values[strings.TrimPrefix(m[1], "dynofa_")+m[3]] = value
	}
	require.Equal(t, map[string]string{"dynofa_frame_latency_seconds": "histogram", "dynofa_late_frames_total": "counter", "dynofa_switches_total": "counter",
		"dynofa_constraints_given_up_total": "counter", "dynofa_level": "gauge", "dynofa_slowdown_ratio": "gauge"}, kinds)
	for name, want := range map[string]float64{
		"frame_latency_seconds_bucket0.01": 1, "frame_latency_seconds_bucket0.04": 2, "frame_latency_seconds_bucket0.05": 3,
		"frame_latency_seconds_bucket0.08": 3, "frame_latency_seconds_bucket+Inf": 4, "frame_latency_seconds_count": 4,
		"frame_latency_seconds_sum": 0.185, "late_frames_total": 2, "switches_total": 2, "constraints_given_up_totallatency": 1,
		"constraints_given_up_totalpower": 0, "level": 0, "slowdown_ratio": 1,
	} {
		require.Contains(t, values, name)
		require.InDelta(t, want, values[name], 1e-12, name)
	}
}

// Every line is JSON with a time, and has the keys that the README promises.
func TestEventLog(t *testing.T) {
	w, path := watched(t, "")
	require.NoError(t, w.Close())
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	var got []string
	for line := range strings.Lines(string(text)) {
		var event map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &event))
		at, err := time.Parse(time.RFC3339Nano, event["time"].(string))
		require.NoError(t, err)
		require.WithinDuration(t, time.Now(), at, time.Hour)
		delete(event, "time")
		rest, err := json.Marshal(event)
		require.NoError(t, err)
		got = append(got, string(rest))
	}
	require.Equal(t, []string{
		`{"level":"INFO","msg":"run","policy":"steady"}`,
		`{"level":"INFO","msg":"load","running":true,"seconds":0.01}`,
		`{"level":"INFO","msg":"sensor found","seconds":0,"sensor":"Clock"}`,
		`{"configuration":0,"from":0,"level":"INFO","msg":"switch","seconds":0.04,"slowdown":1.5,"switch_us":0,"to":1}`,
		`{"constraint":"latency","level":"WARN","msg":"gave up","seconds":0.04,"to":1}`,
		`{"configuration":1,"from":1,"level":"INFO","msg":"switch","seconds":0.08,"slowdown":2.5,"switch_us":0,"to":1}`,
		`{"level":"INFO","msg":"constraints hold again","seconds":0.08,"to":1}`,
		`{"level":"WARN","msg":"sensor lost","seconds":0.08,"sensor":"Clock"}`,
		`{"level":"INFO","msg":"run","policy":"alert"}`,
	}, got)
}

// A log that cannot be written is an error of the run, not a gap that nobody knows of.
func TestEventLogTellsThatItIsIncomplete(t *testing.T) {
	w, _ := watched(t, "")
	require.NoError(t, w.file.file.Close())
	w.run("steady")
	require.ErrorContains(t, w.Close(), "file already closed")
}
