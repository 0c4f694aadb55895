package sysfs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
)

func TestParseCPUs(t *testing.T) {
	for _, tc := range []struct {
		text string
		cpus []int // nil: an error
	}{
		{"0", []int{0}},
		{"0-3,6", []int{0, 1, 2, 3, 6}},
		{"0-3,6\n", []int{0, 1, 2, 3, 6}},
		{"7,2-3,3,2", []int{2, 3, 7}},
		{"8191", []int{8191}},
		{"\t0-1 ", []int{0, 1}},
		{"", []int{}},
		{"8192", nil}, {"0-8192", nil}, {"3-2", nil}, {"0-", nil}, {"-3", nil}, {"0,,1", nil}, {"0-3,x", nil}, {"0-1-2", nil}, {"18446744073709551616", nil},
	} {
		var set CPUs
		n, err := ParseCPUs([]byte(tc.text), &set)
		if tc.cpus == nil {
			require.Error(t, err, "%q", tc.text)
			continue
		}
		require.NoError(t, err, "%q", tc.text)
		require.Equal(t, len(tc.cpus), n)
		require.Equal(t, n, set.Count())
		for _, cpu := range tc.cpus {
			require.True(t, set.Has(cpu), "%q has %d", tc.text, cpu)
		}
	}
	var set CPUs
	require.False(t, set.Has(-1) || set.Has(MaxCPUs))
}

// The set, written as single numbers, is the same set.
func FuzzParseCPUs(f *testing.F) {
	for _, s := range []string{"0-3,6", "", "1", "0-8191", "5,4", "99999999999999999999", "0-1-2"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var set, again CPUs
		n, err := ParseCPUs(text, &set)
		if err != nil {
			return
		}
		var list []string
		for cpu := range MaxCPUs {
			if set.Has(cpu) {
				list = append(list, strconv.Itoa(cpu))
			}
		}
		require.Len(t, list, n)
		m, err := ParseCPUs([]byte(strings.Join(list, ",")), &again)
		require.NoError(t, err)
		require.Equal(t, n, m)
		require.Equal(t, set, again)
	})
}

func FuzzParseNumbers(f *testing.F) {
	for _, s := range []string{"7", " 12 34", "-256000\n", "18446744073709551615", "1e3", "0x10", "", "key 5\nother 6", "nr_throttled"} {
		f.Add([]byte(s), "key")
	}
	f.Fuzz(func(t *testing.T, text []byte, key string) {
		u, err := ParseUint(text)
		i, err2 := ParseInt(text)
		if err == nil && err2 == nil {
			require.Equal(t, int64(u), i)
		}
		if v, err := Key(text, key); err == nil {
			require.Contains(t, string(text), key)
			require.Contains(t, string(text), strings.TrimLeft(fmt.Sprint(v), "0"))
		}
	})
}

func TestConditions(t *testing.T) {
	for err, want := range map[error]governor.Condition{
		nil: governor.Valid, fs.ErrNotExist: governor.Missing, syscall.ENOENT: governor.Missing, syscall.ENODEV: governor.Missing,
		ErrEmpty: governor.Missing, ErrFirst: governor.Missing, syscall.EACCES: governor.Unsupported, syscall.EOPNOTSUPP: governor.Unsupported,
		syscall.EIO: governor.Unsupported, ErrUnsupported: governor.Unsupported, ErrNumber: governor.Wrong, ErrFormat: governor.Wrong,
		ErrBackwards: governor.Wrong,
	} {
		require.Equal(t, want, Condition(err), "%v", err)
	}
}

// The kernel answers a list a page at a time. A mountinfo as long as a container's would take privileges to make; the
// process's memory has as long a list, whose every entry ends with the same line.
func TestLongListOfTheKernel(t *testing.T) {
	f := At("/", "proc/self/smaps")
	defer f.Close()
	text, err := f.ReadAll(0)
	if err != nil {
		t.Skip("SKIPPED: no /proc/self/smaps")
	}
	whole, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	require.Greater(t, len(whole), 2*os.Getpagesize())
	require.InDelta(t, len(whole), len(text), float64(len(whole))/4, "it changes by being read")
	lines := strings.Split(string(text), "\n")
	require.Contains(t, lines[len(lines)-1], "VmFlags:")
}

// A File sees what its path has now, whatever happened to the one it has open.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b")
	f := At(dir, "a/b")
	defer f.Close()
	var now time.Duration
	_, err := f.Read(now)
	require.ErrorIs(t, err, fs.ErrNotExist)

	write := func(content string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path+"2", []byte(content), 0o644))
		require.NoError(t, os.Rename(path+"2", path))
	}
	write("12\n")
	_, err = f.Read(now + Again - 1)
	require.ErrorIs(t, err, fs.ErrNotExist, "is not looked for all the time")
	now += Again
	v, err := f.Uint(now)
	require.NoError(t, err)
	require.Equal(t, uint64(12), v)

	write("-3\n") // in place of the other
	i, err := f.Int(now)
	require.NoError(t, err)
	require.Equal(t, int64(-3), i)
	_, err = f.Uint(now)
	require.ErrorIs(t, err, ErrNumber)

	write(strings.Repeat("x", 100_000) + " end")
	text, err := f.Read(now)
	require.NoError(t, err)
	require.Len(t, text, 100_004)

	require.NoError(t, os.RemoveAll(filepath.Dir(path)))
	_, err = f.Read(now)
	require.ErrorIs(t, err, fs.ErrNotExist)
	write("N/A\n")
	now += Again
	_, err = f.Read(now)
	require.ErrorIs(t, err, ErrUnsupported)

	write("5\n")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if v, err := f.Uint(now); v != 5 || err != nil {
			panic(err)
		}
	}))
}

func TestTimer(t *testing.T) {
	var timer Timer
	require.True(t, timer.Due(10, 5))
	require.False(t, timer.Due(14, 5))
	require.True(t, timer.Due(15, 5))
	require.True(t, timer.Due(3, 5), "time went backwards")
	require.False(t, timer.Due(7, 5))
}

type named string

func (named) Close() {}

func TestNodes(t *testing.T) {
	dir := t.TempDir()
	good := true
	n := Follow(dir, func(name string) (named, bool) { return named(name), good && strings.HasPrefix(name, "zone") })
	require.Empty(t, n.List(0))
	for _, name := range []string{"zone10", "zone2", "fan0"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	require.Empty(t, n.List(Again))
	require.Equal(t, []named{"zone2", "zone10"}, n.List(2*Again))
	require.NoError(t, os.Remove(filepath.Join(dir, "zone2")))
	good = false // only what is new is asked
	require.Equal(t, []named{"zone10"}, n.List(4*Again))
	require.NoError(t, os.RemoveAll(dir))
	n.Rescan()
	require.Empty(t, n.List(4*Again))
}
