#!/usr/bin/env bash
# host.sh FOLDER: the host half as Go programs see it, on the emulated driver in FOLDER/libcuda.so.1: the conformance
# suite, golden logits, other drivers than expected, and that nobody loads a driver unasked.
set -euo pipefail
fake=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export CGO_ENABLED=1

# on FOLDER COMMAND...: with that folder's driver.
on() { env LD_LIBRARY_PATH="$1" "${@:2}"; }

# says TEXT FOLDER COMMAND...: the command fails with that text.
says() {
    local text=$1
    if on "${@:2}" >"$tmp/said" 2>&1; then
        echo "host: ${*:3} succeeded, expected: $text" >&2
        exit 1
    fi
    grep -qF -- "$text" "$tmp/said" || { cat "$tmp/said"; echo "host: expected: $text" >&2; exit 1; }
    echo "  $text"
}

# The name cuda matches cuda/tf32 and cuda/fp16 as well.
on "$fake" go test -count=1 -short -v -run '^TestConformance$/^cuda$|^TestNewKeepsACopy$|^TestNativeIsTheDefault$' ./gofacade/dynofa \
    >"$tmp/said" 2>&1 || { cat "$tmp/said"; exit 1; }
sed -n 's/^ *conformance.go:[0-9]*:/ /p; /^ok/p' "$tmp/said"
for precision in tf32 fp16; do
    [ "$(grep -c "PASS: TestConformance/cuda/$precision/[^/]* " "$tmp/said")" = 3 ] || { echo "host: cuda/$precision was not tested" >&2; exit 1; }
done

go build -o "$tmp/dynofa" ./cmd/dynofa
bundle=models/fashion/fashion.dofa
image=("$tmp/dynofa" verify "$bundle" models/fashion/golden.json)
on "$fake" "$tmp/dynofa" info | grep -F ' cuda cuda/tf32 cuda/fp16 purego]'
on "$fake" env DYNOFA_FAKE_CUDA_SM=75 "$tmp/dynofa" info | grep -F ' cuda purego]'
on "$fake" env DYNOFA_FAKE_CUDA_INTEGRATED=1 "${image[@]}" --backend cuda
for batch in 1 7; do
    on "$fake" "$tmp/dynofa" eval "$bundle" --data models/fashion/test --backend cuda --level 0 --shard 1/50 --batch $batch --json |
        grep -o '"predictions": *"[^"]*"'
done | uniq -c | grep '^ *2 ' # the same classes
on "$fake" "$tmp/dynofa" govern "$bundle" --deadline 400 --images 1 --seconds 1s --backend native/ref --backend cuda | grep -F 'engine native/ref, cuda, '
# The PTX itself, as it is shipped. 1e-2 is five times what the conformance suite argues for random networks.
ptx() { on "$fake" env DYNOFA_FAKE_CUDA_PTX=1 DYNOFA_FAKE_CUDA_ORDER=2 "$@"; }
ptx "${image[@]}" --backend cuda
for precision in tf32 fp16; do ptx "${image[@]}" --backend cuda/$precision --tolerance 1e-2; done
says '; cuda/tf32 rounds factors to 11 bits: --tolerance 1e-2' "$fake" "${image[@]}" --backend cuda/tf32
# Every precision predicts the same classes here. README.md says how many of all 1000 images do not.
for backend in native cuda cuda/tf32 cuda/fp16; do
    on "$fake" "$tmp/dynofa" eval "$bundle" --data models/fashion/test --backend $backend --level 0 --shard 1/50 --predictions "$tmp/$(basename $backend).json"
    cmp "$tmp/native.json" "$tmp/$(basename $backend).json"
done
reference=../shared/reference
if [ -d $reference ]; then
    tiny=("$tmp/dynofa" verify $reference/checkpoints/tiny_w0.25_c10.pth $reference/golden_subnets_tiny_w0.25_c10.json)
    ptx "${tiny[@]}" --backend cuda
    for precision in tf32 fp16; do ptx "${tiny[@]}" --backend cuda/$precision --tolerance 1e-2; done
else
    echo "SKIPPED: no $reference: the golden logits of the tiny network are not compared"
fi
echo "errors:"
says "no CUDA driver: libcuda.so.1: " "$tmp" "${image[@]}" --backend cuda
says "CUDA driver 11.2 is too old, need 11.4 or newer" "$fake" env DYNOFA_FAKE_CUDA_VERSION=11020 "${image[@]}" --backend cuda
says "no CUDA device: the driver (12.4) sees none" "$fake" env DYNOFA_FAKE_CUDA_DEVICES=0 "${image[@]}" --backend cuda
says "no CUDA device 3, expected 0 to 1" "$fake" env DYNOFA_FAKE_CUDA_DEVICES=2 "${image[@]}" --backend cuda:3
says "cuda/bf16 is no backend of this build, expected native, cuda, cuda/tf32 or cuda/fp16" "$fake" "${image[@]}" --backend cuda/bf16
says 'no backend "native/tf32"' "$fake" "${image[@]}" --backend native/tf32
says "CUDA device 0 has compute capability 7.2, fp16 needs tensor cores of 8.0 or newer" "$fake" env DYNOFA_FAKE_CUDA_SM=72 "${image[@]}" --backend cuda/fp16
says "no device memory for the weights of " "$fake" env DYNOFA_FAKE_CUDA_MEMORY=1000 "${image[@]}" --backend cuda
says "the device was lost: CUDA_ERROR_LAUNCH_FAILED" "$fake" env DYNOFA_FAKE_CUDA_LOST=100 "${image[@]}" --backend cuda
says "no CUDA driver: libcuda.so.1: " "$tmp" "$tmp/dynofa" govern "$bundle" --deadline 400 --backend native --backend cuda
# What profile measures is the recorded run of a sub-network: it launches nothing else that could fail like this.
says "CUDA: launching a recorded run: " "$fake" env DYNOFA_FAKE_CUDA_FAIL=cuGraphLaunch:1 "$tmp/dynofa" profile "$bundle" -o "$tmp/table" --backend cuda --limit 1s
echo "whose results:"
on "$fake" "$tmp/dynofa" profile native/tests/seeds/tiny.dofa -o "$tmp/tiny" --backend cuda --limit 100ms >"$tmp/said" 2>&1 || { cat "$tmp/said"; exit 1; }
on "$fake" "$tmp/dynofa" info "$bundle" --backend cuda | grep -x 'device emulated device 0, compute capability 8.7, CUDA 12.4'
grep -F '"device": "emulated device 0, compute capability 8.7, CUDA 12.4"' "$tmp/tiny/profile.json"
says "holds a table of cuda on emulated device 0, compute capability 8.7, CUDA 12.4, threads 1" "$fake" env DYNOFA_FAKE_CUDA_SM=90 "$tmp/dynofa" profile native/tests/seeds/tiny.dofa -o "$tmp/tiny" --backend cuda --limit 100ms
# measured NAME FLAG...: a result file.
measured() { on "$fake" "${@:2}" "$tmp/dynofa" bench run "$bundle" --level 0 --duration 20ms -o "$tmp/$1.jsonl" --backend "$backend" | grep 'LoadGen-compatible'; }
backend=cuda measured card env | grep 'on emulated device 0, compute capability 8.7, CUDA 12.4, beside '
backend=cuda measured newer env DYNOFA_FAKE_CUDA_SM=90
backend=native/ref measured cpu env
for other in newer cpu; do says "expected the same" "$fake" "$tmp/dynofa" bench compare "$tmp/card.jsonl" "$tmp/$other.jsonl"; done
says "native/ref and cuda compute on different devices" "$fake" "$tmp/dynofa" bench run "$bundle" --backends native/ref,cuda -o "$tmp/mixed.jsonl"
[ ! -e "$tmp/mixed.jsonl" ] || { echo "host: a refused run left a file" >&2; exit 1; }
mkdir "$tmp/partial"
cat >"$tmp/partial.c" <<'C'
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuGetErrorName(void) { return 0; }
int cuGetErrorString(void) { return 0; }
C
$(go env CC) -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$tmp/partial/libcuda.so.1" "$tmp/partial.c"
says "the CUDA driver has no cuInit, expected the entry points of CUDA 11.4 or newer" "$tmp/partial" "${image[@]}" --backend cuda
CGO_ENABLED=0 go build -o "$tmp/pure" ./cmd/dynofa
says 'backend "cuda" needs a build with cgo' "$fake" "$tmp/pure" verify "$bundle" models/fashion/golden.json --backend cuda

# A run on the CPU looks for no driver; the loader itself tells.
on "$fake" env LD_DEBUG=files "${image[@]}" >"$tmp/said" 2>&1
if grep -q 'libcuda' "$tmp/said" || ! grep -q 'libc.so' "$tmp/said"; then
    grep libcuda "$tmp/said" | head -n 3
    echo "host: a run on the CPU loaded a CUDA driver, or the loader does not tell" >&2
    exit 1
fi
on "$fake" env LD_DEBUG=files "${image[@]}" --backend cuda >"$tmp/said" 2>&1
grep -q 'file=libcuda.so.1' "$tmp/said" || { echo "host: a run on cuda loaded no driver" >&2; exit 1; }
echo "no driver is loaded unasked"

# What is run on a device, without one: on a machine that has the programs and no go, on the smallest network, beside one
# that cannot be read.
echo "cuda/device:"
cuda/device/build.sh >/dev/null
mkdir -p "$tmp/bin" "$tmp/device/networks"
for program in bash basename cat cp date dirname env grep ls mkdir rm sed tail tee timeout tr uname; do
    ln -s "$(command -v $program)" "$tmp/bin/"
done
summarised() { grep -q 'SKIPPED: no python3: results.jsonl is not summarised' "$tmp/device/skipped.txt"; }
if python=$(command -v python3); then
    ln -s "$python" "$tmp/bin/"
    summarised() { grep -qE '^  tiny +fp32 level 1: ' "$tmp/said"; }
fi
cp native/tests/seeds/tiny.dofa "$tmp/device/networks"
echo broken >"$tmp/device/networks/broken.dofa"
if on "$fake" env PATH="$tmp/bin" DYNOFA_FAKE_CUDA_SM=75 cuda/device/run.sh "$tmp/device" cuda 50 times torch sanitizer >"$tmp/said" 2>&1 ||
    ! grep -x 'FAILED: times-broken-fp32' "$tmp/said" || ! summarised ||
    ! grep -q '^SKIPPED: .*fp16 needs tensor cores' "$tmp/device/skipped.txt" ||
    [ "$(grep -c '"of":"tiny","precision":"fp32",.*"kernel":' "$tmp/device/results.jsonl")" != 29 ]; then
    cat "$tmp/said"
    echo "host: expected the times of tiny.dofa, and one failed step" >&2
    exit 1
fi
