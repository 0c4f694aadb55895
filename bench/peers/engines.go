package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/dynofa/dynofa/bench/regress"
)

// engine is one of those that are compared: an adapter in workers/ and a line in engines.
type engine struct {
	name   string
	title  string
	layout string // of the image: nhwc or nchw
	file   string // what the adapter loads: an extension, made by convert unless it is onnx or dofa
	// build makes the program ready and returns its command line up to the model. Its error says why this engine
	// cannot be had here.
	build func(s *shop) ([]string, error)
	// convert makes one model file of an ONNX file; nil if the engine reads ONNX or bundles.
	convert func(s *shop, onnx, out string) error
}

// ours comes first; all others are compared with it.
var engines = []engine{
	{name: "dynofa", title: "dynofa", layout: "nhwc", file: "dofa", build: buildDynofa},
	{name: "onnxruntime", title: "ONNX Runtime", layout: "nchw", file: "onnx", build: buildONNXRuntime},
	{name: "onednn", title: "oneDNN", layout: "nchw", file: "onednn", build: buildOneDNN, convert: convertByPython},
	{name: "openvino", title: "OpenVINO", layout: "nchw", file: "onnx", build: buildOpenVINO},
	python("litert", "LiteRT", "nhwc", "ai_edge_litert.interpreter", "onnx"),
	python("ncnn", "ncnn", "nchw", "ncnn", "onnx"),
	python("mnn", "MNN", "nchw", "MNN"),
}

// python is an engine by the adapter workers/peer_NAME.py, which needs the modules.
func python(name, title, layout string, modules ...string) engine {
	return engine{
		name: name, title: title, layout: layout, file: name,
		build: func(s *shop) ([]string, error) {
			return []string{s.python(), filepath.Join(s.folder, "workers", "worker.py"), name},
				s.run(s.folder, s.python(), "-c", "import "+strings.Join(modules, ", "))
		},
		convert: convertByPython,
	}
}

// convertByPython has workers/peer_NAME.py convert, NAME being the extension of out.
func convertByPython(s *shop, onnx, out string) error {
	return s.run(s.folder, s.python(), filepath.Join("workers", "worker.py"), strings.TrimPrefix(filepath.Ext(out), "."), "convert", onnx, out)
}

// ortHeader is the module that carries ONNX Runtime's C header, which the Python package leaves out. The library
// serves headers up to its own age.
const ortHeader = "github.com/yalue/onnxruntime_go@v1.27.0"

func buildDynofa(s *shop) ([]string, error) {
	lib, err := s.native()
	if err != nil {
		return nil, err
	}
	return s.compile("dynofa.c", "-I"+filepath.Join(s.root, "native", "include"), lib, "-lm", "-pthread")
}

func buildONNXRuntime(s *shop) ([]string, error) {
	lib, err := s.pythonFile("onnxruntime/capi/libonnxruntime.so.*")
	if err != nil {
		return nil, err
	}
	out, err := s.output(s.folder, "go", "mod", "download", "-json", ortHeader)
	if err != nil {
		return nil, err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return nil, fmt.Errorf("go mod download %s: %w", ortHeader, err)
	}
	// The package has the library under its full version only, not under the name that programs ask for.
	link := filepath.Join(s.cache, "bin", "libonnxruntime.so.1")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.Symlink(lib, link); err != nil {
		return nil, err
	}
	return s.compile("onnxruntime.c", "-I"+module.Dir, link, "-Wl,-rpath,"+filepath.Dir(link))
}

// buildOneDNN needs the headers too, which that package alone puts beside the library.
func buildOneDNN(s *shop) ([]string, error) {
	env := s.environments[0]
	lib := filepath.Join(env, "lib", "libdnnl.so.3")
	if _, err := os.Stat(filepath.Join(env, "include", "dnnl.hpp")); err != nil {
		return nil, errors.New("onednn-devel-cpu-gomp is not in .venv; -install installs it")
	}
	return s.compile("onednn.cc", "-I"+filepath.Join(env, "include"), lib, "-fopenmp", "-Wl,-rpath,"+filepath.Dir(lib))
}

func buildOpenVINO(s *shop) ([]string, error) {
	lib, err := s.pythonFile("openvino/libs/libopenvino_c.so.*")
	if err != nil {
		return nil, err
	}
	return s.compile("openvino.c", lib, "-Wl,-rpath,"+filepath.Dir(lib))
}

// shop makes everything that a measurement needs: programs, models, images.
type shop struct {
	root         string // of the repository
	folder       string // this one
	cache        string
	environments []string // environments in which engines may be, the first that has one serves
	made         map[string]*network
}

func newShop() (*shop, error) {
	folder, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	root := filepath.Join(folder, "..", "..")
	if _, err := os.Stat(filepath.Join(root, "native", "include", "dynofa.h")); err != nil {
		return nil, errors.New("run this in bench/peers of the repository")
	}
	s := &shop{root: root, folder: folder, cache: filepath.Join(folder, ".cache")}
	s.environments = []string{filepath.Join(folder, ".venv"), filepath.Join(root, ".venv")}
	return s, os.MkdirAll(filepath.Join(s.cache, "bin"), 0o755)
}

// output runs a command and returns what it prints; its error ends with the last thing it said.
func (s *shop) output(dir, name string, arguments ...string) ([]byte, error) {
	said := &regress.Tail{}
	cmd := exec.Command(name, arguments...)
	cmd.Dir, cmd.Stderr = dir, said
	out, err := cmd.Output()
	if errors.As(err, new(*exec.ExitError)) {
		return nil, fmt.Errorf("%s: %w: %s", filepath.Base(name), err, said.Last("without a word"))
	}
	return out, err
}

// run is output for commands whose output is of no interest.
func (s *shop) run(dir, name string, arguments ...string) error {
	_, err := s.output(dir, name, arguments...)
	return err
}

// python is the interpreter of the engines' own environment.
func (s *shop) python() string { return filepath.Join(s.environments[0], "bin", "python") }

// native builds libdynofa.a as it is released, where make install does.
func (s *shop) native() (string, error) {
	dir := filepath.Join(s.root, "build", "install")
	if err := s.run(s.root, "cmake", "-S", ".", "-B", dir, "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"); err != nil {
		return "", err
	}
	if err := s.run(s.root, "cmake", "--build", dir, "--target", "dynofa_static", "-j", fmt.Sprint(runtime.NumCPU())); err != nil {
		return "", err
	}
	return filepath.Join(dir, "native", "libdynofa.a"), nil
}

// compile builds an adapter of workers/, in C or C++.
func (s *shop) compile(source string, flags ...string) ([]string, error) {
	compiler, language := "cc", "c"
	if filepath.Ext(source) == ".cc" {
		compiler, language = "c++", "c++"
	}
	program := filepath.Join(s.cache, "bin", strings.TrimSuffix(source, filepath.Ext(source)))
	arguments := append([]string{"-O2", "-Wall", "-Wextra", "-o", program, "-x", "c", "workers/worker.c",
		"-x", language, "workers/" + source, "-x", "none"}, flags...)
	return []string{program}, s.run(s.folder, compiler, arguments...)
}

// buildPeak builds the program that measures the FMA peak.
func (s *shop) buildPeak() ([]string, error) {
	tests := filepath.Join(s.root, "kernels", "tests")
	program := filepath.Join(s.cache, "bin", "peak")
	err := s.run(s.folder, "cc", "-O2", "-std=c11", "-Wall", "-Wextra", "-o", program, "-I"+tests,
		"-I"+filepath.Join(s.root, "kernels", "include"), "workers/peak.c", filepath.Join(tests, "peak.c"), "-pthread")
	return []string{program}, err
}

// pythonFile finds a file of an installed Python package.
func (s *shop) pythonFile(pattern string) (string, error) {
	for _, env := range s.environments {
		found, err := filepath.Glob(filepath.Join(env, "lib", "python*", "site-packages", filepath.FromSlash(pattern)))
		if err != nil {
			return "", err
		}
		if len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s is not in .venv; -install installs it", strings.SplitN(pattern, "/", 2)[0])
}

// model is the file that an engine loads for a network.
func (s *shop) model(e *engine, n *network) (string, error) {
	switch e.file {
	case "dofa":
		return n.bundle, nil
	case "onnx":
		return n.onnx, nil
	}
	out := strings.TrimSuffix(n.onnx, "onnx") + e.file
	if newer(out, n.onnx) && newer(out, filepath.Join(s.folder, "workers", "peer_"+e.name+".py")) {
		return out, nil
	}
	return out, e.convert(s, n.onnx, out)
}

func newer(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err != nil || !x.ModTime().Before(y.ModTime())
}

// reason is an error without the paths of this machine.
func (s *shop) reason(err error) string { return strings.ReplaceAll(err.Error(), s.root, ".") }

// choose returns the engines named, ours always among them, in the order of engines.
func choose(names []string) ([]*engine, error) {
	var chosen []*engine
	for i := range engines {
		e := &engines[i]
		if i == 0 || len(names) == 0 || slices.Contains(names, e.name) {
			chosen = append(chosen, e)
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(engines, func(e engine) bool { return e.name == name }) {
			var known []string
			for _, e := range engines {
				known = append(known, e.name)
			}
			return nil, fmt.Errorf("no engine %q, expected some of %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
