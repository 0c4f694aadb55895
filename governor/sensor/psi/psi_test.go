package psi

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseTotal(t *testing.T) {
	total, err := parseTotal([]byte("some avg10=0.26 avg60=0.51 avg300=0.71 total=11656859242\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7"))
	require.NoError(t, err)
	require.Equal(t, uint64(11656859242), total)
	for _, text := range []string{"", "full total=7", "some avg10=0.26", "some total=", "some total=-1", "some total=x", "some total=99999999999999999999"} {
		_, err := parseTotal([]byte(text))
		require.Error(t, err, "%q", text)
	}
}

func FuzzParseTotal(f *testing.F) {
	f.Add([]byte("some avg10=0.26 avg60=0.51 avg300=0.71 total=11656859242\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0"), uint64(7))
	f.Fuzz(func(t *testing.T, text []byte, n uint64) {
		_, _ = parseTotal(text)
		total, err := parseTotal(fmt.Appendf(nil, "some avg10=0.00 total=%d\n%s", n, text))
		require.NoError(t, err)
		require.Equal(t, n, total)
	})
}
