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
// temporary file beside it, synced, renamed over it, and the directory synced. A symbolic link is followed. Errors
// name the file that was asked for.
func Replace(path string, fill func(io.Writer) error) error {
	f, old, err := begin(path)
	if err != nil {
		return err
	}
	err = f.finish(fill)
	if err == nil && old != nil {
		err = os.Chmod(f.temp, old.Mode().Perm()) // the umask may have taken bits that the old file had
	}
	if err == nil {
		err = os.Rename(f.temp, f.path)
	}
	if err != nil {
		return errors.Join(f.asked(err), os.Remove(f.temp))
	}
	return syncDir(filepath.Dir(f.path))
}

// Check says, before long work, why Replace could not write the file afterwards, as far as that is known without its
// content: nothing is left of the attempt, and a file that is there stays as it is.
func Check(path string) error {
	f, _, err := begin(path)
	if err != nil {
		return err
	}
	return errors.Join(f.asked(f.open.Close()), os.Remove(f.temp))
}

// file is a temporary file and the name that it is to get.
type file struct {
	open       *os.File
	temp, path string
}

// begin opens a temporary file beside what a path leads to, with the permissions of what is there, if anything is.
func begin(path string) (f *file, old fs.FileInfo, err error) {
	path = follow(path)
	mode := fs.FileMode(0o666) // less the umask, as for any new file
	old, err = os.Stat(path)
	switch {
	case err == nil && !old.Mode().IsRegular():
		return nil, nil, &fs.PathError{Op: "replace", Path: path, Err: errors.New("not a regular file")}
	case err == nil:
		mode = old.Mode().Perm()
	case errors.Is(err, fs.ErrNotExist):
		old = nil
	default:
		return nil, nil, err
	}
	temp := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s-%016x.tmp", filepath.Base(path), rand.Uint64()))
	f = &file{temp: temp, path: path}
	if f.open, err = os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode); err != nil {
		return nil, nil, f.asked(err)
	}
	return f, old, nil
}

// follow is where links lead, also to what is not there yet. Of links in a circle it is one.
func follow(path string) string {
	for range 100 {
		if target, err := filepath.EvalSymlinks(path); err == nil {
			return target
		}
		target, err := os.Readlink(path)
		if err != nil {
			return path
		}
		if !filepath.IsAbs(target) {
			dir, err := filepath.EvalSymlinks(filepath.Dir(path)) // which .. in the target starts from
			if err != nil {
				return path
			}
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return path
}

// asked is an error of the temporary file under the name that somebody asked for.
func (f *file) asked(err error) error {
	if failed := (*fs.PathError)(nil); errors.As(err, &failed) && failed.Path == f.temp {
		failed.Path = f.path
	}
	if failed := (*os.LinkError)(nil); errors.As(err, &failed) {
		return &fs.PathError{Op: failed.Op, Path: f.path, Err: failed.Err}
	}
	return err
}

// Write puts the name right where the error begins, as who fills the file may put it into a sentence.
func (f *file) Write(p []byte) (int, error) {
	n, err := f.open.Write(p)
	return n, f.asked(err)
}

// Write is Replace with the content as bytes.
func Write(path string, data []byte) error {
	return Replace(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// finish fills, syncs and closes the file; it is closed in any case.
func (f *file) finish(fill func(io.Writer) error) error {
	err := fill(f)
	if err == nil {
		err = f.asked(f.open.Sync())
	}
	return errors.Join(err, f.asked(f.open.Close()))
}
