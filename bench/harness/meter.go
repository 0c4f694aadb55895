package harness

// Meter tells how much energy was used. What reads one is a sensor of the governor; the harness only asks.
type Meter interface {
	// Name is the source, such as "nvml".
	Name() string
	// Millijoules counts from any moment on; false where it cannot be read just now.
	Millijoules() (float64, bool)
}

// meterName is "n/a" without a meter: energy is measured or absent, never guessed.
func meterName(m Meter) string {
	if m == nil {
		return "n/a"
	}
	return m.Name()
}

// spent returns a function that says what was used since spent was called, nil if that is not known.
func spent(m Meter) func() *float64 {
	if m == nil {
		return func() *float64 { return nil }
	}
	before, known := m.Millijoules()
	return func() *float64 {
		after, still := m.Millijoules()
		if used := after - before; known && still && used >= 0 {
			return &used
		}
		return nil
	}
}
