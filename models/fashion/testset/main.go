// Command testset cuts the first 1,000 test images out of Fashion-MNIST: the images that ship with the project.
//
//	go run ./models/fashion/testset /usr/share/datasets/fashion-mnist models/fashion/test
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/dynofa/dynofa/gofacade/imageio"
)

const images = 1000

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testset:", err)
		os.Exit(2)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%d arguments, expected the data set's folder and the folder to write", len(args))
	}
	labels, err := os.ReadFile("models/fashion/labels.txt")
	if err != nil {
		return err
	}
	ds, err := imageio.OpenIDX(args[0], "test")
	if err != nil {
		return err
	}
	if ds, err = imageio.Range(ds, 0, images); err != nil {
		return err
	}
	return imageio.WriteIDX(args[1], "test", named{ds, strings.Split(strings.TrimSpace(string(labels)), "\n")})
}

// named is a data set under other class names.
type named struct {
	imageio.Dataset
	classes []string
}

func (n named) Classes() []string { return n.classes }
