//go:build !linux

package sysfs

import (
	"io"
	"os"
)

// handle stands in where there is no sysfs: a fake root can still be read, the file is opened every time.
type handle struct{ path string }

func (h *handle) open() bool { return h.path != "" }

func (h *handle) openFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	h.path = path
	return f.Close()
}

func (h *handle) pread(buf []byte, at int) (int, error) {
	f, err := os.Open(h.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	n, err := f.ReadAt(buf, int64(at))
	if err == io.EOF { //nolint:errorlint // ReadAt answers a bare io.EOF
		err = nil
	}
	return n, err
}

func (h *handle) replaced() bool { return false }

func (h *handle) close() { h.path = "" }
