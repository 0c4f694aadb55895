package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/imageio"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

func space() *ofa.Space {
	return &ofa.Space{
		Family: "small", Width: 1, Classes: 4, BNEps: 1e-5,
		Stem: ofa.Stem{Channels: 8, Stride: 1, Act: ofa.HSwish}, First: ofa.First{Channels: 8, Stride: 2, Act: ofa.ReLU},
		Stages:  []ofa.Stage{{Channels: 16, Stride: 2, Act: ofa.HSwish, Depths: []int{1, 2, 3}}, {Channels: 24, Stride: 2, Act: ofa.HSwish, Depths: []int{1, 2}}},
		Head:    ofa.Head{Expand: 32, Features: 40, Act: ofa.HSwish},
		Kernels: []int{3, 5}, Expands: []int{2, 3}, Resolutions: []int{8, 12, 16},
		Preprocess: ofa.Preprocess{Crop: 1, Std: [3]float32{1, 1, 1}},
	}
}

// world is an engine whose networks have accuracies and latencies by a formula: image i, of label i mod 4 and grey i
// mod 256, is classified rightly by a network of accuracy a if its hash is below a.
type world struct {
	space        *ofa.Space
	now          time.Time
	calibrations int
	fail         int // the calibration that fails, 0: none
}

// accuracy is a fraction. Larger is better with less and less effect, and every kernel of 5 in the last stage is a
// mistake that only measuring can find.
func (w *world) accuracy(n ofa.Subnet) float64 {
	macs, _ := w.space.Cost(n)
	a := 0.95 - 0.25*math.Exp(-float64(macs)/1e5)
	slot := 3
	for j := range n.Depths[1] {
		if n.Kernels[slot+j] == 5 {
			a -= 0.03
		}
	}
	return a
}

func (w *world) Backend() string { return "formula" }

var errStopped = errors.New("stopped")

func (w *world) Calibrate(_ context.Context, n ofa.Subnet, batches iter.Seq2[[]float32, error]) ([]ofa.Affine, error) {
	if w.calibrations++; w.calibrations == w.fail {
		return nil, errStopped
	}
	images := 0
	for b, err := range batches {
		if err != nil {
			return nil, err
		}
		images += len(b) / (n.Resolution * n.Resolution * 3)
	}
	var norms []ofa.Affine
	for _, norm := range w.space.Norms(n) {
		a := ofa.Affine{Scale: make([]float32, norm.Channels), Shift: make([]float32, norm.Channels)}
		for i := range a.Scale {
			a.Scale[i] = float32(images)
		}
		norms = append(norms, a)
	}
	return norms, nil
}

type session struct {
	world *world
	net   ofa.Subnet
}

func (s *session) ConfigureNorms(n ofa.Subnet, norms []ofa.Affine) error {
	if len(norms) != len(s.world.space.Norms(n)) {
		return fmt.Errorf("%d norms", len(norms))
	}
	s.net = n
	return nil
}

func (s *session) Run(_ context.Context, image, logits []float32) error {
	macs, _ := s.world.space.Cost(s.net)
	s.world.now = s.world.now.Add(time.Duration(macs)) // a nanosecond a multiply-add
	i := int(image[0]*255+0.5) + 256*int(image[3*(s.net.Resolution-1)]*255+0.5)
	clear(logits)
	guess := i % 4
	if float64(uint32(i)*2654435761>>8)/(1<<24) >= s.world.accuracy(s.net) {
		guess = (i + 1) % 4
	}
	logits[guess] = 1
	return nil
}

func (s *session) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	in, out := len(images)/n, len(logits)/n
	for i := range n {
		if err := s.Run(ctx, images[i*in:(i+1)*in], logits[i*out:(i+1)*out]); err != nil {
			return err
		}
	}
	return nil
}

// numbered images carry their number in their left and their right half.
type numbered int

func (n numbered) Len() int          { return int(n) }
func (n numbered) Classes() []string { return []string{"a", "b", "c", "d"} }
func (n numbered) At(i int) (imageio.Sample, error) {
	img := image.NewGray(image.Rect(0, 0, 16, 16))
	for p := range img.Pix {
		img.Pix[p] = uint8(i)
		if p%16 >= 8 {
			img.Pix[p] = uint8(i >> 8)
		}
	}
	return imageio.Sample{Image: img, Label: i % 4, Name: fmt.Sprint(i)}, nil
}

// table has the latencies of the world: a nanosecond a multiply-add, less those of what is no key.
func table(t *testing.T, s *ofa.Space, slow float64) *latency.Table {
	t.Helper()
	sides := map[int]map[string]latency.Entry{}
	for _, r := range s.Resolutions {
		sides[r] = map[string]latency.Entry{}
		for _, k := range s.Kernels {
			for _, e := range s.Expands {
				n := s.Uniform(k, e, 3, r)
				n.Depths = []int{3, 2}
				keys, err := latency.Keys(s, n)
				require.NoError(t, err)
				for i, key := range keys {
					sides[r][key] = latency.Entry{Count: 1, Mean: slow * (0.001 + 0.0001*float64(k*e)*float64(r)/float64(1+i))}
				}
			}
		}
	}
	got, err := latency.New(sides)
	require.NoError(t, err)
	return got
}

func options(t *testing.T, dir string) (Options, *world) {
	t.Helper()
	w := &world{space: space(), now: time.Unix(0, 0)}
	c := bundletest.Random(w.space, 1)
	test := Data{numbered(300), "numbers/test", "t"}
	return Options{
		Contents: c, Bundle: "b", Train: Data{numbered(1200), "numbers/train", "d"}, Test: &test,
		Engine: w, Sessions: []Session{&session{world: w}}, Work: dir,
		Devices: []Device{
			{Name: "here", Table: table(t, w.space, 1), Backend: "formula", Threads: 1, Session: &session{world: w}},
			{Name: "there", Table: table(t, w.space, 7), Backend: "cuda", Threads: 2},
		},
		Networks: 60, Holdout: 600, Images: 100, LevelImages: 300, Batch: 50, Candidates: 10, Levels: 5, Gap: 0.5, Seed: 3, generations: 20,
		Now: func() time.Time { return w.now },
	}, w
}

func build(t *testing.T, dir string) ([]byte, *Report, *world) {
	t.Helper()
	o, w := options(t, dir)
	c, r, err := Run(context.Background(), o)
	require.NoError(t, err)
	data, err := bundle.Marshal(c)
	require.NoError(t, err)
	return data, r, w
}

func TestBuild(t *testing.T) {
	dir := t.TempDir()
	data, r, w := build(t, dir)
	require.Len(t, r.Networks, 60)
	require.Greater(t, r.Quality.Rank, 0.7)
	require.Less(t, r.Quality.MeanError, 3.0)

	b, err := bundle.Parse(data)
	require.NoError(t, err)
	levels := b.Levels()
	require.GreaterOrEqual(t, len(levels), 3)
	require.Equal(t, len(r.Levels), len(levels))
	for i, l := range levels {
		require.Equal(t, "300 images of numbers/train in batches of 50", l.Calibration)
		require.Equal(t, float32(300), l.Norms[0].Scale[0])
		require.Equal(t, "numbers/test", l.Accuracy[0].Data)
		require.Equal(t, 300, l.Accuracy[0].Images)
		require.Equal(t, 600, l.Accuracy[1].Images)
		require.InDelta(t, 100*w.accuracy(l.Subnet), l.Accuracy[1].Top1, 2, "what the world says, within 600 images")
		require.Equal(t, "here", l.Latency[0].Device)
		macs, _ := w.space.Cost(l.Subnet)
		require.InDelta(t, float64(macs)/1e6, l.Latency[0].MedianMS, 1e-9)
		require.Equal(t, 300, l.Latency[0].Runs)
		require.Equal(t, "there", l.Latency[1].Device)
		if i > 0 {
			require.Greater(t, l.Latency[0].MedianMS, levels[i-1].Latency[0].MedianMS)
		}
	}
	require.Equal(t, []string{"here", "there"}, []string{r.Devices[0].Name, r.Devices[1].Name})
	for _, d := range r.Devices {
		var last *Candidate
		for i := range d.Candidates {
			c := &d.Candidates[i]
			require.NotEmpty(t, c.Why, "%s", c.Subnet)
			if !c.Kept {
				continue
			}
			if last != nil {
				require.Greater(t, c.Top1, last.Top1)
				require.GreaterOrEqual(t, c.score()-last.score(), 0.5)
				require.Greater(t, c.MS, last.MS)
			}
			last = c
		}
	}
}

// Two runs are equal, and so is one that was stopped anywhere and went on.
func TestStoppedBuildsGoOn(t *testing.T) {
	dir := t.TempDir()
	want, report, w := build(t, dir)
	journal, err := os.ReadFile(filepath.Join(dir, journalName))
	require.NoError(t, err)
	all := w.calibrations

	// Everything known: only the levels' own normalisations are made again.
	again, same, w := build(t, dir)
	require.Equal(t, want, again)
	require.Equal(t, report, same)
	require.Equal(t, len(report.Levels), w.calibrations)

	stops, cuts := []int{1, 30, all - 1}, []int{1, len(journal) / 2, len(journal) - 1}
	if testing.Short() { // with the race detector: the same goroutines each time
		stops, cuts = stops[1:2], nil
	}
	for _, stop := range stops {
		dir := t.TempDir()
		o, w := options(t, dir)
		w.fail = stop
		_, _, err := Run(context.Background(), o)
		require.ErrorIs(t, err, errStopped)
		got, _, _ := build(t, dir)
		require.Equal(t, want, got, "stopped at calibration %d", stop)
		lines, err := os.ReadFile(filepath.Join(dir, journalName))
		require.NoError(t, err)
		require.Equal(t, string(journal), string(lines))
	}
	// Killed in the middle of a line.
	for _, cut := range cuts {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), journal[:cut], 0o600))
		got, _, _ := build(t, dir)
		require.Equal(t, want, got, "cut at byte %d", cut)
		lines, err := os.ReadFile(filepath.Join(dir, journalName))
		require.NoError(t, err)
		require.Equal(t, string(journal), string(lines))
	}
}

func TestBuildErrors(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"no image in both":             func(o *Options) { o.Holdout = 1000 },
		"24 networks to measure":       func(o *Options) { o.Networks = 24 },
		"1001 networks":                func(o *Options) { o.Networks = 1001 },
		"0 devices":                    func(o *Options) { o.Devices = nil },
		`device "here" is there twice`: func(o *Options) { o.Devices[1].Name = "here" },
		"1 candidates":                 func(o *Options) { o.Candidates = 1 },
		"has an accuracy of 99 %":      func(o *Options) { o.MinAccuracy = 99 },
		"4 classes": func(o *Options) {
			o.Contents = bundletest.Random(func() *ofa.Space { s := space(); s.Classes = 5; return s }(), 1)
		},
	} {
		o, w := options(t, t.TempDir())
		change(&o)
		w.space = o.Contents.Space
		_, _, err := Run(context.Background(), o)
		require.ErrorContains(t, err, want)
	}
	dir := t.TempDir()
	o, w := options(t, dir)
	w.fail = 2
	_, _, err := Run(context.Background(), o)
	require.ErrorIs(t, err, errStopped)
	before, err := os.ReadFile(filepath.Join(dir, journalName))
	require.NoError(t, err)
	o.Seed++
	_, _, err = Run(context.Background(), o)
	require.ErrorContains(t, err, `seed is "3", expected "4"`)
	require.ErrorContains(t, err, "remove the folder, or name another one")
	after, err := os.ReadFile(filepath.Join(dir, journalName))
	require.NoError(t, err)
	require.Equal(t, before, after)

	for text, want := range map[string]string{
		"{}\n":                  "line 1: expected the job",
		"junk\n":                "line 1: ",
		string(before) + "{}\n": "line 3: expected accuracy or latency",
		string(before) + "{\"accuracy\":{\"subnet\":\"x\",\"images\":10,\"top1\":9,\"top5\":8}}\n": "line 3: top1 is 9 and top5 8 of 10 images",
		string(before) + "{\"latency\":{\"subnet\":\"x\",\"median_ms\":-1}}\n":                     "line 3: a latency of -1 ms",
		string(before) + "{\"other\":1}\n":                                                         "line 3: ",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, journalName), []byte(text), 0o600))
		o, _ := options(t, dir)
		_, _, err := Run(context.Background(), o)
		require.ErrorContains(t, err, want)
	}
}

func TestChoose(t *testing.T) {
	c := func(name string, ms, top1, predicted float64) Candidate {
		return Candidate{Subnet: name, MS: ms, Top1: top1, Predicted: predicted}
	}
	all := []Candidate{
		c("top", 9, 95, 95), c("low", 0.5, 80, 80), c("first", 1, 90, 90), c("lucky", 2, 91, 89), c("near", 3, 90.2, 90.2),
		c("mid", 4, 92.4, 92.6), c("same", 5, 92.5, 92.4), c("other", 6, 93.5, 93.5), c("almost", 8, 94.8, 94.8),
	}
	choose(all, 3, 0.5, 85)
	got := map[string]string{}
	for _, x := range all {
		got[x.Subnet] = fmt.Sprint(x.Kept, ": ", x.Why)
	}
	even := "true: on the chain of the most even steps"
	require.Equal(t, map[string]string{
		"low":    "false: below 85.00 %",
		"first":  even,
		"lucky":  "false: first is faster and as accurate",
		"near":   "false: less than 0.50 points above first, or not above it as measured",
		"mid":    even,
		"same":   "false: mid is faster and as accurate",
		"other":  "false: the steps are more even without it",
		"almost": "false: less than 0.50 points below top, or not below it as measured",
		"top":    even,
	}, got)
	one := []Candidate{c("a", 1, 90, 90), c("b", 2, 91, 91)}
	choose(one, 1, 0, 0)
	require.True(t, one[0].Kept && !one[1].Kept)
}

// The chain is the best of all that there are.
func TestChainAgainstEnumeration(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 0))
	for range 200 {
		var front []*Candidate
		score := 90.0
		for range 1 + rng.IntN(9) {
			score += rng.Float64()
			front = append(front, &Candidate{Top1: score + 0.2*rng.NormFloat64(), Predicted: score})
		}
		count := 1 + rng.IntN(5)
		above := func(a, b *Candidate) bool { return a.score()-b.score() >= 0.3 && a.Top1 > b.Top1 }
		cost := func(places []int) float64 {
			var sum float64
			for i := 1; i < len(places); i++ {
				step := front[places[i]].score() - front[places[i-1]].score()
				sum += step * step
			}
			return sum
		}
		end, least := 0, 0.0
		for set := range 1 << len(front) {
			var places []int
			legal := set&1 != 0
			for i := range front {
				if set>>i&1 != 0 {
					legal = legal && (len(places) == 0 || above(front[i], front[places[len(places)-1]]))
					places = append(places, i)
				}
			}
			if !legal || len(places) > count {
				continue
			}
			if last := places[len(places)-1]; last > end || last == end && cost(places) < least {
				end, least = last, cost(places)
			}
		}
		got := chain(front, count, above)
		require.Equal(t, 0, got[0])
		require.LessOrEqual(t, len(got), count)
		require.Equal(t, end, got[len(got)-1])
		require.InDelta(t, least, cost(got), 1e-12)
		for i := 1; i < len(got); i++ {
			require.True(t, above(front[got[i]], front[got[i-1]]))
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"job":{"format":"dynofa build 1"}}` + "\n" + `{"accuracy":{"subnet":"s","images":3,"top1":1,"top5":2}}` + "\n" + `{"latency":{"subnet":"s","device":"d","median_ms":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		j := &journal{accuracies: map[accuracyKey]Accuracy{}, latencies: map[latencyKey]bundle.Latency{}}
		of, whole, err := j.read(text)
		if err != nil {
			return
		}
		require.LessOrEqual(t, whole, len(text))
		require.Equal(t, of == nil, whole == 0)
		require.False(t, bytes.Contains(text[whole:], []byte("\n")), "only half a line may be left")
		for _, a := range j.accuracies {
			require.LessOrEqual(t, a.result().Top1, 100.0)
		}
	})
}
