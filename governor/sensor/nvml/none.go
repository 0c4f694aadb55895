//go:build !linux || !cgo

package nvml

// System is the driver of this system: none, because it takes Linux and cgo to load one.
func System() Driver { return None{} }
