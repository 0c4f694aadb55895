#!/bin/sh
# Turns trained weights into the shipped bundle: import, calibrate the levels, measure them, and check the result
# against PyTorch's logits. Usage: models/fashion/build.sh [WEIGHTS.safetensors] from the repository's root.
set -eu

here=models/fashion
weights=${1:-$here/work/fashion.safetensors}
data=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
device=${DEVICE:-"$(uname -m), $(nproc) cores"}

go build -o bin/dynofa ./cmd/dynofa
go run ./$here/testset "$data" $here/test
bin/dynofa import "$weights" -o $here/fashion.dofa --labels $here/labels.txt
bin/dynofa calibrate $here/fashion.dofa --data "$data" --images 2000 --batch 100 --subnets $here/levels.json
bin/dynofa eval $here/fashion.dofa --data "$data" --record --device "$device"
bin/dynofa verify $here/fashion.dofa $here/golden.json
bin/dynofa info $here/fashion.dofa
