//go:build cgo && linux && (amd64 || arm64)

package capi

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/bundle/bundletest"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

func open(t *testing.T) (*Model, *ofa.Space) {
	space := ofa.MobileNetV3(0.25, 10)
	space.Resolutions = []int{32}
	c := bundletest.Random(space, 1)
	bundletest.AddLevel(c, space.Smallest())
	data, err := bundle.Marshal(c)
	require.NoError(t, err)
	m, err := OpenMemory(data, Config{})
	require.NoError(t, err)
	t.Cleanup(m.Free)
	return m, space
}

// requireStatus wants an *Error with that status and a sentence with that text.
func requireStatus(t *testing.T, err error, status, text string) {
	t.Helper()
	var e *Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, status, e.Status)
	require.ErrorContains(t, err, text)
}

func TestFailuresKeepTheirStatusAndSentence(t *testing.T) {
	m, space := open(t)
	_, err := OpenMemory([]byte("no bundle at all"), Config{})
	requireStatus(t, err, "DYNOFA_E_FORMAT", "expected")
	_, err = OpenMemory(nil, Config{})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", "NULL")
	_, err = OpenMemory([]byte("x"), Config{ISA: "mmx"})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", `config.isa is "mmx", expected an instruction set of this build: ref`)
	_, err = m.NewSession(Config{Threads: 300})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", "300")
	_, err = m.SessionBytes(Config{Threads: 300})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", "300")
	_, err = m.NewSession(Config{MaxResolution: 1 << 20})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", "1048576")
	_, err = m.NewSession(Config{Batch: 65})
	requireStatus(t, err, "DYNOFA_E_ARGUMENT", "65")

	s, err := m.NewSession(Config{Threads: 1, MaxResolution: 16}) // the level does not fit
	require.NoError(t, err)
	defer s.Free()
	image, logits := make([]float32, 16*16*3), make([]float32, 10)
	requireStatus(t, s.Run(1, image, logits), "DYNOFA_E_STATE", "nothing is selected")
	requireStatus(t, s.Prepare(1), "DYNOFA_E_STATE", "nothing is selected")
	requireStatus(t, s.Prepare(2), "DYNOFA_E_ARGUMENT", "2 images")
	requireStatus(t, s.Select(7), "DYNOFA_E_LEVEL", "level 7")
	requireStatus(t, s.Select(0), "DYNOFA_E_RESOLUTION", "32")
	requireStatus(t, s.SetThreads(2), "DYNOFA_E_ARGUMENT", "2")
	n := space.Largest()
	configure := func(norms []float32) error { return s.Configure(n.Resolution, n.Kernels, n.Expands, n.Depths, norms) }
	requireStatus(t, configure(nil), "DYNOFA_E_RESOLUTION", "32")
	n.Resolution = 16
	requireStatus(t, configure(make([]float32, 3)), "DYNOFA_E_SIZE", "3")
	n.Kernels[2] = 4
	requireStatus(t, configure(nil), "DYNOFA_E_SUBNET", "4")
	n.Kernels[2] = 5
	require.NoError(t, configure(nil))
	requireStatus(t, s.Run(1, image[1:], logits), "DYNOFA_E_SIZE", "image floats")
	requireStatus(t, s.Run(1, image, logits[1:]), "DYNOFA_E_SIZE", "logit floats")
	requireStatus(t, s.Run(1, nil, logits), "DYNOFA_E_ARGUMENT", "NULL")
	require.NoError(t, s.Run(1, image, logits))
	plan, level := s.Ran()
	require.NotZero(t, plan)
	require.Equal(t, -1, level)
}

// The sentence is the thread's, and goroutines change threads.
func TestSentencesAreNotMixedUp(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		name := fmt.Sprintf("isa%d", i)
		wg.Go(func() {
			for range 200 {
				_, err := OpenMemory([]byte("x"), Config{ISA: name})
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(e.Text, `"`+name+`"`) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
}
