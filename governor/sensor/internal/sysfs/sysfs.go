// Package sysfs reads the small text files of sysfs, procfs and cgroups again and again: a File stays open and is
// read at offset 0 into a buffer of its own, without allocation. What is not there is looked for again once a
// second. Parsers take bytes, not an io.Reader, because they run on every sample.
package sysfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dynofa/dynofa/governor"
)

// Reasons why a file that is there has no value. Errors of the system stand for the others.
var (
	ErrEmpty       = errors.New("empty file")
	ErrUnsupported = errors.New("the kernel says that it is not supported")
	ErrNumber      = errors.New("not a number in range")
	ErrFormat      = errors.New("not the expected text")
	ErrBackwards   = errors.New("went backwards")
	ErrFirst       = errors.New("a difference needs a second reading")
	ErrNoNode      = errors.New("no such device")
)

// Condition says what an error of reading or parsing means for a Reading. Permission denied is Unsupported: the
// source is there and does not tell us.
func Condition(err error) governor.Condition {
	switch {
	case err == nil:
		return governor.Valid
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrEmpty), errors.Is(err, ErrFirst), errors.Is(err, ErrNoNode),
		errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ESRCH):
		return governor.Missing
	case errors.Is(err, ErrNumber), errors.Is(err, ErrFormat), errors.Is(err, ErrBackwards):
		return governor.Wrong
	default: // permissions, <unsupported>, input/output errors of a bus
		return governor.Unsupported
	}
}

// Again is the time after which something that was missing is looked for again.
const Again = time.Second

// Timer tells when something is due.
type Timer struct {
	last    time.Duration
	started bool
}

// Due is true at the first call, whenever period has passed since it was true, and when time went backwards.
func (t *Timer) Due(now, period time.Duration) bool {
	if t.started && now >= t.last && now-t.last < period {
		return false
	}
	t.started, t.last = true, now
	return true
}

// File is one text file. The zero value is of no use; At makes one.
type File struct {
	Path  string
	fixed bool // the kernel's: while it is open, nothing takes its place
	h     handle
	retry Timer
	err   error
	buf   []byte
}

// At is a file below a root. It is opened at the first read.
func At(root string, elem ...string) *File {
	path := filepath.Join(root, filepath.Join(elem...))
	return &File{Path: path, fixed: strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/"), buf: make([]byte, 256)}
}

// Read is the content of the file, without spaces around it; it is valid until the next Read. A file that cannot
// be opened is tried again after a second.
func (f *File) Read(now time.Duration) ([]byte, error) { return f.read(now, false) }

// ReadAll is Read for lists of the kernel, such as mountinfo, of which it answers a page at a time, however large the
// buffer is.
func (f *File) ReadAll(now time.Duration) ([]byte, error) { return f.read(now, true) }

func (f *File) read(now time.Duration, all bool) ([]byte, error) {
	if !f.h.open() {
		if !f.retry.Due(now, Again) {
			return nil, f.err
		}
		if f.err = f.h.openFile(f.Path); f.err != nil {
			return nil, f.err
		}
	}
	for {
		n, err := f.h.pread(f.buf, 0)
		for more := n; all && err == nil && more > 0 && n < len(f.buf); n += more {
			more, err = f.h.pread(f.buf[n:], n)
		}
		if err != nil || !f.fixed && f.h.replaced() {
			// The device is gone, or the file is another one by now: look again at once, then once a second.
			f.h.close()
			if err == nil {
				if f.err = f.h.openFile(f.Path); f.err == nil {
					continue
				}
				err = f.err
			}
			f.err = err
			f.retry.Due(now, 0)
			return nil, err
		}
		if n == len(f.buf) && n < 1<<20 {
			f.buf = make([]byte, 4*n)
			continue
		}
		text := bytes.TrimSpace(f.buf[:n])
		if len(text) == 0 {
			return nil, ErrEmpty
		}
		if Unsupported(text) {
			return nil, ErrUnsupported
		}
		return text, nil
	}
}

// Uint reads a file that holds one number without a sign.
func (f *File) Uint(now time.Duration) (uint64, error) {
	text, err := f.Read(now)
	if err != nil {
		return 0, err
	}
	return ParseUint(text)
}

// Int reads a file that holds one number.
func (f *File) Int(now time.Duration) (int64, error) {
	text, err := f.Read(now)
	if err != nil {
		return 0, err
	}
	return ParseInt(text)
}

// Close closes the file; the next Read opens it again.
func (f *File) Close() { f.h.close() }

// Unsupported tells the words with which drivers say that there is no value.
func Unsupported(text []byte) bool {
	switch string(text) {
	case "<unsupported>", "<not supported>", "<unknown>", "unsupported", "N/A":
		return true
	}
	return false
}

// ParseUint is the first word of text as a number.
func ParseUint(text []byte) (uint64, error) {
	word, _ := Word(text)
	v, err := strconv.ParseUint(string(word), 10, 64)
	if err != nil {
		return 0, ErrNumber
	}
	return v, nil
}

// ParseInt is the first word of text as a number with or without a sign.
func ParseInt(text []byte) (int64, error) {
	word, _ := Word(text)
	v, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil {
		return 0, ErrNumber
	}
	return v, nil
}

// Word is the first word of text, and what follows it.
func Word(text []byte) (word, rest []byte) {
	i := 0
	for i < len(text) && space(text[i]) {
		i++
	}
	j := i
	for j < len(text) && !space(text[j]) {
		j++
	}
	return text[i:j], text[j:]
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

// Line is the first line of text, and what follows it.
func Line(text []byte) (line, rest []byte) {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return text[:i], text[i+1:]
	}
	return text, nil
}

// Key is the number behind a key in lines of "key number", as in a cgroup's cpu.stat.
func Key(text []byte, key string) (uint64, error) {
	for len(text) > 0 {
		var line []byte
		line, text = Line(text)
		if word, rest := Word(line); string(word) == key {
			return ParseUint(rest)
		}
	}
	return 0, ErrNoNode
}

// CPUs is a set of CPU numbers, as large as Linux allows.
type CPUs [MaxCPUs / 64]uint64

// MaxCPUs is one more than the largest CPU number that is taken.
const MaxCPUs = 8192

// Add adds a CPU below MaxCPUs.
func (c *CPUs) Add(cpu int) { c[cpu/64] |= 1 << (cpu % 64) }

// Has tells whether a CPU is in the set.
func (c *CPUs) Has(cpu int) bool {
	return cpu >= 0 && cpu < MaxCPUs && c[cpu/64]&(1<<(cpu%64)) != 0
}

// Count is the number of CPUs in the set.
func (c *CPUs) Count() int {
	n := 0
	for _, word := range c {
		n += bits.OnesCount64(word)
	}
	return n
}

// ParseCPUs reads a list as the kernel writes it, "0-3,6", into set and counts its members. An empty list is a
// set without members.
func ParseCPUs(text []byte, set *CPUs) (int, error) {
	*set = CPUs{}
	n := 0
	for text = bytes.TrimSpace(text); len(text) > 0; {
		var item []byte
		if i := bytes.IndexByte(text, ','); i >= 0 {
			item, text = text[:i], text[i+1:]
		} else {
			item, text = text, nil
		}
		from, to, isRange := bytes.Cut(item, []byte("-"))
		a, err := ParseUint(from)
		b := a
		if err == nil && isRange {
			b, err = ParseUint(to)
		}
		if err != nil || b < a || b >= MaxCPUs {
			return 0, ErrNumber
		}
		for cpu := int(a); cpu <= int(b); cpu++ {
			if !set.Has(cpu) {
				set.Add(cpu)
				n++
			}
		}
	}
	return n, nil
}

// Nodes follows the entries of a directory: those that take accepts are kept until they are gone.
type Nodes[T interface{ Close() }] struct {
	dir   string
	take  func(name string) (T, bool)
	timer Timer
	kept  map[string]T
	list  []T
}

// Follow follows dir.
func Follow[T interface{ Close() }](dir string, take func(name string) (T, bool)) *Nodes[T] {
	return &Nodes[T]{dir: dir, take: take, kept: map[string]T{}}
}

// List is what is there, sorted by name. The directory is looked at every two seconds.
func (n *Nodes[T]) List(now time.Duration) []T {
	if !n.timer.Due(now, 2*Again) {
		return n.list
	}
	names, _ := listDir(n.dir)
	slices.SortFunc(names, natural)
	changed := false
	for name, t := range n.kept {
		if !slices.Contains(names, name) {
			t.Close()
			delete(n.kept, name)
			changed = true
		}
	}
	for _, name := range names {
		if _, has := n.kept[name]; has {
			continue
		}
		if t, ok := n.take(name); ok {
			n.kept[name] = t
			changed = true
		}
	}
	if changed {
		n.list = nil
		for _, name := range names {
			if t, has := n.kept[name]; has {
				n.list = append(n.list, t)
			}
		}
	}
	return n.list
}

// Rescan makes the next List look at the directory.
func (n *Nodes[T]) Rescan() { n.timer = Timer{} }

// Close closes what is kept.
func (n *Nodes[T]) Close() {
	for _, t := range n.kept {
		t.Close()
	}
	n.kept, n.list, n.timer = map[string]T{}, nil, Timer{}
}

// natural orders zone2 before zone10.
func natural(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	if a < b {
		return -1
	}
	return 1
}

func listDir(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}
