//go:build !(cgo && linux && (amd64 || arm64))

package dynofa

import "github.com/dynofa/dynofa/gofacade/bundle"

func nativeISAs() []string { return nil }

func openNative(string, *bundle.Bundle) (engine, error) { panic("no backend is native here") }
