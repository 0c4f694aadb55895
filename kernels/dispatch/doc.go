// Package dispatch chooses kernels for the CPU at hand. It brings all kernels with it: C code that calls them needs a
// blank import of this package only, and -I to ../include.
package dispatch

import (
	"embed"

	_ "github.com/dynofa/dynofa/kernels/avx2"    // sources
	_ "github.com/dynofa/dynofa/kernels/avx512"  // sources
	_ "github.com/dynofa/dynofa/kernels/include" // sources
	_ "github.com/dynofa/dynofa/kernels/neon"    // sources
	_ "github.com/dynofa/dynofa/kernels/ref"     // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.c *.inc
var Sources embed.FS
