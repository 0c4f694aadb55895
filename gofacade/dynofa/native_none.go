//go:build !(cgo && linux && (amd64 || arm64))

package dynofa

import (
	"fmt"

	"github.com/dynofa/dynofa/gofacade/bundle"
)

func nativeISAs() []string { return nil }

func openNative(string, *bundle.Bundle) (engine, error) { panic("no backend is native here") }

func cudaBackends() []string { return nil }

func openCUDA(backend string, _ *bundle.Bundle) (engine, error) {
	return nil, fmt.Errorf("backend %q needs a build with cgo for Linux on amd64 or arm64, this one has %q", backend, Backends())
}
