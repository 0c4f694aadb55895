package source

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

func TestCounter(t *testing.T) {
	var c Counter
	for _, tc := range []struct {
		value  uint64
		now    time.Duration
		gained uint64
		passed time.Duration
		err    error
	}{
		{100, 10, 0, 0, sysfs.ErrFirst},
		{130, 15, 30, 5, nil},
		{130, 20, 0, 5, nil},
		{50, 25, 0, 0, sysfs.ErrBackwards},
		{60, 30, 10, 5, nil},
		{70, 20, 0, 0, sysfs.ErrBackwards}, // time
		{75, 20, 0, 0, sysfs.ErrBackwards}, // no time
		{80, 30, 5, 10, nil},
	} {
		gained, passed, err := c.Step(tc.value, tc.now)
		require.ErrorIs(t, err, tc.err)
		require.Equal(t, tc.gained, gained)
		require.Equal(t, tc.passed, passed)
	}
	c.Forget()
	_, _, err := c.Step(90, 40)
	require.ErrorIs(t, err, sysfs.ErrFirst)
}
