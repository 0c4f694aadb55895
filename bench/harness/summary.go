package harness

import "slices"

// Summary is what a row comes to.
type Summary struct {
	Name     string  `json:"name"`
	Queries  int     `json:"queries"`
	Seconds  float64 `json:"seconds"`
	MedianMS float64 `json:"median_ms"`                 // of a query
	CleanMS  float64 `json:"clean_median_ms,omitempty"` // of the chunks that are not dirty; 0 if all are
	P90MS    float64 `json:"p90_ms,omitempty"`          // upper bound at 99 % confidence, 0 if it does not hold
	P99MS    float64 `json:"p99_ms,omitempty"`
	P999MS   float64 `json:"p999_ms,omitempty"`
	ImagesPS float64 `json:"images_per_s"`
	// Valid tells whether the scenario's own result holds; Why says what is missing.
	Valid    bool     `json:"valid"`
	Why      string   `json:"why,omitempty"`
	Dirty    float64  `json:"dirty"`               // share of the time
	EnergyMJ *float64 `json:"energy_mj_per_image"` // of the images whose energy is known; null if those are few
	Complete bool     `json:"complete"`
	QPS      float64  `json:"qps,omitempty"`
	BoundMS  float64  `json:"bound_ms,omitempty"`
}

// mostlyMetered is the share of a row's images whose energy has to be known for the row to have one.
const mostlyMetered = 0.9

func ms(ns int64) float64 { return float64(ns) / 1e6 }

// Summarize computes a row's summary.
func (m *Measured) Summarize() Summary {
	s := Summary{Name: m.Name(), Complete: m.Complete, QPS: m.QPS, BoundMS: m.BoundMS}
	var all, clean []int64
	images, metered, dirty, energy := 0, 0, 0.0, 0.0
	for _, c := range m.Chunks {
		all = append(all, c.NS...)
		images += c.Images * len(c.NS)
		s.Seconds += c.Seconds
		if len(c.Dirty) > 0 {
			dirty += c.Seconds
		} else {
			clean = append(clean, c.NS...)
		}
		if c.EnergyMJ != nil {
			energy += *c.EnergyMJ
			metered += c.Images * len(c.NS)
		}
	}
	s.Queries = len(all)
	if len(all) == 0 {
		s.Why = "nothing was measured"
		return s
	}
	s.MedianMS, s.CleanMS = ms(median(all)), ms(median(clean))
	s.Dirty, s.ImagesPS = dirty/s.Seconds, float64(images)/s.Seconds
	// A meter that steps seldom may have nothing to say of a short chunk, such as the last one.
	if float64(metered) >= mostlyMetered*float64(images) {
		energy /= float64(metered)
		s.EnergyMJ = &energy
	}
	if m.Scenario == Offline {
		s.Valid = m.Complete
	} else {
		for _, p := range []struct {
			q  float64
			to *float64
		}{{0.90, &s.P90MS}, {0.99, &s.P99MS}, {0.999, &s.P999MS}} {
			if ns, holds := Percentile(all, p.q); holds {
				*p.to = ms(ns)
			}
		}
		s.Valid = len(all) >= MinQueries(1, m.Scenario.percentile())
		if !s.Valid {
			s.Why = "too few queries for its percentile"
		}
	}
	if m.Scenario == Server && s.Valid && !serverPasses(all, int64(m.BoundMS*1e6)) {
		s.Valid, s.Why = false, "more queries over the bound than p99 allows"
	}
	if !m.Complete {
		s.Valid, s.Why = false, "the run was ended before"
	}
	return s
}

// median of values in any order, 0 of none.
func median(values []int64) int64 {
	return quantile(slices.Sorted(slices.Values(values)), 0.5)
}
