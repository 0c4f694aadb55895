// Package avx512 holds the AVX-512 kernels.
package avx512

import (
	"embed"

	_ "github.com/dynofa/dynofa/kernels/include" // sources
	_ "github.com/dynofa/dynofa/kernels/simd"    // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.c *.h *.inc
var Sources embed.FS
