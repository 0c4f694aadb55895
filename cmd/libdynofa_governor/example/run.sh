#!/usr/bin/env bash
# run.sh [FOLDER]: builds the governor as a C archive and as a shared library, checks their calls (tests/check.c) and
# names, and runs the example of the governor with libdynofa on the shipped model. All in FOLDER, by default build/embed, but
# the engine, which is built where make install does.
set -euo pipefail
cd "$(dirname "$0")/../../.."
out=${1:-build/embed}
mkdir -p "$out"
cc=$(go env CC)
here=cmd/libdynofa_governor
CGO_ENABLED=1 go build -buildmode=c-archive -o "$out/libdynofa_governor.a" ./$here
CGO_ENABLED=1 go build -buildmode=c-shared -ldflags="-extldflags=-Wl,--version-script=$PWD/$here/exports.map" \
    -o "$out/libdynofa_governor.so" ./$here
declared=$(grep -o '^[a-z].* dynofa_governor_[a-z_]*(' $here/dynofa_governor.h | grep -o 'dynofa_governor_[a-z_]*' | sort)
exported=$(nm -D --defined-only "$out/libdynofa_governor.so" | awk '{ print $3 }' | sort)
[ "$declared" = "$exported" ] || {
    echo "libdynofa_governor.so exports $exported, expected $declared" >&2
    exit 1
}
# shellcheck disable=SC2086 # CC may carry flags
{
    echo '#include "dynofa_governor.h"' | $cc -std=c99 -Wall -Wextra -pedantic -Werror -I$here -fsyntax-only -x c -
    $cc -std=c11 -Wall -Wextra -pedantic -Werror -I$here $here/tests/check.c "$out/libdynofa_governor.a" -lm -lpthread -o "$out/check"
}
if cxx=$(go env CXX) && command -v ${cxx%% *} >/dev/null; then
    echo '#include "dynofa_governor.h"' | $cxx -std=c++17 -Wall -Wextra -pedantic -Werror -I$here -fsyntax-only -x c++ -
fi
"$out/check"
cmake -S . -B build/install -DBUILD_TESTING=OFF >"$out/log" && cmake --build build/install -j 2 --target dynofa_static >>"$out/log" 2>&1 || {
    cat "$out/log"
    exit 1
}
# shellcheck disable=SC2086 # CC may carry flags
$cc -std=c11 -O2 -Wall -Wextra -Werror -Inative/include -I$here $here/example/govern.c \
    "$out/libdynofa_governor.a" build/install/native/libdynofa.a -lm -lpthread -o "$out/govern"
echo 'int main(void) { return 0; }' | $cc -x c - -o "$out/empty"
echo "program with the governor: $(($(stat -c %s "$out/govern") >> 10)) KiB, an empty one: $(($(stat -c %s "$out/empty") >> 10)) KiB"
"$out/govern" models/fashion/fashion.dofa 1.5
