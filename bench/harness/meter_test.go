package harness

import (
	"bytes"
	"context"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
)

// scripted answers one reading after the other; a negative one cannot be read.
type scripted []float64

func (s *scripted) Name() string { return "script" }

func (s *scripted) Millijoules() (float64, bool) {
	v := (*s)[0]
	if len(*s) > 1 {
		*s = (*s)[1:]
	}
	return v, v >= 0
}

func TestSpender(t *testing.T) {
	used := spender(&scripted{100, 130, 130, 135, -1, 150, 160, 20, 25})
	var got []float64
	for range 9 {
		if v := used(); v != nil {
			got = append(got, *v)
		} else {
			got = append(got, -1)
		}
	}
	// The first reading and the one after a failure begin anew; standing still and going back are not known.
	require.Equal(t, []float64{-1, 30, -1, 5, -1, -1, 10, -1, 5}, got)
	require.Nil(t, spender(nil)())
}

// counting is a meter of a tenth of a mJ more each time.
type counting float64

func (c *counting) Name() string { return "counting" }

func (c *counting) Millijoules() (float64, bool) {
	*c += 0.1
	return float64(*c), true
}

func TestEnergyOfARun(t *testing.T) {
	m, err := Open(shipped+"/fashion.dofa", "", shipped+"/test")
	require.NoError(t, err)
	defer m.Close()
	var b bytes.Buffer
	w, err := NewWriter(&b, fixed(), "counting")
	require.NoError(t, err)
	require.NoError(t, Run(context.Background(), m, Plan{Scenarios: []Scenario{SingleStream}, Levels: []int{0}, Threads: []int{1}, Duration: time.Millisecond,
		Meter: new(counting), System: fstest.MapFS{}}, w))
	r, err := Read(&b, "run")
	require.NoError(t, err)
	s := r.Rows[0].Summarize()
	require.InDelta(t, 0.1*float64(len(r.Rows[0].Chunks)), *s.EnergyMJ*float64(s.Queries), 1e-9, "one reading a chunk")

	// A short chunk of which nothing is known is left out; without most of the images there is no energy.
	chunk := r.Rows[0].Chunks[0]
	unknown := chunk
	unknown.EnergyMJ = nil
	unknown.NS = chunk.NS[:len(chunk.NS)/20]
	r.Rows[0].Chunks = []Chunk{chunk, unknown}
	require.InDelta(t, 0.1/float64(len(chunk.NS)), *r.Rows[0].Summarize().EnergyMJ, 1e-9)
	unknown.NS = chunk.NS
	r.Rows[0].Chunks = []Chunk{chunk, unknown}
	require.Nil(t, r.Rows[0].Summarize().EnergyMJ)
}
