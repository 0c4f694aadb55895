package nvml

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

// script is a driver and its GPU; errs has what calls answer instead of their value.
type script struct {
	errs                 map[string]error
	inits, shutdowns     int
	mhz, highest, joules float64
	reasons              uint64
	celsius, load        float64
}

func newScript() *script {
	return &script{errs: map[string]error{}, mhz: 1410, highest: 1980, joules: 5000, celsius: 61, load: 0.75}
}

func (s *script) Init() error                           { s.inits++; return s.errs["init"] }
func (s *script) Shutdown()                             { s.shutdowns++ }
func (s *script) Device(int) (Device, error)            { return s, s.errs["device"] }
func (s *script) Clocks() (_, _ float64, _ error)       { return s.mhz, s.highest, s.errs["clocks"] }
func (s *script) MemoryClocks() (_, _ float64, _ error) { return 2619, 2619, s.errs["memory clocks"] }
func (s *script) Reasons() (uint64, error)              { return s.reasons, s.errs["reasons"] }
func (s *script) Utilization() (float64, error)         { return s.load, s.errs["utilization"] }
func (s *script) Memory() (used, all float64, _ error)  { return 20e9, 80e9, s.errs["memory"] }
func (s *script) Power() (float64, error)               { return 312.5, s.errs["power"] }
func (s *script) Energy() (float64, error)              { return s.joules, s.errs["energy"] }
func (s *script) Temperature() (float64, error)         { return s.celsius, s.errs["temperature"] }
func (s *script) Processes() ([]int, error)             { return []int{17, 4001, 23}, s.errs["processes"] }

func hardware(rows []source.Row) (hw governor.Hardware) {
	for _, r := range rows {
		if r.Field != source.None {
			*r.Field.Of(&hw) = r.Reading
		}
	}
	return hw
}

func TestValues(t *testing.T) {
	g := newScript()
	g.reasons = 4 | 0x20
	s := New(g, 0, 4001)
	s.Read(0)
	g.joules += 30
	now := time.Second
	valid := func(v float64) governor.Reading {
		return governor.Reading{Value: v, At: now, Condition: governor.Valid}
	}
	require.Equal(t, governor.Hardware{
		GPUClock: valid(1410. / 1980), GPUReasons: valid(0x24), GPULoad: valid(0.75), GPUMemory: valid(0.25), GPUPower: valid(312.5),
		GPUEnergy: valid(30), GPUTemp: valid(61), GPUOthers: valid(2), GPUMemClock: valid(1),
	}, hardware(s.Read(now)))
	s.Close()
	s.Close()
	require.Equal(t, 1, g.shutdowns)
}

// Boards differ in what they answer; each value fails alone.
func TestEachFailsAlone(t *testing.T) {
	for call, field := range map[string]source.Field{
		"clocks": source.GPUClock, "reasons": source.GPUReasons, "utilization": source.GPULoad, "memory": source.GPUMemory, "power": source.GPUPower,
		"energy": source.GPUEnergy, "temperature": source.GPUTemp, "processes": source.GPUOthers, "memory clocks": source.GPUMemClock,
	} {
		for _, err := range []error{ErrUnsupported, ErrNoFunction, errors.New("NVML answers error 999")} {
			g := newScript()
			g.errs[call] = err
			s := New(g, 0, 1)
			hw := hardware(s.Read(0))
			for f := source.GPUClock; f < source.Fields; f++ {
				want := governor.Valid
				if f == field {
					want = governor.Unsupported
				}
				require.Equal(t, want, f.Of(&hw).Condition, "%s, %s: %v", call, f, err)
			}
			delete(g.errs, call)
			hw = hardware(s.Read(1))
			require.Equal(t, governor.Valid, field.Of(&hw).Condition)
		}
	}
}

func TestNonsense(t *testing.T) {
	g := newScript()
	s := New(g, 0, 1)
	s.Read(0)
	g.highest, g.celsius, g.joules = 0, 4e9, 1
	hw := hardware(s.Read(1))
	require.Equal(t, governor.Wrong, hw.GPUClock.Condition)
	require.Equal(t, governor.Wrong, hw.GPUTemp.Condition)
	require.Equal(t, governor.Wrong, hw.GPUEnergy.Condition, "the driver was loaded again")
	g.joules = 11
	hw = hardware(s.Read(2))
	require.Equal(t, governor.Reading{Value: 10, At: 2, Condition: governor.Valid}, hw.GPUEnergy)
}

// A GPU without work runs slowly, but nothing limits it; unless something did when it last worked, which nobody can see
// while it rests.
func TestIdleIsNoLimit(t *testing.T) {
	g := newScript()
	g.mhz, g.reasons = 345, idle
	s := New(g, 0, 1)
	rows := s.Read(0)
	require.Equal(t, 1., hardware(rows).GPUClock.Value)
	require.Equal(t, 345., rows[current].Reading.Value)
	g.mhz, g.reasons = 990, 0x40
	require.Equal(t, 0.5, hardware(s.Read(1)).GPUClock.Value)
	g.mhz, g.reasons = 345, idle
	for now := range time.Duration(3) {
		rows = s.Read(2 + now)
		require.ErrorIs(t, rows[clock].Err, ErrIdle)
		require.Equal(t, governor.Missing, hardware(rows).GPUClock.Condition)
		require.Equal(t, 1., hardware(rows).GPUMemClock.Value, "which was not limited")
	}
	g.mhz, g.reasons = 1980, 0
	require.Equal(t, 1., hardware(s.Read(5)).GPUClock.Value)
	g.mhz, g.reasons = 345, idle
	require.Equal(t, 1., hardware(s.Read(6)).GPUClock.Value)
	g.errs["reasons"] = ErrUnsupported
	require.Equal(t, 345./1980, hardware(s.Read(7)).GPUClock.Value, "busy, so something limits it")
	g.load = 0
	require.Equal(t, governor.Missing, hardware(s.Read(8)).GPUClock.Condition)
}

// Init fails, then recovers; the pauses between the attempts get longer.
func TestInitRecovers(t *testing.T) {
	g := newScript()
	g.errs["init"] = ErrNoDriver
	s := New(g, 0, 1)
	var now time.Duration
	for ; now < time.Minute; now += 200 * time.Millisecond {
		for _, r := range s.Read(now) {
			require.Equal(t, governor.Missing, r.Reading.Condition)
			require.ErrorIs(t, r.Err, ErrNoDriver)
		}
	}
	require.Equal(t, 6, g.inits, "at 0, 2, 6, 14, 30 and 62 s would be the next")
	require.Zero(t, g.shutdowns)
	delete(g.errs, "init")
	for began := now; ; now += 200 * time.Millisecond {
		if hw := hardware(s.Read(now)); hw.GPULoad.Condition == governor.Valid {
			break
		}
		require.Less(t, now-began, 33*time.Second)
	}
	require.Zero(t, g.shutdowns)

	g.errs["init"], g.errs["utilization"] = errors.New("nvmlInit answers error 9"), ErrLost
	s.Read(now)
	now += sysfs.Again
	require.ErrorContains(t, s.Read(now)[load].Err, "error 9")
}

// A lost GPU gives the driver back and is looked for again.
func TestLost(t *testing.T) {
	for _, call := range []string{"clocks", "utilization", "processes"} {
		g := newScript()
		s := New(g, 0, 1)
		s.Read(0)
		g.errs[call] = ErrLost
		for _, r := range s.Read(1) {
			require.Equal(t, governor.Missing, r.Reading.Condition, r.Name)
			require.ErrorIs(t, r.Err, ErrLost)
		}
		require.Equal(t, 1, g.shutdowns)
		delete(g.errs, call)
		g.errs["device"] = ErrLost
		s.Read(2)
		require.Equal(t, 1, g.inits, "not at once")
		s.Read(1 + sysfs.Again)
		require.Equal(t, 2, g.inits)
		require.Equal(t, 2, g.shutdowns, "the driver is there and has no such device")
		delete(g.errs, "device")
		hw := hardware(s.Read(1 + 4*sysfs.Again))
		require.Equal(t, governor.Valid, hw.GPULoad.Condition)
	}
}

func TestNone(t *testing.T) {
	s := New(None{}, 0, 1)
	for _, r := range s.Read(0) {
		require.Equal(t, governor.Missing, r.Reading.Condition)
	}
	_, err := None{}.Device(0)
	require.ErrorIs(t, err, ErrNoDriver)
	s.Close()
}

// Wherever the tests run, asking for the driver is safe.
func TestSystem(t *testing.T) {
	s := New(System(), 0, 1)
	rows := s.Read(0)
	t.Logf("%+v", rows)
	s.Close()
}
