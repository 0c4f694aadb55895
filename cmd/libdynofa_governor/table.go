// Command libdynofa_governor is the governor as a C library, built with -buildmode=c-archive or c-shared. Its header is
// dynofa_governor.h.
package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dynofa/dynofa/governor"
	"github.com/dynofa/dynofa/governor/policy"
	"github.com/dynofa/dynofa/governor/sensor"
)

func main() {} // of a library is never called

// instance is a governor that C holds a handle of.
type instance struct {
	governor *governor.Governor
	sensors  *sensor.Sampler // nil: none
	gaveUp   atomic.Uint32
	decided  bool // by next, and not observed; only the thread of next and observe uses it
}

// table is the governors by handle: C cannot hold pointers of Go. A lookup allocates nothing and takes no lock.
type table struct {
	list atomic.Pointer[map[uint64]*instance] // never changed, only replaced
	mu   sync.Mutex                           // of who replaces it
	last uint64
}

var errHandle = errors.New("no such governor")

func (t *table) get(handle uint64) *instance {
	if list := t.list.Load(); list != nil {
		return (*list)[handle]
	}
	return nil
}

// change replaces the list by one that differs. The caller holds the lock.
func (t *table) change(how func(list map[uint64]*instance)) {
	list := map[uint64]*instance{}
	if old := t.list.Load(); old != nil {
		list = maps.Clone(*old)
	}
	how(list)
	t.list.Store(&list)
}

// settings are a dynofa_governor_config.
type settings struct {
	levels      []governor.Level
	threads     int
	policy      string
	sensors     bool
	constraints governor.Constraints
}

func (t *table) add(s settings) (uint64, error) {
	if s.policy == "" {
		s.policy = "steady"
	}
	all := policy.All()
	i := slices.IndexFunc(all, func(p policy.Entry) bool { return p.Name == s.policy && !p.Restart })
	if i < 0 {
		var names []string
		for _, p := range all {
			if !p.Restart {
				names = append(names, p.Name)
			}
		}
		return 0, fmt.Errorf("policy %.40q, expected one of %s", s.policy, strings.Join(names, ", "))
	}
	profile := &governor.Profile{Levels: s.levels, Configurations: []governor.Configuration{{Threads: max(1, s.threads)}}}
	started := time.Now()
	clock := func() time.Duration { return time.Since(started) }
	estimator, decides := all[i].New(profile)
	config := governor.Config{Profile: profile, Estimator: estimator, Policy: decides, Constraints: s.constraints, Now: clock}
	n := &instance{}
	if s.sensors {
		n.sensors = sensor.Open(sensor.Config{Clock: clock})
		config.Hardware = n.sensors.Hardware
	}
	var err error
	if n.governor, err = governor.New(config); err != nil {
		return 0, errors.Join(err, n.close())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last++
	t.change(func(list map[uint64]*instance) { list[t.last] = n })
	return t.last, nil
}

func (t *table) remove(handle uint64) {
	t.mu.Lock()
	n := t.get(handle)
	if n != nil {
		t.change(func(list map[uint64]*instance) { delete(list, handle) })
	}
	t.mu.Unlock()
	if n != nil {
		_ = n.close()
	}
}

// claim is a dynofa_governor_claim.
type claim struct {
	handle   uint64
	period   float64 // ms; 0: the deadline
	priority int
}

// share is governor.Share for governors by handle; the limits are in ms. An unknown handle is errHandle.
func (t *table) share(claims []claim, budget float64) ([]float64, error) {
	list := make([]governor.Claim, len(claims))
	for i, c := range claims {
		n := t.get(c.handle)
		if n == nil {
			return nil, fmt.Errorf("claim %d: %w", i, errHandle)
		}
		list[i] = n.governor.Claim(c.priority)
		if c.period != 0 {
			period, ok := milliseconds(c.period)
			if !ok {
				return nil, fmt.Errorf("claim %d: period_ms is %v, expected 0 for the deadline, or up to a day", i, c.period)
			}
			list[i].Constraints.Period = period
		}
	}
	limits, _, err := governor.Share(list, budget) // a limit of 0 tells who gets nothing
	if err != nil {
		return nil, err
	}
	result := make([]float64, len(limits))
	for i, l := range limits {
		result[i] = float64(l) / 1e6
	}
	return result, nil
}

func (n *instance) close() error {
	if n.sensors == nil {
		return nil
	}
	return n.sensors.Close()
}

func (n *instance) next() int { return n.decide(n.governor.Next()) }

func (n *instance) nextWithin(left time.Duration) int { return n.decide(n.governor.NextWithin(left)) }

func (n *instance) decide(d governor.Decision) int {
	n.gaveUp.Store(uint32(d.GaveUp))
	n.decided = true
	return d.Level
}

// observe takes in a decision's latency; false without a decision.
func (n *instance) observe(latency time.Duration) bool {
	if !n.decided {
		return false
	}
	n.decided = false
	n.governor.Observe(latency)
	return true
}

// milliseconds is a time of C; false unless it is one that can be.
func milliseconds(ms float64) (time.Duration, bool) {
	if !(ms > 0 && ms <= 24*3600e3) {
		return 0, false
	}
	return time.Duration(math.Ceil(ms * 1e6)), true
}

func constraints(deadline, probability, minAccuracy float64) (governor.Constraints, error) {
	d, ok := milliseconds(deadline)
	if !ok {
		return governor.Constraints{}, fmt.Errorf("deadline_ms is %v, expected more than zero and at most a day", deadline)
	}
	return governor.Constraints{Deadline: d, Probability: probability, MinAccuracy: minAccuracy}, nil
}
