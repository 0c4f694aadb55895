#!/usr/bin/env bash
# run.sh [FOLDER]: builds the governor as a C archive and the example in FOLDER (default build/embed), the engine as make
# install does, and runs the example on the shipped model. Prints the sizes and the threads that the library
# costs.
set -euo pipefail
cd "$(dirname "$0")/../../.."
out=${1:-build/embed}
mkdir -p "$out"
cc=$(go env CC)
CGO_ENABLED=1 go build -buildmode=c-archive -o "$out/libdynofa_governor.a" ./cmd/libdynofa_governor
cmake -S . -B build/install -DBUILD_TESTING=OFF >"$out/log" && cmake --build build/install -j 2 --target dynofa_static >>"$out/log" 2>&1 || {
    cat "$out/log"
    exit 1
}
# shellcheck disable=SC2086 # CC may carry flags
$cc -std=c11 -O2 -Wall -Wextra -Werror -Inative/include -Icmd/libdynofa_governor cmd/libdynofa_governor/example/govern.c \
    "$out/libdynofa_governor.a" build/install/native/libdynofa.a -lm -lpthread -o "$out/govern"
echo 'int main(void) { return 0; }' | $cc -x c - -o "$out/empty"
echo "program with the governor: $(($(stat -c %s "$out/govern") >> 10)) KiB, an empty one: $(($(stat -c %s "$out/empty") >> 10)) KiB"
"$out/govern" models/fashion/fashion.dofa 1.5
