// Package thermal reads the temperatures and what is done against them, from /sys/class/thermal:
//
//   - thermal_zone*/temp in thousandths of a degree Celsius. Zones of the PMIC (a constant on Jetson) are left out. A
//     zone at -256 degrees is a Jetson's whose part is switched off: missing. Others outside of -40 to 150 are wrong.
//   - cooling_device*/cur_state over max_state. Fans and what else does not slow anything down are left out.
package thermal

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

var errOff = fmt.Errorf("switched off: %w", sysfs.ErrNoNode)

// Sensor reads every zone and every cooling device.
type Sensor struct {
	zones   *sysfs.Nodes[*zone]
	devices *sysfs.Nodes[*device]
	rows    [3]source.Row
	paths   [3]string
}

type zone struct {
	gpu  bool
	temp *sysfs.File
}

func (z *zone) Close() { z.temp.Close() }

type device struct {
	cur *sysfs.File
	max float64
}

func (d *device) Close() { d.cur.Close() }

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{}
	at := sysfs.At(root, "sys/class/thermal").Path
	s.zones = sysfs.Follow(at, func(name string) (*zone, bool) {
		if !strings.HasPrefix(name, "thermal_zone") {
			return nil, false
		}
		kind, ok := text(at, name, "type")
		return &zone{strings.HasPrefix(kind, "gpu"), sysfs.At(at, name, "temp")}, ok && !strings.Contains(kind, "pmic")
	})
	s.devices = sysfs.Follow(at, func(name string) (*device, bool) {
		if !strings.HasPrefix(name, "cooling_device") {
			return nil, false
		}
		kind, ok := text(at, name, "type")
		if !ok || harmless(kind) {
			return nil, false
		}
		f := sysfs.At(at, name, "max_state")
		defer f.Close()
		deepest, err := f.Uint(0)
		return &device{sysfs.At(at, name, "cur_state"), float64(deepest)}, err == nil && deepest > 0
	})
	s.paths = [3]string{at + "/thermal_zone*/temp", at + "/thermal_zone*/temp (gpu)", at + "/cooling_device*/cur_state"}
	s.rows = [3]source.Row{
		{Name: "hottest", Field: source.Temperature, Unit: "°C"},
		{Name: "gpu", Field: source.GPUTemp, Unit: "°C"},
		{Name: "cooling", Field: source.Cooling},
	}
	return s
}

// text is a small file in lower case.
func text(elem ...string) (string, bool) {
	f := sysfs.At(elem[0], elem[1:]...)
	defer f.Close()
	b, err := f.Read(0)
	return strings.ToLower(string(b)), err == nil
}

// harmless tells the cooling devices that take nothing from the CPUs and the GPU, by their type in lower case.
func harmless(kind string) bool {
	for _, part := range []string{"fan", "wifi", "backlight", "lcd", "charger", "battery", "tcc offset", "hot-surface"} {
		if strings.Contains(kind, part) {
			return true
		}
	}
	return false
}

// Read takes the hottest zone, the hottest zone of the GPU and the deepest cooling state.
func (s *Sensor) Read(now time.Duration) []source.Row {
	var hottest, gpu, deepest top
	for _, z := range s.zones.List(now) {
		milli, err := z.temp.Int(now)
		switch {
		case err != nil:
		case milli == -256_000:
			err = errOff
		case milli <= -40_000 || milli >= 150_000:
			err = sysfs.ErrNumber
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.zones.Rescan()
		}
		hottest.add(z.temp.Path, float64(milli)/1e3, err)
		if z.gpu {
			gpu.add(z.temp.Path, float64(milli)/1e3, err)
		}
	}
	for _, d := range s.devices.List(now) {
		state, err := d.cur.Int(now)
		if err == nil && float64(state) > d.max {
			err = sysfs.ErrNumber
		}
		if errors.Is(err, fs.ErrNotExist) {
			s.devices.Rescan()
		}
		// intel_powerclamp says -1 while it does nothing.
		deepest.add(d.cur.Path, max(float64(state), 0)/d.max, err)
	}
	for i, t := range []*top{&hottest, &gpu, &deepest} {
		t.row(&s.rows[i], s.paths[i], now)
	}
	return s.rows[:]
}

// top is the largest of what has a value, or else the last error.
type top struct {
	path  string
	value float64
	err   error
}

func (t *top) add(path string, value float64, err error) {
	if err != nil {
		t.err = err
	} else if t.path == "" || value > t.value {
		t.path, t.value = path, value
	}
}

func (t *top) row(r *source.Row, otherwise string, now time.Duration) {
	switch {
	case t.path != "":
		r.Path = t.path
		r.Set(now, t.value, nil)
		return
	case t.err == nil:
		t.err = sysfs.ErrNoNode
	}
	r.Path = otherwise
	r.Set(now, 0, t.err)
}

// Close closes the files.
func (s *Sensor) Close() {
	s.zones.Close()
	s.devices.Close()
}
