// Package native is the engine in C: blank-import it, with -I to include, to call dynofa.h from cgo. Without cgo
// it is empty.
package native

import (
	_ "github.com/dynofa/dynofa/native/include" // sources
	_ "github.com/dynofa/dynofa/native/src"     // sources
)
