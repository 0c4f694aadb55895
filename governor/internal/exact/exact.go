// Package exact has the few transcendental functions of the governor with the same bits on every machine. Those of
// package math are assembly on some architectures, and compilers may fuse x*y+z where the processor can; here every
// product is rounded by an explicit conversion, which forbids that. The errors are a few units in the last place
// for Exp and Log, and below 1e-7 for Phi and Quantile.
package exact

import "math"

const (
	ln2High = 6.93147180369123816490e-01 // 33 bits, so that n*ln2High is exact
	ln2Low  = 1.90821492927058770002e-10
)

// Exp is e**x for x within -700 and 700; beyond, the value at the bound.
func Exp(x float64) float64 {
	x = max(-700, min(700, x))
	n := math.Floor(float64(x*math.Log2E) + 0.5)
	r := (x - float64(n*ln2High)) - float64(n*ln2Low)
	sum := 1.0
	for i := 13.0; i > 0; i-- { // Taylor, |r| <= 0.35
		sum = 1 + float64(float64(r/i)*sum)
	}
	return float64(sum * math.Float64frombits(uint64(int64(n)+1023)<<52))
}

// Log is the natural logarithm of a positive, normal x.
func Log(x float64) float64 {
	bits := math.Float64bits(x)
	n := float64(int64(bits>>52&0x7ff) - 1023)
	m := math.Float64frombits(bits&^(0x7ff<<52) | 1023<<52)
	if m > math.Sqrt2 {
		m /= 2
		n++
	}
	s := (m - 1) / (m + 1)
	square := float64(s * s)
	sum := 0.0
	for i := 23.0; i > 0; i -= 2 { // artanh, |s| <= 0.172
		sum = 1/i + float64(square*sum)
	}
	return float64(n*ln2High) + (float64(n*ln2Low) + float64(float64(2*s)*sum))
}

// Phi is the distribution function of the standard normal distribution (Abramowitz and Stegun, 26.2.17).
func Phi(x float64) float64 {
	t := 1 / (1 + float64(0.2316419*math.Abs(x)))
	poly := 0.0
	for _, c := range [...]float64{1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530} {
		poly = float64(t * (c + poly))
	}
	const invSqrt2Pi = 0.3989422804014327
	upper := float64(float64(invSqrt2Pi*Exp(float64(-0.5*float64(x*x)))) * poly)
	if x < 0 {
		return upper
	}
	return 1 - upper
}

// Quantile is the inverse of Phi for p within 1e-12 and 1-1e-12; beyond, the value at the bound (Acklam's rational
// approximation).
func Quantile(p float64) float64 {
	p = max(1e-12, min(1-1e-12, p))
	const edge = 0.02425
	if p > 1-edge {
		return -Quantile(1 - p)
	}
	if p < edge {
		q := math.Sqrt(float64(-2 * Log(p)))
		return horner(q, -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783) /
			horner(q, 7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996, 3.754408661907416, 1)
	}
	q := p - 0.5
	r := float64(q * q)
	return float64(q*horner(r, -3.969683028665376e+01, 2.209460984245205e+02, -2.759285104469687e+02, 1.383577518672690e+02, -3.066479806614716e+01, 2.506628277459239)) /
		horner(r, -5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02, 6.680131188771972e+01, -1.328068155288572e+01, 1)
}

func horner(x float64, coefficients ...float64) float64 {
	sum := 0.0
	for _, c := range coefficients {
		sum = float64(sum*x) + c
	}
	return sum
}
