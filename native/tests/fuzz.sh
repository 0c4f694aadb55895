#!/usr/bin/env bash
# fuzz.sh [SECONDS]: libFuzzer with ASan and UBSan on the bundle reader, from the seeds and from what earlier runs
# in build/fuzz found. A crashing input is left there. Exit status 77: no clang with libFuzzer.
set -euo pipefail
cd "$(dirname "$0")/../.." || exit
seconds=${1:-15}
for cc in clang-19 clang ''; do
    [ -n "$cc" ] || { echo "no clang with libFuzzer"; exit 77; }
    echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d == 0 && n; }' |
        $cc -x c -fsanitize=fuzzer,address,undefined -o /dev/null - 2>/dev/null && break
done

out=build/fuzz
mkdir -p $out/corpus
# The reference alone: fuzzing opens and never runs, and the rest would take a minute to compile.
$cc -std=c11 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer \
    -DDYNK_WITHOUT_AVX2 -DDYNK_WITHOUT_AVX512 -DDYNK_WITHOUT_NEON -Inative/include -Ikernels/include \
    native/tests/fuzz_bundle.c native/src/*.c kernels/ref/*.c kernels/dispatch/*.c -lm -lpthread -o $out/fuzz_bundle
# Words of the format, so that mutations stay near it.
grep -ohaE '\\"[a-z_]+\\"|"[a-zA-Z_]+"' native/tests/seeds/*.dofa | sort -u | sed 's/[\\"]/\\&/g; s/.*/"&"/' >$out/words
$out/fuzz_bundle -max_total_time="$seconds" -max_len=20000 -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=10 \
    -dict=$out/words -artifact_prefix=$out/ -print_final_stats=1 $out/corpus native/tests/seeds 2>"$out/log" ||
    { tail -n 60 "$out/log"; exit 1; }
grep -E 'Done|stat::(number_of|peak)|cov:' "$out/log" | tail -n 4
