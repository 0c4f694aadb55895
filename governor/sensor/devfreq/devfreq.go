// Package devfreq reads the GPU of Jetson boards from /sys/class/devfreq/<node>:
//
//   - max_freq over the highest of available_frequencies, in Hz: the permitted clock. cur_freq is only shown: it is low
//     while the GPU is idle.
//   - device/load in thousandths: the share of time the GPU was busy. Thor has no such file; NVML knows there.
//
// The GPU's node is the one whose device/of_node/name is that of a GPU (gv11b, gp10b, ga10b, gb10b, *gpu*), or
// gpu-gpc-0, which has none.
package devfreq

import (
	"bytes"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Sensor reads the first node that is a GPU.
type Sensor struct {
	nodes *sysfs.Nodes[*node]
	dir   string
	rows  [3]source.Row
}

type node struct{ limit, available, cur, load *sysfs.File }

func (n *node) Close() {
	for _, f := range []*sysfs.File{n.limit, n.available, n.cur, n.load} {
		f.Close()
	}
}

// New reads below root.
func New(root string) *Sensor {
	at := sysfs.At(root, "sys/class/devfreq").Path
	s := &Sensor{dir: at}
	s.nodes = sysfs.Follow(at, func(name string) (*node, bool) {
		if name != "gpu-gpc-0" {
			f := sysfs.At(at, name, "device/of_node/name")
			defer f.Close()
			text, err := f.Read(0)
			if err != nil || !gpu(string(bytes.Trim(text, "\x00"))) {
				return nil, false
			}
		}
		return &node{sysfs.At(at, name, "max_freq"), sysfs.At(at, name, "available_frequencies"),
			sysfs.At(at, name, "cur_freq"), sysfs.At(at, name, "device/load")}, true
	})
	s.rows = [3]source.Row{
		{Name: "permitted", Field: source.GPUClock},
		{Name: "load", Field: source.GPULoad},
		{Name: "current", Unit: "MHz"},
	}
	return s
}

// gpu tells the names of the device tree.
func gpu(name string) bool {
	switch name {
	case "gv11b", "gp10b", "ga10b", "gb10b":
		return true
	}
	return strings.Contains(name, "gpu")
}

// Read reads the node.
func (s *Sensor) Read(now time.Duration) []source.Row {
	list := s.nodes.List(now)
	if len(list) == 0 {
		for i := range s.rows {
			s.rows[i].Path = s.dir
			s.rows[i].Set(now, 0, sysfs.ErrNoNode)
		}
		return s.rows[:]
	}
	n := list[0]
	s.rows[0].Path, s.rows[1].Path, s.rows[2].Path = n.limit.Path, n.load.Path, n.cur.Path
	share, err := n.permitted(now)
	if sysfs.Condition(err) == sysfs.Condition(sysfs.ErrNoNode) {
		s.nodes.Rescan()
	}
	s.rows[0].Set(now, share, err)
	load, err := n.load.Uint(now)
	if err == nil && load > 1000 {
		err = sysfs.ErrNumber
	}
	s.rows[1].Set(now, float64(load)/1000, err)
	hz, err := n.cur.Uint(now)
	s.rows[2].Set(now, float64(hz)/1e6, err)
	return s.rows[:]
}

func (n *node) permitted(now time.Duration) (float64, error) {
	limit, err := n.limit.Uint(now)
	if err != nil {
		return 0, err
	}
	text, err := n.available.Read(now)
	if err != nil {
		return 0, err
	}
	highest, err := parseHighest(text)
	if err != nil {
		return 0, err
	}
	if limit == 0 {
		return 0, sysfs.ErrNumber
	}
	return source.Share(float64(limit), float64(highest)), nil
}

// parseHighest is the largest of numbers with spaces between them.
func parseHighest(text []byte) (uint64, error) {
	highest := uint64(0)
	for {
		var word []byte
		if word, text = sysfs.Word(text); len(word) == 0 {
			break
		}
		hz, err := sysfs.ParseUint(word)
		if err != nil {
			return 0, err
		}
		highest = max(highest, hz)
	}
	if highest == 0 {
		return 0, sysfs.ErrNumber
	}
	return highest, nil
}

// Close closes the files.
func (s *Sensor) Close() { s.nodes.Close() }
