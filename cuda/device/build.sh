#!/usr/bin/env bash
# build.sh [FOLDER]: the programs that run.sh runs, stripped, in FOLDER (build/device). Copied with the tree, they are all
# that a machine with a GPU needs: neither Go nor a C compiler. GOARCH=arm64 CC=aarch64-linux-gnu-gcc builds for a Jetson.
set -euo pipefail
to=${1:-$(dirname "$0")/../../build/device}
mkdir -p "$to"
to=$(cd "$to" && pwd)
cd "$(dirname "$0")/../.."
export CGO_ENABLED=1
git rev-parse HEAD >"$to/revision" 2>/dev/null || echo "no git checkout" >"$to/revision"

flags=(-buildvcs=false -ldflags='-s -w')
go build "${flags[@]}" -o "$to/" ./cmd/dynofa ./bench/fixture
go test -c "${flags[@]}" -o "$to/conformance_test" ./gofacade/dynofa

# The C programs compute on the device, so of the CPU's kernels the reference is enough.
sources=(native/src/*.c cuda/src/*.c kernels/{ref,dispatch}/*.c native/tests/{engine_test,oracle}.c cuda/device/bench.c)
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT
cc=$(go env CC)
for source in "${sources[@]}"; do
    # shellcheck disable=SC2086 # CC may carry flags
    $cc -std=c11 -O3 -DDYNOFA_CUDA -DDYNK_WITHOUT_{AVX2,AVX512,NEON} -fvisibility=hidden -Inative/include -Inative/src \
        -Ikernels/include -Icuda/include -Icuda/src -Icuda/ptx -c -o "$objects/${source//\//_}.o" "$source"
done
# program NAME OBJECT...: of the engine and these.
program() { $cc -s -o "$to/$1" "${@:2}" "$objects"/{native_src,cuda_src,kernels}_*.o -lm -lpthread -ldl; }
program native_engine_test "$objects"/native_tests_*.o
program cuda_bench "$objects"/cuda_device_*.o
du -sm "$to" | sed 's/\t.*/ MiB are in/' | tr '\n' ' '
echo "$to"
