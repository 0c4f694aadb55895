//go:build !linux

package bundle_test

import "errors"

func writeLimited(string) error { return errors.ErrUnsupported }
