//go:build !linux || !cgo || !nvml

package nvml

import (
	"fmt"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// System is the driver of this system: none, because it takes Linux, cgo and the build tag nvml to load one.
func System() Driver { return notBuilt{} }

type notBuilt struct{ None }

var errNotBuilt = fmt.Errorf("built without the tag nvml: %w", sysfs.ErrNoNode)

func (notBuilt) Init() error { return errNotBuilt }
