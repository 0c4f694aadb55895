package src

// #cgo CFLAGS: -O3 -std=c11 -fvisibility=hidden -I${SRCDIR}/../include -I${SRCDIR}/../ptx
// #cgo CFLAGS: -I${SRCDIR}/../../native/include -I${SRCDIR}/../../native/src -I${SRCDIR}/../../kernels/include
// #cgo LDFLAGS: -ldl -lpthread
import "C"
