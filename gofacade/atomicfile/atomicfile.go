// Package atomicfile replaces files as a whole: who opens the name sees the old file or the new one, never half of
// it, and the old one survives any failure.
package atomicfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Replace writes a file so that its name shows either what it showed before or the complete new content: into a
// temporary file beside it, synced, renamed over it, and the directory synced. A symbolic link is followed.
func Replace(path string, fill func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	} else if target, err := os.Readlink(path); err == nil { // to what is not there yet
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	mode := fs.FileMode(0o666) // less the umask, as for any new file
	old, err := os.Stat(path)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	case err == nil:
		mode = old.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, fmt.Sprintf(".%s-%016x.tmp", filepath.Base(path), rand.Uint64()))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		if failed := (*fs.PathError)(nil); errors.As(err, &failed) {
			failed.Path = path // nobody asked for the temporary name
		}
		return err
	}
	err = finish(f, fill)
	if err == nil && old != nil {
		err = os.Chmod(temp, mode) // the umask may have taken bits that the old file had
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncDir(dir)
}

// Write is Replace with the content as bytes.
func Write(path string, data []byte) error {
	return Replace(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// finish fills, syncs and closes the file; it is closed in any case.
func finish(f *os.File, fill func(io.Writer) error) error {
	err := fill(f)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
