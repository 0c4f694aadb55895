//go:build !linux

package affinity

import "github.com/dynofa/dynofa/governor/sensor/internal/sysfs"

const path = ""

func get(*sysfs.CPUs) (int, error) { return 0, sysfs.ErrNoNode }
