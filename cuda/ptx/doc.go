// Package ptx holds the compiled CUDA kernels.
package ptx

import "embed"

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.ptx *.h
var Sources embed.FS
