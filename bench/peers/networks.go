package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/bench/networks"
	"github.com/dynofa/dynofa/gofacade/bundle"
	"github.com/dynofa/dynofa/gofacade/onnx"
)

// network is one of bench/networks with its files.
type network struct {
	name    string
	macs    int64
	classes int
	bundle  string
	level   int // in the bundle
	onnx    string
	images  map[string]string // by layout
}

// networks makes the files of the networks named, all if none is.
func (s *shop) networks(names []string) ([]*network, error) {
	if s.made == nil {
		s.made = map[string]*network{}
		if err := s.run(s.root, "go", "run", "./bench/fixture", "eight", filepath.Join(s.cache, "networks")); err != nil {
			return nil, err
		}
	}
	var list []*network
	var known []string
	levels := map[string]int{}
	for _, n := range networks.Eight() {
		family, _, _ := strings.Cut(n.Name, "_")
		level := levels[family]
		levels[family]++
		known = append(known, n.Name)
		if len(names) > 0 && !slices.Contains(names, n.Name) {
			continue
		}
		if s.made[n.Name] == nil {
			one, err := makeNetwork(filepath.Join(s.cache, "networks"), n, family, level)
			if err != nil {
				return nil, err
			}
			s.made[n.Name] = one
		}
		list = append(list, s.made[n.Name])
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("no network %q, expected some of %s", name, strings.Join(known, ", "))
		}
	}
	return list, nil
}

func makeNetwork(dir string, which networks.Network, family string, level int) (*network, error) {
	n := &network{name: which.Name, classes: which.Space.Classes, level: level, images: map[string]string{},
		bundle: filepath.Join(dir, family+".dofa"), onnx: filepath.Join(dir, which.Name+".onnx")}
	n.macs, _ = which.Space.Cost(which.Subnet)
	if err := n.export(which); err != nil {
		return nil, err
	}
	return n, n.image(dir, which.Subnet.Resolution)
}

func (n *network) export(which networks.Network) error {
	b, err := bundle.Open(n.bundle)
	if err != nil {
		return err
	}
	defer b.Close()
	var file bytes.Buffer
	if err := onnx.Write(&file, which.Space, which.Subnet, b.Tensor, b.Levels()[n.level].Norms, nil); err != nil {
		return err
	}
	return keep(n.onnx, file.Bytes())
}

// image writes pixels of a normal distribution, as preprocessing leaves them, in both layouts.
func (n *network) image(dir string, side int) error {
	rng := rand.New(rand.NewPCG(5, uint64(side)))
	nhwc := make([]float32, 3*side*side)
	nchw := make([]float32, len(nhwc))
	for i := range nhwc {
		nhwc[i] = float32(rng.NormFloat64())
		nchw[i%3*side*side+i/3] = nhwc[i]
	}
	for layout, pixels := range map[string][]float32{"nhwc": nhwc, "nchw": nchw} {
		var file bytes.Buffer
		if err := binary.Write(&file, binary.LittleEndian, pixels); err != nil {
			return err
		}
		n.images[layout] = filepath.Join(dir, fmt.Sprintf("%d.%s", side, layout))
		if err := keep(n.images[layout], file.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

// keep writes a file unless it has these bytes already: what is converted from it stays valid.
func keep(path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return os.WriteFile(path, data, 0o644)
}
