#!/bin/sh
# build.sh FOLDER [FLAG...]: makes FOLDER/libcuda.so.1, the emulated device, with the C compiler CC. A program finds it
# with LD_LIBRARY_PATH=FOLDER.
set -eu
folder=$1
shift
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
cc=${CC:-cc}
# A device does not read four floats from where four floats cannot lie; a CPU may.
set -- -fsanitize=alignment -fsanitize-undefined-trap-on-error "$@"
# fmaf is a call without its instruction, and a warp of PTX many short vectors.
case $(uname -m) in x86_64) set -- -march=native "$@" ;; esac
for source in */*.cu; do
    kernel=${source%%/*}
    [ "$kernel" != ptx ] || continue # all of them again
    # shellcheck disable=SC2086 # CC may carry flags
    $cc -x c -std=c11 -O2 -fPIC -fvisibility=hidden -ffp-contract=off "$@" -Iemulator -Iinclude -I../kernels/include \
        -c -o "$folder/$kernel.o" "$source"
done
# shellcheck disable=SC2086
$cc -std=c11 -O3 -fPIC -fvisibility=hidden "$@" -Iemulator -Iinclude -I../kernels/include -shared -Wl,-soname,libcuda.so.1 \
    -Wl,-Bsymbolic -o "$folder/libcuda.so.1" emulator/*.c "$folder"/*.o -lm -lpthread
rm -f "$folder"/*.o
