package harness

import (
	"math"
	"slices"
	"sort"

	"gonum.org/v1/gonum/mathext"
)

// confidence is LoadGen's: a percentile that is reported is an upper bound that holds with this probability.
const confidence = 0.99

// MinQueries is the least number of queries of which over may be over the latency for "the p-th quantile is not
// over it" to hold: the smallest n with P(Binomial(n, 1-p) <= over) <= 1 - 0.99. LoadGen's early stopping asks
// the same, with tolerance 0.
func MinQueries(over int, p float64) int {
	under := sort.Search(math.MaxInt32, func(h int) bool {
		return h > 0 && mathext.RegIncBeta(float64(h), float64(over+1), p) <= 1-confidence
	})
	return under + over
}

// Percentile is the early-stopping estimate of the p-th quantile: the (n-t+1)-th smallest value with the largest
// t that n values allow to be over it. It does not hold for fewer than MinQueries(1, p) values.
func Percentile(values []int64, p float64) (ns int64, holds bool) {
	n := len(values)
	if n < MinQueries(1, p) {
		return 0, false
	}
	// t is smallest where more of them would need more values than there are; it grows with n.
	t := sort.Search(n, func(t int) bool { return MinQueries(t+1, p) > n })
	return slices.Sorted(slices.Values(values))[n-t], true
}

// quantile is the plain one, of values that are sorted.
func quantile(sorted []int64, q float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
