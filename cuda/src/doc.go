// Package src holds the host half of the CUDA backend.
package src

import (
	"embed"

	_ "github.com/dynofa/dynofa/cuda/include"   // sources
	_ "github.com/dynofa/dynofa/cuda/ptx"       // sources
	_ "github.com/dynofa/dynofa/native/include" // sources
	_ "github.com/dynofa/dynofa/native/src"     // sources
)

// Sources makes the go command see every edit of this folder, and vendor it: neither the build cache nor
// go mod vendor looks at files that C code includes.
//
//go:embed *.c *.h
var Sources embed.FS
