package devfreq

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseHighest(t *testing.T) {
	highest, err := parseHighest([]byte("306000000 918000000 408000000"))
	require.NoError(t, err)
	require.Equal(t, uint64(918000000), highest)
	for _, text := range []string{"", "0", "306000000 x", "-1"} {
		_, err := parseHighest([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{"gv11b": true, "gpu": true, "ga10b": true, "vic": false, "nvenc": false, "": false} {
		require.Equal(t, want, gpu(name), "%q", name)
	}
}

func FuzzParseHighest(f *testing.F) {
	f.Add([]byte("306000000 408000000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		highest, err := parseHighest(text)
		if err == nil {
			require.NotZero(t, highest)
		}
	})
}
