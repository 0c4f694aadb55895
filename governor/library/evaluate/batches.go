package evaluate

import (
	"fmt"
	"iter"
	"runtime"
	"sync"

	"github.com/dynofa/dynofa/gofacade/imageio"
)

// Batches preprocesses the images of ds in order and yields them in batches of the given size, [images][r][r][3];
// the last one may be smaller. The next batch is made on all processors while the caller works on one, which is
// valid until then. The first error, that of the first image that has one, ends the sequence.
func Batches(ds imageio.Dataset, net Network, size int) iter.Seq2[[]float32, error] {
	type batch struct {
		images []float32
		err    error
	}
	return func(yield func([]float32, error) bool) {
		made, free, stop := make(chan batch), make(chan []float32, 2), make(chan struct{})
		for range cap(free) {
			free <- make([]float32, min(size, ds.Len())*net.Resolution*net.Resolution*3)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer close(stop)
		wg.Go(func() {
			defer close(made)
			p := preprocessor{ds: ds, net: net, scratch: make([]imageio.Scratch, runtime.GOMAXPROCS(0))}
			for from := 0; from < ds.Len(); from += size {
				var b batch
				select {
				case b.images = <-free:
				case <-stop:
					return
				}
				b.images, b.err = p.batch(b.images, from, min(size, ds.Len()-from))
				select {
				case made <- b:
				case <-stop:
					return
				}
				if b.err != nil {
					return
				}
			}
		})
		for b := range made {
			if !yield(b.images, b.err) || b.err != nil {
				return
			}
			free <- b.images[:cap(b.images)]
		}
	}
}

type preprocessor struct {
	ds      imageio.Dataset
	net     Network
	scratch []imageio.Scratch // one a goroutine
}

// batch fills the front of room with images from, from+1, ...
func (p *preprocessor) batch(room []float32, from, count int) ([]float32, error) {
	pixels := p.net.Resolution * p.net.Resolution * 3
	errs := make([]error, count)
	var wg sync.WaitGroup
	for g := range p.scratch {
		wg.Go(func() {
			for i := g; i < count; i += len(p.scratch) {
				s, err := p.ds.At(from + i)
				if err == nil {
					err = p.scratch[g].Apply(p.net.Transform, room[i*pixels:(i+1)*pixels], s.Image, p.net.Resolution)
				}
				errs[i] = err
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("evaluate: image %d: %w", from+i, err)
		}
	}
	return room[:count*pixels], nil
}
