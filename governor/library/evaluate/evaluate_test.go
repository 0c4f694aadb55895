package evaluate

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"math"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/imageio"
)

// levels is a data set of n flat grey images; image i has grey i and label i mod 10.
type levels int

func (n levels) Len() int          { return int(n) }
func (n levels) Classes() []string { return make([]string, 10) }
func (n levels) At(i int) (imageio.Sample, error) {
	img := image.NewGray(image.Rect(0, 0, 4, 4))
	for p := range img.Pix {
		img.Pix[p] = color.Gray{uint8(i)}.Y
	}
	return imageio.Sample{Image: img, Label: i % 10, Name: fmt.Sprint("image ", i)}, nil
}

var net = Network{
	Transform:  imageio.Transform{Crop: 1, Std: [3]float32{1, 1, 1}},
	Resolution: 4, Classes: 10,
}

// shifted answers with the class after the right one for the darkest images and the right one for the others.
type shifted struct{ wrong int }

func (s shifted) RunBatch(_ context.Context, n int, images, logits []float32) error {
	clear(logits)
	for k := range n {
		i := int(images[k*len(images)/n]*255 + 0.5)
		logits[10*k+i%10] = 1
		if i < s.wrong {
			logits[10*k+(i+1)%10] = 2
		}
	}
	return nil
}

func TestAccuracy(t *testing.T) {
	var first Result
	for _, workers := range []int{1, 3} {
		engines := make([]Engine, workers)
		for i := range engines {
			engines[i] = shifted{wrong: 50}
		}
		got, err := Accuracy(context.Background(), levels(200), net, engines, func(int) {})
		require.NoError(t, err)
		if first.Images == 0 {
			first = got
		}
		require.Equal(t, first, got)
	}
	require.InDelta(t, 75, first.Top1, 1e-9)
	require.InDelta(t, 100, first.Top5, 1e-9)
	// Wilson's interval for 150 of 200.
	require.InDelta(t, 68.57, first.Low, 0.01)
	require.InDelta(t, 80.49, first.High, 0.01)
	require.Equal(t, []int{1, 2}, first.Predictions[:2])
	require.Equal(t, []int{0, 1}, first.Predictions[50:52])
}

type failing struct{}

var errEngine = errors.New("engine failed")

func (failing) RunBatch(context.Context, int, []float32, []float32) error { return errEngine }

func TestAccuracyStopsAtTheFirstError(t *testing.T) {
	_, err := Accuracy(context.Background(), levels(200), net, []Engine{failing{}, failing{}}, nil)
	require.ErrorIs(t, err, errEngine)
	narrow := net
	narrow.Classes = 5
	_, err = Accuracy(context.Background(), levels(200), narrow, []Engine{shifted{}}, nil)
	require.ErrorContains(t, err, "the data set has 10 classes, expected the network's 5")
	_, err = Accuracy(context.Background(), levels(0), net, []Engine{shifted{}}, nil)
	require.ErrorContains(t, err, "0 images")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Accuracy(ctx, levels(3), net, []Engine{shifted{}}, nil)
	require.ErrorIs(t, err, context.Canceled)
}

// choosing runs network 0 right for all and network 1 as shifted does, and counts what it selects.
type choosing struct {
	shifted
	current int
}

func (c *choosing) Select(i int) error {
	c.current = i
	return nil
}

func (c *choosing) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	if c.current == 0 {
		return shifted{}.RunBatch(ctx, n, images, logits)
	}
	return c.shifted.RunBatch(ctx, n, images, logits)
}

// sized notes how many images come at a time.
type sized struct {
	choosing
	sizes []int
}

func (s *sized) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	s.sizes = append(s.sizes, n)
	return s.choosing.RunBatch(ctx, n, images, logits)
}

func TestMeasureGivesWholeBatches(t *testing.T) {
	for batch, want := range map[int][]int{1: {16, 16, 16, 16, 16, 16, 4}, 10: {20, 20, 20, 20, 20}, 24: {24, 24, 24, 24, 4}, 64: {64, 36}} {
		e := &sized{}
		m, err := Measure(context.Background(), levels(200), 0, 100, []Network{net}, []Selector{e}, batch, nil)
		require.NoError(t, err)
		require.Equal(t, want, e.sizes, "batches of %d", batch)
		require.Equal(t, 100, m.Counts[0].Top1)
	}
	_, err := Measure(context.Background(), levels(200), 0, 100, []Network{net}, []Selector{&sized{}}, 0, nil)
	require.ErrorContains(t, err, "batches of 0 images, expected at least one")
}

// counting counts how often each image is decoded.
type counting struct {
	levels
	decoded []atomic.Int32
}

func (c *counting) At(i int) (imageio.Sample, error) {
	c.decoded[i].Add(1)
	return c.levels.At(i)
}

func TestMeasureDecodesOnceAndCountsWhatIsAsked(t *testing.T) {
	small := net
	small.Resolution = 2
	for _, workers := range []int{1, 4} {
		ds := &counting{200, make([]atomic.Int32, 200)}
		engines := make([]Selector, workers)
		for i := range engines {
			engines[i] = &choosing{shifted: shifted{wrong: 50}}
		}
		var inferences atomic.Int64
		m, err := Measure(context.Background(), ds, 30, 130, []Network{net, net, small}, engines, 1, func(n int) { inferences.Add(int64(n)) })
		require.NoError(t, err)
		require.EqualValues(t, 300, inferences.Load())
		require.Equal(t, 100, m.Counts[0].Top1)
		require.Equal(t, 80, m.Counts[1].Top1)
		require.Equal(t, m.Counts[1], m.Counts[2])
		require.NotEqual(t, m.Counts[0].Predictions, m.Counts[1].Predictions)
		require.Equal(t, []int{9, 0, 0}, m.Predictions[1][18:21], "images 48 to 50")
		require.Positive(t, m.Busy)
		require.LessOrEqual(t, m.Busy, 1.0)
		for i := range ds.decoded {
			want := int32(0)
			if i >= 30 && i < 130 {
				want = 1
			}
			require.Equal(t, want, ds.decoded[i].Load(), "image %d", i)
		}
	}
}

// unreadable has images that cannot be read.
type unreadable struct {
	levels
	from int
}

func (u unreadable) At(i int) (imageio.Sample, error) {
	if i >= u.from {
		return imageio.Sample{}, fmt.Errorf("image %d cannot be read", i)
	}
	return u.levels.At(i)
}

func TestTheFirstErrorIsTheFirstImages(t *testing.T) {
	for range 20 {
		engines := make([]Engine, 5)
		for i := range engines {
			engines[i] = shifted{}
		}
		_, err := Accuracy(context.Background(), unreadable{200, 77}, net, engines, nil)
		require.EqualError(t, err, "evaluate: image 77 cannot be read")
		for _, err = range Batches(unreadable{200, 77}, net, 64) {
			if err != nil {
				break
			}
		}
		require.EqualError(t, err, "evaluate: image 77: image 77 cannot be read")
	}
}

// silent gives logits that are no numbers.
type silent struct{}

func (silent) RunBatch(_ context.Context, _ int, _, logits []float32) error {
	for i := range logits {
		logits[i] = float32(math.NaN())
	}
	return nil
}

func TestLogitsHaveToBeNumbers(t *testing.T) {
	_, err := Accuracy(context.Background(), levels(3), net, []Engine{silent{}}, nil)
	require.ErrorContains(t, err, "image 0: network 0 gives logits that are no numbers")
}

func TestCheckClasses(t *testing.T) {
	require.NoError(t, CheckClasses([]string{"a", "b"}, 2))
	require.NoError(t, CheckClasses([]string{"0", "1"}, 3), "an IDX set without names has those up to its largest label")
	require.ErrorContains(t, CheckClasses([]string{"a", "b"}, 3), "2 classes, expected the network's 3")
	require.ErrorContains(t, CheckClasses([]string{"0", "1", "2"}, 2), "3 classes, expected the network's 2")
}

func TestBatches(t *testing.T) {
	var sizes []int
	next := 0
	for batch, err := range Batches(levels(7), net, 3) {
		require.NoError(t, err)
		sizes = append(sizes, len(batch)/48)
		for i := 0; i < len(batch); i += 48 {
			require.InDelta(t, float64(next)/255, batch[i], 1e-7)
			next++
		}
	}
	require.Equal(t, []int{3, 3, 1}, sizes)
	for _, err := range Batches(levels(700), net, 3) {
		require.NoError(t, err)
		break // and no goroutine waits for ever: the race detector and the end of the test would tell
	}
	bad := net
	bad.Resolution = 0
	for _, err := range Batches(levels(1), bad, 3) {
		require.Error(t, err)
	}
}
