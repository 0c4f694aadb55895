#!/usr/bin/env bash
# run.sh FOLDER [BACKEND [RUNS [PART...]]]: everything that needs a GPU. FOLDER gets the output of each step, device.txt
# (card, driver, date), results.jsonl, which grows with each step, summary.txt, and in networks/ 300 MB of bundles that are
# made for it, or what bundles there are already. BACKEND is cuda or cuda:N; all is done
# in float32 and, where the device has tensor cores for it, with tf32 and fp16. RUNS is the most of each measurement.
# The parts, each within ten minutes; without PART all of them, and results.jsonl begins anew:
#   results     logits against references, accuracy, the conformance suite
#   sanitizer   compute-sanitizer's four tools
#   times       the card's ceilings; runs, switches, batches and kernels of each network
#   torch       PyTorch on the same networks
# The programs are those of build.sh: of build/device, as it was copied here, or made now where there is a go command.
# A step that fails leaves the others to run and is named at the end, by which the exit status is 1. What a missing tool
# keeps from running is printed with SKIPPED in front.
set -uo pipefail
[ $# -ge 1 ] || { echo "usage: run.sh FOLDER [BACKEND [RUNS [PART...]]]" >&2; exit 2; }
mkdir -p "$1" || exit
out=$(cd "$1" && pwd) backend=${2:-cuda} runs=${3:-1000}
cd "$(dirname "$0")/../.." || exit
parts=("${@:4}")
if [ ${#parts[@]} = 0 ]; then
    parts=(results sanitizer times torch)
    rm -f "$out"/results.jsonl "$out"/skipped.txt
fi
bundle=models/fashion/fashion.dofa seeds=native/tests/seeds reference=../shared/reference
built=build/device networks=$out/networks
failed=()
PATH=$PATH:/usr/local/cuda/bin # where compute-sanitizer is

# step NAME COMMAND...: stdout goes to FOLDER/NAME.txt, stderr to FOLDER/NAME.log; says how long it took and how it ended.
step() {
    local name=$1 began=$SECONDS said="" status=0
    timeout 540 "${@:2}" >"$out/$name.txt" 2>"$out/$name.log" || status=$?
    if [ $status != 0 ]; then
        said=", FAILED with $status"
        failed+=("$name")
        tail -n 15 "$out/$name.txt" "$out/$name.log"
    fi
    [ -s "$out/$name.log" ] || rm -f "$out/$name.log"
    echo "$name: $((SECONDS - began)) s$said"
    echo "{\"step\":\"$name\",\"seconds\":$((SECONDS - began)),\"status\":$status}" >>"$out/results.jsonl"
    return $status
}
skip() { echo "SKIPPED: $*" | tee -a "$out/skipped.txt"; }
# tagged OF PRECISION STEP: adds the objects that a step printed, one a line, to the results, each with what it is of.
tagged() { sed -n "s|^{\(.*}\)\$|{\"of\":\"$1\",\"precision\":\"$2\",\1|p" "$out/$3.txt" >>"$out/results.jsonl"; }
# verified OF PRECISION STEP FLAG...: dynofa verify.
verified() {
    local of=$1 precision=$2
    step "$3" $built/dynofa verify --json "${@:4}"
    [ ! -s "$out/$3.txt" ] || echo "{\"of\":\"$of\",\"precision\":\"$precision\",\"verify\":$(tr -d '\n' <"$out/$3.txt")}" >>"$out/results.jsonl"
}

if command -v go >/dev/null; then
    step build cuda/device/build.sh $built || exit 1
elif [ ! -x $built/dynofa ]; then
    echo "run: no go command and no $built/dynofa; make it elsewhere with cuda/device/build.sh and copy $built here" >&2
    exit 2
fi

{
    date -u +%FT%TZ
    cat $built/revision
    uname -srm
    nvidia-smi --query-gpu=index,name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current --format=csv \
        2>/dev/null || cat /proc/device-tree/model 2>/dev/null || echo "no nvidia-smi: the card is not named"
} | tr -d '\000' | tee "$out/device.txt"

step info $built/dynofa info "$bundle" --backend "$backend" || exit 1
cat "$out/info.txt" >>"$out/device.txt"
precisions=(fp32)
# named PRECISION: the backend.
named() { if [ "$1" = fp32 ]; then echo "$backend"; else echo "cuda/$1${backend#cuda}"; fi; }
for precision in tf32 fp16; do
    if said=$($built/dynofa info "$bundle" --backend "$(named $precision)" 2>&1); then
        precisions+=("$precision")
    else
        skip "$said"
    fi
done
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python

# The networks whose times are taken, and PyTorch's: the shipped one, and random weights in the widths of those published.
make_networks() {
    mkdir -p "$networks"
    [ -z "$(ls "$networks")" ] || return
    cp "$bundle" "$networks"
    step fixture $built/fixture eight "$networks"
}

part_results() {
    [ -d $reference ] || skip "no $reference: the golden logits of the original network are not compared"
    local precision name within net
    for precision in "${precisions[@]}"; do
        name=$(named "$precision") within=1e-2
        [ "$precision" != fp32 ] || within=1e-5
        step "engine-$precision" $built/native_engine_test --backend "$name" $seeds/tiny.dofa $seeds/bare.dofa "$bundle"
        verified fashion "$precision" "fashion-$precision" "$bundle" models/fashion/golden.json --backend "$name" --tolerance $within
        step "eval-$precision" $built/dynofa eval "$bundle" --data models/fashion/test --backend "$name"
        step "conformance-$precision" env -C gofacade/dynofa "$PWD/$built/conformance_test" -test.v -test.run "^TestConformance\$/^${name/\//\$/^}\$"
        for net in tiny_w0.25_c10 full_w1.0_c1000; do
            [ ! -d $reference ] || verified $net "$precision" "golden-$net-$precision" $reference/checkpoints/$net.pth \
                $reference/golden_subnets_$net.json --backend "$name" --tolerance $within
        done
    done
}

# Of the seeds initcheck would report what is meant: kernels read the whole float4 that the last channel lies in, and drop
# what was never written. Channels of the shipped network are multiples of four.
part_sanitizer() {
    local precision tool on
    if ! command -v compute-sanitizer >/dev/null; then
        skip "no compute-sanitizer: kernels are not watched on the device"
        return
    fi
    for precision in "${precisions[@]}"; do
        for tool in memcheck racecheck synccheck initcheck; do
            on=$seeds/tiny.dofa
            [ $tool != initcheck ] || on=$bundle
            step "$tool-$precision" compute-sanitizer --tool $tool --error-exitcode 1 $built/native_engine_test --backend "$(named "$precision")" "$on"
        done
    done
}

part_times() {
    local precision file net
    step ceilings $built/cuda_bench ceilings "$backend"
    tagged ceilings all ceilings
    make_networks
    for file in "$networks"/*.dofa; do
        net=$(basename "$file" .dofa)
        for precision in "${precisions[@]}"; do
            step "times-$net-$precision" $built/cuda_bench "$file" "$(named "$precision")" "$runs"
            tagged "$net" "$precision" "times-$net-$precision"
        done
    done
}

part_torch() {
    local file level onnx=()
    if ! $python -c 'import torch, onnx, numpy; assert torch.cuda.is_available()' 2>/dev/null; then
        skip "no $python with torch, onnx and a GPU: PyTorch is not timed"
        return
    fi
    make_networks
    for file in "$networks"/*.dofa; do
        for level in {0..9}; do
            $built/dynofa export "$file" --level "$level" -o "${file%.dofa}.$level.onnx" >"$out/export.txt" 2>&1 || break
            onnx+=("${file%.dofa}.$level.onnx")
        done
    done
    step torch $python cuda/device/torch_peer.py "${onnx[@]}" --runs "$runs" --seconds 400
    tagged torch fp32 torch
}

for part in "${parts[@]}"; do
    echo "== $part"
    "part_$part"
done
if $python -c '' 2>/dev/null; then
    $python cuda/device/summary.py "$out/results.jsonl" | tee "$out/summary.txt"
else
    skip "no $python: results.jsonl is not summarised"
fi
echo "wrote $out/results.jsonl"
[ ${#failed[@]} = 0 ] || { echo "FAILED: ${failed[*]}"; exit 1; }
