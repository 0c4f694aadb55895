//go:build !(cgo && linux && (amd64 || arm64))

package dynofa

import (
	"fmt"

	"github.com/dynofa/dynofa/gofacade/bundle"
)

func nativeISAs() []string { return nil }

func openNative(string, *bundle.Bundle) (engine, error) { panic("no backend is native here") }

func cudaBackends() []string { return nil }

func checkCUDA(backend string) error {
	return fmt.Errorf("backend %q needs a build with cgo for Linux on amd64 or arm64", backend)
}

func openCUDA(string, *bundle.Bundle) (engine, error) { panic("no backend is on a device here") }
