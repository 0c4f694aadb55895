package governor

import (
	"fmt"
	"time"
)

// Configuration is one way to run a level.
type Configuration struct {
	Name    string `json:"name,omitempty"`
	Threads int    `json:"threads,omitempty"` // on the CPU; 0 counts as 1
	GPU     bool   `json:"gpu,omitempty"`
	// LaunchMS is, on the GPU, the part of every latency in which the host launches and copies: no clock of the GPU
	// moves it, but the CPU's and its quota do. The rest is the other way round.
	LaunchMS float64 `json:"launch_ms,omitempty"`
}

// Level is what was measured of one level, offline.
type Level struct {
	Accuracy float64         // percent
	Latency  []time.Duration // median on the undisturbed machine, one per configuration
	Power    []float64       // W while running, one per configuration; nil where nobody has measured it
}

// Profile is what was measured of a library on one device. It does not change while a Governor uses it.
type Profile struct {
	Configurations []Configuration
	Levels         []Level // in any order
	Idle           float64 // W between inferences
	Cores          float64 // CPUs that there were when the latencies were measured; 0: as many as threads
}

// MaxConfigurations bounds the ways to run a level: a policy looks at each, and keeps what it finds without allocating.
const MaxConfigurations = 64

// Check tells what is wrong with the profile, if anything.
func (p *Profile) Check() error {
	if len(p.Levels) == 0 || len(p.Configurations) == 0 || len(p.Configurations) > MaxConfigurations {
		return fmt.Errorf("governor: profile with %d levels and %d configurations, expected at least one of each, and at most %d configurations",
			len(p.Levels), len(p.Configurations), MaxConfigurations)
	}
	for i, c := range p.Configurations {
		if !(c.LaunchMS >= 0 && c.LaunchMS <= 24*3600e3) || c.LaunchMS > 0 && !c.GPU {
			return fmt.Errorf("governor: configuration %d launches for %v ms, expected 0 to a day, and 0 on the CPU", i, c.LaunchMS)
		}
	}
	for i, l := range p.Levels {
		if len(l.Latency) != len(p.Configurations) || l.Power != nil && len(l.Power) != len(p.Configurations) {
			return fmt.Errorf("governor: level %d has %d latencies and %d powers, expected one for each of the %d configurations", i, len(l.Latency), len(l.Power), len(p.Configurations))
		}
		if !(l.Accuracy >= 0 && l.Accuracy <= 100) {
			return fmt.Errorf("governor: level %d has accuracy %v, expected percent", i, l.Accuracy)
		}
		for c := range l.Latency {
			if l.Latency[c] <= 0 || l.Latency[c] > 24*time.Hour {
				return fmt.Errorf("governor: level %d has latency %v, expected more than zero and at most a day", i, l.Latency[c])
			}
			if l.Power != nil && !(l.Power[c] >= 0 && l.Power[c] < 1e6) {
				return fmt.Errorf("governor: level %d has power %v, expected watts", i, l.Power[c])
			}
		}
	}
	if !(p.Idle >= 0 && p.Idle < 1e6) {
		return fmt.Errorf("governor: idle power %v, expected watts", p.Idle)
	}
	// A quota is a thousandth of a CPU at least, and estimators divide by it.
	if p.Cores != 0 && !(p.Cores >= 1e-3 && p.Cores <= 1<<16) {
		return fmt.Errorf("governor: profile measured with %v CPUs, expected 0 or 0.001 to 65536", p.Cores)
	}
	return nil
}

// Option numbers the pairs of level and configuration.
func (p *Profile) Option(level, configuration int) int {
	return level*len(p.Configurations) + configuration
}

// Launch is the share of an option's latency that launches and copies take.
func (p *Profile) Launch(level, configuration int) float64 {
	return min(1, p.Configurations[configuration].LaunchMS/(1e3*p.Levels[level].Latency[configuration].Seconds()))
}

// Energy is the expected energy in J of an inference that takes the given time, and of the idle rest of its period.
func (p *Profile) Energy(level, configuration int, latency, period float64) float64 {
	power := p.Levels[level].Power
	if power == nil {
		return 0
	}
	return float64(power[configuration]*latency) + float64(p.Idle*max(0, period-latency))
}
