package profile

import (
	"context"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// card is an engine on a simulated GPU, a roofline with launches. A kernel takes a start, and then the longer of its
// arithmetic on as many multiprocessors as it has blocks for and its traffic:
//
//	kernel = start + max(operations / (peak * min(1, blocks/processors)), bytes / bandwidth)
//
// Recorded, a run is one launch, the copies and its kernels with a gap after each. Issued, the host needs a while for
// every kernel and the device begins one when it is issued and the one before has ended: a device that is faster than
// its host waits. Parts are timed between events, each of which costs the host and the device something, in issued runs.
type card struct {
	*simulated
	processors, peak, bandwidth         float64 // FLOP/s, bytes/s
	start, gap, issue, event, timestamp float64 // s: of a kernel, between recorded ones; the host's for a kernel and an event; the device's for an event
	launch, link                        float64 // s; bytes/s of copies
	recorded, timed                     bool    // runs are recorded; so are those whose parts are timed
}

// large is of the size of a data centre's, small of a board's. Their numbers are orders of magnitude, not measurements.
func large(e *simulated) *card {
	return &card{simulated: e, processors: 132, peak: 50e12, bandwidth: 3e12, start: 2e-6, gap: 0.8e-6, issue: 2.5e-6, event: 1e-6, timestamp: 1e-6, launch: 8e-6, link: 20e9}
}

func small(e *simulated) *card {
	return &card{simulated: e, processors: 8, peak: 1.5e12, bandwidth: 60e9, start: 4e-6, gap: 1.5e-6, issue: 12e-6, event: 5e-6, timestamp: 2e-6, launch: 30e-6, link: math.Inf(1)}
}

// kernel is how long one takes that makes outputs (pixels x channels) from so many products each, and moves so many
// floats.
func (c *card) kernel(outputs, products, floats float64) float64 {
	blocks := math.Ceil(outputs / 2048)
	return c.start + max(2*outputs*products/(c.peak*min(1, blocks/c.processors)), 4*floats/c.bandwidth)
}

// part is what the engine times as one.
type cardPart struct {
	name    string
	block   int
	kernels []float64
}

func (c *card) parts() (list []cardPart) {
	s, n := c.space, c.current
	blocks := s.Blocks(n)
	add := func(name string, block int, kernels ...float64) { list = append(list, cardPart{name, block, kernels}) }
	square := func(side int) float64 { return float64(side * side) }
	first := blocks[0]
	add("stem", -1, c.kernel(square(first.InSide)*float64(first.In), 27, 3*square(n.Resolution)+square(first.InSide)*float64(first.In)))
	for _, b := range blocks {
		in, mid, out, squeeze := float64(b.In), float64(b.Mid), float64(b.Out), float64(b.Squeeze)
		before, after := square(b.InSide), square(b.OutSide)
		if b.Expand > 0 {
			add("expand", b.Index, c.kernel(before*mid, in, before*(in+mid)+in*mid))
		}
		taps := float64(b.Kernel * b.Kernel)
		add("depthwise", b.Index, c.kernel(after*mid, taps, before*mid+after*mid+taps*mid))
		if squeeze > 0 {
			add("squeeze", b.Index, c.kernel(squeeze, mid, squeeze*mid), c.kernel(mid, squeeze, squeeze*mid))
		}
		add("project", b.Index, c.kernel(after*out, mid, after*(mid+out)+mid*out))
	}
	last := blocks[len(blocks)-1]
	pooled, features, classes := float64(s.Head.Expand), float64(s.Head.Features), float64(s.Classes)
	side := square(last.OutSide)
	add("head", -1, c.kernel(side*pooled, float64(last.Out), side*(float64(last.Out)+pooled)+float64(last.Out)*pooled))
	add("pool", -1, c.kernel(pooled, side, side*pooled))
	add("features", -1, c.kernel(features, pooled, pooled*features))
	add("classifier", -1, c.kernel(classes, features, features*classes))
	return list
}

// seconds is what a run costs without noise; each is told what its parts took, if it is given.
func (c *card) seconds(each func(i int, p cardPart, seconds float64)) float64 {
	copies := 12*float64(c.current.Resolution*c.current.Resolution)/c.link + 4*float64(c.space.Classes)/c.link
	if c.recorded && (each == nil || c.timed) {
		sum := c.launch + copies
		for i, p := range c.parts() {
			begin := sum
			for _, k := range p.kernels {
				sum += k + c.gap
			}
			if each != nil {
				sum += c.timestamp
				each(i, p, sum-begin)
			}
		}
		return sum
	}
	host, device := 0.0, copies
	for i, p := range c.parts() {
		begin := device
		for _, k := range p.kernels {
			host += c.issue
			device = max(device, host) + k
		}
		if each != nil {
			host += c.event
			device = max(device, host) + c.timestamp
			each(i, p, device-begin)
		}
	}
	return device
}

func (c *card) Run(context.Context, []float32, []float32) error {
	c.spend(c.seconds(nil))
	c.write()
	return c.step()
}

func (c *card) Profile(_ context.Context, _, _ []float32, parts []Part) (count int, err error) {
	c.seconds(func(i int, p cardPart, seconds float64) {
		parts[i] = Part{p.name, p.block, time.Duration(1e9 * c.spend(seconds))}
		count = i + 1
	})
	c.write()
	return count, c.step()
}

// TestCards: the sum of layers with its correction is the right shape for recorded runs, as long as parts are timed in
// such runs, too: copies and the launch are the base, gaps go with the layers. Parts of issued runs are as slow as their
// host, where that is slower than the device; then tables tell less. The bounds are some times what the model comes to.
func TestCards(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short")
	}
	type way struct{ recorded, timed bool }
	for name, make := range map[string]func(*simulated) *card{"large": large, "small": small} {
		for w, bound := range map[way][2]float64{{true, true}: {0.005, 0.015}, {true, false}: {0.02, 0.08}, {false, false}: {0.02, 0.08}} {
			e := simulate(t, ofa.MobileNetV3(1.2, 1000))
			e.noise = 0.01
			c := make(e)
			c.recorded, c.timed = w.recorded, w.timed
			o := e.options(filepath.Join(t.TempDir(), "table"))
			o.Engine, o.Backend, o.Resolutions = c, "cuda", []int{128, 176, 224}
			r, err := Run(t.Context(), o)
			require.NoError(t, err)
			t.Logf("%s, runs recorded %v, parts too %v: mean error %.2f %%, worst %.2f %%, rank %.4f", name, w.recorded, w.timed, 100*r.Proof.MeanError, 100*r.Proof.Worst, r.Proof.Rank)
			require.Less(t, r.Proof.MeanError, bound[0], "%s, %+v", name, w)
			require.Less(t, r.Proof.Worst, bound[1], "%s, %+v", name, w)
			require.Greater(t, r.Proof.Rank, 0.99)
			if w.recorded && w.timed {
				for side, base := range r.Table.Profile().Correction.BaseMS {
					want := 1e3 * (c.launch + 12*float64(side*side)/c.link)
					require.InDelta(t, want, base, 0.03, "%s: launch and copies", name)
				}
			}
		}
	}
}
