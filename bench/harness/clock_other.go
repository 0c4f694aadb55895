//go:build !linux

package harness

// processTime is not known here; callers use wall times instead.
func processTime() int64 { return 0 }
