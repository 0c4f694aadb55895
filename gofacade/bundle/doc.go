// Package bundle brings supernets in and keeps them: it imports checkpoints (PyTorch zip and legacy
// containers, safetensors) and Dynamic-OFA libraries as data only, infers the [ofa.Space] they belong to, and
// reads and writes .dofa bundles.
//
// A .dofa bundle is a safetensors file. Its tensors are the supernet's under the names and PyTorch shapes of
// [ofa.Space.Tensors], all float32, followed by the batch normalisations of every level as
// library/<level>/<name>/scale and /shift, float32, one value per channel, <name> and order as
// [ofa.Space.Norms] gives them. The __metadata__ entry "dynofa" is JSON:
//
//	{"version": 1, "space": ofa.Space, "library": [Level, ...], "provenance": Provenance}
//
// A transform matrix (7to5_matrix, 5to3_matrix) that is absent is the identity. num_batches_tracked is dropped.
//
// Every input is taken as hostile. Nothing in a file is executed; a class or opcode that is not on the list is
// an error naming it; every offset, shape and number is checked before use; memory stays within a small
// multiple of the file's size. Errors name the file, the thing, its value and what was expected.
package bundle
