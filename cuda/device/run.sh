#!/usr/bin/env bash
# run.sh FOLDER [BACKEND [RUNS]]: everything that needs a GPU: builds, checks the results on the device, times the shipped
# networks and the device's own ceilings, beside PyTorch where it is installed. FOLDER gets the log of each step,
# device.txt (card, driver, date) and results.jsonl. BACKEND is cuda or cuda:N; all is done in float32 and, where the device
# has tensor cores for it, with tf32 and fp16. What a missing tool keeps from running is printed with SKIPPED in front.
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: run.sh FOLDER [BACKEND [RUNS]]" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd) backend=${2:-cuda} runs=${3:-1000}
cd "$(dirname "$0")/../.."
bundle=models/fashion/fashion.dofa
export CGO_ENABLED=1

# step NAME COMMAND...: its output goes to FOLDER/NAME.txt; a failure ends the run.
step() {
    echo "$1: ${*:2}"
    "${@:2}" >"$out/$1.txt" 2>&1 || { tail -n 30 "$out/$1.txt"; echo "run: $1 failed; see $out/$1.txt" >&2; exit 1; }
}
skip() { echo "SKIPPED: $*" | tee -a "$out/skipped.txt"; }
: >"$out/skipped.txt"
: >"$out/results.jsonl"

{
    date -u +%FT%TZ
    git rev-parse HEAD 2>/dev/null || echo "no git checkout"
    uname -srm
    nvidia-smi --query-gpu=index,name,driver_version,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current --format=csv \
        2>/dev/null || cat /proc/device-tree/model 2>/dev/null || echo "no nvidia-smi: the card is not named"
} | tr -d '\000' | tee "$out/device.txt"

step configure cmake -S . -B build/device -DBUILD_TESTING=ON
step build cmake --build build/device -j --target cuda_bench native_engine_test
step command go build -o build/device/dynofa ./cmd/dynofa
bench=build/device/cuda/cuda_bench engine=build/device/native/tests/native_engine_test
step info build/device/dynofa info "$bundle" --backend "$backend"
precisions=(fp32)
# named PRECISION: the backend.
named() { if [ "$1" = fp32 ]; then echo "$backend"; else echo "cuda/$1${backend#cuda}"; fi; }
for precision in tf32 fp16; do
    if said=$(build/device/dynofa info "$bundle" --backend "$(named $precision)" 2>&1); then
        precisions+=("$precision")
    else
        skip "$said"
    fi
done
step fashion-levels build/device/dynofa info "$bundle" --json

# ---- Right results -------------------------------------------------------------------------------

reference=../shared/reference
[ -d $reference ] || skip "no $reference: the golden logits of the original network are not compared"
for precision in "${precisions[@]}"; do
    name=$(named "$precision") within=1e-2
    [ "$precision" != fp32 ] || within=1e-5
    step "engine-$precision" "$engine" --backend "$name" native/tests/seeds/tiny.dofa native/tests/seeds/bare.dofa "$bundle"
    step "fashion-$precision" build/device/dynofa verify "$bundle" models/fashion/golden.json --backend "$name" --tolerance $within
    step "eval-$precision" build/device/dynofa eval "$bundle" --data models/fashion/test --backend "$name"
    step "conformance-$precision" go test -count=1 -v -run "^TestConformance\$/^${name/\//\$/^}\$" ./gofacade/dynofa
    for net in tiny_w0.25_c10 full_w1.0_c1000; do
        [ ! -d $reference ] || step "golden-$net-$precision" build/device/dynofa verify $reference/checkpoints/$net.pth \
            $reference/golden_subnets_$net.json --backend "$name" --tolerance $within
    done
done
if command -v compute-sanitizer >/dev/null; then
    for precision in "${precisions[@]}"; do
        for tool in memcheck racecheck initcheck synccheck; do
            step "$tool-$precision" compute-sanitizer --tool $tool --error-exitcode 1 "$engine" --backend "$(named "$precision")" native/tests/seeds/tiny.dofa
        done
    done
else
    skip "no compute-sanitizer: kernels are not watched on the device"
fi

# ---- Times ---------------------------------------------------------------------------------------

# tagged WHAT PRECISION FILE: adds a file's objects to the results, each with what they are of.
tagged() { sed -n "s|^{|{\"of\":\"$1\",\"precision\":\"$2\",|p" "$3" >>"$out/results.jsonl"; }
step ceilings "$bench" ceilings "$backend"
tagged ceilings all "$out/ceilings.txt"
# The shipped network, and the largest ones that are here: of the width that the published ones have.
step fixture go run ./bench/fixture eight "$out/bundles"
step w12-levels build/device/dynofa info "$out/bundles/w12.dofa" --json
for precision in "${precisions[@]}"; do
    step "times-$precision" "$bench" "$bundle" "$(named "$precision")" "$runs"
    tagged fashion "$precision" "$out/times-$precision.txt"
    step "times-w12-$precision" "$bench" "$out/bundles/w12.dofa" "$(named "$precision")" "$runs"
    tagged w12 "$precision" "$out/times-w12-$precision.txt"
done

python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
if $python -c 'import torch, onnx, numpy; assert torch.cuda.is_available()' 2>/dev/null; then
    for level in 0 1 2 3 4 5; do
        step "export-$level" build/device/dynofa export "$out/bundles/w12.dofa" --level $level -o "$out/w12-$level.onnx"
        step "torch-$level" $python cuda/device/torch_peer.py "$out/w12-$level.onnx" --runs "$runs"
        tagged "torch w12 level $level" fp32 "$out/torch-$level.txt"
    done
else
    skip "no $python with torch, onnx and a GPU: PyTorch is not timed"
fi

# Of each level: wall clock, what of it lies between the parts, multiply-adds beside the device's in that precision, and the
# rate at which its parameters are read once, beside a copy's.
$python - "$out" <<'PY' | tee "$out/summary.txt"
import json, sys

out = sys.argv[1]
rows = [json.loads(line) for line in open(out + "/results.jsonl")]
top = next(r for r in rows if r["of"] == "ceilings")
levels = {of: json.load(open(f"{out}/{of}-levels.txt"))["levels"] for of in ("fashion", "w12")}
peak = {"fp32": top["fma_gflops"], "tf32": top["tf32_gflops"], "fp16": top["fp16_gflops"]}
print(f"ceilings: {peak} GFLOP/s, {top['copy_gb_s']} GB/s, {top['multiprocessors']} multiprocessors")
print("network precision level   p50 us   p99 us  plain us  parts us  between  first/p50  select us   GFLOP/s  of peak      GB/s  of copy")
for r in rows:
    if "batch" in r:
        print(f"{r['of']:7} {r['precision']:9} {r['level']:5} in batches of {r['batch']:2}: {r['image_us']:8.1f} us an image, {r['gflops']:9.1f} GFLOP/s,"
              f" {100 * r['gflops'] / peak[r['precision']]:6.2f} % of peak; prepared in {r['prepare_us']:.0f} us")
    elif "p50_us" in r:
        rate = 4e-3 * levels[r["of"]][r["level"]]["params"] / r["p50_us"]
        print(f"{r['of']:7} {r['precision']:9} {r['level']:5} {r['p50_us']:8.1f} {r['p99_us']:8.1f} {r['plain_p50_us']:9.1f} {r['parts_us']:9.1f}"
              f" {r['between_us']:8.1f} {r['first_after_switch_p50_us'] / r['p50_us']:10.2f} {r['select_p99_us']:10.2f}"
              f" {r['gflops']:9.1f} {100 * r['gflops'] / peak[r['precision']]:6.2f} % {rate:9.2f} {100 * rate / top['copy_gb_s']:6.2f} %")
    elif "p50_ms" in r:
        print(f"{r['of']} {r['engine']}: p50 {1000 * r['p50_ms']:.1f} us, p99 {1000 * r['p99_ms']:.1f} us")
PY
echo "wrote $out/results.jsonl, $out/summary.txt"
