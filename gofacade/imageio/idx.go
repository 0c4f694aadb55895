package imageio

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	idxImages = 0x00000803 // unsigned bytes, three dimensions: count, rows, columns
	idxLabels = 0x00000801 // unsigned bytes, one dimension

	maxIDXBytes    = 1 << 30 // pixels held in memory; MNIST's 60,000 are 47 MB
	maxDeflate     = 1032    // no deflate stream expands more
	maxClassesFile = 1 << 16 // bytes
)

// OpenIDX opens an image set in the MNIST format: in dir the files
// train-images-idx3-ubyte and train-labels-idx1-ubyte for split "train",
// t10k-images-... and t10k-labels-... for "test" (also "" and "val"), plain or
// with .gz; the plain file wins. A text file classes.txt, one name a line in
// label order, names the classes; without it they are named "0", "1", ... up to
// the largest label.
//
// The set is read into memory, one byte a pixel and at most 1 GiB; sizes are
// checked against the files and each other before anything is allocated, and a
// .gz file is never inflated past what its header promises. Images are
// *image.Gray, which [Transform] turns into three equal channels. Errors wrap
// [ErrFormat], [ErrLimit], [ErrArgument] (split) or what the file system said.
func OpenIDX(dir, split string) (Dataset, error) {
	if _, err := splitNames(split); err != nil {
		return nil, err
	}
	images, err := openIDXFile(dir, idxName(split, "images"), idxImages)
	if err != nil {
		return nil, err
	}
	defer images.Close() //nolint:errcheck // opened for reading: nothing can be lost
	labels, err := openIDXFile(dir, idxName(split, "labels"), idxLabels)
	if err != nil {
		return nil, err
	}
	defer labels.Close() //nolint:errcheck // opened for reading: nothing can be lost

	if images.dims[0] != labels.dims[0] {
		return nil, fmt.Errorf("imageio: open idx: %s has %d images, but %s has %d labels: %w",
			images.path, images.dims[0], labels.path, labels.dims[0], ErrFormat)
	}
	if images.size == 0 {
		return nil, fmt.Errorf("imageio: open idx: %s has %d images of %d x %d pixels, want at least one of each: %w",
			images.path, images.dims[0], images.dims[2], images.dims[1], ErrFormat)
	}
	d := &idxSet{n: int(images.dims[0]), h: int(images.dims[1]), w: int(images.dims[2]), path: images.path}
	if d.labels, err = labels.body(); err != nil {
		return nil, err
	}
	if d.pix, err = images.body(); err != nil {
		return nil, err
	}
	largest, at := 0, 0
	for i, l := range d.labels {
		if int(l) > largest {
			largest, at = int(l), i
		}
	}
	if d.classes, err = readClasses(filepath.Join(dir, "classes.txt")); err != nil {
		return nil, err
	}
	if d.classes == nil {
		for i := range largest + 1 {
			d.classes = append(d.classes, strconv.Itoa(i))
		}
	}
	if largest >= len(d.classes) {
		return nil, fmt.Errorf("imageio: open idx: %s: label %d is %d, but classes.txt has %d classes: %w",
			labels.path, at, largest, len(d.classes), ErrFormat)
	}
	return d, nil
}

type idxSet struct {
	n, h, w int
	path    string
	pix     []uint8
	labels  []uint8
	classes []string
}

func (d *idxSet) Len() int          { return d.n }
func (d *idxSet) Classes() []string { return d.classes }

func (d *idxSet) At(i int) (Sample, error) {
	if i < 0 || i >= d.n {
		return Sample{}, indexError(i, d.n)
	}
	size := d.h * d.w
	return Sample{
		Image: &image.Gray{Pix: d.pix[i*size : (i+1)*size : (i+1)*size], Stride: d.w, Rect: image.Rect(0, 0, d.w, d.h)},
		Label: int(d.labels[i]),
		Name:  d.path + "#" + strconv.Itoa(i),
	}, nil
}

func (d *idxSet) identify(w io.Writer) error {
	fmt.Fprintf(w, "%d %d %d\n", d.n, d.h, d.w)
	_, err := w.Write(d.labels)
	if err == nil {
		_, err = w.Write(d.pix)
	}
	return err
}

// idxName returns the plain name of the images or labels file of a split.
func idxName(split, kind string) string {
	prefix, rank := "t10k", "3"
	if split == "train" {
		prefix = "train"
	}
	if kind == "labels" {
		rank = "1"
	}
	return prefix + "-" + kind + "-idx" + rank + "-ubyte"
}

func hasIDX(dir, split string) bool {
	name := filepath.Join(dir, idxName(split, "images"))
	for _, path := range []string{name, name + ".gz"} {
		if _, err := os.Stat(path); err == nil {
			return true
		}
	}
	return false
}

// idxFile is an open IDX file whose header has been read and checked.
type idxFile struct {
	io.Closer
	path string
	r    io.Reader // at the first byte after the header
	dims []int64
	size int64 // product of dims
}

func openIDXFile(dir, name string, magic uint32) (*idxFile, error) {
	path := filepath.Join(dir, name)
	zipped := false
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		path, zipped = path+".gz", true
		if info, err = os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("imageio: open idx: no %s and no %s.gz in %s: %w", name, name, dir, err)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("imageio: open idx: %w", err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would block
		return nil, fmt.Errorf("imageio: open idx: %s is %s, want a regular file: %w", path, fileKind(info.Mode()), ErrFormat)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("imageio: open idx: %w", err)
	}
	x, err := readIDXHeader(path, f, info.Size(), zipped, magic)
	if err != nil {
		f.Close() //nolint:errcheck // opened for reading, and there is an error to report
		return nil, err
	}
	x.Closer = f
	return x, nil
}

// readIDXHeader reads the header of the file r of fileSize bytes and checks that
// the file can hold what the header promises.
func readIDXHeader(path string, r io.Reader, fileSize int64, zipped bool, magic uint32) (*idxFile, error) {
	x := &idxFile{path: path, r: bufio.NewReader(r)}
	if zipped {
		z, err := gzip.NewReader(x.r)
		if err != nil {
			return nil, fmt.Errorf("imageio: open idx: %s: not gzip data: %w: %w", path, ErrFormat, err)
		}
		x.r = z
	}
	rank := int(magic & 0xff)
	head := make([]byte, 4+4*rank)
	if n, err := io.ReadFull(x.r, head); err != nil {
		return nil, fmt.Errorf("imageio: open idx: %s: header ends after %d bytes, want %d: %w: %w", path, n, len(head), ErrFormat, err)
	}
	if got := binary.BigEndian.Uint32(head); got != magic {
		return nil, fmt.Errorf("imageio: open idx: %s: magic number is 0x%08x, want 0x%08x (unsigned bytes, %d dimensions): %w",
			path, got, magic, rank, ErrFormat)
	}
	x.size = 1
	for i := range rank {
		d := int64(binary.BigEndian.Uint32(head[4+4*i:]))
		x.dims = append(x.dims, d)
		if d > 0 && x.size > maxIDXBytes/d {
			return nil, fmt.Errorf("imageio: open idx: %s: dimensions %v give more than %d bytes: %w", path, x.dims, maxIDXBytes, ErrLimit)
		}
		x.size *= d
	}
	want := int64(len(head)) + x.size
	if !zipped && fileSize != want {
		return nil, fmt.Errorf("imageio: open idx: %s: file has %d bytes, but dimensions %v need %d: %w", path, fileSize, x.dims, want, ErrFormat)
	}
	if zipped && want > maxDeflate*fileSize {
		return nil, fmt.Errorf("imageio: open idx: %s: %d compressed bytes cannot hold the %d that dimensions %v need: %w",
			path, fileSize, want, x.dims, ErrFormat)
	}
	return x, nil
}

// body reads what follows the header, which must be exactly what it promised.
// Reading to the end also checks the sum of a gzip file.
func (x *idxFile) body() ([]byte, error) {
	data := make([]byte, x.size)
	if n, err := io.ReadFull(x.r, data); err != nil {
		return nil, fmt.Errorf("imageio: open idx: %s: data ends after %d bytes, want %d for dimensions %v: %w: %w",
			x.path, n, x.size, x.dims, ErrFormat, err)
	}
	var extra [1]byte
	switch _, err := io.ReadFull(x.r, extra[:]); {
	case err == nil:
		return nil, fmt.Errorf("imageio: open idx: %s: data goes on after the %d bytes of dimensions %v: %w", x.path, x.size, x.dims, ErrFormat)
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("imageio: open idx: %s: %w: %w", x.path, ErrFormat, err)
	}
	return data, nil
}

// readClasses reads one class name a line; nil if there is no such file.
func readClasses(path string) ([]string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("imageio: open idx: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("imageio: open idx: %s is %s, want a regular file: %w", path, fileKind(info.Mode()), ErrFormat)
	}
	if info.Size() > maxClassesFile {
		return nil, fmt.Errorf("imageio: open idx: %s has %d bytes, want at most %d: %w", path, info.Size(), maxClassesFile, ErrLimit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("imageio: open idx: %w", err)
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, fmt.Errorf("imageio: open idx: %s is not UTF-8 text: %w", path, ErrFormat)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name := strings.TrimSpace(line)
		if name == "" {
			return nil, fmt.Errorf("imageio: open idx: %s: line %d is empty, want a class name: %w", path, len(names)+1, ErrFormat)
		}
		names = append(names, name)
	}
	if len(names) == 0 || len(names) > 256 {
		return nil, fmt.Errorf("imageio: open idx: %s has %d classes, want 1 to 256: %w", path, len(names), ErrFormat)
	}
	return names, nil
}
