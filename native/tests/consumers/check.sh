#!/usr/bin/env bash
# check.sh: installs libdynofa into an empty folder and builds products against it in every documented way, then
# builds a product in Go against this module as the module proxy would serve it, and vendored. Prints the sizes of
# the library. What a missing tool keeps from running is printed with SKIPPED in front.
set -euo pipefail
cd "$(dirname "$0")/../../.." || exit
here=native/tests/consumers
bundle=$PWD/models/fashion/fashion.dofa
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT

# step NAME COMMAND...: quiet unless it fails.
step() {
    local name=$1
    shift
    if ! "$@" >"$tmp/log" 2>&1; then
        cat "$tmp/log"
        echo "ship: $name failed: $*" >&2
        exit 1
    fi
    echo "$name: $(tail -n 1 "$tmp/log" | sed "s|$tmp|...|g")"
}

# ---- C and C++ -----------------------------------------------------------------------------------

c_consumers() {
    local prefix=$tmp/stage/opt/dynofa lib pc
    step "make install" make -s install PREFIX=/opt/dynofa DESTDIR="$tmp/stage"
    pc=$(dirname "$(find "$prefix" -name dynofa.pc)")
    lib=$(dirname "$pc")
    export LD_LIBRARY_PATH=$lib
    step "symbols" native/tests/symbols.sh nm "$lib/libdynofa.so" "$lib/libdynofa.a" "$prefix/include/dynofa.h"

    cc -O2 -Wall -Werror -I "$prefix/include" $here/use.c "$lib/libdynofa.a" -lm -lpthread -o "$tmp/plain"
    step "cc use.c libdynofa.a" "$tmp/plain" "$bundle"

    cmake -S $here -B "$tmp/cmake" -DCMAKE_PREFIX_PATH="$prefix" >"$tmp/log" && cmake --build "$tmp/cmake" >"$tmp/log" ||
        { cat "$tmp/log"; exit 1; }
    for program in use_shared use_static use_shared_cc use_static_cc; do
        step "find_package, $program" "$tmp/cmake/$program" "$bundle"
    done

    if ! command -v pkg-config >/dev/null; then
        echo "SKIPPED: no pkg-config: dynofa.pc is not tried"
        return
    fi
    export PKG_CONFIG_PATH=$pc
    # shellcheck disable=SC2046 # flags are words
    cc $(pkg-config --cflags dynofa) $here/use.c $(pkg-config --libs dynofa) -o "$tmp/pkg_shared"
    step "pkg-config" "$tmp/pkg_shared" "$bundle"
    # shellcheck disable=SC2046
    cc -static $(pkg-config --cflags dynofa) $here/use.c $(pkg-config --static --libs dynofa) -o "$tmp/pkg_static"
    step "pkg-config --static" env -u LD_LIBRARY_PATH "$tmp/pkg_static" "$bundle"
    step "README.md" env -u LD_LIBRARY_PATH -u PKG_CONFIG_PATH HOME="$tmp/home" bash -e -c "$(readme)"
}

# readme: the program of README.md, and the commands there that install, compile and run it.
readme() {
    { printf '#include <stdio.h>\n#include <dynofa.h>\nint main(void) {\n'
        sed -n '/^```c$/,/^```$/{/^```/!p}' README.md
        echo 'return 0; }'; } >"$tmp/use.c"
    sed -n '/^make install/,/^```$/{/^```/!p}' README.md | sed "s|use\.c|$tmp/use.c|; s|-o use|-o $tmp/use|; s|\./use|$tmp/use|"
}

# ---- Sizes ---------------------------------------------------------------------------------------

# stripped LIBRARY NAME: its size.
stripped() {
    strip -o "$tmp/stripped.so" "$1"
    echo "size: $2: $(stat -c %s "$tmp/stripped.so") bytes stripped"
}

# A build for one instruction set has no kernels of another.
sizes() {
    stripped "$LD_LIBRARY_PATH/libdynofa.so" "all instruction sets of $(uname -m)"
    [ "$(uname -m)" = x86_64 ] || return 0
    { cmake -S . -B "$tmp/size" -DBUILD_TESTING=OFF -DDYNOFA_AVX512=OFF &&
        cmake --build "$tmp/size" --target dynofa_shared --parallel 4; } >"$tmp/log" 2>&1 || { cat "$tmp/log"; exit 1; }
    stripped "$tmp/size/native/libdynofa.so" "ref and avx2"
    nm "$tmp/size/native/libdynofa.so" >"$tmp/names"
    if grep -q '_avx512$' "$tmp/names" || ! grep -q '_avx2$' "$tmp/names"; then
        echo "ship: -DDYNOFA_AVX512=OFF has kernels of AVX-512 or none of AVX2"
        exit 1
    fi
}

# ---- Go ------------------------------------------------------------------------------------------

# A module proxy in a folder, with this tree as one version. Modules within the module are not part of its zip.
make_proxy() {
    local module=github.com/dynofa/dynofa version=v0.0.0-ship tree nested dir=$tmp/proxy/github.com/dynofa/dynofa/@v
    mkdir -p "$dir"
    tree=$(export GIT_INDEX_FILE=$tmp/index && git read-tree HEAD && git add -A && git write-tree)
    mapfile -t nested < <(git ls-files '*/go.mod' | sed 's|/go.mod$||; s|^|:(exclude)|')
    git archive --format=zip --prefix="$module@$version/" -o "$dir/$version.zip" "$tree" -- . "${nested[@]}"
    cp go.mod "$dir/$version.mod"
    echo "{\"Version\":\"$version\",\"Time\":\"2026-01-01T00:00:00Z\"}" >"$dir/$version.info"
    echo "$version" >"$dir/list"
}

go_consumers() {
    local cache
    cache=$(go env GOMODCACHE)
    make_proxy
    cp -r $here/go "$tmp/consumer"
    cp go.sum "$tmp/consumer/go.sum" # what the other modules have to be
    export GOFLAGS=-mod=mod GOMODCACHE=$tmp/modcache GONOSUMDB=github.com/dynofa/dynofa GOTOOLCHAIN=local
    export GOPROXY="file://$tmp/proxy,file://$cache/cache/download,$(go env GOPROXY)"
    local cgo=0
    if echo 'int main(void) { return 0; }' | $(go env CC) -x c -o "$tmp/a.out" - 2>/dev/null; then cgo=1; fi
    cd "$tmp/consumer"
    step "go get" go get github.com/dynofa/dynofa@v0.0.0-ship
    step "go mod tidy" go mod tidy
    step "go mod vendor" go mod vendor
    CGO_ENABLED=0 go build -o "$tmp/product" .
    step "go build, CGO_ENABLED=0" "$tmp/product" "$bundle"
    # Vendoring drops folders without Go files: what builds from there builds from the module's zip.
    [ $cgo = 1 ] || echo "SKIPPED: no C compiler for cgo: the module's C engine is not built by a product"
    # Are its sources all there? The kernels in the small form that sanitizers get tell as much, half a minute sooner.
    CGO_ENABLED=$cgo CGO_CFLAGS="-O2 -DDYNK_SANITIZED" go build -mod=vendor -o "$tmp/product" .
    step "go build -mod=vendor, CGO_ENABLED=$cgo" "$tmp/product" "$bundle"
}

if command -v cmake >/dev/null; then
    c_consumers
    sizes
else
    echo "SKIPPED: no cmake: the installed library is not tried; make deps installs it"
fi
if ! command -v go >/dev/null; then
    echo "SKIPPED: no go: no product in Go is built"
elif ! git rev-parse -q --verify HEAD >/dev/null 2>&1; then
    echo "SKIPPED: no git checkout: the module's zip is not made and tried"
else
    go_consumers
fi
