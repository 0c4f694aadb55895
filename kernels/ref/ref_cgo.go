package ref

// #cgo CFLAGS: -O3 -g1 -std=c11 -fvisibility=hidden -I${SRCDIR}/../include
import "C"
