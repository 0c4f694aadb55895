package governor

import "time"

// Condition tells whether a Reading has a value and, if not, why. The zero value is Missing: what nobody has read is not zero.
type Condition uint8

// The conditions of a Reading; only Valid has a value.
const (
	Missing     Condition = iota // the source is not there (now); it may appear later
	Unsupported                  // the source is there and says that it cannot tell
	Stale                        // the last value is older than the sensor promises
	Wrong                        // the source answers nonsense (out of range, time going backwards)
	Valid
)

// Reading is one value of one sensor.
type Reading struct {
	Value     float64
	At        time.Duration // when it was read, on the clock of the loop
	Condition Condition
}

// Get answers the value where there is a valid one.
func (r Reading) Get() (value float64, ok bool) { return r.Value, r.Condition == Valid }

// Hardware is what the sensors know at one moment. Every field can be missing on its own. It is a plain value: sensors
// publish copies of it, simulators and traces make it up, estimators only read it.
type Hardware struct {
	Clock       Reading // permitted CPU clock over the highest the CPU has, capacity-weighted over the CPUs we may use, 0 to 1
	Cores       Reading // CPUs that we may use: online, in our affinity, capped by the cgroup's quota; may be fractional
	Contention  Reading // share of the time that our own threads wanted to run in which they waited for a CPU (schedstat), 0 to 1
	Pressure    Reading // share of time that some task waited for a CPU (PSI some), 0 to 1
	Steal       Reading // share of time stolen by the hypervisor, 0 to 1
	Throttled   Reading // share of time that the cgroup's quota stopped us, 0 to 1
	Temperature Reading // hottest zone, degrees Celsius
	Cooling     Reading // deepest cooling state over its maximum, 0 to 1
	Power       Reading // W, of the whole board or package
	Energy      Reading // J, a counter without wraps since the first reading
	GPUClock    Reading // permitted or current GPU clock over its highest, 0 to 1
	GPULoad     Reading // share of time the GPU was busy, 0 to 1
	GPUOthers   Reading // number of other processes that compute on the GPU
	GPUPower    Reading // W
	GPUEnergy   Reading // J since the first reading
	GPUTemp     Reading // degrees Celsius
	GPUMemory   Reading // share of the memory in use, 0 to 1
	GPUReasons  Reading // bits of NVML's clocks event reasons
	GPUMemClock Reading // current clock of the GPU's memory over its highest, 0 to 1
}
