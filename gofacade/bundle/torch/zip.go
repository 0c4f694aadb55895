package torch

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/pickle"
)

func isZip(data []byte) bool { return bytes.HasPrefix(data, []byte("PK\x03\x04")) }

// inflation bounds what the compressed members of a file may grow to, as a multiple of the file. PyTorch stores
// without compression; other tools may not.
const inflation = 16

// archive is the zip container: <stem>/data.pkl and <stem>/data/<key>.
type archive struct {
	data    []byte
	stem    string
	members map[string]*zip.File
	read    map[string][]byte // members already read, so that a thousand tensors do not inflate one a thousand times
	budget  int64             // bytes that may still be inflated
}

func readZip(data []byte) (any, error) {
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("zip container: %w", err)
	}
	a := &archive{data: data, members: map[string]*zip.File{}, read: map[string][]byte{}, budget: inflation * int64(len(data))}
	pickles := 0
	for _, f := range r.File {
		if a.members[f.Name] != nil {
			return nil, fmt.Errorf("zip container: member %.200q is there twice", f.Name)
		}
		a.members[f.Name] = f
		if dir, base := path.Split(f.Name); base == "data.pkl" {
			a.stem = dir
			pickles++
		}
	}
	if pickles != 1 {
		return nil, fmt.Errorf("zip container: %d members named data.pkl, expected 1", pickles)
	}
	if a.members[a.stem+"byteorder"] != nil {
		order, err := a.member("byteorder")
		if err != nil {
			return nil, err
		}
		if s := strings.TrimSpace(string(order)); s != "little" {
			return nil, fmt.Errorf("zip container: byte order is %.20q, expected little", s)
		}
	}
	object, err := a.member("data.pkl")
	if err != nil {
		return nil, err
	}
	top, n, err := pickle.Read(object, &pickle.Config{Classes: classes(), Persistent: a.storage})
	if err == nil && n != len(object) {
		err = fmt.Errorf("%d bytes after the pickle", len(object)-n)
	}
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	return top, nil
}

func (a *archive) storage(id any) (any, error) {
	s, err := parseStorageID(id, 5)
	if err != nil {
		return nil, err
	}
	raw, err := a.member("data/" + s.key)
	if err != nil {
		return nil, err
	}
	if len(raw) != s.elements*s.kind.Size() {
		return nil, fmt.Errorf("storage %.40q has %d bytes, expected %d elements of %v", s.key, len(raw), s.elements, s.kind)
	}
	return &storage{s.kind, s.elements, raw}, nil
}

// member returns the bytes of a member below the stem, after comparing its checksum.
func (a *archive) member(name string) ([]byte, error) {
	if raw, ok := a.read[name]; ok {
		return raw, nil
	}
	f := a.members[a.stem+name]
	if f == nil {
		return nil, fmt.Errorf("zip container: no member %.200q", a.stem+name)
	}
	raw, err := a.extract(f)
	if err != nil {
		return nil, fmt.Errorf("zip container: member %.200q: %w", f.Name, err)
	}
	a.read[name] = raw
	return raw, nil
}

func (a *archive) extract(f *zip.File) ([]byte, error) {
	switch {
	case f.Flags&1 != 0:
		return nil, errors.New("is encrypted")
	case f.Method == zip.Store:
		at, err := f.DataOffset()
		if err != nil {
			return nil, err
		}
		size, left := f.UncompressedSize64, int64(len(a.data))-at
		if left < 0 || size > uint64(left) || size != f.CompressedSize64 {
			return nil, fmt.Errorf("%d bytes stored as %d, %d bytes are left in the file", size, f.CompressedSize64, left)
		}
		raw := a.data[at : at+int64(size)]
		if sum := crc32.ChecksumIEEE(raw); sum != f.CRC32 {
			return nil, fmt.Errorf("checksum is %08x, expected %08x", sum, f.CRC32)
		}
		return raw, nil
	case f.Method == zip.Deflate:
		if f.UncompressedSize64 > uint64(a.budget) {
			return nil, fmt.Errorf("inflates to %d bytes, more than %d times the file", f.UncompressedSize64, inflation)
		}
		a.budget -= int64(f.UncompressedSize64)
		r, err := f.Open()
		if err != nil {
			return nil, err
		}
		defer r.Close()
		// The reader ends after UncompressedSize64 bytes and compares the checksum.
		return io.ReadAll(io.LimitReader(r, int64(f.UncompressedSize64)+1))
	}
	return nil, fmt.Errorf("compression method %d, expected 0 (stored) or 8 (deflate)", f.Method)
}
