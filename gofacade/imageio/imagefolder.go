package imageio

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// extensions are those of torchvision's ImageFolder. A file that has one of them
// but is neither PNG nor JPEG keeps its place in the order and fails in At.
var extensions = []string{".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}

// OpenImageFolder opens a directory with one folder a class, in the order of
// torchvision's ImageFolder: labels are the indices of the sorted folder names;
// within a class come the folder's files by name, then those of its sub-folders,
// folders in the order of their whole path. Files count whose extension is
// .jpg .jpeg .png .ppm .bmp .pgm .tif .tiff or .webp in any case. Symbolic links
// are followed. Files are decoded by At, with the default limits of [Config].
//
// Errors wrap [ErrFormat] (no classes, a class without images, links in a circle)
// or what the file system said.
func OpenImageFolder(dir string) (Dataset, error) {
	classes, err := classFolders(dir)
	if err != nil {
		return nil, fmt.Errorf("imageio: open image folder: %w", err)
	}
	if len(classes) == 0 {
		return nil, fmt.Errorf("imageio: open image folder %s: found no folder, want one a class: %w", dir, ErrFormat)
	}
	f := &imageFolder{dir: dir, classes: classes}
	for label, class := range classes {
		root := filepath.Join(dir, class)
		folders, err := subFolders(root, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("imageio: open image folder: %w", err)
		}
		// By path as a string, as Python sorts os.walk: "a", "a-b", "a/b".
		slices.SortFunc(folders, func(a, b folder) int { return strings.Compare(a.path, b.path) })
		before := len(f.files)
		for _, sub := range folders {
			for _, name := range sub.files { // ReadDir sorts
				f.files = append(f.files, labelled{filepath.Join(sub.path, name), label})
			}
		}
		if len(f.files) == before {
			return nil, fmt.Errorf("imageio: open image folder: class %s has no file ending in %s: %w", root, strings.Join(extensions, " "), ErrFormat)
		}
	}
	return f, nil
}

type imageFolder struct {
	dir     string
	classes []string
	files   []labelled
}

type labelled struct {
	path  string
	label int
}

func (f *imageFolder) Len() int          { return len(f.files) }
func (f *imageFolder) Classes() []string { return f.classes }

func (f *imageFolder) At(i int) (Sample, error) {
	if i < 0 || i >= len(f.files) {
		return Sample{}, indexError(i, len(f.files))
	}
	file := f.files[i]
	img, err := DecodeFile(file.path, nil)
	if err != nil {
		return Sample{}, err
	}
	return Sample{Image: img, Label: file.label, Name: file.path}, nil
}

func (f *imageFolder) identify(w io.Writer) error {
	for _, file := range f.files {
		name, err := filepath.Rel(f.dir, file.path)
		if err != nil {
			return err
		}
		info, err := os.Stat(file.path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%q %d %d\n", filepath.ToSlash(name), file.label, info.Size())
	}
	return nil
}

// classFolders returns the sorted names of the directories in dir.
func classFolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() || e.Type()&os.ModeSymlink != 0 && isDir(filepath.Join(dir, e.Name())) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

type folder struct {
	path  string
	files []string // names of image files, sorted
}

// subFolders appends path and the directories below it to all. above holds the
// directories on the way here, to notice links that lead back.
func subFolders(path string, above []os.FileInfo, all []folder) ([]folder, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	for _, a := range above {
		if os.SameFile(a, info) {
			return nil, fmt.Errorf("%s: symbolic link to a directory above it: %w", path, ErrFormat)
		}
	}
	above = append(above, info)
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	here := folder{path: path}
	for _, e := range entries {
		sub := filepath.Join(path, e.Name())
		if e.IsDir() || e.Type()&os.ModeSymlink != 0 && isDir(sub) {
			if all, err = subFolders(sub, above, all); err != nil {
				return nil, err
			}
			continue
		}
		if slices.Contains(extensions, strings.ToLower(filepath.Ext(e.Name()))) {
			here.files = append(here.files, e.Name())
		}
	}
	return append(all, here), nil
}
