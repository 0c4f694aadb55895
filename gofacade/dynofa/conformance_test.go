package dynofa_test

import (
	"testing"

	"github.com/dynofa/dynofa/gofacade/dynofa"
	"github.com/dynofa/dynofa/gofacade/internal/conformance"
)

func TestConformance(t *testing.T) {
	for _, backend := range dynofa.Backends() {
		t.Run(backend, func(t *testing.T) { conformance.Run(t, backend) })
	}
}
