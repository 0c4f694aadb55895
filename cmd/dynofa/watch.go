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
	file    *events
	metrics *metrics
	server  *http.Server

	given    governor.Event // what the decision of the next frame told, if any
	told     bool
	last     *frame // nil before the first of a run
	copied   frame
	hardware governor.Hardware
	names    []string
	now, old []*governor.Reading
	seen     governor.Hardware
}

// events is the file of a log. A logger passes over what cannot be written, so the first error is kept.
type events struct {
	file *os.File
	err  error
}

func (e *events) Write(line []byte) (int, error) {
	n, err := e.file.Write(line)
	if e.err == nil {
		e.err = err
	}
	return n, err
}

func watch(deadline time.Duration, address, path string) (w *watcher, err error) {
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
		w.metrics = newMetrics(deadline)
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", w.metrics)
		// Who asks slowly or reads slowly is a goroutine, and not for long.
		w.server = &http.Server{Handler: mux, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second, IdleTimeout: 5 * time.Minute}
		go func() { _ = w.server.Serve(listener) }()
	}
	if path != "" {
		file, err := os.Create(path)
		if err != nil {
			return nil, errors.Join(err, w.Close())
		}
		w.file = &events{file: file}
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
		err = errors.Join(err, w.file.err, w.file.file.Close())
	}
	return err
}

// run is told when a policy begins to play.
func (w *watcher) run(policy string) {
	w.last, w.told, w.seen = nil, false, governor.Hardware{}
	if w.log != nil {
		w.log.Info("run", "policy", policy)
	}
}

// load is told when a load begins or ends.
func (w *watcher) load(at time.Duration, on bool) {
	if w.log != nil {
		w.log.Info("load", "seconds", at.Seconds(), "running", on)
	}
}

// event is told by a decision what the governor gives up. The inference waits for it: frame tells the others.
func (w *watcher) event(e governor.Event) { w.given, w.told = e, true }

// frame is told of each frame, and what the sensors showed before it.
func (w *watcher) frame(f *frame, h *governor.Hardware) {
	switched := w.last != nil && (f.Level != w.last.Level || f.Configuration != w.last.Configuration)
	if w.metrics != nil {
		w.metrics.frame(f, switched)
		if w.told {
			w.metrics.givenUp[w.given.GaveUp].Add(1)
		}
	}
	if w.log != nil {
		if switched {
			w.log.Info("switch", "seconds", f.Seconds, "from", w.last.Level, "to", f.Level, "configuration", f.Configuration, "slowdown", f.Slowdown, "switch_us", f.SwitchUS)
		}
		switch {
		case w.told && w.given.GaveUp == governor.None:
			w.log.Info("constraints hold again", "seconds", f.Seconds, "to", f.Level)
		case w.told:
			w.log.Warn("gave up", "seconds", f.Seconds, "constraint", w.given.GaveUp.String(), "to", f.Level)
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
	w.last, w.told = &w.copied, false
}

// metrics are what Prometheus reads, in its text format. Its client library would bring several modules for these few
// lines. One goroutine writes.
type metrics struct {
	switches atomic.Uint64
	givenUp  [governor.Latency + 1]atomic.Uint64
	level    atomic.Int64
	slowdown atomic.Uint64 // bits of float64, as sum
	sum      atomic.Uint64
	bounds   [len(shares)]float64 // s
	buckets  [len(shares) + 1]atomic.Uint64
}

// shares of the deadline that bound the buckets.
var shares = [...]float64{0.25, 0.5, 0.75, 0.9, 1, 1.25, 1.5, 2}

const inTime = 5 // buckets

func newMetrics(deadline time.Duration) *metrics {
	m := &metrics{}
	for i, share := range shares {
		m.bounds[i] = share * deadline.Seconds()
	}
	return m
}

func (m *metrics) frame(f *frame, switched bool) {
	seconds := f.LatencyMS / 1e3
	i := 0
	for i < len(m.bounds) && seconds > m.bounds[i] {
		i++
	}
	m.buckets[i].Add(1)
	if switched {
		m.switches.Add(1)
	}
	m.level.Store(int64(f.Level))
	m.slowdown.Store(math.Float64bits(f.Slowdown))
	m.sum.Store(math.Float64bits(math.Float64frombits(m.sum.Load()) + seconds))
}

// ServeHTTP writes the metrics.
func (m *metrics) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	head := func(name, kind, help string) {
		fmt.Fprintf(w, "# HELP dynofa_%s %s\n# TYPE dynofa_%s %s\n", name, help, name, kind)
	}
	one := func(name, kind, help string, value any) {
		head(name, kind, help)
		fmt.Fprintf(w, "dynofa_%s %v\n", name, value)
	}
	const name = "frame_latency_seconds"
	head(name, "histogram", "Latency of a frame.")
	var n, late uint64
	for i := range m.buckets {
		count, bound := m.buckets[i].Load(), "+Inf"
		if n += count; i < len(m.bounds) {
			bound = fmt.Sprintf("%.6g", m.bounds[i])
		}
		if i >= inTime {
			late += count
		}
		fmt.Fprintf(w, "dynofa_%s_bucket{le=%q} %d\n", name, bound, n)
	}
	fmt.Fprintf(w, "dynofa_%s_sum %v\ndynofa_%s_count %d\n", name, math.Float64frombits(m.sum.Load()), name, n)
	one("late_frames_total", "counter", "Frames later than the deadline.", late)
	one("switches_total", "counter", "Changes of the level, or of how it runs.", m.switches.Load())
	head("constraints_given_up_total", "counter", "Times that the governor began to give a constraint up.")
	for c := governor.Power; c <= governor.Latency; c++ {
		fmt.Fprintf(w, "dynofa_constraints_given_up_total{constraint=%q} %d\n", c.String(), m.givenUp[c].Load())
	}
	one("level", "gauge", "Level of the last frame.", m.level.Load())
	one("slowdown_ratio", "gauge", "Estimated latency over the profiled one.", math.Float64frombits(m.slowdown.Load()))
}
