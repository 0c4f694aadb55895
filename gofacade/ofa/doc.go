// Package ofa describes Once-for-All supernets of MBConv blocks (Cai et al., "Once-for-All: Train One
// Network and Specialize it for Efficient Deployment", ICLR 2020) and their sub-networks: what choices a
// supernet offers, whether a choice is legal, what it costs, and which tensors it is made of.
//
// A [Space] is the shape of a supernet, a [Subnet] is one choice in it, and [Space.Blocks] spells a choice
// out block by block; engines, exporters and latency tables all walk that one list. Everything is plain
// data: values may be copied, compared with reflect.DeepEqual, stored as JSON and shared by goroutines as
// long as nobody writes to them.
package ofa
