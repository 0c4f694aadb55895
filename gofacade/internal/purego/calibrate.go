package purego

import (
	"context"
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Statistics are the mean and variance of one batch normalisation's input, a value per channel.
type Statistics struct {
	Mean, Var []float64
}

// Batch is what one batch of images says of every batch normalisation.
type Batch struct {
	Images int
	Stats  []Statistics
}

// Calibrate estimates the statistics of every batch normalisation of a Subnet, in the order of Space.Norms: the
// average of those of its batches.
func Calibrate(ctx context.Context, s *ofa.Space, tensor func(string) []float32, n ofa.Subnet, batches iter.Seq2[[]float32, error]) ([]Statistics, error) {
	stats, _, err := Average(s, n, Batches(ctx, s, tensor, n, batches))
	return stats, err
}

// Average weighs the batches of a Subnet with their numbers of images. It also returns the number of all images.
// What is yielded has to fit the Subnet.
func Average(s *ofa.Space, n ofa.Subnet, batches iter.Seq2[Batch, error]) (total []Statistics, images int, err error) {
	for _, w := range s.Norms(n) {
		total = append(total, Statistics{make([]float64, w.Channels), make([]float64, w.Channels)})
	}
	for b, err := range batches {
		if err != nil {
			return nil, 0, err
		}
		images += b.Images
		for i := range total {
			for ch := range total[i].Mean {
				// A running average, so that the sums stay in range whatever the number of images.
				f := float64(b.Images) / float64(images)
				total[i].Mean[ch] += f * (b.Stats[i].Mean[ch] - total[i].Mean[ch])
				total[i].Var[ch] += f * (b.Stats[i].Var[ch] - total[i].Var[ch])
			}
		}
	}
	if images == 0 {
		return nil, 0, fmt.Errorf("no calibration images given")
	}
	return total, images, nil
}

// Batches measures one batch after another, as OFA does: each is normalised with its own mean and biased variance
// over images, height and width, so that later layers see batch-normalised data. The old statistics do not enter,
// and no batch depends on another. All arithmetic is float64.
//
// A batch is [images][r][r][3]. Memory grows with the largest batch: one float64 arena per image.
func Batches(ctx context.Context, s *ofa.Space, tensor func(string) []float32, n ofa.Subnet, batches iter.Seq2[[]float32, error]) iter.Seq2[Batch, error] {
	return func(yield func(Batch, error) bool) {
		want := s.Norms(n)
		c := calibrator{pixels: n.Resolution * n.Resolution * 3, space: s, gemm: gemm[float64]()}
		norms := make([]affine[float64], len(want))
		for i, w := range want {
			norms[i] = affine[float64]{make([]float64, w.Channels), make([]float64, w.Channels)}
			c.weight = append(c.weight, tensor(w.Name + ".weight")[:w.Channels])
			c.bias = append(c.bias, tensor(w.Name + ".bias")[:w.Channels])
		}
		c.plan = plan(s, pack[float64](s, tensor), n, norms)
		number := 0
		for images, err := range batches {
			var b Batch
			switch {
			case err != nil:
			case len(images) == 0 || len(images)%c.pixels != 0:
				err = fmt.Errorf("calibration batch %d has %d values, expected a multiple of %d (r %d)", number, len(images), c.pixels, n.Resolution)
			default:
				b.Images = len(images) / c.pixels
				b.Stats, err = c.batch(ctx, images, b.Images)
			}
			if !yield(b, err) || err != nil {
				return
			}
			number++
		}
	}
}

type calibrator struct {
	space        *ofa.Space
	plan         *Plan[float64]
	gemm         gemmFunc[float64]
	weight, bias [][]float32
	pixels       int
	frames       []*frame[float64]
	scratch      [][]float64
}

// batch passes count images through the plan side by side and returns the statistics of each normalisation.
func (c *calibrator) batch(ctx context.Context, images []float32, count int) ([]Statistics, error) {
	for len(c.frames) < count {
		f, err := newFrame[float64](c.space, c.plan.Subnet.Resolution)
		if err != nil {
			return nil, err
		}
		c.frames = append(c.frames, f)
		c.scratch = append(c.scratch, make([]float64, scratchSize(c.space)))
	}
	for i := range count {
		c.frames[i].image = images[i*c.pixels : (i+1)*c.pixels]
	}
	var stats []Statistics
	for i := range c.plan.steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		st := &c.plan.steps[i]
		parallel(count, func(im int) {
			for t := range st.tiles {
				st.conv(c.gemm, c.frames[im], c.scratch[im], t)
			}
		})
		if st.norm != nil {
			stat := c.measure(st, count)
			k := len(stats)
			*st.norm = affineOf64(c.weight[k], c.bias[k], stat, c.space.BNEps)
			stats = append(stats, stat)
		}
		parallel(count, func(im int) {
			for t := range st.tiles {
				st.finish(c.frames[im], t)
			}
		})
	}
	return stats, nil
}

// measure is the mean and biased variance of a step's raw output over the batch. Sums are taken per image and
// added in order, so the result does not depend on the number of goroutines.
func (c *calibrator) measure(st *step[float64], count int) Statistics {
	size := st.outSide * st.outSide * st.out
	over := func(f func(sum, x []float64)) []float64 {
		parts := make([][]float64, count)
		parallel(count, func(im int) {
			parts[im] = make([]float64, st.out)
			f(parts[im], c.frames[im].buf[st.dst][:size])
		})
		total := make([]float64, st.out)
		for _, p := range parts {
			add(total, p)
		}
		for i := range total {
			total[i] /= float64(count * st.outSide * st.outSide)
		}
		return total
	}
	mean := over(addRows[float64])
	variance := over(func(sum, x []float64) {
		for i, v := range x {
			d := v - mean[i%st.out]
			sum[i%st.out] += d * d
		}
	})
	return Statistics{mean, variance}
}

func affineOf64(weight, bias []float32, stat Statistics, eps float64) affine[float64] {
	scale, shift := ofa.FoldExact(weight, bias, stat.Mean, stat.Var, eps)
	return affine[float64]{scale, shift}
}

// parallel calls f(0) to f(n-1) on as many goroutines as there are processors.
func parallel(n int, f func(int)) {
	var wg sync.WaitGroup
	workers := min(n, runtime.GOMAXPROCS(0))
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wg.Wait()
}
