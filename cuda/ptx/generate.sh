#!/bin/sh
# generate.sh FILE: compiles the kernels to PTX with clang 19; exit 77 if there is none. Other versions give other
# text. Architecture sm_53 (Jetson Nano) is the oldest that matters, and nothing in fp32 gains from a newer one: the
# driver compiles the text for the device it runs on.
set -eu
cd "$(dirname "$0")"
clang=${CLANG_CUDA:-clang-19}
"$clang" --version 2>/dev/null | grep -q 'version 19\.' || exit 77
"$clang" -x cuda --cuda-device-only --cuda-gpu-arch=sm_53 --cuda-feature=+ptx60 -nocudainc -nocudalib -ffreestanding \
    -std=c++17 -O3 -ffp-contract=off -Wall -Wextra -Werror -I. -I../include -I../../kernels/include -S -o "$1" dync.cu
