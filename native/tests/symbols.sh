#!/bin/sh
# symbols.sh NM LIBRARY.so LIBRARY.a HEADER: the shared library exports what the header declares and nothing else,
# and every global name of the static library has a prefix, so that it collides with none of a product's own.
set -eu
nm=$1 shared=$2 static=$3 header=$4
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

"$nm" -D --defined-only "$shared" | awk '{ print $NF }' | sed 's/@.*//' | sort -u >"$tmp/exported"
tr '\n' ' ' <"$header" | sed 's/DYNOFA_API/\n&/g' | sed -n 's/^DYNOFA_API[^(]*[ *]\(dynofa_[a-z_]*\)(.*/\1/p' |
    sort -u >"$tmp/declared"
"$nm" -g --defined-only "$static" 2>/dev/null | awk 'NF == 3 { print $3 }' | grep -v '^dynofa_\|^dynk_' |
    sort -u >"$tmp/bare" || true

[ -s "$tmp/declared" ] || { echo "symbols: no declaration found in $header"; exit 1; }
if ! diff "$tmp/declared" "$tmp/exported"; then
    echo "symbols: < is declared in the header, > is exported by $shared; expected the same names"
    exit 1
fi
if [ -s "$tmp/bare" ]; then
    tr '\n' ' ' <"$tmp/bare"
    echo "in $static have no prefix; expected static, or a line in native/src/names.h"
    exit 1
fi
echo "$(wc -l <"$tmp/exported") exported, all declared; global names of the static library: dynofa_ and dynk_ only"
