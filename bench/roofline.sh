#!/usr/bin/env bash
# roofline.sh [BUNDLE [FLAG...]]: times the parts of a bundle's levels (flags go to bench run), measures what this CPU can
# do, and draws both into out/roofline.svg. Needs bin/dynofa and a C compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
bundle=${1:-models/fashion/fashion.dofa}
[ $# = 0 ] || shift
out=out/roofline
mkdir -p "$out"
sets=(ref neon)
[ "$(uname -m)" = x86_64 ] && sets=(ref avx2 avx512)
sources=()
for set in "${sets[@]}"; do sources+=(kernels/"$set"/*.c); done
# shellcheck disable=SC2046 # CC may carry flags
$(go env CC) -O3 -std=c11 -Ikernels/include -Ikernels/simd kernels/tests/*.c kernels/dispatch/*.c "${sources[@]}" -lm -o "$out/checkkern"
bin/dynofa bench run "$bundle" --layers --duration 2s -o "$out/result.jsonl" "$@" >"$out/result.txt"
"$out/checkkern" --roof >"$out/roof.jsonl"
bin/dynofa bench roofline "$out/result.jsonl" --roof "$out/roof.jsonl" -o out/roofline.svg
