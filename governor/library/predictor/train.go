package predictor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"gonum.org/v1/gonum/mat"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Report is how well a predictor orders sub-networks that it was not trained on. Train fits twice: once without a random
// fifth of the pairs, which gives these numbers, and once with all of them, which gives the predictor.
type Report struct {
	Pairs     int     `json:"pairs"`      // distinct networks
	HeldOut   int     `json:"held_out"`   // of them, not seen by the fit that is reported
	MeanError float64 `json:"mean_error"` // mean absolute difference, a fraction; the noise of the measurements included
	Spearman  float64 `json:"spearman"`   // rank correlation
	Kendall   float64 `json:"kendall"`    // rank correlation, tau-b
}

const (
	minPairs    = 20
	maxTraining = 4096 // features: the fit takes their square of memory
	heldOut     = 5    // one pair in so many
	folds       = 5
)

// Train fits a predictor to measured pairs of a Space. The same pairs in the same order, and seed, give the same predictor.
//
// It is the sum of two parts. Ridge regression on the features, whose penalty is chosen by cross-validation, tells what each
// block and image side is worth alone; it needs few pairs and explains most. A small ensemble of networks with one hidden
// layer learns from what remains how they depend on each other; it counts as much as cross-validation says, from nothing to
// all. Both together are one network with one hidden layer, so that a trained predictor is like any other.
//
// Pairs of one network are joined. The error names the first pair that the Space does not offer.
func Train(s *ofa.Space, pairs []Pair, seed uint64) (*Predictor, Report, error) {
	p, r, err := train(s, pairs, seed)
	if err != nil {
		return nil, Report{}, fmt.Errorf("predictor: train: %w", err)
	}
	return p, r, nil
}

func train(s *ofa.Space, pairs []Pair, seed uint64) (*Predictor, Report, error) {
	d, err := newDataset(s, pairs)
	if err != nil {
		return nil, Report{}, err
	}
	order := rand.New(rand.NewPCG(seed, 0)).Perm(len(d.rows))
	held := len(order) / heldOut
	known, unknown := order[held:], order[:held]
	report := Report{Pairs: len(order), HeldOut: held}

	m := d.fit(known, seed)
	var want, got []float64
	for _, i := range unknown {
		want, got = append(want, d.y[i]), append(got, m.predict(d.rows[i]))
		report.MeanError += math.Abs(want[len(want)-1]-got[len(got)-1]) / float64(held)
	}
	report.Spearman, report.Kendall = Spearman(want, got), Kendall(want, got)

	p, err := build(d.encoding, d.fit(order, seed).tensors())
	return p, report, err
}

// dataset is pairs as features.
type dataset struct {
	encoding Encoding
	rows     [][]int // features that are one
	y        []float64
	weight   []float64 // 1 in the mean
}

func newDataset(s *ofa.Space, pairs []Pair) (*dataset, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	d := &dataset{encoding: Own(s)}
	if inputs := d.encoding.Inputs(); inputs > maxTraining {
		return nil, fmt.Errorf("the space has %d features, expected at most %d", inputs, maxTraining)
	}
	at := map[string]int{}
	var images float64
	for i := range pairs {
		p := &pairs[i]
		err := s.Check(p.Subnet)
		if err == nil {
			err = p.check()
		}
		if err != nil {
			return nil, fmt.Errorf("pairs[%d]: %w", i, err)
		}
		text, n := s.Text(p.Subnet), float64(p.Images)
		images += n
		if j, ok := at[text]; ok {
			d.y[j] += (p.Accuracy - d.y[j]) * n / (d.weight[j] + n)
			d.weight[j] += n
			continue
		}
		at[text] = len(d.rows)
		var row []int
		if err := d.encoding.hot(p.Subnet, func(feature int) { row = append(row, feature) }); err != nil {
			return nil, fmt.Errorf("pairs[%d]: %w", i, err)
		}
		d.rows, d.y, d.weight = append(d.rows, row), append(d.y, p.Accuracy), append(d.weight, n)
	}
	if len(d.rows) < minPairs {
		return nil, fmt.Errorf("%d different sub-networks, expected at least %d", len(d.rows), minPairs)
	}
	for i := range d.weight {
		d.weight[i] *= float64(len(d.rows)) / images
	}
	return d, nil
}

// model is a fit: linear + share * ensemble.
type model struct {
	linear
	share    float64
	ensemble []*member
}

func (m *model) predict(row []int) float64 {
	return m.linear.predict(row) + m.share*mean(m.ensemble, row)
}

func mean(ensemble []*member, row []int) float64 {
	if len(ensemble) == 0 {
		return 0
	}
	var sum float64
	for _, n := range ensemble {
		sum += n.predict(row)
	}
	return sum / float64(len(ensemble))
}

func (d *dataset) fit(rows []int, seed uint64) *model {
	m := &model{}
	penalty := d.penalty(rows)

	// Members predict what the linear part of other folds leaves; regression on that is their share.
	var both, own float64
	for fold := range folds {
		in, out := split(rows, fold)
		l := d.ridge(in, []float64{penalty})[0]
		ensemble := d.ensemble(in, l, seed, 2)
		for _, i := range out {
			v := mean(ensemble, d.rows[i])
			both += d.weight[i] * v * (d.y[i] - l.predict(d.rows[i]))
			own += d.weight[i] * v * v
		}
	}
	m.linear = d.ridge(rows, []float64{penalty})[0]
	if both > 0 { // and so own is
		m.share = min(both/own, 1)
		m.ensemble = d.ensemble(rows, m.linear, seed, 8)
	}
	return m
}

// split takes every so many rows out; they are in random order.
func split(rows []int, fold int) (in, out []int) {
	for i, row := range rows {
		if i%folds == fold {
			out = append(out, row)
		} else {
			in = append(in, row)
		}
	}
	return in, out
}

// penalty is that of ridge regression with the least error in cross-validation.
func (d *dataset) penalty(rows []int) float64 {
	penalties := []float64{0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300}
	squares := make([]float64, len(penalties))
	for fold := range folds {
		in, out := split(rows, fold)
		for j, l := range d.ridge(in, penalties) {
			for _, i := range out {
				e := d.y[i] - l.predict(d.rows[i])
				squares[j] += d.weight[i] * e * e
			}
		}
	}
	best := 0
	for j := range squares {
		if squares[j] < squares[best] {
			best = j
		}
	}
	return penalties[best]
}

// linear is one number a feature, and one more.
type linear struct {
	weight []float64
	bias   float64
}

func (l *linear) predict(row []int) float64 {
	sum := l.bias
	for _, i := range row {
		sum += l.weight[i]
	}
	return sum
}

// ridge minimises sum(weight * (y - bias - x*w)^2) + penalty * |w|^2, for several penalties.
func (d *dataset) ridge(rows []int, penalties []float64) []linear {
	n := d.encoding.Inputs()
	var total, meanY float64
	meanX := make([]float64, n)
	gram, moment := mat.NewSymDense(n, nil), mat.NewVecDense(n, nil)
	for _, i := range rows {
		w := d.weight[i]
		total += w
		meanY += w * d.y[i]
		for _, a := range d.rows[i] {
			meanX[a] += w
			moment.SetVec(a, moment.AtVec(a)+w*d.y[i])
			for _, b := range d.rows[i] {
				if a <= b {
					gram.SetSym(a, b, gram.At(a, b)+w)
				}
			}
		}
	}
	// Around the means, so that the bias is not penalised.
	meanY /= total
	for a := range n {
		moment.SetVec(a, moment.AtVec(a)-meanX[a]*meanY)
		for b := a; b < n; b++ {
			gram.SetSym(a, b, gram.At(a, b)-meanX[a]*meanX[b]/total)
		}
	}
	fits := make([]linear, len(penalties))
	for j, penalty := range penalties {
		system := mat.NewSymDense(n, nil)
		system.CopySym(gram)
		for a := range n {
			system.SetSym(a, a, gram.At(a, a)+penalty)
		}
		var factors mat.Cholesky
		var w mat.VecDense
		if !factors.Factorize(system) {
			panic("a sum of squares plus a penalty is positive definite")
		}
		_ = factors.SolveVecTo(&w, moment) // a large condition number is an error, but no bad one here
		fits[j] = linear{w.RawVector().Data, meanY}
		for a := range n {
			fits[j].bias -= fits[j].weight[a] * meanX[a] / total
		}
	}
	return fits
}

// hidden is the width of a member.
const hidden = 16

// member is a network with one hidden layer of ReLU.
type member struct {
	w1 []float64 // [features][hidden]
	b1 []float64 // [hidden]
	w2 []float64 // [hidden]
	b2 []float64 // [1]
}

func (m *member) predict(row []int) float64 {
	var h [hidden]float64
	return m.forward(row, &h)
}

func (m *member) forward(row []int, h *[hidden]float64) float64 {
	copy(h[:], m.b1)
	for _, i := range row {
		w := m.w1[i*hidden:][:hidden]
		for j := range h {
			h[j] += w[j]
		}
	}
	sum := m.b2[0]
	for j, v := range h {
		sum += m.w2[j] * max(v, 0)
	}
	return sum
}

// ensemble trains members on what the linear fit leaves, each from its own random start.
func (d *dataset) ensemble(rows []int, l linear, seed uint64, members int) []*member {
	rest := make([]float64, len(d.rows))
	var squares float64
	for _, i := range rows {
		rest[i] = d.y[i] - l.predict(d.rows[i])
		squares += rest[i] * rest[i]
	}
	unit := max(math.Sqrt(squares/float64(len(rows))), 1e-12)
	for _, i := range rows {
		rest[i] /= unit
	}
	ensemble := make([]*member, members)
	var wait sync.WaitGroup
	for i := range ensemble {
		wait.Go(func() {
			ensemble[i] = d.member(rows, rest, rand.New(rand.NewPCG(seed, uint64(1+i))))
			for j := range ensemble[i].w2 {
				ensemble[i].w2[j] *= unit
			}
			ensemble[i].b2[0] *= unit
		})
	}
	wait.Wait()
	return ensemble
}

// member trains one with AdamW (Loshchilov and Hutter 2019) on squared errors.
func (d *dataset) member(rows []int, y []float64, rng *rand.Rand) *member {
	const (
		epochs = 60
		size   = 32 // of a batch
		rate   = 5e-3
		decay  = 0.1
	)
	m := &member{
		make([]float64, d.encoding.Inputs()*hidden), make([]float64, hidden), make([]float64, hidden), make([]float64, 1),
	}
	for i := range m.w1 {
		m.w1[i] = rng.NormFloat64() * math.Sqrt(2/float64(len(d.rows[0])))
	}
	for i := range m.w2 {
		m.w2[i] = rng.NormFloat64() * math.Sqrt(1.0/hidden)
	}
	slope := &member{make([]float64, len(m.w1)), make([]float64, hidden), make([]float64, hidden), make([]float64, 1)}
	parts := []*adam{
		newAdam(m.w1, slope.w1, decay), newAdam(m.b1, slope.b1, 0), newAdam(m.w2, slope.w2, decay), newAdam(m.b2, slope.b2, 0),
	}
	order := append([]int{}, rows...)
	steps, step := epochs*((len(order)+size-1)/size), 0
	for range epochs {
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for from := 0; from < len(order); from += size {
			batch := order[from:min(from+size, len(order))]
			for _, i := range batch {
				m.slope(slope, d.rows[i], y[i], d.weight[i]/float64(len(batch)))
			}
			now := rate * (1 + math.Cos(math.Pi*float64(step)/float64(steps))) / 2
			step++
			for _, p := range parts {
				p.step(now, step)
			}
		}
	}
	return m
}

// slope adds the gradient of weight * (prediction - y)^2 / 2.
func (m *member) slope(to *member, row []int, y, weight float64) {
	var h [hidden]float64
	e := weight * (m.forward(row, &h) - y)
	to.b2[0] += e
	for j, v := range h {
		h[j] = 0
		if v > 0 {
			to.w2[j] += e * v
			h[j] = e * m.w2[j]
			to.b1[j] += h[j]
		}
	}
	for _, i := range row {
		w := to.w1[i*hidden:][:hidden]
		for j := range h {
			w[j] += h[j]
		}
	}
}

// adam moves values against their slope, which it sets to zero.
type adam struct {
	values, slope, first, second []float64
	decay                        float64
}

func newAdam(values, slope []float64, decay float64) *adam {
	return &adam{values, slope, make([]float64, len(values)), make([]float64, len(values)), decay}
}

func (a *adam) step(rate float64, t int) {
	const b1, b2 = 0.9, 0.999
	c1, c2 := 1-math.Pow(b1, float64(t)), 1-math.Pow(b2, float64(t))
	for i, g := range a.slope {
		a.first[i] = b1*a.first[i] + (1-b1)*g
		a.second[i] = b2*a.second[i] + (1-b2)*g*g
		a.values[i] -= rate * (a.first[i]/c1/(math.Sqrt(a.second[i]/c2)+1e-8) + a.decay*a.values[i])
		a.slope[i] = 0
	}
}

// tensors is the model as one network. Its first hidden value is the linear part, raised so that it is never negative and
// ReLU does not change it.
func (m *model) tensors() map[string]Tensor {
	inputs, units := len(m.weight), 1+hidden*len(m.ensemble)
	w1, b1, w2 := make([]float32, units*inputs), make([]float32, units), make([]float32, units)
	raise := 0.0
	for i, w := range m.weight {
		raise += max(-w, 0)
		w1[i] = float32(w)
	}
	b1[0], w2[0] = float32(raise), 1
	bias := m.bias - float64(b1[0])
	for n, e := range m.ensemble {
		share := m.share / float64(len(m.ensemble))
		bias += share * e.b2[0]
		for j := range hidden {
			unit := 1 + n*hidden + j
			b1[unit], w2[unit] = float32(e.b1[j]), float32(share*e.w2[j])
			for i := range inputs {
				w1[unit*inputs+i] = float32(e.w1[i*hidden+j])
			}
		}
	}
	return map[string]Tensor{
		"0.weight": {[]int{units, inputs}, w1}, "0.bias": {[]int{units}, b1},
		"2.weight": {[]int{1, units}, w2}, "2.bias": {[]int{1}, []float32{float32(bias)}},
	}
}
