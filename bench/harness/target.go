package harness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// imagesInTurn is how many different images a run cycles through: enough that none is special, few enough that
// preparing them takes no time.
const imagesInTurn = 16

// Model is a bundle opened on one backend, with the images that it is measured on.
type Model struct {
	*dynofa.Model
	Name   string // the file's name without its folder
	SHA256 string // of the file
	Data   string // the data set's name
	data   imageio.Dataset
	images map[int][][]float32 // by resolution
}

// Open opens a bundle and the test split of a data set: ImageFolder tree or IDX files.
func Open(path, backend, data string) (*Model, error) {
	sum, err := hashFile(path)
	if err != nil {
		return nil, err
	}
	ds, err := imageio.Open(data, "test")
	if err != nil {
		return nil, err
	}
	if ds.Len() == 0 {
		return nil, fmt.Errorf("harness: %s holds no images, expected at least one", data)
	}
	m, err := dynofa.Open(path, &dynofa.Config{Backend: backend})
	if err != nil {
		return nil, err
	}
	return &Model{Model: m, Name: filepath.Base(path), SHA256: sum, Data: filepath.Base(data) + "/test", data: ds,
		images: map[int][][]float32{}}, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// imagesOf prepares the images for a resolution.
func (m *Model) imagesOf(r int) ([][]float32, error) {
	if list := m.images[r]; list != nil {
		return list, nil
	}
	var scratch imageio.Scratch
	var list [][]float32
	for i := range min(imagesInTurn, m.data.Len()) {
		sample, err := m.data.At(i)
		if err != nil {
			return nil, err
		}
		image := make([]float32, r*r*3)
		if err := scratch.Apply(imageio.Transform(m.Space().Preprocess), image, sample.Image, r); err != nil {
			return nil, err
		}
		list = append(list, image)
	}
	m.images[r] = list
	return list, nil
}

// Target is one level at work: a session that has it selected, and images of its resolution in turn. It belongs
// to one goroutine at a time.
type Target struct {
	Session *dynofa.Session
	model   *Model
	images  [][]float32
	logits  []float32
	next    int
	layers  []dynofa.LayerTime
	yielded time.Time
}

// NewTarget makes a session of its own for a level.
func (m *Model) NewTarget(level, threads int) (*Target, error) {
	s, err := m.NewSession(&dynofa.Config{Threads: threads})
	if err != nil {
		return nil, err
	}
	t := &Target{Session: s, model: m, logits: make([]float32, m.Classes())}
	if err := t.Select(level); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

// Select makes another level the measured one.
func (t *Target) Select(level int) error {
	if err := t.Session.Select(level); err != nil {
		return err
	}
	var err error
	t.images, err = t.model.imagesOf(t.Session.Subnet().Resolution)
	return err
}

// Close ends the session.
func (t *Target) Close() error { return t.Session.Close() }

// Run classifies the next image. It allocates nothing.
func (t *Target) Run(ctx context.Context) error {
	t.next++
	return t.Session.Run(ctx, t.images[t.next%len(t.images)], t.logits)
}

// Yield belongs between queries, outside of what is timed. Where a goroutine does nothing but call into C, Go's monitor
// (1.26) takes its P after 10 ms, and from then on at every look, which it has 1500 times a second instead of 100, each time
// on the processor of the inferences: p90 of 79 us was 105. Having been scheduled is what the monitor wants to see.
func (t *Target) Yield() {
	const often = 5 * time.Millisecond
	if time.Since(t.yielded) > often {
		runtime.Gosched()
		t.yielded = time.Now()
	}
}

// spareP makes sure that Go has a P to spare, and returns what undoes that. With a single one (one CPU, or a quota of one)
// the monitor takes it from every call into C that lasts for two of its looks, 20 us: the median of 77 us was 103.
func spareP() (undo func()) {
	if runtime.GOMAXPROCS(0) > 1 {
		return func() {}
	}
	runtime.GOMAXPROCS(2)
	return func() { runtime.GOMAXPROCS(1) }
}

// Profile is Run that also times the parts; the result is valid until the next call.
func (t *Target) Profile(ctx context.Context) ([]dynofa.LayerTime, error) {
	t.next++
	for {
		n, err := t.Session.Profile(ctx, t.images[t.next%len(t.images)], t.logits, t.layers)
		if err != nil || n <= len(t.layers) {
			return t.layers[:min(n, len(t.layers))], err
		}
		t.layers = make([]dynofa.LayerTime, n)
	}
}

// stageOf is the number of the elastic stage that a block of the supernet belongs to, or -1 for the first block and
// outside of blocks.
func stageOf(s *ofa.Space, block int) int {
	if block <= 0 {
		return -1
	}
	at := 1
	for i := range s.Stages {
		if at += s.Stages[i].MaxDepth(); block < at {
			return i
		}
	}
	return -1
}
