package networks_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/bench/networks"
)

// The multiply-adds that were counted when the networks were chosen, in millions.
func TestEightAreTheNetworksThatWereChosen(t *testing.T) {
	want := map[string]float64{
		"w10_min": 63.2, "w12_n0": 235.5, "w12_n1": 254.0, "w12_n2": 288.8, "w12_n3": 375.5, "w12_n4": 522.1,
		"w12_n5": 731.1, "w10_max": 566.2,
	}
	require.Len(t, networks.Eight(), len(want))
	for _, n := range networks.Eight() {
		require.NoError(t, n.Space.Check(n.Subnet), n.Name)
		macs, _ := n.Space.Cost(n.Subnet)
		require.Equal(t, want[n.Name], math.Round(float64(macs)/1e5)/10, n.Name)
	}
}
