package harness

import (
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A block's stage is the one that ofa says, and that info and sub-networks count.
func TestStageOf(t *testing.T) {
	m, err := Open(shipped+"/fashion.dofa", "purego", shipped+"/test")
	require.NoError(t, err)
	defer m.Close()
	blocks := m.Space().Blocks(m.Levels()[6].Subnet)
	for i := range blocks {
		require.Equal(t, blocks[i].Stage, stageOf(m.Space(), blocks[i].Index), "block %d", blocks[i].Index)
	}
	require.Equal(t, len(m.Space().Stages)-1, blocks[len(blocks)-1].Stage)
	require.Equal(t, -1, stageOf(m.Space(), -1))
}

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
