package harness

// Meter tells how much energy was used. What reads one is a sensor of the governor; the harness only asks.
type Meter interface {
	// Name is the source, such as "nvml".
	Name() string
	// Millijoules counts from any moment on; false where it cannot be read just now.
	Millijoules() (float64, bool)
}

// NoMeter is the source of no energy: it is measured or absent, never guessed.
const NoMeter = "n/a"

// spender tells what was used between two of its calls, reading the meter once a call: two readings right after each other
// may have a step of the counter between them that is more than any machine uses in that time.
func spender(m Meter) func() *float64 {
	var before float64
	known := false
	return func() *float64 {
		if m == nil {
			return nil
		}
		after, still := m.Millijoules()
		used := after - before
		was := known
		before, known = after, still
		// No machine uses nothing: a counter that stood still was not read, or steps more seldom than this.
		if was && still && used > 0 {
			return &used
		}
		return nil
	}
}
