# dynofa: build, test, lint. `make` alone lists the targets.

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help
comma := ,
.PHONY: help build demo bench bench-gate bench-loadgen bench-peers roofline library test deps deps-train install ptx fuzz-c lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

# go build knows best what is out of date. Where git cannot tell the revision, the command goes without it.
buildvcs = $(if $(shell git rev-parse -q --verify HEAD 2>/dev/null),,-buildvcs=false)
# Where NVIDIA's driver is, the command reads it: governor/sensor/README.md says why not everywhere.
NVML ?= $(shell ldconfig -p 2>/dev/null | grep -o -m 1 'libnvidia-ml\.so\.1')

build: ## build bin/dynofa
	@mkdir -p bin
	$(if $(NVML),CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations" )go build $(if $(NVML),-tags nvml -ldflags=-extldflags=-Wl$(comma)-z$(comma)lazy )$(buildvcs) -o bin/dynofa ./cmd/dynofa

demo: build ## classify real images at every level, then govern live under contention
	bin/dynofa demo

bench: build ## measure every level of the shipped model for a second each; more: bin/dynofa bench --help
	bin/dynofa bench run models/fashion/fashion.dofa --duration 1s

BASE ?=

bench-gate: ## is this tree slower, or its governor worse, than revision BASE? exit 0 no, 1 yes, 3 inconclusive (make says 2 for all)
	@bench/regress/gate.sh "$(BASE)"

bench-loadgen: ## build MLPerf's LoadGen (downloads its source) with a driver for it into build/loadgen
	@bench/loadgen/build.sh

roofline: build ## how much of this CPU's peak and bandwidth every kernel reaches: out/roofline.svg
	@bench/roofline.sh

bench-peers: ## measure beside other engines (installs them into bench/peers/.venv); writes docs/performance.md
	cd bench/peers && go run . -install -markdown ../../docs/performance.md -plot ../../docs/img/peers.svg -json .cache/peers.json

# Where Debian's dataset-fashion-mnist puts it (make deps).
FASHION_MNIST ?= /usr/share/datasets/fashion-mnist

# Gap and images are build's own: 0.3 points are about the standard error of the difference on 5,000 images.
MODEL ?= models/fashion/fashion.dofa
LIBRARY ?= out/fashion.dofa

library: build ## build a library for the shipped supernet on this machine: out/fashion.dofa and out/fashion.dofa.work/report.md
	@mkdir -p $(dir $(LIBRARY))
	bin/dynofa build $(MODEL) --data $(FASHION_MNIST) --test-split test --networks 300 --min-accuracy 0.915 --device "$$(uname -m), $$(nproc) cores" -o $(LIBRARY)

test: ## everything that CI runs, quick checks first; says what it skips
	@.ci/test

deps: ## install what the optional tests use: cmake, qemu, a cross compiler, Fashion-MNIST, .venv with ONNX Runtime
	@.ci/deps

deps-train: ## install PyTorch into .venv for training and its tests
	@.ci/deps train

PREFIX ?= /usr/local

install: ## install libdynofa, its header, pkg-config and CMake package; PREFIX, DESTDIR
	@command -v cmake >/dev/null || { echo "make install: no cmake, which builds and installs libdynofa" >&2; exit 2; }
	cmake -S . -B build/install -DBUILD_TESTING=OFF -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	cmake --build build/install --parallel 4
	DESTDIR=$(DESTDIR) cmake --install build/install

ptx: ## compile the CUDA kernels to cuda/ptx/*.ptx, which are committed; needs clang-19, no toolkit
	@cuda/ptx/generate.sh cuda/ptx || { [ $$? = 77 ] && echo "make ptx: no clang-19, whose text is committed" >&2; exit 2; }

fuzz-c: ## ten minutes of libFuzzer on the C reader of bundles
	@native/tests/fuzz.sh 600

lint: ## golangci-lint, go mod tidy, and ruff where .venv has it
	go run $(GOLANGCI_LINT) run ./...
	go mod tidy -diff
	@if [ -x .venv/bin/ruff ]; then .venv/bin/ruff check --config .ci/ruff.toml .; \
	else echo "SKIPPED: ruff is not in .venv; make deps installs it"; fi

clean: ## remove what was built
	rm -rf bin build out
