// Package include holds what the CUDA kernels and the code that launches them agree on.
package include

import (
	"embed"

	_ "github.com/dynofa/dynofa/kernels/include" // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.h *.inc
var Sources embed.FS
