package sim

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dynofa/dynofa/governor/policy"
)

// Stat is a mean over seeds with its 95 % confidence interval's half-width.
type Stat struct {
	Mean float64 `json:"mean"`
	Half float64 `json:"half"`
	// Runs is the value of each seed; of means over scenarios there are none.
	Runs []float64 `json:"-"`
}

// Row is a policy in a scenario, or over all of them.
type Row struct {
	Policy    string `json:"policy"`
	Effective Stat   `json:"effective"`    // accuracy, where a late or lost answer counts nothing, percent
	Regret    Stat   `json:"regret"`       // effective accuracy below the oracle's, points
	Accuracy  Stat   `json:"accuracy"`     // of the answers, late or not, percent
	Miss      Stat   `json:"miss"`         // late or lost, percent
	Lost      Stat   `json:"lost"`         // percent
	Caused    Stat   `json:"caused"`       // late inferences of a run that would have been late without noise
	Unsettled Stat   `json:"unsettled"`    // inferences of a run whose level could not be in time when another could
	Switches  Stat   `json:"switches"`     // of a run
	Rate      Stat   `json:"switch_rate"`  // switches per 1000 inferences
	Lateness  Stat   `json:"lateness_ms"`  // of a run
	Longest   Stat   `json:"longest_late"` // late inferences in a row
	Energy    Stat   `json:"energy_j"`     // of an inference
	PerRight  Stat   `json:"energy_right"` // J of a correct answer in time
	Covered   Stat   `json:"covered"`      // latencies below their predicted quantile, percent
	Events    Stat   `json:"events"`       // infeasible, told in a run
	Hash      uint64 `json:"hash"`         // of every decision and latency of all runs
}

// Table is what policies come to in a scenario.
type Table struct {
	Scenario string `json:"scenario"`
	Rows     []Row  `json:"rows"`
}

// Run plays every scenario with every policy and the seeds 1 to n, on all processors. The oracles are always
// among the policies; Static is if it is asked for.
func Run(scenarios []*Scenario, policies []policy.Entry, seeds int) ([]Table, error) {
	policies = append(slices.Clone(policies), Oracle, Clairvoyant)
	machines := make([]*machine, len(scenarios))
	results := make([]Result, len(scenarios)*len(policies)*seeds)
	var failed atomic.Pointer[error]
	parallel(len(scenarios), func(i int) {
		m, err := newMachine(scenarios[i])
		if err != nil {
			failed.Store(&err)
		}
		machines[i] = m
	})
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	parallel(len(results), func(i int) {
		scenario, p, seed := i/seeds/len(policies), i/seeds%len(policies), i%seeds
		if policies[p].Name == Static.Name {
			return
		}
		r, err := machines[scenario].run(policies[p], uint64(seed)+1, nil)
		if err != nil {
			failed.Store(&err)
		}
		results[i] = r
	})
	at := slices.IndexFunc(policies, func(p policy.Entry) bool { return p.Name == Static.Name })
	parallel(len(scenarios), func(i int) {
		if at < 0 {
			return
		}
		best, err := machines[i].static(seeds)
		if err != nil {
			failed.Store(&err)
		}
		copy(results[(i*len(policies)+at)*seeds:], best)
	})
	if e := failed.Load(); e != nil {
		return nil, *e
	}
	var tables []Table
	for i, s := range scenarios {
		t := Table{Scenario: s.Name}
		of := func(p int) []Result { return results[(i*len(policies)+p)*seeds:][:seeds] }
		oracle := of(len(policies) - 2)
		for p, entry := range policies {
			t.Rows = append(t.Rows, row(entry.Name, of(p), oracle))
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// static is the runs of the option that is best over all seeds.
func (m *machine) static(seeds int) (best []Result, err error) {
	highest := -1.0
	for l := range m.scenario.Levels {
		for c := range m.scenario.Configurations {
			runs, sum := make([]Result, seeds), 0.0
			for i := range runs {
				if runs[i], err = m.run(policy.Entry{New: policy.Static(l, c)}, uint64(i)+1, nil); err != nil {
					return nil, err
				}
				sum += ratio(runs[i].Effective, runs[i].count())
			}
			if sum > highest {
				highest, best = sum, runs
			}
		}
	}
	return best, nil
}

// parallel calls f with 0 to n-1.
func parallel(n int, f func(int)) {
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		group.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	group.Wait()
}

func row(name string, runs, oracle []Result) Row {
	r := Row{Policy: name}
	per := func(f func(i int, r *Result) float64) Stat {
		values := make([]float64, len(runs))
		for i := range runs {
			values[i] = f(i, &runs[i])
		}
		return stat(values)
	}
	effective := func(r *Result) float64 { return ratio(r.Effective, r.count()) }
	r.Effective = per(func(_ int, r *Result) float64 { return effective(r) })
	r.Regret = per(func(i int, r *Result) float64 { return effective(&oracle[i]) - effective(r) })
	r.Accuracy = per(func(_ int, r *Result) float64 { return ratio(r.Accuracy, float64(r.Inferences)) })
	r.Miss = per(func(_ int, r *Result) float64 { return 100 * ratio(float64(r.Late+r.Lost), r.count()) })
	r.Lost = per(func(_ int, r *Result) float64 { return 100 * ratio(float64(r.Lost), r.count()) })
	r.Caused = per(func(_ int, r *Result) float64 { return float64(r.Caused) })
	r.Unsettled = per(func(_ int, r *Result) float64 { return float64(r.Unsettled) })
	r.Switches = per(func(_ int, r *Result) float64 { return float64(r.Switches) })
	r.Rate = per(func(_ int, r *Result) float64 { return 1000 * ratio(float64(r.Switches), r.count()) })
	r.Lateness = per(func(_ int, r *Result) float64 { return r.Lateness })
	r.Longest = per(func(_ int, r *Result) float64 { return float64(r.LongestRun) })
	r.Energy = per(func(_ int, r *Result) float64 { return ratio(r.Energy, float64(r.Inferences)) })
	r.PerRight = per(func(_ int, r *Result) float64 { return ratio(r.Energy, r.Effective/100) })
	r.Covered = per(func(_ int, r *Result) float64 { return 100 * ratio(float64(r.Covered), float64(r.Predicted)) })
	r.Events = per(func(_ int, r *Result) float64 { return float64(r.Infeasible) })
	for i := range runs {
		r.Hash = (r.Hash ^ runs[i].Hash) * 0x100000001b3
	}
	return r
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func stat(values []float64) Stat {
	n := float64(len(values))
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	mean := sum / n
	squares := 0.0
	for _, v := range values {
		squares += float64((v - mean) * (v - mean))
	}
	s := Stat{Mean: mean, Runs: values}
	if n > 1 {
		s.Half = float64(student(len(values)-1) * math.Sqrt(squares/(n-1)/n))
	}
	return s
}

// student is the 97.5 % quantile of Student's distribution.
func student(freedom int) float64 {
	table := [...]float64{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
		2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042}
	if freedom <= len(table) {
		return table[freedom-1]
	}
	return 1.96 + 2.5/float64(freedom)
}

// Mean is the mean of the tables, as one: every scenario counts the same.
func Mean(tables []Table) Table {
	mean := Table{Scenario: "mean"}
	n := float64(len(tables))
	for p := range tables[0].Rows {
		r := Row{Policy: tables[0].Rows[p].Policy}
		for _, t := range tables {
			from := t.Rows[p]
			for k, to := range r.stats() {
				to.Mean += from.stats()[k].Mean / n
				to.Half += float64(from.stats()[k].Half*from.stats()[k].Half) / (n * n)
			}
			r.Hash = (r.Hash ^ from.Hash) * 0x100000001b3
		}
		for _, s := range r.stats() {
			s.Half = math.Sqrt(s.Half)
		}
		mean.Rows = append(mean.Rows, r)
	}
	return mean
}

func (r *Row) stats() []*Stat {
	return []*Stat{&r.Effective, &r.Regret, &r.Accuracy, &r.Miss, &r.Lost, &r.Caused, &r.Unsettled, &r.Switches, &r.Rate,
		&r.Lateness, &r.Longest, &r.Energy, &r.PerRight, &r.Covered, &r.Events}
}

// Row is the policy's row.
func (t *Table) Row(policy string) *Row {
	for i := range t.Rows {
		if t.Rows[i].Policy == policy {
			return &t.Rows[i]
		}
	}
	return nil
}
