//go:build !unix

package bundle

// syncDir does nothing: directories cannot be synced here.
func syncDir(string) error { return nil }
