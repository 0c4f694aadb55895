// Package cuda is the CUDA backend in C: blank-import it beside native, and config.backend "cuda" of dynofa.h works.
// Without cgo it is empty.
package cuda

import (
	_ "github.com/dynofa/dynofa/cuda/src" // sources
)
