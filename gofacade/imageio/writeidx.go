package imageio

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// WriteIDX writes ds to dir in the form that [OpenIDX] reads: images and labels
// of the split, compressed, and classes.txt. All images must be *image.Gray of
// one size. dir is made if it is missing; it must not hold uncompressed files of
// the split, which OpenIDX would prefer. The bytes depend on ds alone, not on time
// or place.
//
// Each file is written beside its place, synced and then renamed, and none is
// renamed before all are complete; so a failure leaves the old files, and only a
// crash between the renames can mix old and new, which OpenIDX notices where
// their counts differ. Errors wrap [ErrArgument], fs.ErrExist, what ds said or what
// the file system said.
func WriteIDX(dir, split string, ds Dataset) (err error) {
	if _, err := splitNames(split); err != nil {
		return err
	}
	n := ds.Len()
	if n < 1 || n > math.MaxInt32 {
		return fmt.Errorf("imageio: write idx: data set has %d samples, want at least 1: %w", n, ErrArgument)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("imageio: write idx: %w", err)
	}
	for _, kind := range []string{"images", "labels"} {
		path := filepath.Join(dir, idxName(split, kind))
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("imageio: write idx: %s exists and would be read instead of %s.gz: %w", path, path, fs.ErrExist)
		}
	}
	var st staged
	defer func() {
		if err != nil {
			st.discard()
			err = fmt.Errorf("imageio: write idx %s: %w", dir, err)
		}
	}()

	labels := make([]byte, n)
	err = st.add(filepath.Join(dir, idxName(split, "images")+".gz"), func(w io.Writer) error {
		return zipped(w, func(w io.Writer) error { return writeImages(w, ds, labels) })
	})
	if err != nil {
		return err
	}
	err = st.add(filepath.Join(dir, idxName(split, "labels")+".gz"), func(w io.Writer) error {
		return zipped(w, func(w io.Writer) error {
			if err := writeHeader(w, idxLabels, n); err != nil {
				return err
			}
			_, err := w.Write(labels)
			return err
		})
	})
	if err != nil {
		return err
	}
	text, err := classesText(ds.Classes())
	if err != nil {
		return err
	}
	err = st.add(filepath.Join(dir, "classes.txt"), func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	})
	if err != nil {
		return err
	}
	return st.commit(dir)
}

// writeImages writes header and pixels and fills labels.
func writeImages(w io.Writer, ds Dataset, labels []byte) error {
	var size image.Point
	for i := range labels {
		s, err := ds.At(i)
		if err != nil {
			return err
		}
		m, ok := s.Image.(*image.Gray)
		if !ok {
			return fmt.Errorf("sample %d (%s) is %T, want *image.Gray: %w", i, s.Name, s.Image, ErrArgument)
		}
		if err := checkImage(m); err != nil {
			return err
		}
		if i == 0 {
			size = m.Rect.Size()
			if m.Rect.Empty() {
				return fmt.Errorf("sample %d (%s) is empty: %w", i, s.Name, ErrArgument)
			}
			if err := writeHeader(w, idxImages, len(labels), size.Y, size.X); err != nil {
				return err
			}
		}
		if m.Rect.Size() != size {
			return fmt.Errorf("sample %d (%s) has %v pixels, want %v as the first: %w", i, s.Name, m.Rect.Size(), size, ErrArgument)
		}
		if s.Label < 0 || s.Label > 255 || s.Label >= len(ds.Classes()) {
			return fmt.Errorf("sample %d (%s) has label %d, want 0 to %d: %w", i, s.Name, s.Label, min(255, len(ds.Classes())-1), ErrArgument)
		}
		labels[i] = byte(s.Label)
		for y := range size.Y {
			if _, err := w.Write(m.Pix[y*m.Stride:][:size.X]); err != nil {
				return err
			}
		}
	}
	return nil
}

func writeHeader(w io.Writer, magic uint32, dims ...int) error {
	head := binary.BigEndian.AppendUint32(nil, magic)
	for _, d := range dims {
		head = binary.BigEndian.AppendUint32(head, uint32(d))
	}
	_, err := w.Write(head)
	return err
}

// classesText returns the content of classes.txt.
func classesText(classes []string) (string, error) {
	for i, c := range classes {
		if c == "" || strings.TrimSpace(c) != c || strings.ContainsAny(c, "\n\r\x00") {
			return "", fmt.Errorf("class %d is called %q, want a name of one line: %w", i, c, ErrArgument)
		}
	}
	if len(classes) < 1 || len(classes) > 256 {
		return "", fmt.Errorf("data set has %d classes, want 1 to 256: %w", len(classes), ErrArgument)
	}
	return strings.Join(classes, "\n") + "\n", nil
}

// zipped compresses what fill writes. The header holds neither name nor time.
func zipped(w io.Writer, fill func(io.Writer) error) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := fill(z); err != nil {
		return err
	}
	return z.Close()
}

// staged holds files that are complete beside their places.
type staged []struct{ temp, path string }

func (st *staged) add(path string, fill func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	*st = append(*st, struct{ temp, path string }{f.Name(), path})
	w := bufio.NewWriter(f)
	err = fill(w)
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (st *staged) commit(dir string) error {
	for _, s := range *st {
		if err := os.Rename(s.temp, s.path); err != nil {
			return err
		}
	}
	// Make the names durable, too; not every system can sync a directory.
	if d, err := os.Open(dir); err == nil {
		d.Sync()  //nolint:errcheck // best effort
		d.Close() //nolint:errcheck // opened for reading: nothing can be lost
	}
	return nil
}

func (st *staged) discard() {
	for _, s := range *st {
		os.Remove(s.temp) //nolint:errcheck // best effort; the error that led here is reported
	}
}
