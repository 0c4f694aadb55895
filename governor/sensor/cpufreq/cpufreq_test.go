package cpufreq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseTimeInState(t *testing.T) {
	ticks, product, err := parseTimeInState([]byte("600000 9000\n750000 100\n1500000 40000"))
	require.NoError(t, err)
	require.Equal(t, uint64(49100), ticks)
	require.Equal(t, uint64(600000*9000+750000*100+1500000*40000), product)
	for _, text := range []string{"600000", "x 1", "1 x", "600000 1\n\n700000 1"} {
		_, _, err := parseTimeInState([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func FuzzParseTimeInState(f *testing.F) {
	f.Add([]byte("600000 9000\n1500000 40000\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		ticks, _, err := parseTimeInState(text)
		if err != nil {
			return
		}
		// One more state adds its ticks.
		more, _, err := parseTimeInState(append([]byte("1 5\n"), text...))
		require.NoError(t, err)
		require.Equal(t, ticks+5, more)
	})
}
