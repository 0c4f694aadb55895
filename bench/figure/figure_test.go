package figure

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTicksTellLabelsApart(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		want      []string
	}{
		{10.98, 11.06, []string{"10.98", "11.02", "11.06"}},
		{0, 1e-12, []string{"0", "5e-13", "1e-12"}},
		{10.9, 11.1, []string{"10.9", "11.0", "11.1"}},
		{0.0211, 0.0214, []string{"0.02112", "0.02124", "0.02136"}},
		{9.3, 9.36, []string{"9.300", "9.325", "9.350"}},
		{0, 75, []string{"0", "25", "50", "75"}},
		{-0.2, 0.2, []string{"-0.2", "0.0", "0.2"}},
	} {
		var labels []string
		for _, tick := range (Ticks{}).Ticks(c.low, c.high) {
			if tick.Label != "" {
				labels = append(labels, tick.Label)
			}
		}
		require.Equal(t, c.want, labels, "%g to %g", c.low, c.high)
	}
}
