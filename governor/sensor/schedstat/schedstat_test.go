package schedstat

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte("57782127 124059191 73\n"), uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, text []byte, run, wait uint64) {
		_, _, _ = parse(text)
		a, b, err := parse(fmt.Appendf(nil, "%d %d 1", run, wait))
		require.NoError(t, err)
		require.Equal(t, [2]uint64{run, wait}, [2]uint64{a, b})
	})
}

func TestParse(t *testing.T) {
	_, _, err := parse([]byte("0 0 0"))
	require.ErrorIs(t, err, sysfs.ErrUnsupported, "the kernel does not count")
	for _, text := range []string{"", "1", "1 2", "1 x 3", "-1 2 3"} {
		_, _, err := parse([]byte(text))
		require.ErrorIs(t, err, sysfs.ErrNumber, "%q", text)
	}
}

// A thread that rests is read less often, and nothing of what it gains is lost.
func TestRest(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "proc/self/task/1")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	write := func(run, wait time.Duration) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "schedstat"), fmt.Appendf(nil, "%d %d 5\n", run, wait), 0o644))
	}
	s := New(root, nil)
	now, run, wait := time.Duration(0), time.Second, time.Duration(0)
	next := func() governor.Reading {
		now += 50 * time.Millisecond
		row := s.Read(now)
		require.Equal(t, row[0].Reading.Condition == governor.Valid, row[1].Reading.Value == 1)
		return row[0].Reading
	}
	write(run, wait)
	next()
	for offset := range 2 * rarely {
		for range resting + offset {
			require.Equal(t, governor.Reading{At: now + 50*time.Millisecond, Condition: governor.Valid}, next())
		}
		run, wait = run+40*time.Millisecond, wait+60*time.Millisecond
		write(run, wait)
		calls := 1
		for ; ; calls++ {
			if got := next(); got.Value != 0 {
				require.InDelta(t, 0.6, got.Value, 1e-12)
				break
			}
		}
		require.Equal(t, rarely-offset%rarely, calls)
	}
	for range resting {
		next()
	}
	now -= time.Second
	require.Equal(t, governor.Wrong, next().Condition)
}

// Threads come and go; only what they did while both readings saw them counts.
func TestThreads(t *testing.T) {
	root := t.TempDir()
	write := func(tid int, run, wait time.Duration) {
		dir := filepath.Join(root, "proc/self/task", strconv.Itoa(tid))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "schedstat"), fmt.Appendf(nil, "%d %d 5\n", run, wait), 0o644))
	}
	read := func(s *Sensor, now time.Duration) (governor.Reading, float64) {
		rows := s.Read(now)
		return rows[0].Reading, rows[1].Reading.Value
	}
	ms := time.Millisecond
	write(1, 100*ms, 0)
	write(2, 500*ms, 500*ms)
	all, second := New(root, nil), New(root, []int{2})
	share, _ := read(all, 0)
	require.Equal(t, governor.Missing, share.Condition)
	read(second, 0)
	write(1, 140*ms, 0)
	write(2, 520*ms, 560*ms)
	share, n := read(all, 100*ms)
	require.InDelta(t, 60./(40+20+60), share.Value, 1e-12)
	require.Equal(t, 2., n)
	share, n = read(second, 100*ms)
	require.InDelta(t, 60./80, share.Value, 1e-12)
	require.Equal(t, 1., n)

	write(3, 900*ms, 900*ms)
	require.NoError(t, os.RemoveAll(filepath.Join(root, "proc/self/task/2")))
	write(1, 150*ms, 30*ms)
	share, n = read(all, 3*time.Second)
	require.InDelta(t, 30./(0.02*2900), share.Value, 1e-12, "hardly wanted to run")
	require.Equal(t, 1., n)
	write(1, 250*ms, 130*ms)
	write(3, 900*ms, 1000*ms)
	share, n = read(all, 4*time.Second)
	require.InDelta(t, 200./300, share.Value, 1e-12)
	require.Equal(t, 2., n)
}
