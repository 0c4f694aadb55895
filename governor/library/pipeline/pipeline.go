// Package pipeline makes a library out of a supernet and training images: it measures random sub-networks, learns to
// predict the accuracy of the others, searches for the best of them on each device, measures those, and keeps what is
// Pareto-optimal. Test images, where there are any, choose nothing.
//
// What was measured is in a journal in the work folder, so that a run that was killed goes on where it was. The result
// depends on the seed, apart from measured latencies.
package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/evaluate"
	"github.com/dynofa/dynofa/governor/library/latency"
	"github.com/dynofa/dynofa/governor/library/predictor"
	"github.com/dynofa/dynofa/governor/library/search"
)

// Engine runs the supernet.
type Engine interface {
	// Backend is its name, such as "native/avx2".
	Backend() string
	// Calibrate estimates the batch normalisations of a sub-network, on all processors.
	Calibrate(ctx context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) ([]ofa.Affine, error)
}

// Session is a thread of execution of the Engine. One goroutine uses it at a time.
type Session interface {
	evaluate.Engine
	Run(ctx context.Context, image, logits []float32) error
	ConfigureNorms(n ofa.Subnet, norms []ofa.Affine) error
}

// Device is one that levels are chosen for.
type Device struct {
	Name    string
	Table   *latency.Table
	Backend string // of the record
	Threads int
	// Session, on this machine, is what latencies are measured with. Without it the device is another one, and what its
	// table says is all that is known.
	Session Session
}

// Data is a set of images.
type Data struct {
	Set  imageio.Dataset
	Name string // in records
	ID   string // imageio.Identity
}

// Options says what to build from what. Fields without a remark that zero is good have to be given.
type Options struct {
	Contents *bundle.Contents // the supernet; levels that it has are replaced
	Bundle   string           // a hash of it
	Train    Data
	Test     *Data // nil: no report on test images
	Engine   Engine
	Sessions []Session // one a processor
	Devices  []Device  // the first one orders the library
	Work     string    // folder for the journal

	Networks    int     // to measure and learn from; 0: 400
	Holdout     int     // the last so many training images measure accuracy; 0: a twelfth
	Images      int     // training images that a measured network is calibrated on; 0: 500
	LevelImages int     // and a candidate; 0: 2000
	Batch       int     // 0: 100
	Candidates  int     // for each device; 0: 24
	Levels      int     // for each device, at most; 0: 8
	Gap         float64 // points between levels, at least
	MinAccuracy float64 // percent, of every level
	Seed        uint64

	Now      func() time.Time                    // nil: the clock
	Progress func(stage string, done, total int) // nil: nobody looks

	generations int // of the search; 0: its default. Tests have no time
}

// Report says what was found.
type Report struct {
	Networks []Sampled       `json:"networks"`
	Quality  Quality         `json:"predictor"`
	Devices  []DeviceReport  `json:"devices"`
	Levels   []bundle.Level  `json:"levels"`
	Options  ReportedOptions `json:"options"`
}

// ReportedOptions are those that a reader wants to know.
type ReportedOptions struct {
	Data        string  `json:"data"`
	Backend     string  `json:"backend"`
	Networks    int     `json:"networks"`
	Holdout     int     `json:"holdout"`
	Images      int     `json:"images"`
	LevelImages int     `json:"level_images"`
	Batch       int     `json:"batch"`
	Gap         float64 `json:"gap"`
	MinAccuracy float64 `json:"min_accuracy"`
	Seed        uint64  `json:"seed"`
}

// Sampled is a network that the predictor learnt from, or was tried on. Accuracies in percent.
type Sampled struct {
	Subnet    string  `json:"subnet"`
	MACs      int64   `json:"macs"`
	Top1      float64 `json:"top1"`
	Predicted float64 `json:"predicted"` // by a predictor that has not seen it
}

// Quality is how good predictions are of networks that were not learnt from: cross-validation in five parts.
type Quality struct {
	Networks  int     `json:"networks"`
	Rank      float64 `json:"rank_correlation"` // Spearman's
	MeanError float64 `json:"mean_error"`       // points
	Worst     float64 `json:"worst_error"`
}

// DeviceReport is what was chosen for a device, and from what.
type DeviceReport struct {
	Name       string      `json:"name"`
	Backend    string      `json:"backend"`
	Threads    int         `json:"threads"`
	Measured   bool        `json:"measured"` // on this machine; else by the table
	Candidates []Candidate `json:"candidates"`
}

// Run builds. It returns the supernet with its new library, fast to accurate on the first device, and the report.
func Run(ctx context.Context, o Options) (*bundle.Contents, *Report, error) {
	c, r, err := run(ctx, o)
	if err != nil {
		return nil, nil, fmt.Errorf("build: %w", err)
	}
	return c, r, nil
}

func run(ctx context.Context, o Options) (_ *bundle.Contents, _ *Report, err error) {
	if err := o.Check(); err != nil {
		return nil, nil, err
	}
	o.fill()
	if err := o.checkDevices(); err != nil {
		return nil, nil, err
	}
	b := &builder{Options: o, space: o.Contents.Space, norms: map[string][]ofa.Affine{}}
	id := job{Bundle: o.Bundle, Data: o.Train.ID, Backend: o.Engine.Backend(), Seed: o.Seed, Holdout: o.Holdout, Batch: o.Batch}
	if o.Test != nil {
		id.Test = o.Test.ID
	}
	if b.journal, err = openJournal(o.Work, id); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, b.journal.close()) }()
	r := &Report{Options: ReportedOptions{o.Train.Name, o.Engine.Backend(), o.Networks, o.Holdout, o.Images, o.LevelImages, o.Batch, o.Gap, o.MinAccuracy, o.Seed}}
	pairs, err := b.learn(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	found := make([][]ofa.Subnet, len(b.Devices))
	for round := range rounds {
		if pairs, err = b.search(ctx, r, round, pairs, found); err != nil {
			return nil, nil, err
		}
	}
	predict, err := b.keep(pairs)
	if err != nil {
		return nil, nil, err
	}
	if err := b.decide(ctx, r, predict, found); err != nil {
		return nil, nil, err
	}
	c, err := b.library(ctx, r)
	return c, r, err
}

func (o *Options) fill() {
	o.Networks, o.Images, o.LevelImages = cmp.Or(o.Networks, 400), cmp.Or(o.Images, 500), cmp.Or(o.LevelImages, 2000)
	o.Batch, o.Candidates, o.Levels = cmp.Or(o.Batch, 100), cmp.Or(o.Candidates, 24), cmp.Or(o.Levels, 8)
	o.Holdout = cmp.Or(o.Holdout, o.Train.Set.Len()/12)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
}

// Check says what is wrong with the numbers, before anything else is there: devices and sessions may be missing.
func (o Options) Check() error {
	o.fill()
	if err := evaluate.CheckClasses(o.Train.Set.Classes(), o.Contents.Space.Classes); err != nil {
		return fmt.Errorf("%s: %w", o.Train.Name, err)
	}
	n := o.Train.Set.Len()
	images := max(o.Images, o.LevelImages)
	if o.Holdout < 1 || o.Images < 1 || o.LevelImages < 1 || o.Batch < 1 || images+o.Holdout > n {
		return fmt.Errorf("%d images to calibrate on and %d held out, of %d, in batches of %d, expected at least one of each, and no image in both", images, o.Holdout, n, o.Batch)
	}
	const least, most = 25, 1000
	if o.Networks < least || o.Networks > most {
		return fmt.Errorf("%d networks to measure, expected %d to %d", o.Networks, least, most)
	}
	if o.Candidates < 2 || o.Levels < 1 || !(o.Gap >= 0) || !(o.MinAccuracy >= 0 && o.MinAccuracy <= 100) {
		return fmt.Errorf("%d candidates, %d levels, a gap of %v points, accuracy of at least %v %%, expected at least 2, 1, 0 and 0 to 100", o.Candidates, o.Levels, o.Gap, o.MinAccuracy)
	}
	return nil
}

// checkDevices looks at what is measured with and chosen for; a table has to know every sub-network of its resolutions.
func (o *Options) checkDevices() error {
	if len(o.Devices) == 0 || len(o.Sessions) == 0 {
		return fmt.Errorf("%d devices and %d sessions, expected at least one of each", len(o.Devices), len(o.Sessions))
	}
	names := map[string]bool{}
	for _, d := range o.Devices {
		if d.Name == "" || names[d.Name] {
			return fmt.Errorf("device %q is there twice, or has no name", d.Name)
		}
		names[d.Name] = true
		if err := covers(d.Table, o.Contents.Space); err != nil {
			return fmt.Errorf("device %s: %w", d.Name, err)
		}
	}
	return nil
}

// covers is an error if a table lacks a layer that some sub-network of its resolutions has. Those of full depth with one kernel size
// and one expand ratio have all kinds of blocks between them.
func covers(t *latency.Table, s *ofa.Space) error {
	for _, r := range t.Resolutions() {
		for _, k := range s.Kernels {
			for _, e := range s.Expands {
				n := s.Largest()
				n.Resolution = r
				for i := range n.Kernels {
					n.Kernels[i], n.Expands[i] = k, e
				}
				if _, err := t.Predict(s, n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// builder is a run.
type builder struct {
	Options
	space   *ofa.Space
	journal *journal
	norms   map[string][]ofa.Affine // of candidates, by text
}

// sample is the networks to learn from: the smallest and the largest at every resolution, and random ones.
func (b *builder) sample() []ofa.Subnet {
	rng := rand.New(rand.NewPCG(b.Seed, 0))
	seen := map[string]bool{}
	var list []ofa.Subnet
	add := func(n ofa.Subnet) {
		n = b.space.Canonical(n)
		if text := b.space.Text(n); !seen[text] {
			seen[text] = true
			list = append(list, n)
		}
	}
	for _, r := range b.space.Resolutions {
		for _, n := range []ofa.Subnet{b.space.Smallest(), b.space.Largest()} {
			n.Resolution = r
			add(n)
		}
	}
	// A space may have fewer networks than are wanted.
	for tries := 0; len(list) < b.Networks && tries < 100*b.Networks; tries++ {
		add(b.space.Sample(rng))
	}
	return list[:min(len(list), b.Networks)]
}

// learn measures networks and finds out how well the accuracy of others can be predicted from them.
func (b *builder) learn(ctx context.Context, r *Report) ([]predictor.Pair, error) {
	nets := b.sample()
	pairs := make([]predictor.Pair, len(nets))
	for i, n := range nets {
		b.Progress("measure networks", i, len(nets))
		a, err := b.accuracy(ctx, n, b.Images, false)
		if err != nil {
			return nil, err
		}
		pairs[i] = predictor.Pair{Subnet: n, Accuracy: float64(a.Top1) / float64(a.Images), Images: a.Images}
	}
	b.Progress("measure networks", len(nets), len(nets))
	predicted, err := b.crossValidate(pairs)
	if err != nil {
		return nil, err
	}
	measured := make([]float64, len(pairs))
	for i, p := range pairs {
		macs, _ := b.space.Cost(p.Subnet)
		r.Networks = append(r.Networks, Sampled{b.space.Text(p.Subnet), macs, 100 * p.Accuracy, 100 * predicted[i]})
		e := 100 * math.Abs(predicted[i]-p.Accuracy)
		r.Quality.MeanError += e / float64(len(pairs))
		r.Quality.Worst = max(r.Quality.Worst, e)
		measured[i] = p.Accuracy
	}
	r.Quality.Networks, r.Quality.Rank = len(pairs), predictor.Spearman(predicted, measured)
	return pairs, nil
}

// folds is the parts of cross-validation.
const folds = 5

// crossValidate predicts every network by a predictor that has not seen it.
func (b *builder) crossValidate(pairs []predictor.Pair) ([]float64, error) {
	order := rand.New(rand.NewPCG(b.Seed, 1)).Perm(len(pairs))
	predicted := make([]float64, len(pairs))
	for f := range folds {
		b.Progress("try predictions", f, folds)
		var known []predictor.Pair
		var out []int
		for i, k := range order {
			if i%folds == f {
				out = append(out, k)
			} else {
				known = append(known, pairs[k])
			}
		}
		p, _, err := predictor.Train(b.space, known, b.Seed)
		if err != nil {
			return nil, err
		}
		for _, k := range out {
			if predicted[k], err = p.Accuracy(pairs[k].Subnet); err != nil {
				return nil, err
			}
		}
	}
	b.Progress("try predictions", folds, folds)
	return predicted, nil
}

// rounds of search. Random networks say little about the front; what is found there and measured makes the next
// predictor a better one where it matters.
const rounds = 2

// search adds candidates to those found for every device, and measures them. It returns the pairs with theirs.
func (b *builder) search(ctx context.Context, r *Report, round int, pairs []predictor.Pair, found [][]ofa.Subnet) ([]predictor.Pair, error) {
	stage := fmt.Sprintf("search %d of %d", round+1, rounds)
	b.Progress(stage, 0, len(b.Devices))
	predict, _, err := predictor.Train(b.space, pairs, b.Seed)
	if err != nil {
		return nil, err
	}
	var fresh []ofa.Subnet
	seen := map[string]bool{}
	for _, list := range found {
		for _, n := range list {
			seen[b.space.Text(n)] = true
		}
	}
	for i, d := range b.Devices {
		front, err := b.front(ctx, r, d, predict)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", d.Name, err)
		}
		for _, n := range front {
			text := b.space.Text(n)
			if !slices.ContainsFunc(found[i], func(old ofa.Subnet) bool { return b.space.Text(old) == text }) {
				found[i] = append(found[i], n)
			}
			if !seen[text] {
				seen[text] = true
				fresh = append(fresh, n)
			}
		}
		b.Progress(stage, i+1, len(b.Devices))
	}
	stage = fmt.Sprintf("measure candidates %d of %d", round+1, rounds)
	for i, n := range fresh {
		b.Progress(stage, i, len(fresh))
		a, err := b.accuracy(ctx, n, b.LevelImages, false)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, predictor.Pair{Subnet: n, Accuracy: float64(a.Top1) / float64(a.Images), Images: a.Images})
	}
	b.Progress(stage, len(fresh), len(fresh))
	return pairs, nil
}

// front is the candidates for a device.
func (b *builder) front(ctx context.Context, r *Report, d Device, predict *predictor.Predictor) ([]ofa.Subnet, error) {
	p := search.Problem{Space: b.space, Predictor: predict, Table: d.Table}
	least, most, err := search.Bounds(p)
	if err != nil {
		return nil, err
	}
	// Evenly in the logarithm: accuracy falls off at the cheap end.
	limits := make([]float64, b.Candidates)
	for k := range limits {
		limits[k] = least * math.Pow(most/least, float64(k)/float64(len(limits)-1))
	}
	limits[0], limits[len(limits)-1] = least, most
	found, err := search.Front(ctx, p, limits, search.Options{Seed: b.Seed, Generations: b.generations})
	if err != nil {
		return nil, err
	}
	var front []ofa.Subnet
	for _, f := range found {
		front = append(front, f.Subnet)
	}
	known, err := b.known(r, d)
	return append(front, known...), err
}

// decide chooses levels for every device among what was found for it.
func (b *builder) decide(ctx context.Context, r *Report, predict *predictor.Predictor, found [][]ofa.Subnet) error {
	var all []ofa.Subnet
	seen := map[string]bool{}
	for _, list := range found {
		for _, n := range list {
			if text := b.space.Text(n); !seen[text] {
				seen[text] = true
				all = append(all, n)
			}
		}
	}
	for i, d := range b.Devices {
		report := DeviceReport{Name: d.Name, Backend: d.Backend, Threads: d.Threads, Measured: d.Session != nil}
		if d.Session != nil {
			if err := b.latencies(ctx, d, all); err != nil {
				return fmt.Errorf("device %s: %w", d.Name, err)
			}
		}
		for _, n := range found[i] {
			c, err := b.candidate(ctx, d, n, predict)
			if err != nil {
				return fmt.Errorf("device %s: %w", d.Name, err)
			}
			report.Candidates = append(report.Candidates, c)
		}
		choose(report.Candidates, b.Levels, b.Gap, b.MinAccuracy)
		if !slices.ContainsFunc(report.Candidates, func(c Candidate) bool { return c.Kept }) {
			return fmt.Errorf("device %s: none of %d candidates has an accuracy of %v %%", d.Name, len(report.Candidates), b.MinAccuracy)
		}
		r.Devices = append(r.Devices, report)
	}
	return nil
}

// Files of the work folder, beside the journal: what was measured, as dynofa predictor reads it, and a predictor of it, for searches
// of one's own.
const (
	PairsName     = "pairs.json"
	PredictorName = "predictor.safetensors"
)

// keep writes them, and returns the predictor.
func (b *builder) keep(pairs []predictor.Pair) (*predictor.Predictor, error) {
	err := atomicfile.Replace(filepath.Join(b.Work, PairsName), func(w io.Writer) error {
		return json.NewEncoder(w).Encode(map[string][]predictor.Pair{"pairs": pairs})
	})
	if err != nil {
		return nil, err
	}
	p, report, err := predictor.Train(b.space, pairs, b.Seed)
	if err != nil {
		return nil, err
	}
	return p, p.Save(filepath.Join(b.Work, PredictorName), b.space, report)
}

// known is those measured networks that no other one beats on a device, by its table and by score.
func (b *builder) known(r *Report, d Device) ([]ofa.Subnet, error) {
	var list []Candidate
	for _, s := range r.Networks {
		n, err := b.space.Parse(s.Subnet)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(d.Table.Resolutions(), n.Resolution) {
			continue
		}
		ms, err := d.Table.Predict(b.space, n)
		if err != nil {
			return nil, err
		}
		list = append(list, Candidate{Subnet: s.Subnet, MS: ms, Top1: s.Top1, Predicted: s.Predicted})
	}
	slices.SortStableFunc(list, func(a, b Candidate) int { return cmp.Compare(a.MS, b.MS) })
	var front []ofa.Subnet
	best := math.Inf(-1)
	for _, c := range list {
		if c.score() <= best {
			continue
		}
		best = c.score()
		n, err := b.space.Parse(c.Subnet)
		if err != nil {
			return nil, err
		}
		front = append(front, n)
	}
	return front, nil
}

func (b *builder) candidate(ctx context.Context, d Device, n ofa.Subnet, predict *predictor.Predictor) (Candidate, error) {
	c := Candidate{Subnet: b.space.Text(n)}
	c.MACs, _ = b.space.Cost(n)
	predicted, err := predict.Accuracy(n)
	if err != nil {
		return c, err
	}
	c.Predicted = 100 * predicted
	a, err := b.accuracy(ctx, n, b.LevelImages, false)
	if err != nil {
		return c, err
	}
	result := a.result()
	c.Top1, c.Low, c.High = result.Top1, result.Low, result.High
	if c.TableMS, err = d.Table.Predict(b.space, n); err != nil {
		return c, err
	}
	l, err := b.latency(d, n)
	c.MS = l.MedianMS
	return c, err
}

// latency is what was measured, or on another device what the table says.
func (b *builder) latency(d Device, n ofa.Subnet) (bundle.Latency, error) {
	l := bundle.Latency{Device: d.Name, Backend: d.Backend, Threads: d.Threads}
	if d.Session != nil {
		return b.journal.latencies[measured{b.space.Text(n), l}.key()], nil
	}
	var err error
	l.MedianMS, err = d.Table.Predict(b.space, n)
	return l, err
}

func (a Accuracy) result() evaluate.Result {
	return evaluate.Counts{Top1: a.Top1, Top5: a.Top5}.Result(a.Images)
}

// library makes levels of what was chosen, and reports on the test images.
func (b *builder) library(ctx context.Context, r *Report) (*bundle.Contents, error) {
	kept := map[string]bool{}
	var nets []ofa.Subnet
	for _, d := range r.Devices {
		for _, c := range d.Candidates {
			if !c.Kept || kept[c.Subnet] {
				continue
			}
			kept[c.Subnet] = true
			n, err := b.space.Parse(c.Subnet)
			if err != nil {
				return nil, err
			}
			nets = append(nets, n)
		}
	}
	out := *b.Contents
	out.Levels = nil
	for i, n := range nets {
		b.Progress("make levels", i, len(nets))
		level := bundle.Level{Subnet: n, Calibration: fmt.Sprintf("%d images of %s in batches of %d", b.LevelImages, b.Train.Name, b.Batch)}
		level.MACs, level.Params = b.space.Cost(n)
		var err error
		if level.Norms, err = b.calibrate(ctx, n, b.LevelImages); err != nil {
			return nil, err
		}
		record := func(name string, a Accuracy) {
			e := a.result()
			level.Accuracy = append(level.Accuracy, bundle.Accuracy{Data: name, Images: e.Images, Top1: e.Top1, Top5: e.Top5, Low: e.Low, High: e.High})
		}
		if b.Test != nil {
			a, err := b.accuracy(ctx, n, b.LevelImages, true)
			if err != nil {
				return nil, err
			}
			record(b.Test.Name, a)
		}
		a, err := b.accuracy(ctx, n, b.LevelImages, false)
		if err != nil {
			return nil, err
		}
		record(fmt.Sprintf("%s, the last %d, which chose the level", b.Train.Name, b.Holdout), a)
		for _, d := range b.Devices {
			// Another device's level may be of a side that this one has no table of.
			if l, err := b.latency(d, n); err == nil {
				level.Latency = append(level.Latency, l)
			}
		}
		out.Levels = append(out.Levels, level)
	}
	b.Progress("make levels", len(nets), len(nets))
	slices.SortStableFunc(out.Levels, func(x, y bundle.Level) int {
		return cmp.Or(cmp.Compare(x.Latency[0].MedianMS, y.Latency[0].MedianMS), cmp.Compare(x.MACs, y.MACs))
	})
	r.Levels = out.Levels
	return &out, nil
}

// accuracy is that of a network that is calibrated on so many images, on the held-out or the test images.
func (b *builder) accuracy(ctx context.Context, n ofa.Subnet, images int, test bool) (Accuracy, error) {
	a := Accuracy{Subnet: b.space.Text(n), Calibrated: images, Test: test}
	if known, ok := b.journal.accuracies[a.key()]; ok {
		return known, nil
	}
	norms, err := b.calibrate(ctx, n, images)
	if err != nil {
		return a, err
	}
	set, from := b.Train.Set, b.Train.Set.Len()-b.Holdout
	if test {
		set, from = b.Test.Set, 0
	}
	var engines []evaluate.Selector
	for _, s := range b.Sessions {
		if err := s.ConfigureNorms(n, norms); err != nil {
			return a, fmt.Errorf("%s: %w", a.Subnet, err)
		}
		engines = append(engines, fixed{s})
	}
	m, err := evaluate.Measure(ctx, set, from, set.Len(), []evaluate.Network{b.network(n)}, engines, 1, nil)
	if err != nil {
		return a, fmt.Errorf("%s: %w", a.Subnet, err)
	}
	a.Images, a.Top1, a.Top5 = set.Len()-from, m.Counts[0].Top1, m.Counts[0].Top5
	return a, b.journal.addAccuracy(a)
}

// fixed is a session whose network is configured.
type fixed struct{ Session }

func (fixed) Select(int) error { return nil }

func (b *builder) network(n ofa.Subnet) evaluate.Network {
	return evaluate.Network{Transform: imageio.Transform(b.space.Preprocess), Resolution: n.Resolution, Classes: b.space.Classes}
}

// calibrate estimates batch normalisations on the first so many training images. Those of candidates are kept.
func (b *builder) calibrate(ctx context.Context, n ofa.Subnet, images int) ([]ofa.Affine, error) {
	text := b.space.Text(n)
	if norms, ok := b.norms[text]; ok && images == b.LevelImages {
		return norms, nil
	}
	set, err := imageio.Range(b.Train.Set, 0, images)
	if err != nil {
		return nil, err
	}
	norms, err := b.Engine.Calibrate(ctx, n, evaluate.Batches(set, b.network(n), b.Batch))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	if images == b.LevelImages {
		b.norms[text] = norms
	}
	return norms, nil
}

// How a latency is measured.
const (
	latencyImages = 20 // real ones
	latencyRounds = 30 // in which every network has a turn, so that all see the same disturbances
	latencyRuns   = 10 // in a turn, after one that brings its weights into the cache
)

// latencies measures all networks in turns, unless the journal has every one of them. Those of another time were measured
// on a machine that was busy with other things, and would not compare.
func (b *builder) latencies(ctx context.Context, d Device, nets []ofa.Subnet) error {
	known := 0
	for _, n := range nets {
		if l, err := b.latency(d, n); err == nil && l.MedianMS > 0 {
			known++
		}
	}
	if known == len(nets) {
		return nil
	}
	samples := make([][]float64, len(nets))
	inputs := map[int][][]float32{}
	logits := make([]float32, b.space.Classes)
	norms := make([][]ofa.Affine, len(nets))
	for i, n := range nets {
		var err error
		if norms[i] = b.norms[b.space.Text(n)]; norms[i] == nil { // measured by an earlier run: what they are changes no latency
			norms[i], err = b.calibrate(ctx, n, min(b.Batch, b.LevelImages))
		}
		if err == nil && inputs[n.Resolution] == nil {
			inputs[n.Resolution], err = b.inputs(n)
		}
		if err != nil {
			return err
		}
	}
	for round := range latencyRounds {
		b.Progress("measure latencies", round, latencyRounds)
		for i, n := range nets {
			if err := d.Session.ConfigureNorms(n, norms[i]); err != nil {
				return err
			}
			images := inputs[n.Resolution]
			for run := range 1 + latencyRuns {
				start := b.Now()
				if err := d.Session.Run(ctx, images[(round*latencyRuns+run)%len(images)], logits); err != nil {
					return err
				}
				if run > 0 {
					samples[i] = append(samples[i], float64(b.Now().Sub(start).Nanoseconds())/1e6)
				}
			}
		}
	}
	b.Progress("measure latencies", latencyRounds, latencyRounds)
	for i, n := range nets {
		ms := samples[i]
		slices.Sort(ms)
		l := bundle.Latency{
			Device: d.Name, Backend: d.Backend, Threads: d.Threads, Runs: len(ms),
			MedianMS: ms[len(ms)/2], P10MS: ms[len(ms)/10], P90MS: ms[len(ms)*9/10],
		}
		if err := b.journal.addLatency(b.space.Text(n), l); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) inputs(n ofa.Subnet) ([][]float32, error) {
	net := b.network(n)
	var inputs [][]float32
	var scratch imageio.Scratch
	for i := range min(latencyImages, b.Train.Set.Len()) {
		sample, err := b.Train.Set.At(i)
		if err != nil {
			return nil, err
		}
		input := make([]float32, net.Resolution*net.Resolution*3)
		if err := scratch.Apply(net.Transform, input, sample.Image, net.Resolution); err != nil {
			return nil, fmt.Errorf("%s: %w", sample.Name, err)
		}
		inputs = append(inputs, input)
	}
	return inputs, nil
}
