package main

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/dynofa/dynofa/governor"
)

// watcher tells others of a live run: an event log and metrics, each if asked for. The zero value tells nobody.
type watcher struct {
	log     *slog.Logger
	file    *os.File
	metrics *metrics
	server  *http.Server

	last     *frame // nil before the first
	copied   frame
	hardware governor.Hardware
	names    []string
	now, old []*governor.Reading
	seen     governor.Hardware
}

func watch(l *live, address, events string) (w *watcher, err error) {
	w = &watcher{}
	w.names, w.now = readings(&w.hardware)
	_, w.old = readings(&w.seen)
	if address != "" {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("--metrics %q, expected [HOST]:PORT", address)
		}
		if host == "" {
			host = "127.0.0.1"
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			return nil, fmt.Errorf("--metrics: %w", err)
		}
		w.metrics = newMetrics(l.constraints.Deadline)
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", w.metrics)
		w.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
		go func() { _ = w.server.Serve(listener) }()
	}
	if events != "" {
		if w.file, err = os.Create(events); err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.log = slog.New(slog.NewJSONHandler(w.file, nil))
	}
	return w, nil
}

// Close ends the server and the log.
func (w *watcher) Close() error {
	var err error
	if w.server != nil {
		err = w.server.Close()
	}
	if w.file != nil {
		err = errors.Join(err, w.file.Close())
	}
	return err
}

// load is told when a load begins or ends.
func (w *watcher) load(on bool) {
	if w.log != nil {
		w.log.Info("load", "running", on)
	}
}

// event is told what the governor gives up.
func (w *watcher) event(e governor.Event) {
	if w.metrics != nil {
		w.metrics.gaveUp.Add(1)
	}
	if w.log == nil {
		return
	}
	if e.GaveUp == governor.None {
		w.log.Info("constraints hold again", "level", e.Decision.Level)
		return
	}
	w.log.Warn("gave up", "constraint", e.GaveUp.String(), "level", e.Decision.Level)
}

// frame is told of each frame, and what the sensors showed before it.
func (w *watcher) frame(f *frame, h *governor.Hardware) {
	if w.metrics != nil {
		w.metrics.frame(f, w.last)
	}
	if w.log != nil {
		if switched(w.last, f) {
			w.log.Info("switch", "seconds", f.Seconds, "from", w.last.Level, "to", f.Level, "configuration", f.Configuration, "slowdown", f.Slowdown, "us", f.SwitchUS)
		}
		w.hardware = *h
		for i, r := range w.now {
			_, was := w.old[i].Get()
			_, is := r.Get()
			if was && !is {
				w.log.Warn("sensor lost", "seconds", f.Seconds, "sensor", w.names[i])
			} else if is && !was {
				w.log.Info("sensor found", "seconds", f.Seconds, "sensor", w.names[i])
			}
		}
		w.seen = *h
	}
	w.copied = *f
	w.last = &w.copied
}

// switched tells whether a frame runs otherwise than the last one of the same run; a new run begins at time 0 again.
func switched(last, f *frame) bool {
	return last != nil && f.Seconds > last.Seconds && (f.Level != last.Level || f.Configuration != last.Configuration)
}

// metrics are counters in the text format of Prometheus. Its client library would bring several modules for these few
// lines.
type metrics struct {
	frames, late, switches, gaveUp atomic.Uint64
	level                          atomic.Int64
	slowdown, sum                  atomic.Uint64 // bits of float64; one goroutine writes
	bounds                         [8]float64    // s
	buckets                        [8]atomic.Uint64
}

func newMetrics(deadline time.Duration) *metrics {
	m := &metrics{}
	for i, share := range [len(m.bounds)]float64{0.25, 0.5, 0.75, 0.9, 1, 1.25, 1.5, 2} {
		m.bounds[i] = share * deadline.Seconds()
	}
	return m
}

func (m *metrics) frame(f, last *frame) {
	seconds := f.LatencyMS / 1e3
	for i := range m.bounds {
		if seconds <= m.bounds[i] {
			m.buckets[i].Add(1)
		}
	}
	if seconds > m.bounds[4] {
		m.late.Add(1)
	}
	if switched(last, f) {
		m.switches.Add(1)
	}
	m.level.Store(int64(f.Level))
	m.slowdown.Store(math.Float64bits(f.Slowdown))
	m.sum.Store(math.Float64bits(math.Float64frombits(m.sum.Load()) + seconds))
	m.frames.Add(1)
}

// ServeHTTP writes the metrics.
func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	one := func(name, kind, help string, value any) {
		fmt.Fprintf(w, "# HELP dynofa_%s %s\n# TYPE dynofa_%s %s\ndynofa_%s %v\n", name, help, name, kind, name, value)
	}
	one("late_total", "counter", "Frames later than the deadline.", m.late.Load())
	one("switches_total", "counter", "Changes of the level or the configuration.", m.switches.Load())
	one("gave_up_total", "counter", "Times that a constraint was given up, or all held again.", m.gaveUp.Load())
	one("level", "gauge", "Level of the last frame.", m.level.Load())
	one("slowdown", "gauge", "Estimated latency over the profiled one.", math.Float64frombits(m.slowdown.Load()))
	const name = "dynofa_latency_seconds"
	fmt.Fprintf(w, "# HELP %s Latency of a frame.\n# TYPE %s histogram\n", name, name)
	n := m.frames.Load()
	for i := range m.bounds {
		fmt.Fprintf(w, "%s_bucket{le=\"%g\"} %d\n", name, m.bounds[i], min(n, m.buckets[i].Load()))
	}
	fmt.Fprintf(w, "%s_bucket{le=\"+Inf\"} %d\n%s_sum %g\n%s_count %d\n", name, n, name, math.Float64frombits(m.sum.Load()), name, n)
}
