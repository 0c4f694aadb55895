// Package evaluate drives engines over data sets: the accuracy of networks, and the batches that their batch
// normalisation is calibrated with. Both can be cut into shards, whose [Part] files merge into the numbers of the
// whole, whatever the number of shards.
package evaluate

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dynofa/dynofa/gofacade/imageio"
)

// Engine classifies n preprocessed images, [n][r][r][3], into one logit a class each, [n][classes]. n is a
// multiple of Measure's batch, but for the last images. One goroutine uses it at a time.
type Engine interface {
	RunBatch(ctx context.Context, n int, images, logits []float32) error
}

// Selector is an Engine of several networks. Select makes one of them the current one, by its index.
type Selector interface {
	Engine
	Select(network int) error
}

// Network is what evaluation needs to know of a network that the engines run.
type Network struct {
	Transform  imageio.Transform
	Resolution int
	Classes    int
}

// Counts are what a network made of some images. Counts of different images add up to those of all.
type Counts struct {
	Top1 int `json:"top1"` // images whose class was the likeliest
	Top5 int `json:"top5"` // images whose class was among the five likeliest
	// Predictions stands for the predicted class of each image: equal if all are, whatever the shards.
	Predictions Fingerprint `json:"predictions"`
}

// Fingerprint is a sum of hashes, one of each image's index and class.
type Fingerprint uint64

// MarshalText writes 16 hexadecimal digits.
func (f Fingerprint) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(f)), nil }

// UnmarshalText reads what MarshalText writes.
func (f *Fingerprint) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 16, 64)
	if err != nil || len(text) != 16 {
		return fmt.Errorf("fingerprint is %.40q, expected 16 hexadecimal digits", text)
	}
	*f = Fingerprint(v)
	return nil
}

// fingerprint is that of one image: SplitMix64's finaliser (Steele, Lea and Flood, 2014), so that a changed
// class or two swapped ones change the sum.
func fingerprint(image, class int) Fingerprint {
	z := uint64(image)<<32 ^ uint64(class) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return Fingerprint(z ^ z>>31)
}

func (c *Counts) add(d Counts) {
	c.Top1, c.Top5, c.Predictions = c.Top1+d.Top1, c.Top5+d.Top5, c.Predictions+d.Predictions
}

// Result is the accuracy over a data set in percent. Low and High are the 95 % Wilson interval of Top1.
type Result struct {
	Top1        float64     `json:"top1"`
	Top5        float64     `json:"top5"`
	Images      int         `json:"images"`
	Low         float64     `json:"low"`
	High        float64     `json:"high"`
	Fingerprint Fingerprint `json:"predictions"` // see Counts.Predictions
	// Predictions is the most likely class of each image.
	Predictions []int `json:"-"`
}

// Result is the accuracy that Counts of a number of images mean.
func (c Counts) Result(images int) Result {
	n := float64(images)
	r := Result{Top1: 100 * float64(c.Top1) / n, Top5: 100 * float64(c.Top5) / n, Images: images, Fingerprint: c.Predictions}
	r.Low, r.High = interval(float64(c.Top1), n)
	return r
}

// Measured is what Measure found, a Counts and the predicted classes for each network.
type Measured struct {
	Counts      []Counts
	Predictions [][]int
	// Busy is the share of the time that the goroutines spent in their engines, 0 to 1.
	Busy float64
}

// leastChunk is the number of images that a goroutine takes at a time through all networks, unless batches are larger:
// enough to select seldom, and few enough that their pixels stay in the cache.
const leastChunk = 16

// Measure classifies images from..to-1 of ds with every network, on as many goroutines as there are engines.
// An image is decoded once, and preprocessed once for all networks that share resolution and transform. The engines get
// whole batches of so many images, as many as make 16 images or more.
// progress, unless nil, is told of finished inferences, from any goroutine. Nothing but Busy depends on the
// number of engines: an error is that of the first chunk that has one.
func Measure(ctx context.Context, ds imageio.Dataset, from, to int, nets []Network, engines []Selector, batch int, progress func(inferences int)) (*Measured, error) {
	if from < 0 || to <= from || to > ds.Len() || len(nets) == 0 || len(engines) == 0 {
		return nil, fmt.Errorf("evaluate: %d images from %d on of %d images, %d networks and %d engines, expected at least one of each", to-from, from, ds.Len(), len(nets), len(engines))
	}
	if batch < 1 {
		return nil, fmt.Errorf("evaluate: batches of %d images, expected at least one", batch)
	}
	for _, net := range nets {
		if err := CheckClasses(ds.Classes(), net.Classes); err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
	}
	m := &Measured{Counts: make([]Counts, len(nets)), Predictions: make([][]int, len(nets))}
	for i := range m.Predictions {
		m.Predictions[i] = make([]int, to-from)
	}
	chunk := (leastChunk + batch - 1) / batch * batch
	chunks := (to - from + chunk - 1) / chunk
	failures := make([]error, chunks)
	var failed atomic.Bool
	var next, busy atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	start := time.Now()
	for _, e := range engines {
		wg.Go(func() {
			w := newWorker(ds, from, nets, e, chunk, m.Predictions)
			// After a failure the chunks that are under way are finished, all before it among them.
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= chunks {
					break
				}
				first := from + i*chunk
				if err := w.classify(ctx, first, min(first+chunk, to)); err != nil {
					failures[i] = err
					failed.Store(true)
					break
				}
				if progress != nil {
					progress(len(nets) * (min(first+chunk, to) - first))
				}
			}
			busy.Add(int64(w.busy))
			mu.Lock()
			defer mu.Unlock()
			for i, c := range w.counts {
				m.Counts[i].add(c)
			}
		})
	}
	wg.Wait()
	m.Busy = float64(busy.Load()) / float64(time.Since(start)) / float64(len(engines))
	if ctx.Err() != nil {
		return nil, fmt.Errorf("evaluate: %w", context.Cause(ctx))
	}
	for _, err := range failures {
		if err != nil {
			return nil, fmt.Errorf("evaluate: %w", err)
		}
	}
	return m, nil
}

// Accuracy is Measure for one network and all images.
func Accuracy(ctx context.Context, ds imageio.Dataset, net Network, engines []Engine, progress func(inferences int)) (Result, error) {
	var single []Selector
	for _, e := range engines {
		single = append(single, fixed{e})
	}
	m, err := Measure(ctx, ds, 0, ds.Len(), []Network{net}, single, 1, progress)
	if err != nil {
		return Result{}, err
	}
	r := m.Counts[0].Result(ds.Len())
	r.Predictions = m.Predictions[0]
	return r, nil
}

// fixed is an engine of one network.
type fixed struct{ Engine }

func (fixed) Select(int) error { return nil }

// CheckClasses compares the classes of a data set with those of a network. A data set without names has as many
// as its largest label tells, which may be too few.
func CheckClasses(names []string, classes int) error {
	numbered := true
	for i, name := range names {
		numbered = numbered && name == strconv.Itoa(i)
	}
	if len(names) == classes || numbered && len(names) < classes {
		return nil
	}
	return fmt.Errorf("the data set has %d classes, expected the network's %d", len(names), classes)
}

// worker is what one goroutine needs.
type worker struct {
	ds          imageio.Dataset
	from        int
	nets        []Network
	engine      Selector
	predictions [][]int

	counts  []Counts
	busy    time.Duration
	scratch imageio.Scratch
	samples []imageio.Sample
	images  []float32 // [chunk][r][r][3]
	logits  []float32 // [chunk][classes]
}

func newWorker(ds imageio.Dataset, from int, nets []Network, e Selector, chunk int, predictions [][]int) *worker {
	w := &worker{ds: ds, from: from, nets: nets, engine: e, predictions: predictions, counts: make([]Counts, len(nets))}
	pixels, classes := 0, 0
	for _, net := range nets {
		pixels, classes = max(pixels, net.Resolution*net.Resolution*3), max(classes, net.Classes)
	}
	w.images, w.logits = make([]float32, chunk*pixels), make([]float32, chunk*classes)
	return w
}

// classify runs images first..end-1 through all networks.
func (w *worker) classify(ctx context.Context, first, end int) error {
	w.samples = w.samples[:0]
	for i := first; i < end; i++ {
		s, err := w.ds.At(i)
		if err != nil {
			return err
		}
		w.samples = append(w.samples, s)
	}
	done := make([]bool, len(w.nets))
	for i, net := range w.nets {
		if done[i] {
			continue
		}
		if err := w.preprocess(net); err != nil {
			return err
		}
		for j := i; j < len(w.nets); j++ {
			if n := w.nets[j]; n.Resolution == net.Resolution && n.Transform == net.Transform {
				done[j] = true
				if err := w.infer(ctx, j, first); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *worker) preprocess(net Network) error {
	pixels := net.Resolution * net.Resolution * 3
	for k, s := range w.samples {
		if s.Label < 0 || s.Label >= net.Classes {
			return fmt.Errorf("%s has label %d, the network has classes 0 to %d", s.Name, s.Label, net.Classes-1)
		}
		if err := w.scratch.Apply(net.Transform, w.images[k*pixels:(k+1)*pixels], s.Image, net.Resolution); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// infer runs the preprocessed images, of which the first has index first, through network j.
func (w *worker) infer(ctx context.Context, j, first int) error {
	net := w.nets[j]
	pixels := net.Resolution * net.Resolution * 3
	start := time.Now()
	if err := w.engine.Select(j); err != nil {
		return err
	}
	n := len(w.samples)
	if err := w.engine.RunBatch(ctx, n, w.images[:n*pixels], w.logits[:n*net.Classes]); err != nil {
		return fmt.Errorf("%s to %s: %w", w.samples[0].Name, w.samples[n-1].Name, err)
	}
	w.busy += time.Since(start)
	c := &w.counts[j]
	for k, s := range w.samples {
		rank, predicted, ok := rank(w.logits[k*net.Classes:(k+1)*net.Classes], s.Label)
		if !ok {
			return fmt.Errorf("%s: network %d gives logits that are no numbers, expected calibrated batch normalisation", s.Name, j)
		}
		if rank < 1 {
			c.Top1++
		}
		if rank < 5 {
			c.Top5++
		}
		c.Predictions += fingerprint(first+k, predicted)
		w.predictions[j][first+k-w.from] = predicted
	}
	return nil
}

// rank returns how many classes are likelier than the image's own, and the likeliest; not ok if a logit is NaN.
func rank(logits []float32, label int) (rank, predicted int, ok bool) {
	own := logits[label]
	for c, v := range logits {
		if v != v {
			return 0, 0, false
		}
		if v > own || v == own && c < label {
			rank++
		}
		if v > logits[predicted] {
			predicted = c
		}
	}
	return rank, predicted, true
}

// interval is the 95 % Wilson score interval of hits out of n, in percent (E. B. Wilson, 1927).
func interval(hits, n float64) (low, high float64) {
	const z = 1.959963984540054
	p := hits / n
	centre := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return 100 * (centre - half), 100 * (centre + half)
}
