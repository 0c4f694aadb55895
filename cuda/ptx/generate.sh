#!/bin/sh
# generate.sh FOLDER: compiles the kernels to FOLDER/dync.ptx and FOLDER/dync_sm80.ptx with clang 19; exit 77 if there
# is none. Other versions give other text. Architecture sm_53 is the oldest that matters, and nothing in
# fp32 gains from a newer one: the driver compiles the text for the device it runs on. Tensor cores with tf32 begin with
# sm_80.
set -eu
to=$(cd "$1" && pwd)
cd "$(dirname "$0")"
clang=${CLANG_CUDA:-clang-19}
"$clang" --version 2>/dev/null | grep -q 'version 19\.' || exit 77

# compile MODULE ARCHITECTURE PTX
compile() {
    "$clang" -x cuda --cuda-device-only --cuda-gpu-arch="$2" --cuda-feature=+"$3" -nocudainc -nocudalib -ffreestanding \
        -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Werror -I. -I../include -I../../kernels/include \
        -S -o "$to/$1.ptx" "$1.cu"
}
compile dync sm_53 ptx60
compile dync_sm80 sm_80 ptx70
