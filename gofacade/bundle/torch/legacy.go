package torch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/pickle"
)

// legacyMagic is what follows the two bytes of PROTO in a legacy container: LONG1, 10 bytes, the number
// 0x1950a86a20f9469cfc6c.
var legacyMagic = []byte("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.")

// legacyVersion is the only protocol version there ever was.
const legacyVersion = 1001

// readLegacy reads five pickles (magic number, version, system, object, storage keys) and the storages.
func readLegacy(data []byte) (any, error) {
	if !IsCheckpoint(data) {
		return nil, errors.New("neither a zip nor a legacy container, expected one of PyTorch's")
	}
	stores := map[string]*storage{}
	pos := 0
	next := func(what string, cfg *pickle.Config) (any, error) {
		v, n, err := pickle.Read(data[pos:], cfg)
		if err != nil {
			return nil, fmt.Errorf("legacy container: %s, at byte %d: %w", what, pos, err)
		}
		pos += n
		return v, nil
	}
	plain := &pickle.Config{}
	if _, err := next("magic number", plain); err != nil {
		return nil, err
	}
	version, err := next("version", plain)
	if err != nil {
		return nil, err
	}
	if version != any(int64(legacyVersion)) {
		return nil, fmt.Errorf("legacy container: version is %s, expected %d", pickle.Describe(version), legacyVersion)
	}
	system, err := next("system", plain)
	if err != nil {
		return nil, err
	}
	if d, ok := system.(*pickle.Dict); ok {
		if little, _ := d.Get("little_endian"); little == any(false) {
			return nil, errors.New("legacy container: little_endian is False, expected True")
		}
	}
	top, err := next("object", &pickle.Config{Classes: classes(), Persistent: func(id any) (any, error) {
		s, err := parseStorageID(id, 6)
		if err != nil {
			return nil, err
		}
		if old := stores[s.key]; old != nil {
			if old.kind != s.kind || old.elements != s.elements {
				return nil, fmt.Errorf("storage %.40q is %d %v and %d %v, expected one form", s.key, old.elements, old.kind, s.elements, s.kind)
			}
			return old, nil
		}
		stores[s.key] = &storage{kind: s.kind, elements: s.elements}
		return stores[s.key], nil
	}})
	if err != nil {
		return nil, err
	}
	keys, err := next("storage keys", plain)
	if err != nil {
		return nil, err
	}
	list, ok := keys.(*pickle.List)
	if !ok {
		return nil, fmt.Errorf("legacy container: storage keys are %s, expected a list", pickle.Describe(keys))
	}
	for _, key := range list.Items {
		name, ok := key.(string)
		s := stores[name]
		if !ok || s == nil {
			return nil, fmt.Errorf("legacy container: storage key %s is not in the object, or is listed twice", pickle.Describe(key))
		}
		if pos, err = s.fill(data, pos); err != nil {
			return nil, fmt.Errorf("legacy container: storage %.40q, at byte %d: %w", name, pos, err)
		}
		delete(stores, name)
	}
	if len(stores) > 0 {
		return nil, fmt.Errorf("legacy container: storage %.40q is missing", slices.Min(slices.Collect(maps.Keys(stores))))
	}
	if pos != len(data) {
		return nil, fmt.Errorf("legacy container: %d bytes after the last storage", len(data)-pos)
	}
	return top, nil
}

// fill takes a storage's numbers from pos on: an int64 element count, then the raw data.
func (s *storage) fill(data []byte, pos int) (end int, err error) {
	if len(data)-pos < 8 {
		return pos, fmt.Errorf("%d bytes are left, expected an element count of 8", len(data)-pos)
	}
	if n := binary.LittleEndian.Uint64(data[pos:]); n != uint64(s.elements) {
		return pos, fmt.Errorf("has %d elements, expected %d", n, s.elements)
	}
	pos += 8
	size := s.elements * s.kind.Size()
	if size > len(data)-pos {
		return pos, fmt.Errorf("needs %d bytes, %d are left", size, len(data)-pos)
	}
	s.raw = data[pos : pos+size]
	return pos + size, nil
}
