package src

// #cgo CFLAGS: -O3 -std=c11 -fvisibility=hidden -I${SRCDIR}/../include -I${SRCDIR}/../../kernels/include
// #cgo LDFLAGS: -lm -lpthread
import "C"
