//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package mapped

import (
	"io"
	"os"
	"unsafe"
)

func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	// Words instead of bytes, so that float32 values in the file are aligned as they are in a mapping.
	words := make([]uint64, (size+7)/8)
	data = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}
