package imageio

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Sample is one labelled image.
type Sample struct {
	// Image may share memory with the data set and must not be modified.
	Image image.Image
	// Label is an index into Classes.
	Label int
	// Name says where the image comes from, for messages.
	Name string
}

// Dataset is a labelled image set in a fixed order. Its methods are safe for use
// by several goroutines.
type Dataset interface {
	// Len returns the number of samples.
	Len() int
	// At returns sample i, 0 <= i < Len(); other values are an error that wraps
	// ErrArgument. A file is read and decoded at each call.
	At(i int) (Sample, error)
	// Classes returns the class names in label order. The caller must not
	// modify them.
	Classes() []string
}

// Open opens the data set in dir, deciding by what is there. In this order:
//
//   - IDX files of the split in dir, see [OpenIDX];
//   - a folder of the split's name in dir ("val", "valid" and "test" stand for
//     each other, the exact name first), holding IDX files or class folders;
//   - class folders in dir itself, unless dir has a folder of another split.
//
// split is "train", "test" or "val"; "" means "test". Errors wrap [ErrFormat]
// and say what was looked for, [ErrArgument] for another split, or what the file
// system said.
func Open(dir, split string) (Dataset, error) {
	names, err := splitNames(split)
	if err != nil {
		return nil, err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("imageio: open data set: %w", err)
	}
	if hasIDX(dir, split) {
		return OpenIDX(dir, split)
	}
	for _, name := range names {
		sub := filepath.Join(dir, name)
		if !isDir(sub) {
			continue
		}
		if hasIDX(sub, split) {
			return OpenIDX(sub, split)
		}
		return OpenImageFolder(sub)
	}
	other, hint := false, ""
	for _, name := range []string{"train", "test", "val", "valid"} {
		folder := isDir(filepath.Join(dir, name))
		other = other || folder
		if folder || (name == "train" || name == "test") && hasIDX(dir, name) {
			hint += ", but a split " + name
		}
	}
	if classes, err := classFolders(dir); err == nil && len(classes) > 0 && !other {
		return OpenImageFolder(dir)
	}
	return nil, fmt.Errorf("imageio: open data set %s: no %s(.gz), no folder %s and no class folders%s: %w",
		dir, idxName(split, "images"), strings.Join(names, " or "), hint, ErrFormat)
}

// Identity is a hash that tells data sets of [Open] apart, wherever they lie: over every pixel and label of an
// IDX set; over class names, and every file's path below the folder, label and size of an image folder, whose
// files are not read. Files read in the same order are what it stands for; a file changed without a change of its
// size goes unnoticed. Errors wrap [ErrArgument] for other data sets, or what the file system said.
func Identity(ds Dataset) (string, error) {
	d, ok := ds.(interface{ identify(w io.Writer) error })
	if !ok {
		return "", fmt.Errorf("imageio: identity of a %T, want a data set of Open: %w", ds, ErrArgument)
	}
	h := sha256.New()
	fmt.Fprintf(h, "%q\n", ds.Classes())
	if err := d.identify(h); err != nil {
		return "", fmt.Errorf("imageio: identity: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// splitNames returns the folder names that a split may have.
func splitNames(split string) ([]string, error) {
	switch split {
	case "train":
		return []string{"train"}, nil
	case "test", "":
		return []string{"test", "val", "valid"}, nil
	case "val":
		return []string{"val", "valid", "test"}, nil
	}
	return nil, fmt.Errorf("imageio: open data set: split is %q, want train, test or val: %w", split, ErrArgument)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// Range returns samples from..to-1 of ds. The error wraps [ErrArgument].
func Range(ds Dataset, from, to int) (Dataset, error) {
	if from < 0 || to < from || to > ds.Len() {
		return nil, fmt.Errorf("imageio: range %d..%d of a data set with %d samples: %w", from, to, ds.Len(), ErrArgument)
	}
	return &span{ds, from, to - from}, nil
}

type span struct {
	Dataset
	from, n int
}

func (s *span) Len() int { return s.n }

func (s *span) At(i int) (Sample, error) {
	if i < 0 || i >= s.n {
		return Sample{}, indexError(i, s.n)
	}
	return s.Dataset.At(s.from + i)
}

// Mixed returns ds in an order that has all classes in front: an image folder, which has one class after another, in a
// fixed random order, always the same for the same number of images; anything else as it is.
func Mixed(ds Dataset) Dataset {
	if _, ok := ds.(*imageFolder); !ok {
		return ds
	}
	return &subset{ds, rand.New(rand.NewPCG(1, uint64(ds.Len()))).Perm(ds.Len())}
}

// Subset returns the samples of ds that indices names, in that order; an index
// may occur more than once. It keeps indices, which the caller must not modify
// afterwards. The error wraps [ErrArgument].
func Subset(ds Dataset, indices []int) (Dataset, error) {
	for _, i := range indices {
		if i < 0 || i >= ds.Len() {
			return nil, indexError(i, ds.Len())
		}
	}
	return &subset{ds, indices}, nil
}

type subset struct {
	Dataset
	indices []int
}

func (s *subset) Len() int { return len(s.indices) }

func (s *subset) At(i int) (Sample, error) {
	if i < 0 || i >= len(s.indices) {
		return Sample{}, indexError(i, len(s.indices))
	}
	return s.Dataset.At(s.indices[i])
}

func indexError(i, n int) error {
	return fmt.Errorf("imageio: sample %d of a data set with %d: %w", i, n, ErrArgument)
}
