#!/usr/bin/env bash
# check.sh: everything about the CUDA backend that needs no GPU. CC is the C compiler, the only thing it cannot do
# without; what else is missing is skipped, aloud. Two minutes of a CPU.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
cc=${CC:-cc}
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

skip() { echo "SKIPPED: $*"; }
fail() { echo "FAIL $*"; exit 1; }

kernels=()
for source in cuda/*/*.cu; do
    kernel=$(basename "$source" .cu)
    [[ $source = cuda/ptx/* ]] || kernels+=("$kernel") # all of them again
done
includes=(-Icuda/emulator -Icuda/include -Ikernels/include)
warnings=(-Wall -Wextra -Wpedantic -Werror)
sources=(cuda/tests/checkcuda.c cuda/emulator/{emulator,fibre,kernels,ptx_read,ptx_run,tensor}.c kernels/ref/*_ref.c kernels/ref/ref.c
    kernels/dispatch/dispatch.c kernels/tests/{harness,peak}.c)
# The reference alone, and fmaf and vectors as instructions.
without=(-DDYNK_WITHOUT_AVX2 -DDYNK_WITHOUT_AVX512 -DDYNK_WITHOUT_NEON)
native=()
if [ "$(uname -m)" = x86_64 ]; then native=(-march=native); fi

# kernel FILE OBJECT COMPILER FLAG...: a .cu file as C, unchanged.
kernel() { ${3} -x c -std=c11 -ffp-contract=off "${@:4}" "${includes[@]}" -c "$1" -o "$2"; }

# checker FOLDER COMPILER FLAG...: checkcuda and the objects of the kernels.
checker() {
    mkdir -p "$1" || return
    local k jobs=()
    for k in "${kernels[@]}"; do
        kernel "cuda/$k/$k.cu" "$1/$k.o" "$2" -O2 "${warnings[@]}" "${@:3}" &
        jobs+=($!)
    done
    for k in "${jobs[@]}"; do wait "$k" || return; done
    $2 -std=c11 -O2 "${warnings[@]}" "${without[@]}" "${@:3}" "${includes[@]}" "${sources[@]}" "$1"/*.o -lm -o "$1/checkcuda"
}

# operators NAMES COMMAND...: the command for each of them, with the PTX of $modules, until it fails.
operators() {
    local k
    # shellcheck disable=SC2086 # a list
    for k in $1; do "${@:2}" "$k" 7 $modules || return; done
}

# checked NAME FOLDER OPERATORS RUNNER...: runs it and says how it went.
checked() {
    operators "$3" "${@:4}" "$2/checkcuda" >"$work/out" 2>&1 || { cat "$work/out"; fail "$1"; }
    echo "ok $1: $(awk '{ n += $3 } END { print n }' "$work/out") cases"
}

modules='cuda/ptx/dync.ptx cuda/ptx/dync_sm80.ptx'
checker "$work/plain" "$cc" "${native[@]}" || fail "the kernels do not compile as C with $cc"
checked "kernels against kernels/ref, and the committed PTX against the kernels" "$work/plain" "${kernels[*]}"

# The other ways to switch fibres, which PTX does not; those of tensor cores are most of the time, and switch in the same way.
checker "$work/portable" "$cc" "${native[@]}" -DFIBRE_PORTABLE || fail "ucontext does not compile"
modules='' checked "some of them with ucontext" "$work/portable" "average depthwise dense"
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64-static >/dev/null; then
    checker "$work/arm64" aarch64-linux-gnu-gcc -static || fail "the kernels do not compile for arm64"
    modules='' checked "all but those of tensor cores on arm64" "$work/arm64" "${kernels[*]/tensor/}" qemu-aarch64-static
    checked "PTX of some on arm64" "$work/arm64" "average stem dense" qemu-aarch64-static
else
    skip "no aarch64-linux-gnu-gcc or no qemu-aarch64-static: the emulator is not tested on arm64; make deps installs them"
fi

# shellcheck disable=SC2054 # the comma is the option's
sanitizers=(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
if echo 'int main(void) { return 0; }' | $cc "${sanitizers[@]}" -x c -o "$work/a.out" - 2>/dev/null; then
    checker "$work/asan" "$cc" "${native[@]}" "${sanitizers[@]}" || fail "the kernels do not compile with sanitizers"
    checked "all with ASan and UBSan" "$work/asan" "${kernels[*]}"
else
    skip "no $cc with sanitizers: the kernels are not run with them"
fi

# A fault in a kernel has to be found. mutant KERNEL WHAT SED: the sed script has to change the file.
mutants=0
mutant() {
    local k=$1 out=$work/mutant
    rm -rf "$out" && mkdir "$out" && cp "$work/plain"/*.o "$out" || exit
    sed "$3" "cuda/$k/$k.cu" >"$out/$k.cu"
    cmp -s "cuda/$k/$k.cu" "$out/$k.cu" && fail "mutant $k, $2: changes nothing"
    kernel "$out/$k.cu" "$out/$k.o" "$cc" -O1 "${native[@]}" 2>"$work/out" || { cat "$work/out"; fail "mutant $k, $2: does not compile"; }
    $cc "$out"/*.o "$work/objects"/*.o -lm -o "$out/checkcuda" || exit
    # Its first fault is enough: it ends when it has the next to tell.
    grep -qm 1 '^FAIL ' < <("$out/checkcuda" "$k" 2>/dev/null) || fail "mutant $k, $2: not found"
    mutants=$((mutants + 1))
}
# barrier N: deletes the N-th barrier of the file.
barrier() {
    local line
    line=$(grep -n 'dync_barrier();' "cuda/$1/$1.cu" | sed -n "$2s/:.*//p")
    mutant "$1" "without barrier $2" "${line:-0}s/dync_barrier();//"
}
mkdir "$work/objects"
for source in "${sources[@]}"; do
    $cc -std=c11 -O2 "${without[@]}" "${includes[@]}" -c "$source" -o "$work/objects/$(basename "$source").o" || exit
done
for k in "${kernels[@]}"; do
    count=$(grep -c 'dync_barrier();' "cuda/$k/$k.cu")
    [ "$count" -gt 0 ] || fail "$k has no barrier: what is tested here?"
    for i in $(seq "$count"); do barrier "$k" "$i"; done
done
mutant average "first pixel left out" 's/uint32_t p = 1;/uint32_t p = 2;/'
mutant average "channels not bounded" 's/ || first + t >= a.channels//'
mutant dense "input taken twice" 's/from += AHEAD \* DYNC_DENSE_LANES)/from += AHEAD * DYNC_DENSE_LANES - 1)/'
mutant dense "inputs behind the last" 's/if (from + i \* DYNC_DENSE_LANES < a->in)/if (1)/'
mutant dense "inputs not bounded" 's/at < a->in ? at : from/at/'
mutant dense "outputs not bounded" 's/ || out >= a->out//'
mutant dense "image ignored" 's/m \* a->x_image/0/'
mutant dense "images not bounded" 's/if (m >= there)/if (0)/'
mutant depthwise "row above the map" 's/first_i + row < a->side \&\& //'
mutant depthwise "column off by one" 's/first_j + col < a->side/first_j + col <= a->side/'
mutant depthwise "outputs behind the row" 's/if (left + col + o >= out)/if (0)/'
mutant depthwise "pixel of the next square" 's/left \* stride - half/left * stride - half + 1/'
mutant depthwise "channels not bounded" 's/ \&\& c < a->channels;/;/'
mutant depthwise "column left over taken twice" 's/% left_over/% left_over \/ 2 * 2/'
mutant depthwise "strip left out of the sums" 's/uint32_t s = 1;/uint32_t s = 2;/'
mutant pointwise "weight off by one" 's/(i + j) \* DYNK_PANEL/(i + j + 1) * DYNK_PANEL/'
mutant pointwise "gate of the first image" 's/(p \/ a->area)/(p * 0)/'
mutant pointwise "inputs behind the last" 's/x_at < a->in ? a->in - x_at : 0/4/'
mutant pointwise "input behind the last read" 's/x_at < a->in ? x_at : 0/x_at/'
mutant pointwise "weight behind the last read" 's/at < a->in ? at : 0/at/'
mutant pointwise "pixels not bounded" 's/least(first_pixel + x_pixel + l \* x_step, a->pixels - 1)/(first_pixel + x_pixel + l * x_step)/'
mutant pointwise "panels not bounded" 's/least(panel, (a->out - 1) \/ DYNK_PANEL)/panel/'
mutant pointwise "a group too few" 's/group \* own_inputs < a->in/(group + 1) * own_inputs < a->in/'
mutant pointwise "residual of the first pixel" 's/last_pixel + i \* pixel_threads, last_out);$/last_pixel, last_out);/'
mutant pointwise "a group left out" 's/uint32_t g = 1;/uint32_t g = 2;/'
mutant stem "last row taken for padding" 's/row <= a->side/row < a->side/'
mutant stem "barrier in divergent code" 's/^    dync_barrier();/    if (image >= a.n) return; dync_barrier();/'
mutant stem "channels not bounded" 's/if (o >= a.channels)/if (0)/'
mutant tensor "row of a fragment off by one" 's/(pixel + lane \/ 4) \* DYNC_TENSOR_ROW/(pixel + lane \/ 4 + 1) * DYNC_TENSOR_ROW/'
mutant tensor "column of a fragment off by one" 's/(pixels + lane \/ 4) \* DYNC_TENSOR_ROW/(pixels + (lane + 4) \/ 4) * DYNC_TENSOR_ROW/'
mutant tensor "upper and lower rows exchanged" 's/{above\[f\]\[j\], below\[f\]\[j\],/{below[f][j], above[f][j],/'
mutant tensor "words of a fragment exchanged" 's/w\[j\], w\[j + 1\]/w[j + 1], w[j]/'
mutant tensor "half of the words left out" 's/j < 4; j += 2/j < 2; j += 2/'
mutant tensor "sum in the next column" 's/lane % 4 \* 2;/(lane + 1) % 4 * 2;/'
mutant tensor "sums of the lower rows" 's/(to + 8 \* sum_row/(to + 7 * sum_row/'
mutant tensor "x not rounded" 's/{dync_tf32(v\[0\])/{((word4)v)[0]/'
mutant tensor "weights not rounded" 's/dync_tf32(low)/*(const uint32_t *)\&low/'
mutant tensor "x cut off, not rounded" 's/{dync_tf32(v\[0\])/{((word4)v)[0] \& ~0x1FFFU/'
mutant tensor "inputs of a half exchanged" 's/dync_fp16(v\[0\], v\[1\])/dync_fp16(v[1], v[0])/'
mutant tensor "weights of one half twice" 's/dync_fp16(low, high)/dync_fp16(low, low)/'
mutant tensor "rows of weights exchanged" 's/(j ^ w_row % 2)/j/'
mutant tensor "gate of the first image" 's/(p \/ a->area)/(p * 0)/'
mutant tensor "inputs behind the last" 's/i < a->in ? a->in - i : 0),/4),/'
mutant tensor "a group too few" 's/group \* group_inputs < a->in/(group + 1) * group_inputs < a->in/'
mutant tensor "pixels not bounded" 's/least(first_pixel + (x_row + l \* x_step) % pixels, a->pixels - 1)/(first_pixel + (x_row + l * x_step) % pixels)/'
mutant tensor "outputs not bounded" 's/, (a->out - 1) \/ 4 \* 4)/, UINT32_MAX)/'
mutant tensor "a group left out" 's/uint32_t g = 1;/uint32_t g = 2;/'
mutant tensor "product in divergent code" 's/if (k > 0 \&\& /if (lane > 0 \&\& k > 0 \&\& /'
echo "ok $mutants mutants of the kernels are found"

# So has a fault in the PTX: each barrier removed, and some lines changed. fault PTX ENTRY WHAT SED.
faults=0
fault() {
    local k=${2#dync_}
    k=${k%%_*}
    sed "$4" "cuda/ptx/$1" >"$work/fault.ptx"
    cmp -s "cuda/ptx/$1" "$work/fault.ptx" && fail "fault in $1, $3: changes nothing"
    grep -qm 1 '^FAIL ' < <("$work/plain/checkcuda" "${k/#@(tf32|fp16)/tensor}" 7 "$work/fault.ptx" cuda/ptx/dync{,_sm80}.ptx 2>/dev/null) ||
        fail "fault in $1 of $2, $3: not found"
    faults=$((faults + 1))
}
shopt -s extglob
for ptx in dync.ptx dync_sm80.ptx; do
    # shellcheck disable=SC2016 # awk's
    while read -r line entry; do
        fault $ptx "$entry" "without the barrier of line $line" "${line}d"
    done < <(awk '/^.visible .entry/ { sub(/\(/, "", $3); entry = $3 } /bar.sync/ { print NR, entry }' cuda/ptx/$ptx)
done
for entry in dync_stem dync_pointwise_16x16 dync_depthwise_k5s2 dync_average dync_dense_x4; do
    fault dync.ptx $entry "a store four bytes further" "/entry $entry(/,/^}/ { /st.shared/ s/\]/+4]/ }"
    fault dync.ptx $entry "a comparison that takes one more" "/entry $entry(/,/^}/ s/setp.lt.u32/setp.le.u32/"
    fault dync.ptx $entry "a parameter of the next name" "/entry $entry(/,/^}/ s/+24\]/+28]/"
done
fault dync_sm80.ptx dync_fp16_16x16 "halves exchanged" 's/\(cvt.rn.f16x2.f32 %r[0-9]*\), \(%f[0-9]*\), \(%f[0-9]*\)/\1, \3, \2/'
fault dync_sm80.ptx dync_tf32_16x16 "words of a fragment exchanged" 's/}, {\(%r[0-9]*\), \(%r[0-9]*\)},/}, {\2, \1},/'
echo "ok $faults faults in the PTX are found"

# PTX that is broken is refused, or taken for another program, but read without a fault: lines lost, doubled and cut,
# numbers and marks exchanged.
reader=$work/asan/checkcuda
[ -x "$reader" ] || reader=$work/plain/checkcuda
for i in $(seq 100); do
    awk -v seed="$i" 'BEGIN { srand(seed) } { r = int(rand() * 3000)
        if (r == 0) next; if (r == 1) print; if (r == 2) $0 = substr($0, 1, rand() * length($0))
        if (r == 3) gsub(/[0-9]/, int(rand() * 10)); if (r == 4) gsub(/[%,]/, ""); print }' cuda/ptx/dync_sm80.ptx >"$work/broken.ptx"
    "$reader" none 7 "$work/broken.ptx" >"$work/out" 2>&1
    [ $? = 2 ] || { cat "$work/out"; fail "broken PTX $i is not read"; }
done
echo "ok 100 broken modules are read"

CC=$cc cuda/emulator/build.sh "$work/driver" "${warnings[@]}" || fail "the emulated driver does not compile"
$cc -std=c11 "${warnings[@]}" "${includes[@]}" cuda/tests/driver_test.c -ldl -o "$work/driver_test" || fail "driver_test does not compile"
"$work/driver_test" "$work/driver/libcuda.so.1" cuda/ptx/dync.ptx cuda/ptx/dync_sm80.ptx 2>"$work/out" || { cat "$work/out"; fail "the emulated driver"; }

mkdir "$work/ptx"
cuda/ptx/generate.sh "$work/ptx"
case $? in
0)
    for ptx in dync.ptx dync_sm80.ptx; do
        cmp "$work/ptx/$ptx" cuda/ptx/$ptx || fail "the committed $ptx is not that of the kernels; make ptx"
    done
    echo "ok the committed PTX is that of the kernels"
    ;;
77) skip "no clang-19: the committed PTX is not compared with the kernels; make deps installs it where there is one" ;;
*) fail "the kernels do not compile to PTX" ;;
esac

# assemble PTX ARCHITECTURE...: without local memory.
assemble() {
    local sm ptx=$1
    for sm in "${@:2}"; do
        if ! "$ptxas" -v -arch=sm_$sm -o "$work/cubin" cuda/ptx/$ptx >"$work/out" 2>&1; then
            grep -q "'sm_$sm' is not defined" "$work/out" || { cat "$work/out"; fail "ptxas for sm_$sm"; }
            skip "$ptxas does not know sm_$sm: $ptx is not assembled for it"
            continue
        fi
        awk -v of="$ptx for sm_$sm" '
            /spill/ { if ($0 !~ / 0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads/) { print "FAIL " of " spills: " $0; bad = 1 } }
            / Used / { n++; for (i = 2; i <= NF; i++) if ($i == "registers," && $(i - 1) > most) most = $(i - 1) }
            END { if (n == 0) { print "FAIL ptxas said nothing of registers"; exit 1 }
                if (!bad) print "ok " of ": " n " kernels assembled, " most " registers at most, no spills"; exit bad }' "$work/out" || exit
    done
}
# ptxas is in the wheel nvidia-cuda-nvcc-cu12; releases from 13 on lack the older architectures.
ptxas=$(command -v "${PTXAS:-ptxas}" || ls .venv/lib/python*/site-packages/nvidia/cuda_nvcc/bin/ptxas 2>/dev/null)
if [ -z "$ptxas" ]; then
    skip "no ptxas: the PTX is not assembled; make deps installs it"
else
    assemble dync.ptx 53 62 72 75 80 86 87 89 90 100 120
    assemble dync_sm80.ptx 80 86 87 89 90 100 120
fi

if command -v go >/dev/null; then
    cuda/tests/host.sh "$work/driver" || fail "the host half"
else
    skip "no go: no program in Go is run on the emulated driver"
fi
