package dynofa

import (
	"context"
	"fmt"

	"github.com/dynofa/dynofa/gofacade/ofa"
)

// Session is one thread of execution: an arena and the selected sub-network. It belongs to one goroutine at a
// time; make one session per goroutine, they share the model's weights.
type Session struct {
	model       *Model
	engine      runner
	current     ofa.Subnet // its lists are a level's or those of own
	own         ofa.Subnet // room for what is configured
	chosen, ran Ran
	threads     int
	maxThreads  int
	resolution  int // the largest
	batch       int // images of a pass
	closed      bool
}

// Ran says what a run executed. Equal sub-networks have equal ids, on every backend and in every process.
type Ran struct {
	Level  int    // of the library, -1 if the sub-network was configured or nothing ran yet
	Subnet uint64 // of the sub-network
	Plan   uint64 // of the sub-network and the choice of its batch normalisation, as the engine says
}

// Select makes a level of the library the current sub-network, from the next run on. It allocates nothing and
// copies no weights. [ErrLevel] if the library has no such level, [ErrSize] if its resolution is beyond MaxResolution;
// after an error the old sub-network stays.
func (s *Session) Select(level int) error {
	if s.closed {
		return fmt.Errorf("dynofa: select: session: %w", ErrClosed)
	}
	levels := s.model.levels
	if len(levels) == 0 {
		return fmt.Errorf("dynofa: select level %d: %w, the model has no library", level, ErrLevel)
	}
	if level < 0 || level >= len(levels) {
		return fmt.Errorf("dynofa: select level %d: %w, expected 0 to %d", level, ErrLevel, len(levels)-1)
	}
	n := &levels[level].Subnet
	if n.Resolution > s.resolution {
		return s.tooLarge(n.Resolution)
	}
	if err := s.engine.selectLevel(level); err != nil {
		return fmt.Errorf("dynofa: select: %w", err)
	}
	s.current = *n
	s.chosen = Ran{Level: level, Subnet: s.model.ids[level]}
	return nil
}

// Configure makes any sub-network of the Space the current one, at any resolution up to the session's
// MaxResolution, with the supernet's own batch normalisation. A sub-network that was never calibrated loses much
// of its accuracy that way: see [Model.Calibrate] and ConfigureNorms. Native backends allocate nothing; purego
// remembers the last 32 plans and allocates for others. On an error, which names the illegal field, the old
// sub-network stays.
func (s *Session) Configure(n ofa.Subnet) error { return s.configure(n, nil) }

// ConfigureNorms is Configure with batch normalisations of the caller's, in the order of Space.Norms, such as
// those of a [Calibration]. They are copied.
func (s *Session) ConfigureNorms(n ofa.Subnet, norms []ofa.Affine) error {
	if norms == nil {
		norms = []ofa.Affine{} // too few, and not the supernet's
	}
	return s.configure(n, norms)
}

func (s *Session) configure(n ofa.Subnet, norms []ofa.Affine) error {
	if s.closed {
		return fmt.Errorf("dynofa: configure: session: %w", ErrClosed)
	}
	if n.Resolution > s.resolution {
		return s.tooLarge(n.Resolution)
	}
	if err := s.model.space.CheckArch(n); err != nil {
		return fmt.Errorf("dynofa: configure: %w", err)
	}
	if norms != nil {
		if err := checkNorms(s.model.space.Norms(n), norms); err != nil {
			return fmt.Errorf("dynofa: configure: %w", err)
		}
	}
	if err := s.engine.configure(n, norms); err != nil {
		return fmt.Errorf("dynofa: configure: %w", err)
	}
	copy(s.own.Kernels, n.Kernels)
	copy(s.own.Expands, n.Expands)
	copy(s.own.Depths, n.Depths)
	s.own.Resolution = n.Resolution
	s.current = s.own
	s.chosen = Ran{Level: -1, Subnet: planID(s.model.space, n, 0)}
	return nil
}

func checkNorms(want []ofa.Norm, norms []ofa.Affine) error {
	if len(norms) != len(want) {
		return fmt.Errorf("%d batch normalisations given, the sub-network has %d", len(norms), len(want))
	}
	for i, w := range want {
		a := norms[i]
		if len(a.Scale) != w.Channels || len(a.Shift) != w.Channels {
			return fmt.Errorf("batch normalisation %s has %d scales and %d shifts, the sub-network has %d channels there",
				w.Name, len(a.Scale), len(a.Shift), w.Channels)
		}
		for c := range a.Scale {
			if !finite(a.Scale[c]) || !finite(a.Shift[c]) {
				return fmt.Errorf("batch normalisation %s: channel %d has scale %g and shift %g, expected finite numbers",
					w.Name, c, a.Scale[c], a.Shift[c])
			}
		}
	}
	return nil
}

func finite(v float32) bool { return v-v == 0 } // NaN for infinities, too

func (s *Session) tooLarge(r int) error {
	return fmt.Errorf("dynofa: resolution %d exceeds the session's MaxResolution %d: %w", r, s.resolution, ErrSize)
}

// Prepare makes the following runs of the current sub-network, in passes of the given number of images (1 to
// Config.Batch), as fast as the engine can. A device records such a pass once, which takes time and memory, and launches
// it as a whole from then on; without Prepare runs are right, only slower. Levels are prepared from the start, for one
// image and for Config.Batch. A session keeps the 32 recordings that were used last, and reuses one when its sub-network
// is chosen again with batch normalisations of the same kind (the supernet's, or the caller's). Engines on the CPU have
// nothing to prepare. [ErrState] without a sub-network, [ErrSize] for another number of images; after an error the
// session is as before.
func (s *Session) Prepare(images int) error {
	if s.closed {
		return fmt.Errorf("dynofa: prepare: session: %w", ErrClosed)
	}
	if images < 1 || images > s.batch {
		return fmt.Errorf("dynofa: prepare: %d images: %w, expected 1 to %d (Config.Batch)", images, ErrSize, s.batch)
	}
	if s.current.Resolution == 0 {
		return fmt.Errorf("dynofa: prepare: %w, call Select or Configure first", ErrState)
	}
	if err := s.engine.prepare(images); err != nil {
		return fmt.Errorf("dynofa: prepare: %w", err)
	}
	return nil
}

// Run classifies one preprocessed image. image is [r][r][3] in the order R, G, B, r the current sub-network's
// resolution; logits has one value a class. It allocates nothing unless it fails. ctx is checked before the
// run, and by purego also between layers; after its error the logits are undefined and the session is as before.
// [ErrState] without a sub-network, [ErrSize] for slices that do not fit.
func (s *Session) Run(ctx context.Context, image, logits []float32) error {
	if err := s.check(len(image), len(logits), 1); err != nil {
		return err
	}
	if err := s.run(ctx, 1, image, logits); err != nil {
		return fmt.Errorf("dynofa: run: %w", err)
	}
	return nil
}

// RunBatch is Run for n images, [n][r][r][3]; logits is [n][classes]. It runs them in passes of Config.Batch images,
// the last one with what is left. A device computes the images of a pass together and may sum in another order than for
// a single image: both are within 1e-5 of the largest logit of exact arithmetic. Other engines run one image after
// another, with the same bits as Run. ctx is checked before each pass; after an error the logits of earlier passes are
// valid.
func (s *Session) RunBatch(ctx context.Context, n int, images, logits []float32) error {
	if err := s.check(len(images), len(logits), n); err != nil {
		return err
	}
	in, out := len(images)/n, len(logits)/n
	for from := 0; from < n; from += s.batch {
		to := min(from+s.batch, n)
		if err := s.run(ctx, to-from, images[from*in:to*in], logits[from*out:to*out]); err != nil {
			return fmt.Errorf("dynofa: run images %d to %d of %d: %w", from, to-1, n, err)
		}
	}
	return nil
}

func (s *Session) run(ctx context.Context, n int, images, logits []float32) error {
	if err := s.engine.run(ctx, n, images, logits); err != nil {
		return err
	}
	s.finished()
	return nil
}

func (s *Session) finished() {
	s.ran = s.chosen
	s.ran.Plan = s.engine.plan()
}

// Profile is Run that also measures its parts, in order, into times. It returns how many there are; those past
// len(times) are not written. Reading the clock slows the run by a few per cent. Errors are those of Run.
func (s *Session) Profile(ctx context.Context, image, logits []float32, times []LayerTime) (int, error) {
	if err := s.check(len(image), len(logits), 1); err != nil {
		return 0, err
	}
	n, err := s.engine.profile(ctx, image, logits, times)
	if err != nil {
		return 0, fmt.Errorf("dynofa: profile: %w", err)
	}
	s.finished()
	return n, nil
}

func (s *Session) check(image, logits, n int) error {
	if s.closed {
		return fmt.Errorf("dynofa: run: session: %w", ErrClosed)
	}
	r := s.current.Resolution
	if r == 0 {
		return fmt.Errorf("dynofa: run: %w, call Select or Configure first", ErrState)
	}
	if n < 1 {
		return fmt.Errorf("dynofa: run: %d images: %w, expected at least 1", n, ErrSize)
	}
	if want := r * r * 3; image/n != want || image%n != 0 {
		return fmt.Errorf("dynofa: run: %d values for %d images: %w, expected %d each (%d x %d x 3)", image, n, ErrSize, want, r, r)
	}
	if want := n * s.model.space.Classes; logits != want {
		return fmt.Errorf("dynofa: run: %d logits: %w, expected %d", logits, ErrSize, want)
	}
	return nil
}

// SetThreads makes the following runs use n threads, 1 to Config.MaxThreads. It allocates nothing. The logits are the
// same, bit for bit, for any number of threads.
func (s *Session) SetThreads(n int) error {
	if s.closed {
		return fmt.Errorf("dynofa: set threads: session: %w", ErrClosed)
	}
	if n < 1 || n > s.maxThreads {
		return fmt.Errorf("dynofa: set threads: %d, expected 1 to %d (Config.MaxThreads)", n, s.maxThreads)
	}
	if err := s.engine.setThreads(n); err != nil {
		return fmt.Errorf("dynofa: set threads: %w", err)
	}
	s.threads = n
	return nil
}

// Subnet is a copy of the current sub-network in canonical form: what Run executes. Before the first Select or
// Configure it is the zero value.
func (s *Session) Subnet() ofa.Subnet {
	if s.current.Resolution == 0 {
		return ofa.Subnet{}
	}
	return s.model.space.Canonical(s.current)
}

// Level is the current level of the library, or -1 where none is.
func (s *Session) Level() int { return s.chosen.Level }

// Ran says what the last run that succeeded has executed.
func (s *Session) Ran() Ran { return s.ran }

// Threads is the number of threads that Run uses.
func (s *Session) Threads() int { return s.threads }

// Backend names the engine, such as "native/avx2" or "purego".
func (s *Session) Backend() string { return s.model.engine.name() }

// Close ends the session's threads and frees its memory. It may be called again; other calls after it answer
// [ErrClosed].
func (s *Session) Close() error {
	if !s.closed {
		s.closed = true
		s.engine.close()
	}
	return nil
}
