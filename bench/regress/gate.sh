#!/usr/bin/env bash
# gate.sh BASE [FLAG...]: is this tree slower than revision BASE, or is its governor worse? Builds both, plays the suite
# of scenarios with each, and lets them take turns; flags go to the second dynofa bench compare. Exit status: 0 no, 1 yes,
# 2 it could not be measured, 3 inconclusive.
set -eEuo pipefail
trap 'exit 2' ERR # a full disk is no regression
cd "$(dirname "$0")/../.."
base=${1:-}
if [ -z "$base" ] || ! git rev-parse -q --verify "$base^{commit}" >/dev/null; then
    echo "bench-gate: BASE is '$base', expected a revision that git knows here: make bench-gate BASE=origin/main" >&2
    exit 2
fi
shift
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null; rm -rf "$work"' EXIT
git worktree add -q --detach "$work/tree" "$base"
# Both from a path of the same length: it is in the program, and moves what comes after it.
mkdir "$work/a" "$work/b"
build() { # folder, side, name
    (cd "$1" && go build -buildvcs=false -trimpath -o "$work/$2/dynofa" ./cmd/dynofa) || {
        echo "bench-gate: $3 does not build, expected both revisions to" >&2
        exit 2
    }
}
build "$work/tree" a "$base"
build . b "this tree"
if ! "$work/a/dynofa" bench worker --help >/dev/null 2>&1; then
    echo "bench-gate: $base has no bench worker, expected a revision that has" >&2
    exit 2
fi
echo "bench-gate: A is $base ($(git rev-parse --short "$base^{commit}")), B is this tree"
governor=0
if [[ $("$work/a/dynofa" sim --help) == *--record* ]]; then
    for side in a b; do "$work/$side/dynofa" sim --policy steady --record "$work/$side.jsonl" >/dev/null || exit 2; done
    "$work/b/dynofa" bench compare "$work/a.jsonl" "$work/b.jsonl" || governor=$?
else
    echo "SKIPPED: $base cannot record its simulations: the governor is not compared"
fi
speed=0
"$work/b/dynofa" bench compare "$work/a/dynofa" "$work/b/dynofa" "$@" || speed=$?
for status in $governor $speed; do [[ $status == [013] ]] || exit 2; done # 2, or what a signal leaves
for status in 1 3; do
    if [ $governor = $status ] || [ $speed = $status ]; then exit $status; fi
done
