#!/bin/sh
# Turns trained weights into the shipped bundle: import, a library measured on this machine (a quarter of an hour on two cores; it
# may be stopped and goes on), and a check against PyTorch's logits. Usage, from the repository's root:
# models/fashion/build.sh [WEIGHTS.safetensors]
set -eu

here=models/fashion
weights=${1:-$here/work/fashion.safetensors}
data=${FASHION_MNIST:-/usr/share/datasets/fashion-mnist}

make build
go run ./$here/testset "$data" $here/test
mkdir -p $here/work
bin/dynofa import "$weights" -o $here/work/supernet.dofa --labels $here/labels.txt
make library FASHION_MNIST="$data" MODEL=$here/work/supernet.dofa LIBRARY=$here/work/fashion.dofa
bin/dynofa verify $here/work/fashion.dofa $here/golden.json
cp $here/work/fashion.dofa $here/fashion.dofa
bin/dynofa info $here/fashion.dofa
