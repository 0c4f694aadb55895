package stat

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

func TestParse(t *testing.T) {
	steal, total, err := parse([]byte("cpu  2587461 452207 269219 1613471 11281 0 2976 2254 9 9\ncpu0 1 2 3 4 5 6 7 8 0 0\n"))
	require.NoError(t, err)
	require.Equal(t, uint64(2254), steal)
	require.Equal(t, uint64(2587461+452207+269219+1613471+11281+0+2976+2254), total)
	_, _, err = parse([]byte("cpu 1 2 3 4 5 6 7"))
	require.ErrorIs(t, err, sysfs.ErrUnsupported, "before there was steal")
	for _, text := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 x 4 5 6 7 8", "cpu 1 2", "cpu 18446744073709551615 1 1 1 1 1 1 1"} {
		_, _, err := parse([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("cpu  2587461 452207 269219 1613471 11281 0 2976 2254 9 9\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		steal, total, err := parse(text)
		if err == nil {
			require.LessOrEqual(t, steal, total)
		}
	})
}
