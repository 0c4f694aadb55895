// Package onnx writes one sub-network of a supernet as a self-contained ONNX model, for every tool that reads
// such files: runtimes, converters, viewers.
//
// The model is of operator set 14 and IR version 8, in the form that runtimes execute best: batch
// normalisation folded into the convolutions, HardSwish and HardSigmoid as single operators, pooling as
// GlobalAveragePool. Its input is "image", float32 [n, 3, r, r], preprocessed as the metadata says; its output
// is "logits", float32 [n, classes]; n is any batch size. Nodes and tensors carry the names of the supernet's
// modules. The same input gives the same bytes.
package onnx
