package harness

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// With a single P another goroutine runs when this one yields, and not before.
func TestYieldSchedulesNowAndThen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Int32
	var target Target
	go ran.Add(1)
	target.Yield()
	require.EqualValues(t, 1, ran.Load())
	go ran.Add(1)
	target.Yield()
	require.EqualValues(t, 1, ran.Load(), "it was its turn just now")
}

func TestSparePIsUndone(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	undo := spareP()
	require.Equal(t, 2, runtime.GOMAXPROCS(0))
	undo()
	require.Equal(t, 1, runtime.GOMAXPROCS(0))
	runtime.GOMAXPROCS(3)
	spareP()()
	require.Equal(t, 3, runtime.GOMAXPROCS(0))
}
