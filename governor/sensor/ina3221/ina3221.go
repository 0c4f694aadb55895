// Package ina3221 reads the power meters of Jetson boards, INA3221 on an I2C bus, in both layouts of
// /sys/bus/i2c/devices/<device>:
//
//   - JetPack 5 and later: hwmon/hwmon*/in{n}_label, in{n}_input (mV), curr{n}_input (mA), n from 1 to 3. Label "NC" is
//     not connected; higher channels are sums of shunt voltages.
//   - JetPack 4: iio:device*/rail_name_{n}, in_power{n}_input (mW), n from 0 to 2.
//
// The board's power is the rail in front of all others (VDD_IN, POM_5V_IN), or else the sum of the rails. Energy is
// the integral of the power, as good as the readings are frequent.
package ina3221

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// most is the power of a rail in W that is still believed: 26 V, the chip's limit, times 20 A.
const most = 520

// Sensor reads every rail.
type Sensor struct {
	chips       *sysfs.Nodes[*chip]
	board, core meter
	rows        [4]source.Row
}

type chip struct{ rails []rail }

func (c *chip) Close() {
	for _, r := range c.rails {
		r.volts.Close()
		if r.amperes != nil {
			r.amperes.Close()
		}
	}
}

// rail has the files for mV and mA, or for mW alone.
type rail struct {
	label          string
	volts, amperes *sysfs.File
}

// New reads below root.
func New(root string) *Sensor {
	at := sysfs.At(root, "sys/bus/i2c/devices").Path
	s := &Sensor{chips: sysfs.Follow(at, func(name string) (*chip, bool) {
		dir := filepath.Join(at, name)
		if !strings.HasPrefix(text(dir, "name"), "ina3221") {
			return nil, false
		}
		c := &chip{}
		nodes, _ := os.ReadDir(filepath.Join(dir, "hwmon"))
		for _, node := range nodes {
			c.hwmon(filepath.Join(dir, "hwmon", node.Name()))
		}
		nodes, _ = os.ReadDir(dir)
		for _, node := range nodes {
			if strings.HasPrefix(node.Name(), "iio") {
				c.iio(filepath.Join(dir, node.Name()))
			}
		}
		return c, len(c.rails) > 0
	})}
	path := at + "/*"
	s.rows = [4]source.Row{
		{Name: "power", Field: source.Power, Unit: "W", Path: path},
		{Name: "energy", Field: source.Energy, Unit: "J", Path: path},
		{Name: "gpu power", Field: source.GPUPower, Unit: "W", Path: path},
		{Name: "gpu energy", Field: source.GPUEnergy, Unit: "J", Path: path},
	}
	return s
}

func (c *chip) hwmon(dir string) {
	for n := 1; n <= 3; n++ {
		i := strconv.Itoa(n)
		c.add(rail{text(dir, "in"+i+"_label"), sysfs.At(dir, "in"+i+"_input"), sysfs.At(dir, "curr"+i+"_input")})
	}
}

func (c *chip) iio(dir string) {
	for n := range 3 {
		i := strconv.Itoa(n)
		c.add(rail{text(dir, "rail_name_"+i), sysfs.At(dir, "in_power"+i+"_input"), nil})
	}
}

func (c *chip) add(r rail) {
	if r.label != "" && r.label != "NC" {
		c.rails = append(c.rails, r)
	}
}

// text is the content of a small file, or nothing.
func text(dir, name string) string {
	f := sysfs.At(dir, name)
	defer f.Close()
	b, _ := f.Read(0)
	return string(b)
}

// Read reads all rails.
func (s *Sensor) Read(now time.Duration) []source.Row {
	var input, sum, gpu reading
	for _, c := range s.chips.List(now) {
		for _, r := range c.rails {
			watts, err := r.watts(now)
			if sysfs.Condition(err) == sysfs.Condition(sysfs.ErrNoNode) {
				s.chips.Rescan()
			}
			sum.add(r.volts.Path, watts, err)
			switch {
			case r.label == "VDD_IN" || r.label == "POM_5V_IN":
				input.add(r.volts.Path, watts, err)
			case strings.Contains(r.label, "GPU") && !strings.Contains(r.label, "CPU") && !strings.Contains(r.label, "SOC"):
				gpu.add(r.volts.Path, watts, err) // the GPU alone, nothing that shares its rail
			}
		}
	}
	if input.path == "" {
		input = sum
	}
	s.board.rows(s.rows[0:2], now, input)
	s.core.rows(s.rows[2:4], now, gpu)
	return s.rows[:]
}

func (r rail) watts(now time.Duration) (float64, error) {
	milli, err := r.volts.Int(now)
	watts := float64(milli) / 1e3
	if err == nil && r.amperes != nil {
		milli, err = r.amperes.Int(now)
		watts *= float64(milli) / 1e3
	}
	// A few mA backwards are noise of an idle rail; the product stays close to zero.
	if err == nil && (watts < -1 || watts > most) {
		err = sysfs.ErrNumber
	}
	return max(watts, 0), err
}

// reading is a sum of rails, which one missing rail spoils.
type reading struct {
	path  string
	watts float64
	err   error
}

func (r *reading) add(path string, watts float64, err error) {
	r.path = path
	r.watts += watts
	if err != nil {
		r.err = err
	}
}

// meter integrates power.
type meter struct {
	joules, watts float64
	at            time.Duration
	has           bool
}

func (m *meter) rows(rows []source.Row, now time.Duration, r reading) {
	if r.path == "" {
		r.err = sysfs.ErrNoNode
	} else {
		rows[0].Path, rows[1].Path = r.path, r.path
	}
	rows[0].Set(now, r.watts, r.err)
	switch {
	case r.err != nil:
	case m.has && now < m.at:
		r.err = sysfs.ErrBackwards
	case m.has:
		m.joules += (m.watts + r.watts) / 2 * (now - m.at).Seconds()
	}
	if r.err == nil || m.has && now < m.at {
		m.watts, m.at, m.has = r.watts, now, true
	}
	rows[1].Set(now, m.joules, r.err)
}

// Close closes the files.
func (s *Sensor) Close() { s.chips.Close() }
