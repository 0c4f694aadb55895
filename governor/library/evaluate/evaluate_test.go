package evaluate

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
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

func (s shifted) Run(_ context.Context, image, logits []float32) error {
	i := int(image[0]*255 + 0.5)
	clear(logits)
	logits[i%10] = 1
	if i < s.wrong {
		logits[(i+1)%10] = 2
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
		got, err := Accuracy(context.Background(), levels(200), net, engines, func() {})
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

func (failing) Run(context.Context, []float32, []float32) error { return errEngine }

func TestAccuracyStopsAtTheFirstError(t *testing.T) {
	_, err := Accuracy(context.Background(), levels(200), net, []Engine{failing{}, failing{}}, nil)
	require.ErrorIs(t, err, errEngine)
	narrow := net
	narrow.Classes = 5
	_, err = Accuracy(context.Background(), levels(200), narrow, []Engine{shifted{}}, nil)
	require.ErrorContains(t, err, "image 5 has label 5, the network has classes 0 to 4")
	_, err = Accuracy(context.Background(), levels(0), net, []Engine{shifted{}}, nil)
	require.ErrorContains(t, err, "0 images")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = Accuracy(ctx, levels(3), net, []Engine{shifted{}}, nil)
	require.ErrorIs(t, err, context.Canceled)
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
	bad := net
	bad.Resolution = 0
	for _, err := range Batches(levels(1), bad, 3) {
		require.Error(t, err)
	}
}
