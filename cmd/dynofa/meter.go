package main

import (
	"sync"
	"time"

	"github.com/dynofa/dynofa/bench/harness"
	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/governor/sensor/ina3221"
	"github.com/dynofa/dynofa/governor/sensor/nvml"
	"github.com/dynofa/dynofa/governor/sensor/rapl"
)

// openMeter finds what counts the energy of a backend on the machine below root: NVIDIA's driver for its GPUs, the meters
// of x86 packages, or a Jetson's. Nil is none: what cannot be read is not there.
func openMeter(root, backend string, driver nvml.Driver) closingMeter {
	if number, ok := dynofa.DeviceNumber(backend); ok {
		if m := openNVML(driver, number); m != nil {
			return m
		}
		return openINA3221(root, "gpu energy")
	}
	m := &raplMeter{rapl.New(root), time.Now()}
	if _, ok := m.Millijoules(); ok {
		return m
	}
	m.Close()
	return openINA3221(root, "energy")
}

type closingMeter interface {
	harness.Meter
	Close()
}

// raplMeter reads counters, so that nothing has to run in between. Where one wraps, it does so after minutes.
type raplMeter struct {
	*rapl.Sensor
	began time.Time
}

func (m *raplMeter) Name() string { return "rapl" }

func (m *raplMeter) Millijoules() (float64, bool) {
	for _, r := range m.Read(time.Since(m.began)) {
		if r.Name == "energy" && r.Err == nil {
			return 1e3 * r.Reading.Value, true
		}
	}
	return 0, false
}

// nvmlMeter asks for one number, not for all that the sensor reads: a call takes up to a millisecond.
type nvmlMeter struct {
	nvml.Driver
	device nvml.Device
}

func openNVML(driver nvml.Driver, index int) closingMeter {
	if driver.Init() != nil {
		return nil
	}
	d, err := driver.Device(index)
	if err == nil {
		m := &nvmlMeter{driver, d}
		if _, ok := m.Millijoules(); ok {
			return m
		}
	}
	driver.Shutdown()
	return nil
}

func (m *nvmlMeter) Name() string { return "nvml" }
func (m *nvmlMeter) Close()       { m.Shutdown() }

func (m *nvmlMeter) Millijoules() (float64, bool) {
	joules, err := m.device.Energy()
	return 1e3 * joules, err == nil
}

// ina3221Meter has to look at the power all the time, which it integrates.
type ina3221Meter struct {
	row  string
	mu   sync.Mutex // of what is below
	mj   float64
	ok   bool
	stop chan struct{}
	done sync.WaitGroup
}

func openINA3221(root, row string) closingMeter {
	s, began := ina3221.New(root), time.Now()
	m := &ina3221Meter{row: row, stop: make(chan struct{})}
	if m.read(s, 0); !m.ok {
		s.Close()
		return nil
	}
	m.done.Go(func() {
		defer s.Close()
		const period = 50 * time.Millisecond // one of these chips takes about as long to average
		for tick := time.NewTicker(period); ; {
			select {
			case <-m.stop:
				tick.Stop()
				return
			case <-tick.C:
				m.read(s, time.Since(began))
			}
		}
	})
	return m
}

func (m *ina3221Meter) read(s *ina3221.Sensor, now time.Duration) {
	for _, r := range s.Read(now) {
		if r.Name == m.row {
			m.mu.Lock()
			m.mj, m.ok = 1e3*r.Reading.Value, r.Err == nil
			m.mu.Unlock()
		}
	}
}

func (m *ina3221Meter) Name() string {
	if m.row == "energy" {
		return "ina3221"
	}
	return "ina3221 (GPU)"
}

func (m *ina3221Meter) Millijoules() (float64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mj, m.ok
}

func (m *ina3221Meter) Close() {
	close(m.stop)
	m.done.Wait()
}
