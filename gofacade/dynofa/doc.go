// Package dynofa runs one Once-for-All supernet as thousands of networks in place: open a bundle, select a
// level of its library or configure any sub-network, run images, and switch in microseconds, because a switch
// swaps a plan and copies no weights.
//
//	m, err := dynofa.Open("fashion.dofa", nil)
//	...
//	s, err := m.NewSession(nil)
//	...
//	err = s.Select(3)                    // a level of the library
//	err = s.Run(ctx, image, logits)      // [r][r][3] float32 in, one logit a class out; no allocation
//
// With cgo, on Linux on amd64 or arm64, the engine is the native one in C; elsewhere it is the one in plain Go.
// Both answer alike: [Backends] lists what there is, [Session.Backend] says what runs.
//
// A [Model] is immutable and shared by goroutines; a [Session] belongs to one goroutine at a time.
package dynofa
