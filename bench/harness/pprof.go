package harness

import (
	"fmt"
	"io"
	"strconv"

	"github.com/google/pprof/profile"
)

// WritePprof writes the timed parts as a profile: its stacks go from the network through stage and block to the part
// and its kernels, its values are nanoseconds and multiply-adds of one inference, its labels are the same again
// for pprof's -tagfocus.
func WritePprof(w io.Writer, r *Result) error {
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "macs", Unit: "count"}, {Type: "time", Unit: "nanoseconds"}},
		DefaultSampleType: "time",
		TimeNanos:         r.Environment.Time.UnixNano(),
		PeriodType:        &profile.ValueType{Type: "time", Unit: "nanoseconds"}, Period: 1,
	}
	locations := map[string]*profile.Location{}
	at := func(name string) *profile.Location {
		if l := locations[name]; l != nil {
			return l
		}
		f := &profile.Function{ID: uint64(len(p.Function) + 1), Name: name, SystemName: name}
		l := &profile.Location{ID: f.ID, Line: []profile.Line{{Function: f}}}
		p.Function, p.Location, locations[name] = append(p.Function, f), append(p.Location, l), l
		return l
	}
	for i := range r.Rows {
		m := &r.Rows[i]
		if m.Layers == nil {
			continue
		}
		for _, part := range m.Layers.Parts {
			stack := []*profile.Location{at(part.Kernel), at(part.Name)}
			labels := map[string][]string{"part": {part.Name}, "kernel": {part.Kernel}, "level": {strconv.Itoa(m.Level)}, "row": {m.Name()}}
			if part.Block >= 0 {
				stack = append(stack, at(fmt.Sprintf("block %d", part.Block)))
				labels["block"] = []string{strconv.Itoa(part.Block)}
			}
			if part.Stage >= 0 {
				stack = append(stack, at(fmt.Sprintf("stage %d", part.Stage)))
				labels["stage"] = []string{strconv.Itoa(part.Stage)}
			}
			stack = append(stack, at(fmt.Sprintf("%s level %d on %s", m.Model, m.Level, m.Backend)))
			p.Sample = append(p.Sample, &profile.Sample{
				Location: stack, Value: []int64{part.MACs, part.NS}, Label: labels,
			})
			p.DurationNanos += part.NS
		}
	}
	if len(p.Sample) == 0 {
		return fmt.Errorf("%s: no row has timed parts, expected a result of bench run --layers", r.name)
	}
	if err := p.CheckValid(); err != nil {
		return fmt.Errorf("harness: %w", err)
	}
	return p.Write(w)
}
