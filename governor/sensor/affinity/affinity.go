// Package affinity answers on which CPUs this process may run: sched_getaffinity(2), which already leaves out CPUs that
// are off-line or outside of the cgroup's cpuset. Below a fake root it is the Cpus_allowed_list of /proc/self/status.
package affinity

import (
	"bytes"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// Mask reads the mask of the process.
type Mask struct {
	Path string // where from
	file *sysfs.File
}

// New reads the mask of this process, or what the status file below a fake root says.
func New(root string) *Mask {
	if root == "/" && path != "" {
		return &Mask{Path: path}
	}
	f := sysfs.At(root, "proc/self/status")
	return &Mask{f.Path, f}
}

// Read fills set and answers the number of CPUs in it.
func (m *Mask) Read(now time.Duration, set *sysfs.CPUs) (int, error) {
	if m.file == nil {
		return get(set)
	}
	text, err := m.file.Read(now)
	if err != nil {
		return 0, err
	}
	return parseStatus(text, set)
}

// Close closes the file.
func (m *Mask) Close() {
	if m.file != nil {
		m.file.Close()
	}
}

// parseStatus finds the line "Cpus_allowed_list:	0-3".
func parseStatus(text []byte, set *sysfs.CPUs) (int, error) {
	for len(text) > 0 {
		var line []byte
		line, text = sysfs.Line(text)
		if list, ok := bytes.CutPrefix(line, []byte("Cpus_allowed_list:")); ok {
			n, err := sysfs.ParseCPUs(list, set)
			if err == nil && n == 0 {
				err = sysfs.ErrFormat
			}
			return n, err
		}
	}
	return 0, sysfs.ErrFormat
}
