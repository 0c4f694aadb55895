package avx2

// #cgo CFLAGS: -O3 -g1 -std=c11 -fvisibility=hidden -I${SRCDIR}/../include -I${SRCDIR}/../simd
import "C"
