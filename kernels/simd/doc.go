// Package simd holds the algorithms that the kernels of all instruction sets share.
package simd

import (
	"embed"

	_ "github.com/dynofa/dynofa/kernels/include" // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.h
var Sources embed.FS
