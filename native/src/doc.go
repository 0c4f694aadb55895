// Package src holds the engine's C sources.
package src

import (
	"embed"

	_ "github.com/dynofa/dynofa/kernels/dispatch" // sources
	_ "github.com/dynofa/dynofa/native/include"   // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.c *.h
var Sources embed.FS
