#!/usr/bin/env bash
# build.sh: MLPerf's LoadGen from its source, the back-end of native/examples/mlperf and the driver that joins them, in
# build/loadgen. Exit status 77 where something that it needs is not there.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/loadgen
missing() {
    echo "SKIPPED: $*: LoadGen is not built" >&2
    exit 77
}
cxx=${CXX:-c++}
command -v cmake >/dev/null || missing "no cmake"
command -v "$cxx" >/dev/null || missing "no C++ compiler ($cxx)"
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
mkdir -p "$out"
# The checksum of the archive is in requirements.txt; pip refuses any other.
if [ ! -f "$out/source/loadgen.cc" ]; then
    "$python" -m pip download -q --disable-pip-version-check --no-deps --no-binary :all: --require-hashes \
        -r bench/loadgen/requirements.txt -d "$out/archive" || missing "pip could not download mlcommons-loadgen"
    rm -rf "$out/source" "$out/unpacked"
    mkdir "$out/unpacked"
    tar xzf "$out"/archive/mlcommons_loadgen-*.tar.gz --strip-components=1 -C "$out/unpacked"
    mv "$out/unpacked" "$out/source" # all of it, whatever interrupts
fi
cmake -S . -B "$out/engine" >"$out/log" && cmake --build "$out/engine" -j 2 --target dynofabackend >>"$out/log" 2>&1 || {
    cat "$out/log"
    exit 1
}
cp "$out/engine/native/examples/libdynofabackend.so" "$out/"
if [ ! -f "$out/libloadgen.a" ]; then
    (
        cd "$out/source"
        printf '%s\n' {early_stopping,issue_query_controller,loadgen,logging,results,test_settings_internal,utils,version,generated/version_generated}.cc |
            xargs -P "$(nproc)" -n 1 "$cxx" -std=c++14 -O3 -w -I. -DMAJOR_VERSION=6 -DMINOR_VERSION=0 -c
    )
    ar rcs "$out/libloadgen.a" "$out"/source/*.o
fi
"$cxx" -std=c++14 -O2 -Wall -Wextra -Werror -isystem "$out/source" -Inative/examples/mlperf bench/loadgen/driver.cc "$out/libloadgen.a" \
    -ldl -lpthread -o "$out/driver"
echo "built $out/driver"
