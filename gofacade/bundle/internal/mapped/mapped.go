// Package mapped gives a file's bytes without reading them all into memory.
package mapped

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"sync"
)

// File is a file whose bytes are mapped read-only where the platform can, else read. It keeps showing the
// bytes of the file that was opened, also after another one takes its name.
type File struct {
	data  []byte
	close func() error
}

// Open maps a regular, non-empty file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s is empty", path)
	case info.Size() > math.MaxInt:
		return nil, fmt.Errorf("%s has %d bytes, more than this machine can address", path, info.Size())
	}
	data, unmap, err := mapFile(f, int(info.Size()))
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return &File{data, sync.OnceValue(unmap)}, nil
}

// Bytes are the file's bytes, read-only and valid until Close: to write to them, or to read them afterwards,
// ends the process.
func (f *File) Bytes() []byte { return f.data }

// Close gives the bytes back; further calls do nothing.
func (f *File) Close() error { return f.close() }

// ErrChanged means that a mapped file was cut short, or its device failed, while it was being read.
var ErrChanged = errors.New("the file was truncated or became unreadable while it was read")

// Guard runs read, which reads a mapped file in this goroutine, and turns the memory fault of a file that
// was truncated meanwhile into ErrChanged.
func Guard(read func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, fault := r.(interface{ Addr() uintptr }); !fault {
				panic(r)
			}
			err = ErrChanged
		}
	}()
	return read()
}
