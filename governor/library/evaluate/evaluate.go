// Package evaluate drives engines over data sets: the accuracy of a network, and the batches that its batch
// normalisation is calibrated with. Decoding, preprocessing and inference of different images overlap.
package evaluate

import (
	"context"
	"fmt"
	"iter"
	"math"
	"sync"
	"sync/atomic"

	"github.com/dynofa/dynofa/gofacade/imageio"
)

// Engine classifies one preprocessed image, [r][r][3], into one logit a class. One goroutine uses it at a time.
type Engine interface {
	Run(ctx context.Context, image, logits []float32) error
}

// Network is what Accuracy needs to know of the network that the engines run.
type Network struct {
	Transform  imageio.Transform
	Resolution int
	Classes    int
}

// Result is the accuracy over a data set in percent. Low and High are the 95 % Wilson interval of Top1.
type Result struct {
	Top1   float64 `json:"top1"`
	Top5   float64 `json:"top5"`
	Images int     `json:"images"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	// Predictions is the most likely class of each image.
	Predictions []int `json:"-"`
}

// Accuracy classifies every image of ds, on as many goroutines as there are engines, all running the same
// network. progress, unless nil, is called from any of them after each image. The result does not depend on
// the number of engines. The first error ends the evaluation.
func Accuracy(ctx context.Context, ds imageio.Dataset, net Network, engines []Engine, progress func()) (Result, error) {
	r := Result{Images: ds.Len(), Predictions: make([]int, ds.Len())}
	if r.Images == 0 || len(engines) == 0 {
		return r, fmt.Errorf("evaluate: %d images and %d engines, expected at least one of each", r.Images, len(engines))
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next, top1, top5 atomic.Int64
	var wg sync.WaitGroup
	for _, e := range engines {
		wg.Go(func() {
			w := worker{net: net, engine: e, image: make([]float32, net.Resolution*net.Resolution*3), logits: make([]float32, net.Classes)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= r.Images {
					return
				}
				rank, predicted, err := w.classify(ctx, ds, i)
				if err != nil {
					cancel(err)
					return
				}
				r.Predictions[i] = predicted
				if rank < 1 {
					top1.Add(1)
				}
				if rank < 5 {
					top5.Add(1)
				}
				if progress != nil {
					progress()
				}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return r, fmt.Errorf("evaluate: %w", context.Cause(ctx))
	}
	n := float64(r.Images)
	r.Top1, r.Top5 = 100*float64(top1.Load())/n, 100*float64(top5.Load())/n
	r.Low, r.High = interval(float64(top1.Load()), n)
	return r, nil
}

type worker struct {
	net           Network
	engine        Engine
	scratch       imageio.Scratch
	image, logits []float32
}

// classify returns how many classes are likelier than the image's own, and the likeliest.
func (w *worker) classify(ctx context.Context, ds imageio.Dataset, i int) (rank, predicted int, err error) {
	s, err := ds.At(i)
	if err != nil {
		return 0, 0, err
	}
	if s.Label < 0 || s.Label >= w.net.Classes {
		return 0, 0, fmt.Errorf("%s has label %d, the network has classes 0 to %d", s.Name, s.Label, w.net.Classes-1)
	}
	if err := w.scratch.Apply(w.net.Transform, w.image, s.Image, w.net.Resolution); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := w.engine.Run(ctx, w.image, w.logits); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", s.Name, err)
	}
	own := w.logits[s.Label]
	for c, v := range w.logits {
		if v > own || v == own && c < s.Label {
			rank++
		}
		if v > w.logits[predicted] {
			predicted = c
		}
	}
	return rank, predicted, nil
}

// interval is the 95 % Wilson score interval of hits out of n, in percent (E. B. Wilson, 1927).
func interval(hits, n float64) (low, high float64) {
	const z = 1.959963984540054
	p := hits / n
	centre := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return 100 * (centre - half), 100 * (centre + half)
}

// Batches preprocesses the images of ds in order and yields them in batches of the given size, [images][r][r][3];
// the last one may be smaller. A batch is valid until the next one. The first error ends the sequence.
func Batches(ds imageio.Dataset, net Network, size int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		pixels := net.Resolution * net.Resolution * 3
		batch := make([]float32, size*pixels)
		var scratch imageio.Scratch
		for from := 0; from < ds.Len(); from += size {
			count := min(size, ds.Len()-from)
			for i := range count {
				s, err := ds.At(from + i)
				if err == nil {
					err = scratch.Apply(net.Transform, batch[i*pixels:(i+1)*pixels], s.Image, net.Resolution)
				}
				if err != nil {
					yield(nil, fmt.Errorf("evaluate: image %d: %w", from+i, err))
					return
				}
			}
			if !yield(batch[:count*pixels], nil) {
				return
			}
		}
	}
}
