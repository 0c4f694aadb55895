//go:build cgo

package main

import (
	"fmt"

	_ "github.com/dynofa/dynofa/native"
)

// unsigned dynofa_version(void);
import "C"

// engine calls into the C engine that the module brings along.
func engine() string { return "C engine linked, version " + fmt.Sprint(C.dynofa_version()) }
